"""The files a data set is downloaded from: where they lie, fetching, verification.

torchvision knows the addresses and the md5 sums and gives the folder layout, so that a folder which
torchvision filled is used as it is. The bytes are fetched here, because torchvision's downloader
has no timeout, prints, and writes to the final name. Nothing is ever read from a file that was not
verified in the same breath: by its published md5 or, where somebody unpacked it or packed it again
(Debian's package dataset-fashion-mnist does), by the sha256 of what it unpacks to. Files that are
published in one zip archive are read out of it. A new downloaded data set describes its files in a
`RemoteFiles`.
"""

import hashlib
import http.client
import os
import shlex
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import Timeout

from vaebench.datasets.archive import Archive
from vaebench.datasets.download import CHUNK, MAX_BYTES, base_url, get, reason
from vaebench.errors import DataError, ResultsError, redact
from vaebench.files import clean, lock, read_file, write_atomic

LOCK_TIMEOUT = 600.0  # seconds to wait for another process that fetches the same files


FileStates = tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True)
class RemoteFiles:
    """The files of one data set and where they come from.

    Arguments:
        name: The data set's name, for messages.
        folder: Where the files lie, relative to the data directory (torchvision's layout).
        mirrors: Base URLs, tried in this order.
        digests: File name -> expected md5 or sha256 (32 or 64 hexadecimal digits).
        mirror_variable: Environment variable with a base URL that replaces ``mirrors``, if any.
        unpacked: File name -> sha256 of the unpacked content, which a file that was packed again
            still has.
        archive: The zip archive in which the files are published, if they are.
    """

    name: str
    folder: str
    mirrors: tuple[str, ...]
    digests: Mapping[str, str]
    mirror_variable: str | None = None
    unpacked: Mapping[str, str] = field(default_factory=dict)
    archive: Archive | None = None

    @property
    def max_bytes(self) -> int:
        """How large a file of it may be."""
        return max(MAX_BYTES, self.archive.max_bytes if self.archive else 0)

    def expected(self, name: str) -> str:
        """The digest that a file, or the archive, should have."""
        return (
            self.archive.md5 if self.archive and name == self.archive.name else self.digests[name]
        )

    def verified(self, name: str, content: bytes | None) -> str | None:
        """By which digest a file's content is the published one; None where it is not."""
        if content is None:
            return None
        kind, found = _digest_as(self.expected(name), content)
        if found == self.expected(name):
            return f"{kind} {found}"
        if name in self.unpacked and _sha256_unpacked(content) == self.unpacked[name]:
            return f"content (sha256 {self.unpacked[name][:12]}…, packed again)"
        if name in self.unpacked and hashlib.sha256(content).hexdigest() == self.unpacked[name]:
            return f"content (sha256 {self.unpacked[name][:12]}…, unpacked)"
        return None

    def wrong(self, name: str, content: bytes) -> str:
        """What is wrong with a file's content that is not the published one."""
        kind, found = _digest_as(self.expected(name), content)
        return f"{kind} {found}, expected {self.expected(name)}"


def data_directory(data_dir: Path | None = None) -> Path:
    """Return ``data_dir``, else ``$VAEBENCH_DATA``, else ``vaebench`` in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(data_dir or os.environ.get("VAEBENCH_DATA") or cache / "vaebench").expanduser()


def file_states(files: RemoteFiles, root: Path) -> FileStates:
    """What changes when a file does, wherever under ``root`` it may lie."""
    names = [*files.digests, *map(_unpacked_name, files.unpacked)]
    names += [files.archive.name] if files.archive else []
    paths = [folder / name for folder in (root, root / files.folder) for name in names]
    return tuple(
        (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) if (s := _stat(path)) else None
        for path in paths
    )


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:  # said by whoever reads it
        return None


def read_verified(files: RemoteFiles, root: Path) -> dict[str, bytes]:
    """Read the files under the data directory ``root``, downloading those that are missing.

    Returns:
        File name -> content, which is the published one.

    Raises:
        DataError: A file is corrupt (it is left as it is) or unreadable, or cannot be downloaded.
    """
    contents = read_present(files, root)
    if len(contents) < len(files.digests):
        fetch_files(files, root, mirror=None, report=lambda _: None)
        contents = read_present(files, root)
    return contents


def fetch_files(
    files: RemoteFiles, root: Path, mirror: str | None, report: Callable[[str], None]
) -> Path:
    """Download what is missing or corrupt, verify everything, and say so file by file.

    Files already verified are kept, so that an interrupted download goes on where it stopped.
    ``mirror`` is a base URL or a folder; without it the data set's own variable and mirrors count.

    Returns:
        The folder that holds the files.

    Raises:
        DataError: No mirror delivered the right bytes, or the folder cannot be written.
    """
    folder = _folder(files, root)
    complete = all(files.verified(name, _present(files, folder, name)) for name in files.digests)
    # A complete folder may well be read-only: it needs neither a lock nor a place for one.
    with nullcontext() if complete else _locked(folder):
        packed = [] if complete or files.archive is None else [files.archive.name]
        for name in [*packed, *files.digests]:
            present = _present(files, folder, name)
            if digest := files.verified(name, present):
                report(f"{name}: present, {digest} verified")
                continue
            state = "missing" if present is None else f"corrupt ({files.wrong(name, present)})"
            if packed and name not in packed:
                _write(folder / name, _member(files, folder, name))
                report(f"{name}: {state}, taken from {packed[0]}")
                continue
            report(f"{name}: {state}, downloading")
            content, url, digest = _download(files, name, root, mirror)
            _write(folder / name, content)
            report(f"{name}: downloaded {len(content):,} bytes from {url}, {digest} verified")
    return folder


def _member(files: RemoteFiles, folder: Path, name: str) -> bytes:
    """A file's content as the archive has it, which was verified."""
    content = files.archive.read(folder, name) if files.archive else None
    if content is None or not files.verified(name, content):
        raise DataError(f"{folder}: its archive does not hold the published {name}")
    return content


