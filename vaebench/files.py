"""Files: written whole or not at all, read up to a size.

:func:`write_atomic` is the only way to write a result. Files of tensors and arrays are zip files:
whoever loads one asks :func:`require_archive` first.
"""

import errno
import json
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vaebench.errors import ResultsError

MAX_CONFIG_BYTES = 1_000_000  # a configuration has some 1,000
MAX_LINE_BYTES = 1_000_000  # of a journal; an epoch has some 300
MAX_MANIFEST_BYTES = 16_000_000  # one of 10,000 runs has 1.2 million
MAX_RECORD_BYTES = 16_000_000  # a record has some 10,000
MAX_TENSORS_BYTES = 4_000_000_000

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # what write_atomic writes to: .<name>.<process>.tmp


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that it is there whole or not at all, and is on the disk when we return.

    A link in its place is replaced, not followed.
    """
    data = content.encode() if isinstance(content, str) else content
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # not through a link
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; their names are on the disk when we return."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """Put the names in a folder on the disk: a crash of the machine may undo a mere rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems know no such thing
            raise
    finally:
        os.close(descriptor)


def clean(folder: Path) -> None:
    """Remove what a writer that was killed left half-written in a folder, not in those below."""
    for path in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def dump_yaml(value: Mapping[str, Any]) -> str:
    """YAML in the given order of keys."""
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=100)


def dump_json(value: Any) -> str:
    """JSON without NaN, which is not JSON."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ResultsError: The file is damaged or holds something else.
    """
    require_file(path, MAX_RECORD_BYTES)
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path}: damaged: {error}") from error
    if not isinstance(value, dict):
        raise ResultsError(f"{path}: damaged: not a JSON object")
    return value


def require_file(path: Path, max_bytes: int) -> None:
    """Make sure that a path is a plain file (a pipe would be waited for) of a sane size.

    Raises:
        ResultsError: It is not, or it has more than ``max_bytes``.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: damaged: not a file") from error
    if not stat.S_ISREG(status.st_mode):
        raise ResultsError(f"{path}: damaged: not a file")
    if status.st_size > max_bytes:
        raise ResultsError(f"{path}: damaged: larger than {max_bytes / 1e6:,.0f} MB")


def require_archive(path: Path, max_bytes: int) -> None:
    """Make sure that an archive of tensors or arrays is what was written.

    It is a zip file that unpacks to no more bytes than it has, and every entry has its checksum.

    Raises:
        ResultsError: It is not, or it has more than ``max_bytes``.
        Exception: As :mod:`zipfile`, on a damaged file.
    """
    require_file(path, max_bytes)
    with zipfile.ZipFile(path) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
        if claimed > path.stat().st_size:
            raise ResultsError(f"{path}: damaged: it unpacks to more than it holds")
        if (entry := archive.testzip()) is not None:
            raise ResultsError(f"{path}: damaged: wrong checksum of {entry}")
