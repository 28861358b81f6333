"""Starting a model from the weights of another: what is taken over and what is left at random."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from shared.errors import ConfigError, WeightsError, suggest
from shared.misfit import WRAPPING, find_prefix
from shared.model import Model
from shared.model_config import read_model_json, weights_path
from shared.model_files import WHOLE
from shared.schema import Schema
from shared.training.config import InitConfig
from shared.weights import load_strictly, read_tensors


@dataclass(frozen=True)
class Start:
    """Where a run's weights come from.

    Attributes:
        source: The folder of the initial model; empty: all weights are at random.
        taken: Parts that come from it.
        fresh: Parts that start at random.
        unused: What it holds and the model lacks, of the modalities that are trained.
        statistics: Modalities whose preprocessing keeps what it learned there.
        fitted: Modalities whose encoder comes from there and whose preprocessing is another, so
            that it learns from the data of the run.
        changed: Settings of encoders from there that are others here, such as an activation; they
            change what the same weights compute.
    """

    source: str = ""
    taken: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """In words, for whoever starts the run."""
        if not self.source:
            return []
        lines = [f"weights of {self.source}: {', '.join(self.taken)}"]
        for what, names in (
            ("starts at random", self.fresh),
            ("not used of those weights", self.unused),
            ("preprocessing statistics kept from there", self.statistics),
            ("preprocessing is another than there, statistics are of these data", self.fitted),
            ("settings are others than those of the weights", self.changed),
        ):
            lines += [f"{what}: {', '.join(names)}"] if names else []
        return lines


def load_init(model: Model, init: InitConfig) -> Start:
    """Start a model, or parts of it, from the weights of another.

    What both have by name has to fit. A classifier of the same classes in another order is
    rearranged by name. The preprocessing of a modality whose encoder is taken keeps the statistics
    that the encoder was trained with, where both take the same channels in the same way.

    Raises:
        ConfigError: Parts without weights, one that the model does not have, or a classifier of
            other classes.
        WeightsError: The tensors of a part do not fit.
    """
    if init.parts == []:
        raise ConfigError("init.parts is empty: name at least one part, or set it to null.")
    if init.weights is None:
        if init.parts is not None:
            raise ConfigError("init.parts is set and init.weights is not: give a run folder.")
        return Start()
    folder = Path(init.weights)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    path = weights_path(folder)
    tensors = read_tensors(path)
    config = read_model_json(folder, "config.json")
    state = model.state_dict()
    if init.parts is None:
        shared = [name for name in state if name in tensors]
        _refuse_prefix(state, tensors, path)
        if not shared:
            raise ConfigError(f"init.weights: {path} and the model have no tensor in common.")
    else:
        shared = _of_parts(model, init.parts)
        if missing := [name for name in shared if name not in tensors]:
            raise WeightsError(
                f"{path}, parts {', '.join(init.parts)}, does not fit the model: {len(missing)} "
                f"tensors are missing ({', '.join(missing[:3])}). Leave their part out; or drop "
                "init.parts, and what both have is taken, the rest starts at random."
            )
    chosen = {name: tensors[name] for name in shared}
    if any(name.startswith("classifier.") for name in shared):
        others = {part: None for part in map(_part_of, shared) if part != "classifier"}
        chosen |= _rearranged(model, config, chosen, path, list(others))
    load_strictly(model, {**state, **chosen}, str(path))
    towers = {name.split(".")[1] for name in shared if name.startswith("encoders.")}
    try:
        states = {m: _learned(config, m) for m in model.modalities if m in towers}
        schemas = read_model_json(folder, "schema.json")
        kept = [m for m, s in states.items() if s and _take(model, m, s, config, schemas)]
        changed = [c for m in model.modalities if m in towers for c in _changes(model, config, m)]
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{folder}: config.json or schema.json is damaged ({type(error).__name__}: {error})."
        ) from error
    extra = [name for name in tensors if name not in state and _is_trained(name, model)]
    return Start(
        str(folder),
        _summary(state, shared),
        _summary(state, set(state) - set(shared)),
        _summary(tensors, extra),
        tuple(kept),
        tuple(m for m, state in states.items() if state and m not in kept),
        tuple(changed),
    )


def _refuse_prefix(state: Mapping[str, Any], tensors: Mapping[str, Any], path: Path) -> None:
    """Raise a WeightsError where tensors would not be taken because of a prefix of their names."""
    missing, extra = (sorted(set(a) - set(b)) for a, b in ((state, tensors), (tensors, state)))
    carried, lacking = find_prefix(missing, extra) or ("", "")
    # a model may hold a part that another has by itself
    if carried in WRAPPING or lacking in WRAPPING:
        raise WeightsError(
            f"init.weights: of the tensors in {path} {len(extra)} would not be taken, such as "
            f"{extra[0]!r}: their names {'carry' if carried else 'lack'} the prefix "
            f"{carried or lacking!r}. Save the state dict of the model inside the wrapper."
        )


def _changes(model: Model, config: Mapping[str, Any], modality: str) -> Iterator[str]:
    """Settings of an encoder that are others than those its weights were trained with."""
    ours = model.config.modalities[modality].encoder
    theirs = config["modalities"][modality]["encoder"]
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            before, after = (part.get(key, "its default") for part in (theirs, ours))
            yield f"{modality}.encoder.{key} ({before} there, {after} here)"


def _of_parts(model: Model, parts: Sequence[str]) -> list[str]:
    """Names of the tensors of parts of a model."""
    modules = dict(model.named_modules())
    for part in parts:
        if part not in modules:
            known = [name for name in modules if name.count(".") == 1 or name in WHOLE]
            raise ConfigError(f"init.parts: the model has no {part!r}. {suggest(part, known)}")
    return [n for n in model.state_dict() if any(n.startswith(f"{part}.") for part in parts)]


def _part_of(name: str) -> str:
    """`encoders.image.blocks.0.weight` → `encoders.image`."""
    first, second, *_ = (*name.split("."), "")
    return first if first in WHOLE else f"{first}.{second}"


def _summary(every: Mapping[str, Any], chosen: Iterable[str]) -> tuple[str, ...]:
    """Parts of which all tensors are chosen, and how many of those of which some are."""
    total = Counter(map(_part_of, every))
    names = list(chosen)
    found = Counter(_part_of(name) for name in every if name in set(names))
    return tuple(
        part if count == total[part] else f"{count} of {total[part]} tensors of {part}"
        for part, count in found.items()
    )


def _is_trained(name: str, model: Model) -> bool:
    """Whether a tensor that the model lacks belongs to a modality that it has."""
    kind, modality, *_ = (*name.split("."), "")
    return kind in ("encoders", "heads", "token_heads") and modality in model.modalities


def _rearranged(
    model: Model,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    path: Path,
    others: Sequence[str],
) -> dict[str, Tensor]:
    """The classifier's tensors in the order of the model's classes.

    Raises:
        ConfigError: It knows other classes.
    """
    assert model.config.classifier is not None
    ours, theirs = model.config.classifier.classes, (config.get("classifier") or {}).get("classes")
    found = {n: t for n, t in tensors.items() if n.startswith("classifier.")}
    number = len(found["classifier.bias"])
    if theirs is None and ours is not None and number != len(ours):
        theirs = [f"class_{i}" for i in range(number)]
    if ours is None or theirs is None or ours == theirs:
        return found
    if set(ours) != set(theirs) or number != len(theirs):
        raise ConfigError(
            f"init.weights: the classifier of {path.parent} knows {', '.join(theirs)}; the data "
            f"have {', '.join(ours)}. Start it at random: 'init.parts=[{','.join(others)}]'."
        )
    order = [theirs.index(name) for name in ours]
    return {name: tensor[order] for name, tensor in found.items()}


def _learned(config: Mapping[str, Any], modality: str) -> Mapping[str, Any]:
    """What the preprocessing of the initial model learned from data; empty where nothing."""
    return config["modalities"][modality]["preprocess"].get("state") or {}


def _take(
    model: Model,
    modality: str,
    state: Mapping[str, Any],
    config: Mapping[str, Any],
    schemas: Mapping[str, Any],
) -> bool:
    """Give a preprocessor what that of the initial model learned.

    Returns:
        Whether both take the same channels in the same way; otherwise nothing is given.
    """
    preprocessor = model.preprocessors[modality]
    name = model.config.modalities[modality].preprocess["name"]
    theirs = config["modalities"][modality]["preprocess"]["name"]
    channels = Schema.from_dict(schemas[modality]).channels
    if name != theirs or channels != preprocessor.takes.channels:
        return False
    preprocessor.load_state(state)
    return True
