"""Files of plain CLIP models as other programs write and read them: open_clip, transformers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from shared.encoders.checkpoints_clip import bare_names, clip_config, clip_keys, clip_settings
from shared.encoders.checkpoints_clip_transformers import (
    from_transformers,
    from_transformers_config,
    is_transformers,
    to_transformers,
    to_transformers_config,
)
from shared.errors import ConfigError, DataError, WeightsError, suggest
from shared.files import inside, write_json
from shared.untrusted import read_json
from shared.weights import read_state_dict, write_foreign_tensors

if TYPE_CHECKING:
    from shared.encoders.clip import CLIPText, CLIPVision
    from shared.model import Model

FORMATS = ("transformers", "open_clip")
_CONFIGS = {"open_clip": "open_clip_config.json", "transformers": "config.json"}
_WEIGHTS = {
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    "transformers": ("model.safetensors", "pytorch_model.bin"),
}
_PREPROCESSOR = "preprocessor_config.json"
_BICUBIC = 3
"""Pillow's number of the filter."""
_PREPARED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "open_clip": {
        "mode": ("RGB",),
        "interpolation": ("bicubic", "random"),  # random: in training, else bicubic
        "resize_mode": ("shortest",),
    },
    "transformers": {
        **dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize"), (True,)),
        "resample": (_BICUBIC,),
        "rescale_factor": (1 / 255,),
    },
}
"""What files may state of images: that which `clip_image` does."""


@dataclass(frozen=True)
class CLIPFiles:
    """What was read.

    Attributes:
        tensors: Under open_clip's names.
        config: open_clip's model config; None where nothing lies beside the weights.
        normalisation: `mean` and `std` of images, where they are stated.
    """

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] | None = None
    normalisation: dict[str, list[float]] = field(default_factory=dict)


def read_clip_files(path: Path) -> CLIPFiles:
    """Weights of a CLIP model and what is stated of it.

    Args:
        path: A folder of open_clip (`open_clip_config.json`) or of transformers (`config.json`), or
            a file of weights alone: safetensors or what `torch.save` wrote, with the names of
            open_clip, its training checkpoints, the ITRA framework, or transformers.

    Raises:
        WeightsError: There is no such file, it is damaged, or of another architecture.
    """
    if path.is_file():
        return CLIPFiles(_tensors(path))
    if (path / "schema.json").is_file():
        raise WeightsError(f"{path} is a model of the zoo already: zoo.load({str(path)!r}).")
    for kind, name in _CONFIGS.items():
        files = [path / file for file in _WEIGHTS[kind] if (path / file).is_file()]
        if (path / name).is_file() and files:
            try:
                given = read_json(inside(path, path / name))
                tensors = _tensors(inside(path, files[0]))
                return CLIPFiles(tensors, *_stated(kind, path, given))
            except DataError as error:
                raise WeightsError(str(error)) from error
            except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
                raise WeightsError(
                    f"{path / name} is damaged ({type(error).__name__}: {error})."
                ) from error
    if not path.exists():
        raise WeightsError(f"There is no file or folder {path}.")
    wanted = " or ".join(f"{c} and {_WEIGHTS[kind][0]}" for kind, c in _CONFIGS.items())
    raise WeightsError(f"{path} is no file of weights, and no folder with {wanted}.")


def _tensors(path: Path) -> dict[str, Tensor]:
    tensors = bare_names(read_state_dict(path))
    return from_transformers(tensors) if is_transformers(tensors) else tensors


def _stated(
    kind: str, path: Path, given: Mapping[str, Any]
) -> tuple[Mapping[str, Any], dict[str, list[float]]]:
    """open_clip's model config, and `mean` and `std`, of what a folder says."""
    if kind == "open_clip":
        config, images = given["model_cfg"], given.get("preprocess_cfg") or {}
        names = ("mean", "std")
    else:
        config, images, names = from_transformers_config(given), {}, ("image_mean", "image_std")
        if (path / _PREPROCESSOR).is_file():
            images = read_json(inside(path, path / _PREPROCESSOR))
    clip_settings(config)  # refuses what is no plain CLIP
    if not isinstance(config["embed_dim"], int):
        raise TypeError(f"embed_dim is {config['embed_dim']!r}")
    _check_preparation(kind, images, path)
    _check_sides(images, config["vision_cfg"]["image_size"], path)
    stated = {
        o: [float(x) for x in images[t]]
        for o, t in zip(("mean", "std"), names, strict=True)
        if images.get(t)
    }
    return config, stated


