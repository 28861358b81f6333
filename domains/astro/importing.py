"""Upstream files of AstroM3 (arXiv:2411.08842) → a model of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from domains.astro.checkpoints import (
    FIRST_WEIGHT,
    MODALITIES,
    SCHEMAS,
    SINGLE,
    TRIMODAL,
    WITHIN,
    Inputs,
    build,
    infer_config,
    modalities_of,
    model_config,
)
from domains.astro.preprocess.metadata import statistics_states
from shared.errors import ConfigError, DataError, WeightsError
from shared.model import Model
from shared.registry import Registries
from shared.untrusted import read_json
from shared.weights import KeyMap, load_strictly, read_state_dict

_SHARED = {"classification", "num_classes"}
_INFORMER = {"enc_in", "d_model", "dropout", "factor", "output_attention", "n_heads", "d_ff"}
_INFORMER |= {"activation", "e_layers"}
_GALSPECNET = {"conv_channels", "kernel_size", "mp_kernel_size"}
_METADATA = {"input_dim", "hidden_dim", "dropout"}
_ARGUMENTS = {
    ("photometry",): _SHARED | _INFORMER | {"seq_len"},
    ("spectra",): _SHARED | _GALSPECNET | {"dropout_rate"},
    ("metadata",): _SHARED | _METADATA,
    MODALITIES: _SHARED
    | {"hidden_dim", "fusion", "seq_len"}
    | {f"p_{name}" for name in _INFORMER}
    | {f"s_{name}" for name in (*_GALSPECNET, "dropout")}
    | {f"m_{name}" for name in _METADATA},
}
"""Constructor arguments of upstream's classes, by the modalities they encode."""

# what sizes that cannot be are answered with
_IMPOSSIBLE = (ConfigError, TypeError, ValueError, ArithmeticError, LookupError, RuntimeError)

_OWN_VARIANT = {"photometry": "photo", "spectra": "spectra", "metadata": "meta"}


@dataclass(frozen=True)
class Layout:
    """What a file of upstream's holds.

    Attributes:
        modalities: All three, or one.
        keys: From its names to ours.
        config: Upstream's constructor arguments.
    """

    modalities: tuple[str, ...]
    keys: KeyMap
    config: Mapping[str, Any]

    @property
    def variant(self) -> str:
        """The variant that every such file fits."""
        if len(self.modalities) == 1:
            return _OWN_VARIANT[self.modalities[0]]
        return "all" if self.config["classification"] else "clip"

    def fits(self, variant: str) -> bool:
        """Whether it may be imported under the name of a variant."""
        return variant == self.variant or variant.startswith(f"{self.variant}-")

    def __str__(self) -> str:
        if len(self.modalities) > 1:
            head = (
                "a classifier of" if self.config["classification"] else "the contrastive model of"
            )
            return f"{head} {', '.join(self.modalities)}"
        head = "a classifier" if self.config["classification"] else "an encoder without classifier"
        return f"{head} of {self.modalities[0]}"


def import_model(
    path: Path,
    registries: Registries,
    *,
    variant: str | None = None,
    statistics: Path | None = None,
    classes: Sequence[str] | None = None,
) -> Model:
    """A model from weights that AstroM3's own code wrote.

    Strict: every tensor of the model is in the file, in its shape, and the file holds no other
    (but for a classifier of one modality saved with the other towers, which are left out).

    Args:
        path: A folder with `config.json` and `model.safetensors`; a safetensors file, used with the
            `config.json` beside it if there is one; or a plain state dict (`.pth`, `.pt`), whose
            sizes are read off its shapes.
        registries: Where the names of the parts are found.
        variant: Such as `clip-42`; None: `clip`, `all`, `photo`, `spectra` or `meta` by content.
        statistics: Upstream's `info.json` with `mean` and `std` of the 38 catalogue columns: the
            model then takes stars as measured. None: it takes what AstroM3's preprocessing gave,
            as its processed dataset holds it, since the scales are not known.
        classes: Names of the classes in the order of the logits; None: not known.

    Raises:
        WeightsError: Not AstroM3's, damaged, not whole, or not of this variant.
        ConfigError: Class names that the model has no place for.
        DataError: Statistics that are not of the 38 columns.
    """
    file, given = _files(path)
    tensors = read_state_dict(file)
    layout = identify(tensors, given, variant, str(path))
    if variant is not None and not layout.fits(variant):
        raise WeightsError(
            f"{path} holds {layout}, which is not astrom3:{variant}. Import it as "
            f"astrom3:{layout.variant}."
        )
    _check_classes(classes, layout)
    states = {} if statistics is None else statistics_states(_read_json(statistics))
    inputs: Inputs = "processed" if statistics is None else "raw"
    name = f"astrom3:{variant or layout.variant}"
    try:
        config = model_config(layout.config, name, inputs, classes=classes)
        model = build(config, SCHEMAS[inputs], registries)
    except _IMPOSSIBLE as error:
        raise WeightsError(f"{path}: its sizes make no model of AstroM3: {error}") from error
    load_strictly(model, layout.keys.convert(tensors), str(path))
    for modality in model.modalities:
        model.preprocessors[modality].load_state(states.get(modality, {}))
    return model.eval()


