"""Files: written whole or not at all, read up to a size."""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vaebench.archives import require_file
from vaebench.errors import ResultsError

MOST_RECORD = 16_000_000  # bytes; a record has some 10,000
MOST_TENSORS = 4_000_000_000  # bytes


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that it is there whole or not at all, and is on the disk when we return."""
    data = content.encode() if isinstance(content, str) else content
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
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
    require_file(path, MOST_RECORD)
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path}: damaged: {error}") from error
    if not isinstance(value, dict):
        raise ResultsError(f"{path}: damaged: not a JSON object")
    return value
