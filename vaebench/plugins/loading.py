"""Loading plugins: files, modules and entry points of installed packages, each once in a process.

A file is read once: what is run is what was digested. What a plugin prints goes to the standard
error, as the standard output is the command's.
"""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from vaebench.errors import ConfigError
from vaebench.plugins.registry import KNOWN, entering, is_entering
from vaebench.plugins.source import Plugin, module_of, read_source, source_digest

GROUP = "vaebench.plugins"


def load(names: Iterable[str], folder: Path | None = None) -> None:
    """Load plugins by name, those of installed packages first.

    Arguments:
        names: A path (it ends in ``.py`` or has a separator), or the dotted name of a module.
        folder: What relative paths are relative to; None: the working directory.

    Raises:
        ConfigError: One cannot be loaded; its file, line and message are in it.
    """
    load_installed()
    for name in names:
        if is_path(name):
            _load_file(Path(os.path.realpath((folder or Path()) / Path(name).expanduser())))
        else:
            _load_module(name)


def is_path(name: str) -> bool:
    """Whether a plugin is named by its path, not as a module."""
    return name.endswith(".py") or "/" in name or os.sep in name


@cache
def load_installed() -> None:
    """Load the plugins of installed packages.

    Raises:
        ConfigError: One cannot be loaded; its package is named.
    """
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        packed = f"{entry.dist.name} {entry.dist.version}" if entry.dist else None
        try:
            _load_module(entry.module, packed, entry)
        except ConfigError as error:
            raise ConfigError(
                f"{error} (entry point {entry.name!r} of the installed package {packed}); mend it, "
                f"or uninstall the package"
            ) from error


def loaded() -> tuple[Plugin, ...]:
    """The plugins that were loaded, in that order."""
    return tuple(plugin for plugin in KNOWN.values() if plugin.is_named)


def known() -> tuple[Plugin, ...]:
    """The plugins that were loaded, and the files that have entered something by themselves."""
    return tuple(KNOWN.values())


def name_all() -> list[dict[str, Any]]:
    """What another process of this machine needs to load the same; see :func:`load_as_there`."""
    return [
        {
            "name": plugin.name,
            "path": str(plugin.path),
            "root": None if plugin.root is None else str(plugin.root),
            "digest": plugin.digest,
        }
        for plugin in loaded()
    ]


def load_as_there(named: Sequence[Mapping[str, Any]]) -> None:
    """Load what another process has loaded, as :func:`name_all` named it there.

    Raises:
        ConfigError: One cannot be loaded, or has changed since.
    """
    load_installed()
    for told_of in named:
        path, root = Path(told_of["path"]), told_of["root"]
        if root is None:
            _load_file(path)
        else:
            if root not in sys.path:
                sys.path.append(root)
            _load_module(told_of["name"])
        if path not in KNOWN or KNOWN[path].digest != told_of["digest"]:
            raise ConfigError(
                f"plugin {path}: has changed since the command began; give the command again"
            )


def require_idle(what: str) -> None:
    """Refuse to do something while a plugin is being loaded: it would begin anew in every worker.

    Raises:
        ConfigError: One is.
    """
    if path := is_entering():
        raise ConfigError(
            f"{path.name} calls {what} while it is loaded as a plugin; put the call below "
            f'`if __name__ == "__main__":`'
        )


def _load_file(path: Path) -> None:
    if _is_loaded(path):
        return
    if path.is_dir():
        raise ConfigError(
            f"plugin {path}: a folder; name a file in it, or its module as package.module"
        )
    content = read_source(path)
    _require_other_name(path.name, path)
    module = module_of(path)
    if module is None:
        name = f"plugin_{path.stem}"
        while name in sys.modules:
            name += "_"
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))  # last: a file there stands in for no other module
        loader = _Source(name, str(path), content)
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            _run(lambda: loader.exec_module(module), path, path)
        except BaseException:
            del sys.modules[name]
            raise
    digest = source_digest(module, content, path.parent)
    KNOWN[path] = Plugin(path.name, path, digest=digest)


