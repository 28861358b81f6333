"""Hydra's compose API behind the verbs: overrides in, checked plain data out."""

import difflib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from itertools import accumulate, product
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from shared.data.build import COMMON_SETTINGS
from shared.errors import ConfigError, PluginError, ZooError, first_line, suggest
from shared.files import inside
from shared.settings import check_value
from shared.untrusted import read_text
from zoo.paths import data_folder
from zoo.plugins import check_usable, plugins

T = TypeVar("T")

LARGEST_YAML = 2**20
"""Bytes; configs of real runs have some thousand."""
DEEPEST = 50


def compose_config(verb: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose `configs/<verb>.yaml` with overrides into plain data.

    Hydra chooses the files of the groups; values are set here, so that an unknown key is told with
    the nearest ones and an empty mapping such as `data.adapters` can be filled.

    Raises:
        ConfigError: A malformed override, an unknown key, group or option; the nearest is named.
    """
    own = set(OmegaConf.load(data_folder("configs") / f"{verb}.yaml"))
    for text in overrides:
        _refuse_interpolation(text, "an override")
    parsed = _parse(overrides)
    groups = [o for o in parsed if o.key_or_group not in own and _is_group(o.key_or_group)]
    with _hydra():
        try:
            chosen = [str(o.input_line) for o in groups]
            node = compose(verb, overrides=[*chosen, *_search_path()])
        # ValueError: Hydra's own, for a group that is given a number or null
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(_explain(verb, error)) from error
    OmegaConf.set_struct(node, False)
    if node.get("data") is not None:
        for key, value in COMMON_SETTINGS.items():
            if key not in node.data:
                node.data[key] = value
    for override in parsed:
        if override not in groups:
            _set_value(verb, node, override)
    data = cast(dict[str, Any], OmegaConf.to_container(node))
    _refuse_interpolations(data)
    return data


def _is_group(name: str) -> bool:
    folders = (data_folder("configs"), *plugins().config_folders())
    return bool(name) and any((folder / name).is_dir() for folder in folders)


def _set_value(verb: str, node: DictConfig, override: Override) -> None:
    """Apply one `key=value` to a composed config."""
    key = override.key_or_group
    if override.is_sweep_override():
        raise ConfigError(
            f"{override.input_line}: several values need `zoo {verb} -m`; a value with a comma "
            f"needs quotes that the shell leaves, such as \"{key}='A,B'\"."
        )
    if override.is_delete():
        raise ConfigError(f"{override.input_line}: keys cannot be removed; set {key}=null.")
    known = dict(_flatten(cast(dict[str, Any], OmegaConf.to_container(node))))
    parent = key.rpartition(".")[0]
    is_open = parent == "data.adapters" or known.get(parent) == {}
    # of protocols, which say themselves what they have
    is_open |= key.startswith("settings.") and "settings" in known
    # of the data of the run behind a model
    is_open |= verb != "train" and key == "data.on_error" and known.get("data") is None
    if key not in known and not override.is_add() and not is_open:
        raise ConfigError(f"There is no key {key!r}. {_hint(verb, key, known)}")
    section = known.get(key)
    if isinstance(section, dict) and "name" in section and not isinstance(override.value(), dict):
        raise ConfigError(
            f"{override.input_line}: {key} holds several settings; give one of them, such as "
            f"{key}.name=VALUE."
        )
    try:
        OmegaConf.update(node, key, override.value(), merge=False)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{override.input_line}: {first_line(error)}.") from error


def _hint(verb: str, key: str, known: Mapping[str, object]) -> str:
    """What to do about a key that is not there: choose the file that has it, or spell it right."""
    group, _, inner = key.partition(".")
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.7)
    if inner and not near and _is_group(group):
        if having := [n for n in group_options(group) if inner in load_group(group, n)]:
            return f"Choose what has it first: {group}=NAME {key}=…, NAME being {_either(having)}."
        if known.get(group) is None:
            return f"Choose {group}=NAME first. {suggest('', group_options(group))}"
    near = near or difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    spelling = f"Did you mean {_either(near)}? " if near else ""
    return f"{spelling}`zoo {verb} --dry-run …` prints all keys."


def _either(names: Sequence[str]) -> str:
    return " or ".join(names)


def typed(schema: type[T], data: dict[str, Any]) -> T:
    """Plain data as a dataclass.

    Raises:
        ConfigError: An unknown key, a wrong type, or a value that has to be given.
    """
    _refuse_interpolations(data)
    for key, value in _flatten(data):
        if value == "???":
            raise ConfigError(f"{key} has to be given: {key}=VALUE.")
    _check_lists(schema, data)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), data)
        return cast(T, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", None) or getattr(error, "key", None))
        text = first_line(error)
        hint = ""
        if "not in" in text:
            parent = key.rpartition(".")[0]
            fields = dict(_flatten(OmegaConf.to_container(OmegaConf.structured(schema))))  # type: ignore[arg-type]
            hint = suggest(key, [k for k in fields if k.rpartition(".")[0] == parent])
        if "missing mandatory" in text:
            raise ConfigError(
                f"{key}: choose at least one. {suggest('', group_options(key))}"
            ) from error
        raise ConfigError(f"{key}: {text}. {hint}".strip()) from error


def _check_lists(schema: type, data: Mapping[str, Any], prefix: str = "") -> None:
    """Raise a ConfigError for one value where several belong, or for one where a section does."""
    for name, annotation in get_type_hints(schema).items():
        if name not in data:
            continue
        key, value = f"{prefix}{name}", data[name]
        if is_dataclass(annotation):
            check_value(value, dict, key)
            _check_lists(cast(type, annotation), value, f"{key}.")
        elif "list[" in str(annotation):
            check_value(value, annotation, key)


def group_options(group: str) -> list[str]:
    """Names that `group=NAME` accepts, from the built-in folder and the plugins'."""
    folders = [data_folder("configs"), *plugins().config_folders()]
    names = set()
    for folder in folders:
        for path in (folder / group).rglob("*.yaml"):
            names.add(path.relative_to(folder / group).with_suffix("").as_posix())
    return sorted(names)


def load_group(group: str, name: str) -> dict[str, Any]:
    """One file of a group alone.

    Raises:
        ConfigError: No such file.
    """
    for folder in (data_folder("configs"), *plugins().config_folders()):
        path = folder / group / f"{name}.yaml"
        if path.is_file():
            return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))
    raise ConfigError(f"There is no {group}={name}. {suggest(name, group_options(group))}")


