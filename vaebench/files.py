"""Files: written whole or not at all, read only if they are what they should be.

:func:`write_atomic` is the only way to write a result. A file that somebody else may have made is
opened by :func:`open_file` or by one of the functions that stand on it, and by nothing else.
"""

import errno
import json
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from filelock import FileLock
from pydantic_core import from_json

from vaebench.errors import ResultsError

MAX_CONFIG_BYTES = 1_000_000  # a configuration has some 1,000
MAX_LINE_BYTES = 1_000_000  # of a journal; an epoch has some 300
MAX_JOURNAL_BYTES = 256_000_000
MAX_MANIFEST_BYTES = 64_000_000  # one of 100,000 runs has 12 million
MAX_RECORD_BYTES = 16_000_000  # a record has some 10,000
MAX_TENSORS_BYTES = 4_000_000_000
MAX_PICTURE_BYTES = 64_000_000  # a figure has some 100,000
MAX_PIXELS = 50_000_000  # of a picture; the comparison of a hundred cells has 10 million

Content = bytes | str | Iterable[str]
TEMPORARY = re.compile(r"\.(.+)\.\d+\.tmp")  # what write_atomic writes to: .<name>.<number>.tmp


def write_atomic(
    path: Path, content: Content, within: Path | None = None, *, durable: bool = True
) -> None:
    """Write a file so that it is there whole or not at all, and is on the disk when we return.

    Text may come in pieces. A link in its place is replaced, not followed. One between ``within``
    and the file is refused. Unless ``durable``, a crash of the machine may undo it.

    Raises:
        ResultsError: There is such a link.
        OSError: The file cannot be written.
    """
    if within is not None:
        require_no_link(path.parent, within)
    make_folder(path.parent)
    # a number of its own: processes of two machines may have the same id
    temporary = path.with_name(f".{path.name}.{os.getpid()}{secrets.randbelow(10**9):09}.tmp")
    try:
        with temporary.open("xb") as file:  # not through a link
            for piece in [content] if isinstance(content, bytes | str) else content:
                file.write(piece.encode() if isinstance(piece, str) else piece)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
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


def clean(folder: Path, within: Path | None = None, only: Container[str] | None = None) -> None:
    """Remove what killed writers left half-written in a folder; ``only``: of these files."""
    for name in names_in(folder, within):
        found = TEMPORARY.fullmatch(name)
        if found and (only is None or found[1] in only):
            (folder / name).unlink(missing_ok=True)


def dump_yaml(value: Mapping[str, Any]) -> str:
    """YAML in the given order of keys."""
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=100)