def _check_preparation(kind: str, images: Mapping[str, Any], path: Path) -> None:
    """Hold what is stated of images against `clip_image`; null is the default there.

    Raises:
        WeightsError: They are prepared in another way: every embedding would be a little wrong.
    """
    for key, done in _PREPARED[kind].items():
        if images.get(key) not in (None, *done):
            raise WeightsError(
                f"{path} states {key}={images[key]!r} of its images; what can be done is {done[0]}."
            )
    size = images.get("size")
    if kind == "transformers" and isinstance(size, Mapping) and "shortest_edge" not in size:
        raise WeightsError(
            f"{path} states that images are resized to {dict(size)}; what can be done is to resize "
            "the shorter side and to cut out the square in the middle."
        )


def _check_sides(images: Mapping[str, Any], side: int, path: Path) -> None:
    """Raise a WeightsError where images are made to another size than the tower takes."""
    for key in ("size", "crop_size"):
        stated = images.get(key)
        if isinstance(stated, Mapping):
            stated = list(stated.values())
        sides = stated if isinstance(stated, list) else [stated]
        if any(length not in (None, side) for length in sides):
            raise WeightsError(
                f"{path} states {key}={images[key]!r} of its images, and its tower takes images of "
                f"{side}: what is done between the two is not stated."
            )


def model_clip_config(model: "Model") -> dict[str, Any]:
    """open_clip's model config of a model of the modalities `image` and `text`."""
    vision = cast("CLIPVision", model.encoders["image"])
    text = cast("CLIPText", model.encoders["text"])
    return clip_config(vision, text, model.config.embed_dim)


def write_clip_files(model: "Model", folder: Path, format: str) -> None:
    """Write weights, sizes and normalisation, as another program reads them.

    Args:
        model: Of the modalities `image` (`clip_image`, `clip_vision`) and `text` (`clip_tokens`,
            `clip_text`), with linear heads without bias.
        folder: An empty one.
        format: One of `FORMATS`: for `CLIPModel.from_pretrained(folder)`, or for
            `open_clip.create_model_from_pretrained("local-dir:folder")`.

    Raises:
        ConfigError: No such format, or no such model.
        WriteError: It cannot be written.
    """
    if format not in FORMATS:
        raise ConfigError(f"format={format!r}. {suggest(format, FORMATS)}")
    parts = {m: p.encoder["name"] for m, p in model.config.modalities.items()}
    if parts != {"image": "clip_vision", "text": "clip_text"} or model.classifier or model.fusion:
        raise ConfigError(
            f"{model.config.name}: only a model of the two towers of CLIP can be exported; this "
            f"one has {', '.join(f'{m} ({e})' for m, e in parts.items())}."
        )
    if "logit_scale" not in model.scalars:
        raise ConfigError(
            f"{model.config.name} has no logit_scale, which CLIP's files hold: train it, or load "
            "weights that were trained."
        )
    try:
        tensors = clip_keys("image", "text").inverse().convert(model.state_dict())
        renamed = to_transformers(tensors)  # knows every name, open_clip's only their beginnings
    except WeightsError as error:
        raise ConfigError(f"{model.config.name} has more than plain CLIP: {error}") from error
    config, images = model_clip_config(model), model.preprocessors["image"].settings
    if format == "open_clip":
        statistics = {"mean": images["mean"], "std": images["std"]}
        stated = {"model_cfg": config, "preprocess_cfg": statistics}
    else:
        tensors, stated = renamed, to_transformers_config(config)
        write_json(folder / _PREPROCESSOR, _image_processor(images))
    write_foreign_tensors(folder / _WEIGHTS[format][0], tensors)
    write_json(folder / _CONFIGS[format], stated)


def _image_processor(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `clip_image` as transformers' `CLIPImageProcessor` has them."""
    size = settings["image_size"]
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": _BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": settings["mean"],
        "image_std": settings["std"],
        "do_convert_rgb": True,
    }