def _folder(files: RemoteFiles, root: Path) -> Path:
    """``root`` if it directly holds a file of this data set, by its content; or torchvision's."""
    own = any(files.verified(name, _present(files, root, name)) for name in files.digests)
    return root if own else root / files.folder


def _unpacked_name(name: str) -> str:
    return name.removesuffix(".gz")


def _present(files: RemoteFiles, folder: Path, name: str) -> bytes | None:
    """The content of a file or, where only that is there, of what somebody has unpacked it to."""
    content = _read(folder / name, files.max_bytes)
    if content is None and name in files.unpacked:
        content = _read(folder / _unpacked_name(name), files.max_bytes)
    if content is None and files.archive and name in files.digests:
        content = files.archive.read(folder, name)
    return content


def _read(path: Path, max_bytes: int) -> bytes | None:
    # Links are followed, as a folder of data sets is often shared: what they lead to is not used
    # unless it is the published file. (Path.resolve raises where they go in circles.)
    target = Path(os.path.realpath(path))
    try:
        return read_file(target, max_bytes)
    except ResultsError as error:
        where = "" if target == path else f"{path}: leads to "
        raise DataError(f"{where}{error}; move it away") from error


def _digest_as(expected: str, content: bytes) -> tuple[str, str]:
    """The kind of an expected digest, and the content's digest of that kind."""
    if len(expected) == 64:
        return "sha256", hashlib.sha256(content).hexdigest()
    # Not for security: md5 is what the data sets publish. The flag lets FIPS machines compute it.
    return "md5", hashlib.md5(content, usedforsecurity=False).hexdigest()


def _sha256_unpacked(content: bytes) -> str | None:
    """Digest of what a gzip file unpacks to; None if it is none, or unpacks to too much."""
    digest, unpacked = hashlib.sha256(), 0
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip
    try:
        while content and not unpacker.eof:
            part = unpacker.decompress(content, CHUNK)
            content = unpacker.unconsumed_tail
            unpacked += len(part)
            if unpacked > MAX_BYTES:
                return None
            digest.update(part)
    except zlib.error:
        return None
    return digest.hexdigest() if unpacker.eof else None


def _fetch_command(files: RemoteFiles, root: Path) -> str:
    return f"`vaebench data fetch {files.name} --data-dir {shlex.quote(str(root))}`"


def read_present(files: RemoteFiles, root: Path) -> dict[str, bytes]:
    """The files that are there, verified; name -> content."""
    contents, folder = {}, _folder(files, root)
    for name in files.digests:
        if (content := _present(files, folder, name)) is None:
            continue
        if not files.verified(name, content):
            raise DataError(
                f"{folder / name}: corrupt, truncated or of another data set: "
                f"{files.wrong(name, content)}; {_fetch_command(files, root)} replaces it"
            )
        contents[name] = content
    return contents


def _locked(folder: Path) -> AbstractContextManager[Any]:
    """Create the folder and take its lock, so that only one process fetches into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock(folder / ".vaebench.lock", LOCK_TIMEOUT).acquire()
    except Timeout as error:
        raise DataError(f"{folder}: another process has been fetching for too long") from error
    except ResultsError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _write(path: Path, content: bytes) -> None:
    try:
        clean(path.parent)  # only the holder of the lock writes here
        write_atomic(path, content)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path}: cannot be written: {error.strerror or error}; "
        "choose another folder with VAEBENCH_DATA or --data-dir"
    )


def _download(
    files: RemoteFiles, name: str, root: Path, mirror: str | None
) -> tuple[bytes, str, str]:
    """A file's content from the first mirror that has it, its URL, and how it was verified."""
    mirror = mirror or os.environ.get(files.mirror_variable or "")
    failures = []
    for base in (mirror,) if mirror else files.mirrors:
        url = f"{base_url(base)}/{name}"
        try:
            content = get(url, files.max_bytes)
        except (OSError, ResultsError, http.client.HTTPException, ValueError) as error:
            failures.append(redact(f"{base}: {reason(error)}"))
            continue
        if digest := files.verified(name, content):
            return content, redact(url), digest
        failures.append(redact(f"{base}: wrong bytes, {files.wrong(name, content)}"))
    variable = f" or {files.mirror_variable}" if files.mirror_variable else ""
    raise DataError(
        f"{files.name}: cannot download {name} ({'; '.join(failures)})\n"
        f"Try {_fetch_command(files, root)} later, name a mirror (URL or folder) with "
        f"--mirror{variable}, or use `--dataset digits`, which needs no download"
    )