def dump_json(value: Any) -> str:
    """JSON without NaN, which is not JSON."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def open_file(path: Path, max_bytes: int, within: Path | None = None) -> BinaryIO | None:
    """Open a file that somebody else may have made; None when there is none.

    What is opened is a plain file of a sane size, in its folder and not elsewhere: this is known of
    the open file itself before a byte of it is read, and nothing is waited for.

    Arguments:
        path: The file.
        max_bytes: How large it may be.
        within: A folder that the user named, in which the file is to lie. No link is followed below
            it. The file's own folder when None.

    Raises:
        ResultsError: It is no plain file, reached through a link, too large, or cannot be read.
    """
    within = path.parent if within is None else within
    try:
        descriptor = _descend(path, within)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        require_no_link(path, within)
        if isinstance(error, ValueError) or error.errno in (errno.ENOTDIR, errno.ENXIO):
            raise ResultsError(f"{path}: damaged: not a file") from error
        raise unreadable(path, error) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ResultsError(f"{path}: damaged: not a file")
    if status.st_size > max_bytes:
        os.close(descriptor)
        raise ResultsError(f"{path}: damaged: larger than {max_bytes / 1e6:,.0f} MB")
    return os.fdopen(descriptor, "rb")


def _descend(path: Path, within: Path) -> int:
    """Open what lies at ``path``, folder by folder from ``within`` on, through no link."""
    safe = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    descriptor = os.open(within, os.O_RDONLY | os.O_DIRECTORY)
    for part in path.relative_to(within).parts:
        above = descriptor
        try:
            if part == "..":
                raise ValueError("leads out of its folder")
            descriptor = os.open(part, safe, dir_fd=above)
        finally:
            os.close(above)
    return descriptor


def read_file(path: Path, max_bytes: int, within: Path | None = None) -> bytes | None:
    """The content of a file that somebody else may have made; None when there is none.

    Arguments and errors are those of :func:`open_file`.
    """
    file = open_file(path, max_bytes, within)
    if file is None:
        return None
    with file:
        try:
            return file.read(os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise unreadable(path, error) from error


def read_json(path: Path, within: Path | None = None) -> dict[str, Any] | None:
    """Read a JSON object; None when there is no such file.

    Raises:
        ResultsError: As for :func:`open_file`, or the file holds something else.
    """
    if (content := read_file(path, MAX_RECORD_BYTES, within)) is None:
        return None
    try:
        value = from_json(content, cache_strings="keys")  # thrice as fast as `json`
    except ValueError as error:
        raise ResultsError(f"{path}: damaged: {error}") from error
    if not isinstance(value, dict):
        raise ResultsError(f"{path}: damaged: not a JSON object")
    return value


def read_picture(path: Path, within: Path | None = None) -> bytes | None:
    """Read a PNG picture; None when there is no such file.

    Raises:
        ResultsError: As for :func:`open_file`, or its first bytes are not those of a PNG picture of
            a sane size.
    """
    content = read_file(path, MAX_PICTURE_BYTES, within)
    if content is None:
        return None
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or content[12:16] != b"IHDR":
        raise ResultsError(f"{path}: damaged: not a PNG picture")
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    if not 0 < width * height <= MAX_PIXELS:
        raise ResultsError(f"{path}: damaged: a picture of {width:,} x {height:,} pixels")
    return content


def open_archive(path: Path, max_bytes: int, within: Path | None = None) -> BinaryIO | None:
    """Open an archive of tensors or arrays; None when there is none.

    It is a zip file that unpacks to no more bytes than it has, and every entry has its checksum.

    Raises:
        ResultsError: As for :func:`open_file`, or it is no such archive.
    """
    file = open_file(path, max_bytes, within)
    if file is None:
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
            if claimed > os.fstat(file.fileno()).st_size:
                raise ResultsError(f"{path}: damaged: it unpacks to more than it holds")
            if (entry := archive.testzip()) is not None:
                raise ResultsError(f"{path}: damaged: wrong checksum of {entry}")
        file.seek(0)
    except BaseException as error:
        file.close()
        if isinstance(error, ResultsError) or not isinstance(error, Exception):
            raise
        # zipfile raises many kinds for a damaged file
        raise ResultsError(f"{path}: damaged: {type(error).__name__}") from error
    return file


def names_in(folder: Path, within: Path | None = None) -> list[str]:
    """Names of what lies in a folder that somebody else may have made; none when there is none.

    Raises:
        ResultsError: It is reached through a link below ``within``, or cannot be read.
    """
    within = folder if within is None else within
    try:
        descriptor = _descend(folder, within)
    except FileNotFoundError:
        return []
    except OSError as error:
        require_no_link(folder, within)
        raise unreadable(folder, error) from error
    try:
        return sorted(os.listdir(descriptor))  # noqa: PTH208 (of an open folder)
    except OSError as error:
        raise unreadable(folder, error) from error
    finally:
        os.close(descriptor)


def require_no_link(path: Path, within: Path) -> None:
    """Make sure that no link below ``within`` stands on the way to ``path``, there or to be made.

    Raises:
        ResultsError: One does; its name is in the message.
    """
    for place in (path, *path.parents):
        if place == within:
            return
        if place.is_symlink():
            raise ResultsError(f"{place}: a link, which is not followed; put the file itself there")


def lock(path: Path, timeout: float, within: Path | None = None) -> FileLock:
    """The lock in a file that somebody else may have made; acquiring it waits up to ``timeout`` s.

    Raises:
        ResultsError: It is a link, no plain file, or has other names, of which one may be elsewhere
            (old versions of filelock empty the file that they lock).
    """
    require_no_link(path, path.parent if within is None else within)
    require_single(path)
    return FileLock(path, timeout=timeout)


def require_single(path: Path) -> None:
    """Make sure that what is to be written in place is a plain file of one name, or is not there.

    Raises:
        ResultsError: It is something else, or has other names (hard links).
    """
    try:
        status = path.lstat()
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise ResultsError(f"{path}: damaged: not a file")
    if status.st_nlink > 1:
        raise ResultsError(f"{path}: has other names (hard links); put a copy of it there")


def unreadable(path: Path, error: OSError) -> ResultsError:
    """What to tell the user of a file that cannot be read."""
    return ResultsError(f"{path}: cannot be read: {error.strerror or error}")