def _load_module(name: str, packed: str | None = None, entry: EntryPoint | None = None) -> None:
    path = _find(name)
    if _is_loaded(path):
        return
    _require_other_name(name, path)
    module = sys.modules.get(name)
    if module is None:
        module = _run(lambda: importlib.import_module(name), path, name)
    if entry is not None and entry.attr:
        _run(entry.load, path, name)
    depth = name.count(".") + (path.name == "__init__.py")
    root = path.parents[depth]  # from which it is imported
    folder = root / name.partition(".")[0]
    content = read_source(path)
    digest = source_digest(module, content, folder if folder.is_dir() else root)
    KNOWN[path] = Plugin(name, path, root=root, digest=digest, distribution=packed)


def _is_loaded(path: Path) -> bool:
    return path in KNOWN and KNOWN[path].is_named


def _find(name: str) -> Path:
    """The file of a module, found without running any code.

    Raises:
        ConfigError: There is no such module, or it has no source file.
    """
    top, *parts = name.split(".")
    try:
        spec = importlib.util.find_spec(top) if all((top, *parts)) else None
    except (ImportError, ValueError):
        spec = None
    places = [] if spec is None or spec.origin is None or parts else [Path(spec.origin)]
    for folder in (spec.submodule_search_locations or ()) if spec and parts else ():
        below = Path(folder, *parts)
        places += [below.with_suffix(".py"), below / "__init__.py"]
    for path in places:
        if path.suffix == ".py" and path.is_file():
            return Path(os.path.realpath(path))
    there = " (it is in the working directory)" if Path(f"{name}.py").exists() else ""
    raise ConfigError(
        f"plugin {name[:60]}: there is no such module with a source; name a file by its path, as "
        f"{name[:60]}.py{there}"
    )


def _require_other_name(name: str, path: Path) -> None:
    for plugin in loaded():
        if plugin.name == name:
            raise ConfigError(
                f"there are two plugins named {name}: {plugin.path} and {path}; rename one of them"
            )


class _Source(SourceFileLoader):
    """Runs a source that was read before, and leaves no compiled file beside the user's."""

    def __init__(self, name: str, path: str, content: bytes) -> None:
        super().__init__(name, path)
        self.content = content

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError(f"{path}: neither read nor write compiled code")

    def get_data(self, path: str) -> bytes:  # noqa: ARG002
        return self.content


def _run(do: Callable[[], Any], path: Path, name: object) -> Any:
    """Run a plugin's code while what it enters is noted as that of its file.

    Raises:
        ConfigError: It raised something; where and what is in the message.
    """
    try:
        with entering(path), redirect_stdout(sys.stderr):
            return do()
    except (Exception, SystemExit) as error:
        what = told(error, path) if not isinstance(error, ConfigError) else str(error)
        raise ConfigError(f"plugin {name}: cannot be loaded: {what}") from error


def where(error: BaseException, path: Path | None = None) -> str | None:
    """The line of a plugin that an exception comes from, ``my_vae.py:12``; None if of no plugin.

    Arguments:
        error: As it was caught.
        path: A plugin that is not loaded yet.
    """
    files = {str(known) for known in KNOWN} | ({str(path)} if path else set())
    folders = {known.parent for known, plugin in KNOWN.items() if plugin.is_named}
    found = None
    if isinstance(error, SyntaxError) and error.filename:
        found = f"{Path(error.filename).name}:{error.lineno}"
    for frame in traceback.extract_tb(error.__traceback__):
        file = os.path.realpath(frame.filename)
        local = Path(file).parent in folders and not Path(file).is_relative_to(sys.prefix)
        if file in files or local:
            found = f"{Path(file).name}:{frame.lineno}"
    return found


def told(error: BaseException, path: Path | None = None) -> str:
    """An exception in one line, with the line of the plugin that it comes from."""
    said = error.msg if isinstance(error, SyntaxError) else error
    text = " ".join(f"{type(error).__name__}: {said}".split())
    line = where(error, path)
    return f"{line}: {text}" if line else text
