"""Registries: dicts of components by name, which know where each entry comes from.

A registry is a dict at the bottom of the file that defines its values. What is entered from outside
is an entry like the others: ``MODELS["mine"] = mine``.
"""

import inspect
from collections.abc import Mapping
from typing import Any, Self, TypeVar

from vaebench.errors import ConfigError

V = TypeVar("V")


class Registry(dict[str, V]):
    """Components by name; a second one of the same name is refused.

    To put another entry in the place of a known one, delete that first.

    Arguments:
        kind: What an entry is, for messages: ``model``.
        entries: The first entries.
    """

    def __init__(self, kind: str, entries: Mapping[str, V]) -> None:
        super().__init__(entries)
        self.kind = kind

    def __setitem__(self, name: str, entry: V) -> None:
        """Enter a component.

        Raises:
            ConfigError: Another one has the name; both places are in the message.
        """
        if name in self and self[name] is not entry:
            raise ConfigError(
                f"there are two {self.kind}s named {name!r}: {place(self[name])} and "
                f"{place(entry)}; rename one of them"
            )
        super().__setitem__(name, entry)

    def update(self, *others: Any, **entries: V) -> None:
        """Enter several components, each as by itself."""
        for name, entry in dict(*others, **entries).items():
            self[name] = entry

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc]
        self.update(other)
        return self

    def origin(self, name: str) -> str:
        """Where an entry comes from: ``vaebench.models:75 (.../vaebench/models.py)``."""
        return place(self[name])


def function_of(entry: Any) -> Any:
    """The function or class of an entry, which may be a dataclass that declares things of it."""
    for attribute in ("function", "read", "func"):  # the last that of a partial
        entry = getattr(entry, attribute, entry)
    return entry


def place(entry: object) -> str:
    """Module, line and file of an entry's function, as far as Python knows them."""
    function = function_of(entry)
    module = getattr(function, "__module__", None) or type(function).__module__
    try:
        path = inspect.getsourcefile(function)
        line = inspect.getsourcelines(function)[1]
    except (OSError, TypeError):  # made at a prompt, or no function at all
        return str(module)
    return f"{module}:{line} ({path})"
