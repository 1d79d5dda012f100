"""Registries: dicts of components by name, which know where each entry comes from.

A registry is a dict at the bottom of the file that defines its values. What is entered from outside
is an entry like the others: ``MODELS["mine"] = mine``.
"""

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from vaebench.errors import ConfigError
from vaebench.plugins.source import Plugin, read_source, source_digest

V = TypeVar("V")
Entries = list[tuple["Registry[Any]", str]]

KNOWN: dict[Path, Plugin] = {}
"""Plugins by their file: those that were loaded, and files that entered something by themselves."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,40}")
_PACKAGE = __name__.partition(".")[0]
_loading: list[tuple[Path, Entries]] = []  # what is being loaded, and what it has entered


class Registry(dict[str, V]):
    """Components by name; a second one of the same name is refused.

    To put another entry in the place of a known one, delete that first.

    Arguments:
        kind: What an entry is, for messages: ``model``.
        entries: The first entries.
        fault: Says what is wrong with an entry, in words; None where it may be entered.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, V],
        fault: Callable[[Any], str | None] = lambda _: None,
    ) -> None:
        super().__init__()
        self.kind = kind
        self._fault = fault
        self._places: dict[str, Path | None] = {}  # the files of those who entered them
        self._own: dict[str, V] | None = None  # vaebench's; None while they are entered
        self.update(entries)
        self._own = dict(entries)

    def __setitem__(self, name: str, entry: V) -> None:
        """Enter a component.

        Raises:
            ConfigError: Another one has the name (both places are in the message), the name is
                none, or the entry is no such component.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"{str(name)[:60]!r} is no name of a {self.kind}: a letter, then up to 40 letters, "
                f"digits, _ or -"
            )
        if name in self and self[name] is not entry:
            raise ConfigError(
                f"there are two {self.kind}s named {name!r}: {place(self[name])} and "
                f"{place(entry)}; rename one of them"
            )
        if said := self._fault(entry):
            raise ConfigError(f"{self.kind} {name!r} ({place(entry)}): {said}")
        if name in self:
            return
        super().__setitem__(name, entry)
        if self._own is None:
            self._places[name] = None
        elif _loading:
            file, made = _loading[-1]
            made.append((self, name))
            self._places[name] = file
        else:
            self._places[name] = _entered_from(entry)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._places.pop(name, None)

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

    def plugin(self, name: str) -> Plugin | None:
        """The plugin that entered an entry; None for vaebench's own."""
        entry, own = self[name], (self._own or {}).get(name)
        if own is not None and function_of(own) is function_of(entry):
            return None
        file = self._places.get(name)
        if file is not None:
            return KNOWN[file]
        module = getattr(function_of(entry), "__module__", None) or "?"
        if module.partition(".")[0] == _PACKAGE:
            return None
        return Plugin(module, None, is_named=False)


def _entered_from(entry: object) -> Path | None:
    """The file of an entry that no plugin enters, noted as it is now; None if it has none."""
    module = sys.modules.get(getattr(function_of(entry), "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if module is None or not file or module.__name__.partition(".")[0] == _PACKAGE:
        return None
    path = Path(os.path.realpath(file))
    if path not in KNOWN:
        try:
            digest = source_digest(module, read_source(path), path.parent)
        except (ConfigError, SyntaxError):  # gone since, or no source
            return None
        KNOWN[path] = Plugin(path.name, path, digest=digest, is_named=False)
    return path


@contextmanager
def entering(path: Path) -> Iterator[None]:
    """Note whatever is entered meanwhile as that of a file; all of it goes again on an error."""
    made: Entries = []
    _loading.append((path, made))
    try:
        yield
    except BaseException:
        for registry, name in made:
            if name in registry:
                del registry[name]
        raise
    finally:
        _loading.pop()


def is_entering() -> Path | None:
    """The file that is being loaded, if any."""
    return _loading[-1][0] if _loading else None


def function_of(entry: Any) -> Any:
    """The function or class of an entry, which may be a dataclass that declares things of it."""
    for attribute in ("function", "read", "func"):  # the last that of a partial
        entry = getattr(entry, attribute, entry)
    return entry


def not_callable(entry: object) -> str | None:
    """What is wrong with an entry that is to be a function."""
    return None if callable(entry) else f"is a {type(entry).__name__}, not a function"


def no_instance(kind: type) -> Callable[[Any], str | None]:
    """What is wrong with an entry that is to be an instance of a class, and its first argument."""

    def fault(entry: object) -> str | None:
        if isinstance(entry, kind):
            return None
        name = getattr(entry, "__name__", "...")
        return f"is a {type(entry).__name__}; enter {kind.__name__}({name}, ...)"

    return fault


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
