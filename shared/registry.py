"""A registry of named things, each a reference that is imported only when it is used."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from shared.errors import ConfigError, PluginError, UnknownNameError, suggest

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        name: The name a user writes.
        target: `module:attribute`.
        origin: The domain and distribution that registered it.
    """

    name: str
    target: str
    origin: str


class Registry(Generic[T]):
    """Name → object of type T, resolved at use; listing imports nothing."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, target: str, origin: str) -> None:
        """Register a `module:attribute` reference.

        Raises:
            PluginError: The name is taken (both origins are named) or the reference is malformed.
        """
        if target.count(":") != 1:
            raise PluginError(f"{origin}: {self.kind} {name!r} → {target!r} is not 'module:name'.")
        if name in self._entries:
            raise PluginError(
                f"Two plugins register the {self.kind} {name!r}: {self._entries[name].origin} and "
                f"{origin}. Rename one or uninstall one."
            )
        self._entries[name] = Entry(name, target, origin)

    def entry(self, name: str) -> Entry:
        """The entry of a name; raises UnknownNameError with the nearest names."""
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownNameError(
                f"There is no {self.kind} {name!r}. {suggest(name, self._entries)}"
            ) from None

    def get(self, name: str) -> T:
        """The registered object, imported now.

        Raises:
            UnknownNameError: No such name.
            PluginError: Its module cannot be imported or lacks the attribute.
        """
        entry = self.entry(name)
        module, attribute = entry.target.split(":")
        try:
            return cast(T, getattr(importlib.import_module(module), attribute))
        except (ImportError, AttributeError) as error:
            raise PluginError(
                f"The {self.kind} {name!r} of {entry.origin} cannot be loaded from "
                f"{entry.target}: {error}. `zoo plugins` and `zoo doctor` show what is missing."
            ) from error

    def build(self, name: str, where: str, /, *args: object, **settings: Any) -> Any:
        """Call the registered class or function with the settings of a config node.

        Args:
            name: Registered name.
            where: Config key that holds the settings, for messages.
            *args: What the program passes.
            **settings: What the user wrote.

        Raises:
            ConfigError: A setting that the signature does not have, or one that is missing.
        """
        target = cast(Any, self.get(name))
        check_settings(target, args, settings, f"{where} ({self.kind} {name!r})")
        return target(*args, **settings)

    def __iter__(self) -> Iterator[Entry]:
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def __contains__(self, name: object) -> bool:
        return name in self._entries


def check_settings(
    target: Any, args: tuple[object, ...], settings: Mapping[str, Any], where: str
) -> None:
    """Hold settings against a callable's signature before calling it."""
    signature = inspect.signature(target)
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return
    for key in settings:
        if key not in signature.parameters:
            known = [n for n in signature.parameters if n != "self"][len(args) :]
            raise ConfigError(f"{where} has no setting {key!r}. {suggest(key, known)}")
    try:
        signature.bind(*args, **settings)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from error


class Registries:
    """One registry a kind, filled by the domains."""

    def __init__(self) -> None:
        # Any: importing the classes here would import torch
        self.models: Registry[Any] = Registry("model")
        self.datasets: Registry[Any] = Registry("dataset")
        self.adapters: Registry[Any] = Registry("adapter")
        self.preprocessors: Registry[Any] = Registry("preprocessor")
        self.encoders: Registry[Any] = Registry("encoder")
        self.objectives: Registry[Any] = Registry("objective")
        self.evaluators: Registry[Any] = Registry("evaluator")

    def __iter__(self) -> Iterator[Registry[Any]]:
        return iter(vars(self).values())
