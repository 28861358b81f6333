"""A timm backbone as an embedder."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from shared.errors import UnknownNameError, WeightsError, suggest
from shared.evaluation.foreign.checks import (
    checked_vectors,
    fitting_modalities,
    make_revision,
    one_line,
    rgb_arrays,
)
from shared.optional import import_optional
from shared.schema import Schema

if TYPE_CHECKING:
    from shared.devices import Precision

_log = logging.getLogger(__name__)


class TimmEmbedder:
    """The pooled features of a timm model before its classifier (`num_classes=0`), on images
    prepared as for its evaluation (`resolve_model_data_config`, `create_transform`).

    Args:
        name: Of a model, with or without the tag of its weights: `resnet18.a1_in1k`.
        weights: None: the published ones, from the hub or its local cache, as safetensors;
            `random`: fresh ones, of a fixed seed; else a checkpoint file, `.safetensors` or a
            `.pth` that holds tensors only, of exactly this backbone. The classifier that timm
            names for the model may be in the file; it is dropped and the log says so.
        device: `auto`, `cpu`, `cuda`, …
        precision: `float32`, or `bfloat16` under autocast.
        modality: The modality to embed; None: all RGB images of the dataset.
        offline: Whether the network is forbidden.

    Raises:
        DependencyError: timm is not installed.
        UnknownNameError: timm has no such model or tag.
        WeightsError: No weights to be had, or weights that do not fit.
    """

    def __init__(
        self,
        name: str,
        *,
        weights: str | None,
        device: str,
        precision: str,
        modality: str | None,
        offline: bool,
    ) -> None:
        timm = import_optional("timm", "vision", f"timm:{name}")
        from shared.devices import autocast, resolve_device
        from shared.weights import tensors_fingerprint

        _check_name(name)
        self.name = f"timm:{name}" + (f" ({Path(weights).name} weights)" if weights else "")
        self._modality, self._precision = modality, cast("Precision", precision)
        self._device = resolve_device(device)
        autocast(self._device, self._precision)  # an unknown precision is told before the loading
        model = _published(name, offline) if weights is None else _created(name, weights)
        settings = timm.data.resolve_model_data_config(model)
        self._transform = timm.data.create_transform(**settings, is_training=False)
        self.revision = make_revision(
            f"timm {timm.__version__}:{name}",
            tensors_fingerprint(model.state_dict()),
            json.dumps(settings, sort_keys=True, default=str),
            precision,
        )
        self._model = model.to(self._device).eval()

    def modalities(self, schemas: Mapping[str, Schema]) -> tuple[str, ...]:
        """The RGB images of a dataset."""
        return fitting_modalities(self.name, ("image",), schemas, self._modality)

    def embed(self, modality: str, raws: Sequence[Any], schema: Schema) -> NDArray[np.float32]:
        """(n,) images, uint8 (height, width, channel) → (n, dim)."""
        import torch
        from PIL import Image

        from shared.devices import autocast

        images = [Image.fromarray(array) for array in rgb_arrays(self.name, raws, schema)]
        batch = torch.stack([self._transform(image) for image in images]).to(self._device)
        with torch.inference_mode(), autocast(self._device, self._precision):
            output = self._model(batch)
        return checked_vectors(self.name, output, len(raws))


def _check_name(name: str) -> None:
    """Raise an UnknownNameError with the nearest names or tags."""
    from timm.models import is_model, list_models, list_pretrained

    architecture, _, tag = name.partition(".")
    if not is_model(architecture):
        raise UnknownNameError(
            f"timm has no model {architecture!r}. {suggest(architecture, list_models())}"
        )
    tagged = list_pretrained(f"{architecture}.*")
    if tag and name not in tagged:
        raise UnknownNameError(f"timm has no weights {name!r}. {suggest(name, tagged)}")


def _published(name: str, offline: bool) -> Any:
    """The model with the weights of the hub, every tensor of it, then without its classifier."""
    import timm
    from huggingface_hub import hf_hub_download
    from timm.models import get_pretrained_cfg

    remedy = "Give weights=FILE (.safetensors or .pth), or weights=random."
    published = get_pretrained_cfg(name)
    if not getattr(published, "hf_hub_id", None):
        raise WeightsError(f"timm:{name}: the hub has no weights for it. {remedy}")
    # named for the hub's pickled files by some models; their safetensors lie beside them
    file = published.hf_hub_filename or "model.safetensors"
    file = file.replace("pytorch_model.bin", "model.safetensors")
    try:
        path = hf_hub_download(published.hf_hub_id, file, local_files_only=offline)
    except (OSError, ValueError) as error:  # the hub's own errors are among these
        why = "the network is forbidden (offline)" if offline else one_line(error)
        raise WeightsError(
            f"timm:{name}: {published.hf_hub_id} ({file}) is not in the hub's local cache, and "
            f"cannot be fetched: {why.rstrip('.')}. {remedy}"
        ) from error
    try:
        # with its classifier, because timm does not load strictly without
        overlay = {"file": path, "custom_load": False}
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"timm:{name}: {path} does not fit the model: {one_line(error)}"
        ) from error
    model.reset_classifier(0)
    return model


def _created(name: str, weights: str) -> Any:
    """The backbone with fresh weights, or with those of a file."""
    import timm
    import torch

    from shared.weights import load_strictly, read_state_dict

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, num_classes=0)
    if weights == "random":
        return model
    tensors = read_state_dict(Path(weights).expanduser())
    classifiers = model.pretrained_cfg.get("classifier") or ()
    names = [classifiers] if isinstance(classifiers, str) else classifiers
    known = {f"{n}.{part}" for n in names for part in ("weight", "bias")} - set(model.state_dict())
    if dropped := sorted(known & set(tensors)):
        _log.warning("%s: left out the classifier %s", weights, ", ".join(dropped))
    kept = {key: tensor for key, tensor in tensors.items() if key not in known}
    load_strictly(model, kept, weights)
    return model
