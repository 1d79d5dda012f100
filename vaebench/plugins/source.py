"""Which code a plugin is: its digest, which changes whenever a run of it may give other numbers.

The digest covers the plugin's file and every module that it imports from its own folder (of a
module of a package: from the package), whatever they import from there included.
"""

import ast
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from vaebench.errors import ConfigError, ResultsError
from vaebench.files import read_file

MAX_SOURCE_BYTES = 10_000_000


@dataclass(frozen=True)
class Plugin:
    """A file or module that has entered components.

    Attributes:
        name: ``my_vae.py``, or ``my_package.vaes``; the same on every machine.
        path: Its file; None for what was entered at a prompt.
        root: The folder from which its module is imported; None for a file.
        digest: 12 hexadecimal digits of a sha256 of its source; None where there is no file.
        distribution: The installed package that it came with, ``vaebench-resnet 1.2``.
        is_named: Whether it was loaded by its name, so that a worker can load it as well.
    """

    name: str
    path: Path | None
    root: Path | None = None
    digest: str | None = None
    distribution: str | None = None
    is_named: bool = True

    def __str__(self) -> str:
        return self.name


def read_source(path: Path) -> bytes:
    """The content of a Python file.

    Raises:
        ConfigError: There is no such file, or it cannot be read.
    """
    try:
        content = read_file(path, MAX_SOURCE_BYTES)
    except ResultsError as error:
        raise ConfigError(f"plugin {error}") from error
    if content is None:
        raise ConfigError(f"plugin {path}: no such file")
    return content


def source_digest(module: ModuleType, content: bytes, folder: Path) -> str:
    """Digest of a module's source and of what it imports from a folder: 12 hexadecimal digits.

    Arguments:
        module: The module, loaded.
        content: Its source.
        folder: Modules that lie below it count.
    """
    digest = hashlib.sha256(content)
    others = {
        path: other
        for other, path in _local_imports(module, content, folder)
        if path != _file_of(module)
    }
    for path in sorted(others):
        digest.update(f"\n{path.relative_to(folder).as_posix()}\n".encode())
        digest.update(read_source(path))
    return digest.hexdigest()[:12]


def _local_imports(
    module: ModuleType, content: bytes, folder: Path
) -> Iterator[tuple[ModuleType, Path]]:
    """Modules below a folder that a module imports, directly or through one another."""
    waiting, seen = [(module, content)], {module.__name__}
    while waiting:
        module, content = waiting.pop()
        for name in _imported(module, content):
            other = sys.modules.get(name)
            path = _file_of(other)
            if other is None or path is None or name in seen or folder not in path.parents:
                continue
            seen.add(name)
            yield other, path
            waiting.append((other, read_source(path)))


def _imported(module: ModuleType, content: bytes) -> Iterator[str]:
    """Full names of what a source imports, and of the packages on the way there."""
    for node in ast.walk(ast.parse(content)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            if node.level:
                try:
                    base = importlib.util.resolve_name(base, module.__package__)
                except ImportError:
                    continue
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1))


def _file_of(module: ModuleType | None) -> Path | None:
    """The source file of a module, links resolved; None where it has none."""
    file = getattr(module, "__file__", None)
    return Path(os.path.realpath(file)) if file and str(file).endswith(".py") else None


def module_of(path: Path) -> ModuleType | None:
    """A module that was made of a file before, however that was done."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and Path(file).name == path.name and Path(os.path.realpath(file)) == path:
            return module
    return None