def load_yaml(path: Path) -> dict[str, Any]:
    """A saved config as plain data.

    Raises:
        ConfigError: No such file, no mapping, or one with interpolations, aliases or tags, which
            could run code, read the environment or unfold without end.
    """
    if not path.is_file():
        raise ConfigError(f"There is no {path}: {path.parent} is no run folder.")
    try:
        text = read_text(inside(path.parent, path), LARGEST_YAML)
        _check_structure(text, path)
        node = OmegaConf.load(io.StringIO(text))
    except ZooError as error:
        raise ConfigError(str(error)) from error
    except Exception as error:  # YAML's parser raises many kinds
        raise ConfigError(f"{path} is damaged: {first_line(error)}.") from error
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{path} is damaged: it holds no mapping.")
    data = cast(dict[str, Any], OmegaConf.to_container(node))
    try:
        _refuse_interpolations(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return data


def _check_structure(text: str, path: Path) -> None:
    """Raise a ConfigError for YAML that would unfold, or whose parsing would not end: the parser's
    time grows with the square of the depth."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{path} is refused: it has aliases (*{event.anchor}).")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ConfigError(f"{path} is refused: it is nested too deeply.")


def sweep_jobs(overrides: Sequence[str]) -> list[list[str]]:
    """Overrides of every job of a sweep: `lr=1,2 seed=0,1` → four lists."""
    parsed = _parse(overrides, sweep=True)
    choices = [
        [f"{o.key_or_group}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in parsed
    ]
    return [list(job) for job in product(*choices)]


def _parse(overrides: Sequence[str], sweep: bool = False) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        # Hydra's parser calls itself for each level
        levels = accumulate((sign in "[{(") - (sign in "]})") for sign in text)
        if max(levels, default=0) > DEEPEST:
            raise ConfigError(f"{text[:60]}…: nested too deeply (at most {DEEPEST} levels).")
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            try:
                parsed.append(parser.parse_override(_as_text(text, sweep)))
            except HydraException:
                raise ConfigError(
                    f"{text}: {first_line(error)}. An override is KEY=VALUE, such as "
                    "optimizer.lr=3e-4; a list is [A,B], a mapping {A:B}."
                ) from error
    return parsed


def _as_text(override: str, sweep: bool) -> str:
    """An override whose value Hydra cannot parse, such as a path with `~`, `(` or an accent, as
    one whose value is a quoted text. A `~` is the home folder: no shell replaces it after a `=`.
    """
    key, equals, value = override.partition("=")
    if not equals or value.lstrip().startswith(("[", "{", "'", '"')):
        return override
    choices = value.split(",") if sweep else [value]
    quoted = [
        QuotedString(os.path.expanduser(choice), Quote.single).with_quotes() for choice in choices
    ]
    return f"{key}={','.join(quoted)}"


@contextmanager
def _hydra() -> Iterator[None]:
    """Hydra initialised on our folders, leaving alone a Hydra program that calls us."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        with initialize_config_dir(str(data_folder("configs")), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def _search_path() -> list[str]:
    """Overrides that add the plugins' folders; a file of one name in two folders is refused,
    since Hydra would silently take the first."""
    folders = plugins().config_folders()
    seen: dict[Path, Path] = {
        p.relative_to(data_folder("configs")): p for p in data_folder("configs").rglob("*.yaml")
    }
    for folder in folders:
        for path in folder.rglob("*.yaml"):
            relative = path.relative_to(folder)
            if relative in seen:
                raise PluginError(
                    f"Two config files have the name {relative}: {seen[relative]} and {path}."
                )
            seen[relative] = path
    return [f"hydra.searchpath=[{','.join(f'file://{f}' for f in folders)}]"] if folders else []


def _refuse_interpolations(data: object, key: str = "") -> None:
    """Config values are data: nothing is evaluated and the environment is not read."""
    if isinstance(data, str):
        _refuse_interpolation(data, key)
    elif isinstance(data, Mapping):
        for name, value in data.items():
            _refuse_interpolation(str(name), key or "a key")
            _refuse_interpolations(value, f"{key}.{name}" if key else str(name))
    elif isinstance(data, list | tuple):
        for position, value in enumerate(data):
            _refuse_interpolations(value, f"{key}[{position}]")


def _refuse_interpolation(text: str, where: str) -> None:
    if "${" in text:
        raise ConfigError(f"{where} is {text!r}: interpolations (${{…}}) are not allowed.")


def _flatten(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        name = f"{prefix}{key}"
        yield name, value
        if isinstance(value, dict):
            yield from _flatten(value, f"{name}.")


def _explain(verb: str, error: Exception) -> str:
    """What is wrong with the choice of a group's file."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).partition("/")
        if group == "domain":
            check_usable(name)
        return f"There is no {group}={name}. {suggest(name, group_options(group))}"
    if isinstance(error, ValueError):
        return f"Choose by name, such as data=NAME or objective=[NAME]. {first_line(error)}."
    text = first_line(error.__cause__ if error.__cause__ is not None else error)
    if "You must specify 'domain'" in text:
        return f"Choose a domain: zoo {verb} domain=NAME. {suggest('', group_options('domain'))}"
    return text