def identify(
    tensors: Mapping[str, Tensor],
    given: Mapping[str, Any] | None,
    variant: str | None,
    source: str,
) -> Layout:
    """What a state dict holds, by the names and shapes of its tensors.

    A classifier of one modality may have been saved with all three towers. Where its input is as
    wide as that of the joint classifier, `given` or `variant` decides, and without them it is the
    joint one.

    Args:
        tensors: With upstream's names.
        given: Constructor arguments, where they are known.
        variant: What it is to be.
        source: For messages.

    Raises:
        WeightsError: Not AstroM3's, or `given` belongs to something else.
    """
    alone = [m for m in MODALITIES if FIRST_WEIGHT[m] in tensors]
    towers = [m for m in MODALITIES if f"{m}_encoder.{FIRST_WEIGHT[m]}" in tensors]
    if (len(alone), len(towers)) not in ((1, 0), (0, 1), (0, 3)):
        shown = ", ".join(list(tensors)[:3]) or "nothing"
        raise WeightsError(
            f"{source} holds neither AstroM3 nor one of its encoders, but {shown}, …. `zoo info "
            "astrom3` tells which files can be imported."
        )
    described = modalities_of(given or {})
    if alone:
        layout, keys = tuple(alone), SINGLE[alone[0]]
    elif len(towers) == 1:
        layout, keys = tuple(towers), WITHIN[towers[0]]
    else:
        asked = described or tuple(m for m, own in _OWN_VARIANT.items() if own == variant)
        layout = _classified(tensors, asked, source)
        keys = TRIMODAL if layout == MODALITIES else WITHIN[layout[0]]
    if given is not None and described == layout:
        return Layout(layout, keys, given)
    # a config of one encoder may lie beside the model of all three
    if given is not None and (len(layout) == 1 or not described):
        raise WeightsError(
            f"{source}: config.json describes {', '.join(described) or 'no class of AstroM3'}, and "
            f"the tensors are those of {', '.join(layout)}. Fetch both files from one repository."
        )
    if len(layout) == 1 and not alone:
        prefix = f"{layout[0]}_encoder."
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return Layout(layout, keys, infer_config(tensors, layout))


def _classified(
    tensors: Mapping[str, Tensor], asked: tuple[str, ...], source: str
) -> tuple[str, ...]:
    """Modalities whose encoders feed the classifier of a file with all three, or all."""
    if "fc.weight" not in tensors:
        return MODALITIES
    names = [f"{m}_proj.weight" for m in MODALITIES]
    shapes = [tensors[name].shape for name in ("fc.weight", *names) if name in tensors]
    if len(shapes) != 4 or any(len(shape) != 2 for shape in shapes):
        raise WeightsError(f"{source} is not whole: it has a classifier, but not all projections.")
    (_, width), hidden = shapes[0], shapes[1][0]
    fitting = [(m,) for m, shape in zip(MODALITIES, shapes[1:], strict=True) if shape[1] == width]
    if asked in fitting:
        return asked
    return fitting[0] if fitting and width not in (hidden, 3 * hidden) else MODALITIES


def _files(path: Path) -> tuple[Path, Mapping[str, Any] | None]:
    """The file of weights, and upstream's constructor arguments where they lie beside it."""
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(
            f"There is no {file}. Give upstream's folder with config.json and model.safetensors, a "
            ".safetensors file, or a state dict (.pth, .pt)."
        )
    config = file.with_name("config.json")
    if file.suffix != ".safetensors" or not config.is_file():
        if path.is_dir():
            raise WeightsError(f"{path} has no config.json: fetch it, or give the file alone.")
        return file, None
    given = _read_json(config)
    if "format" in given and "modalities" in given:
        raise WeightsError(f"{path} is a model of the zoo already: zoo.load({str(path)!r}).")
    if modalities := modalities_of(given):
        known = _ARGUMENTS[modalities]
        optional = {f"{p}output_attention" for p in ("", "p_")}
        for what, names in (
            ("lacks", known - set(given) - optional),
            ("has unknown", set(given) - known),
        ):
            if names:
                raise WeightsError(
                    f"{config} {what} {', '.join(sorted(names))}: it is not of the version of "
                    "AstroM3's code that can be imported, or is damaged. The sizes can also be "
                    f"read from the weights: move {file.name} into a folder of its own and give "
                    "the file."
                )
    return file, given


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        return read_json(path)
    except DataError as error:
        raise WeightsError(str(error)) from error


def _check_classes(classes: Sequence[str] | None, layout: Layout) -> None:
    if classes is None:
        return
    if not layout.config["classification"]:
        raise ConfigError(f"classes=… goes with a classifier, and the file holds {layout}.")
    number = layout.config["num_classes"]
    if len(classes) != number or len(set(classes)) != number:
        raise ConfigError(
            f"classes={list(classes)}: the classifier has {number} classes; give as many different "
            "names, in the order of its logits."
        )
