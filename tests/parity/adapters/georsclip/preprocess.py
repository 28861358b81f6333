"""Images of any mode → normalised squares, as GeoRSCLIP's and open_clip's evaluation makes them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from domains.remote_sensing.statistics import STATISTICS
from shared.data.image_files import IMAGE
from zoo.plugins import plugins


def preprocess(case: Any) -> dict[str, Tensor]:
    """Each image through `evaluate`; those that are RGB also as the array that a dataset gives."""
    pixels, found = case.tensors("inputs"), {}
    build = plugins().registries.preprocessors.get("clip_image")
    for name, spec in case.spec["cases"].items():
        mean, std = STATISTICS[spec.get("subset_name", "clip")]
        prepare = build(IMAGE, image_size=spec["image_resolution"], mean=mean, std=std)
        raw = pixels[name].numpy()
        picture = Image.frombytes(spec["pil_mode"], spec["size_wh"], raw.tobytes())
        values = prepare.evaluate(picture)
        if picture.mode == "RGB":
            np.testing.assert_array_equal(prepare(raw)["values"], values)
        found[name] = torch.from_numpy(values)
    return found


ADAPTERS: dict[str, Callable[[Any], dict[str, Tensor]]] = {"preprocess": preprocess}
