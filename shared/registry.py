"""A registry of named things, each a reference that is imported only when it is used."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from shared.errors import ConfigError, PluginError, UnknownNameError, ZooError, suggest
from shared.settings import check_settings

T = TypeVar("T")

# what constructors, also those of torch, raise on values that cannot be
_REFUSALS = (TypeError, ValueError, AssertionError, ArithmeticError, LookupError, RuntimeError)


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        name: The name a user writes.
        target: `module:attribute`.
        origin: The domain and distribution that registered it, for messages.
        domain: Name of that domain; `shared` for what needs none.
    """

    name: str
    target: str
    origin: str
    domain: str = "shared"


class Registry(Generic[T]):
    """Name → object of type T, resolved at use; listing imports nothing."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._disputed: dict[str, str] = {}

    def add(self, name: str, target: str, origin: str, domain: str = "shared") -> None:
        """Register a `module:attribute` reference.

        Raises:
            PluginError: The name is taken (both origins are named) or the reference is malformed.
        """
        if not is_reference(target):
            raise PluginError(f"{origin}: {self.kind} {name!r} → {target!r} is not 'module:name'.")
        if name in self._entries:
            raise PluginError(self.dispute(name, origin))
        self._entries[name] = Entry(name, target, origin, domain)

    def dispute(self, name: str, origin: str) -> str:
        """Note that a second origin claims a taken name: from now on using it is an error.

        Returns:
            The message of that error; it names both origins.
        """
        self._disputed[name] = (
            f"Two plugins register the {self.kind} {name!r}: {self._entries[name].origin} and "
            f"{origin}. Rename one or uninstall one."
        )
        return self._disputed[name]

    def entry(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            ConfigError: The name is not a text.
            UnknownNameError: No such name; the nearest are given.
            PluginError: Two plugins claim it.
        """
        if not isinstance(name, str):
            raise ConfigError(
                f"The name of a registered {self.kind} has to be a text, not {name!r}. "
                f"{suggest('', self._entries)}"
            )
        if name not in self._entries:
            raise UnknownNameError(
                f"There is no {self.kind} {name!r}. {suggest(name, self._entries)}"
            )
        if name in self._disputed:
            raise PluginError(self._disputed[name])
        return self._entries[name]

    def get(self, name: str) -> T:
        """The registered object, imported now.

        Raises:
            UnknownNameError: No such name.
            PluginError: Its module cannot be imported or lacks the attribute, or two plugins
                claim the name.
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
            ConfigError: A setting that the signature does not have, one that is missing, or a
                value that is of another type or that the constructor refuses.
            UnknownNameError, PluginError: As `get`.
        """
        target = cast(Any, self.get(name))
        if not callable(target):
            raise PluginError(f"The {self.kind} {name!r} of {self.entry(name).origin} is no class.")
        where = f"{where} ({self.kind} {name!r})"
        check_settings(target, args, settings, where)
        try:
            return target(*args, **settings)
        except ZooError:
            raise
        except _REFUSALS as error:
            given = ", ".join(f"{key}={value!r}" for key, value in settings.items())
            raise ConfigError(
                f"{where} cannot be made with {given or 'its defaults'}: "
                f"{str(error) or 'no reason given'} ({type(error).__name__})."
            ) from error

    def __iter__(self) -> Iterator[Entry]:
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def __contains__(self, name: object) -> bool:
        return name in self._entries


def is_reference(target: object) -> bool:
    """Whether a target has the form `module:attribute`."""
    return isinstance(target, str) and all(target.split(":")) and target.count(":") == 1


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
        self.protocols: Registry[Any] = Registry("protocol")
        self.evaluators: Registry[Any] = Registry("evaluator")

    def __iter__(self) -> Iterator[Registry[Any]]:
        return iter(vars(self).values())
