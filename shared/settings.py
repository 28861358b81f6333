"""Settings that a user wrote, held against the names and annotations of what takes them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from shared.errors import ConfigError, suggest

# in plain words, one and several
_SCALARS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "values true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    NoneType: ("null", "nulls"),
}


def check_settings(
    target: Any, args: tuple[object, ...], settings: Mapping[str, Any], where: str
) -> None:
    """Hold settings against a callable's signature and annotations before calling it.

    Checked are int, float, bool, str, None, Literal, unions, lists and mappings; a value with any
    other annotation, or with none, passes.

    Args:
        target: A class or function.
        args: What the program passes by position; not checked.
        settings: What the user wrote.
        where: Config key that holds the settings, for messages.

    Raises:
        ConfigError: An unknown setting, a missing one, or a value of another type.
    """
    parameters = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in settings:
            if key not in parameters:
                known = [n for n in parameters if n != "self"][len(args) :]
                raise ConfigError(f"{where} has no setting {key!r}. {suggest(str(key), known)}")
        try:
            inspect.signature(target).bind(*args, **settings)
        except TypeError as error:
            raise ConfigError(f"{where}: {error}.") from error
    hints = _hints(target)
    for key, value in settings.items():
        default = parameters[key].default if key in parameters else inspect.Parameter.empty
        if key in parameters and key in hints and value is not default:
            check_value(value, hints[key], f"{where}: {key}")


def check_fields(target: type, data: object, where: str, whole: bool = False) -> None:
    """Hold plain data, such as JSON, against a dataclass.

    Args:
        target: The dataclass.
        data: What should fill it.
        where: Where the data stand, for messages.
        whole: Whether fields with a default have to be there, too.

    Raises:
        ConfigError: No mapping, a field too many or too few, or a value of another type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} is {data!r}, not a mapping.")
    names = [f.name for f in fields(target) if whole or f.default is f.default_factory is MISSING]
    if lacking := [name for name in names if name not in data]:
        raise ConfigError(f"{where} lacks {', '.join(lacking)}.")
    check_settings(target, (), data, where)


def check_value(value: object, annotation: Any, where: str) -> None:
    """Raise a ConfigError that says what `where` has to be, unless the value fits."""
    if fits(value, annotation):
        return
    hint = f", such as [{value}]" if fits([value], annotation) else ""
    raise ConfigError(f"{where}={value!r} has to be {describe(annotation)}{hint}.")


def fits(value: object, annotation: Any) -> bool:
    """Whether a value is what an annotation says; an annotation not known here takes anything."""
    base, parts = get_origin(annotation) or annotation, get_args(annotation)
    if base is Union or base is UnionType:
        return any(fits(value, part) for part in parts)
    if base is Literal:
        return any(type(value) is type(choice) and value == choice for choice in parts)
    if base is None or base is NoneType:
        return value is None
    if base is int or base is float:
        number = Integral if base is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    if base is bool or base is str:
        return isinstance(value, base)
    if _is_list(base):
        return _fits_list(value, base, parts)
    if _is_mapping(base):
        return isinstance(value, Mapping) and (
            len(parts) != 2
            or all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
        )
    return True


def _fits_list(value: object, base: Any, parts: tuple[Any, ...]) -> bool:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return False
    if base is tuple and parts and parts[-1] is not Ellipsis:
        return len(value) == len(parts) and all(map(fits, value, parts))
    return not parts or all(fits(item, parts[0]) for item in value)


def describe(annotation: Any, several: bool = False) -> str:
    """An annotation in plain words."""
    base, parts = get_origin(annotation) or annotation, get_args(annotation)
    if base is Union or base is UnionType:
        return ", or ".join(describe(part, several) for part in parts)
    if base is Literal:
        return " or ".join(map(repr, parts))
    if base is tuple and parts and parts[-1] is not Ellipsis:
        return f"a list of {len(parts)} values ({', '.join(map(describe, parts))})"
    if _is_list(base):
        inside = f" of {describe(parts[0], several=True)}" if parts else ""
        return ("lists" if several else "a list") + inside
    if _is_mapping(base):
        inside = f" from names to {describe(parts[1], several=True)}" if len(parts) == 2 else ""
        return ("mappings" if several else "a mapping") + inside
    for kind, words in _SCALARS.items():
        if base is kind:
            return words[several]
    return str(getattr(base, "__name__", base))


def _is_list(base: Any) -> bool:
    return base is list or base is tuple or base is Sequence


def _is_mapping(base: Any) -> bool:
    return base is dict or base is Mapping


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of the parameters; none where they cannot be resolved."""
    try:
        return get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    except Exception:  # a plugin's annotation may name anything, also what is not imported
        return {}
