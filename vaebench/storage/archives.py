"""A grid as one file: what a colleague needs to report on it, and to merge it.

A zip archive of ``<grid>/grid.yaml``, the reports, and of each finished run what a report or a new
measurement reads: no checkpoints, no earlier attempts. What is unpacked has a name that such a file
has, and a size that its kind may have.
"""

import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from vaebench.errors import ResultsError
from vaebench.files import (
    MAX_CONFIG_BYTES,
    MAX_JOURNAL_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_PICTURE_BYTES,
    MAX_RECORD_BYTES,
    MAX_TENSORS_BYTES,
    flush_folder,
    make_folder,
    names_in,
    open_file,
)
from vaebench.schema.manifest import PICTURES
from vaebench.storage.runs import PARTS

MAX_ARCHIVE_BYTES = 1_000_000_000_000
MAX_ENTRIES = 20_000_000  # a run has some 20
MAX_RATIO = 50  # of what is unpacked to the archive; of texts, it is 20
SPARE = 1_000_000_000  # bytes that may be unpacked of a small archive
FILES = {  # of a run, and how large each may be
    "config.yaml": MAX_CONFIG_BYTES,
    "journal.jsonl": MAX_JOURNAL_BYTES,
    "weights.pt": MAX_TENSORS_BYTES,
    "decoder.safetensors": MAX_TENSORS_BYTES,
    "arrays.npz": MAX_TENSORS_BYTES,
    "error.txt": MAX_CONFIG_BYTES,
    "record.json": MAX_RECORD_BYTES,
}
FOLDERS = ("images", "figures")  # of a run, which hold pictures
_PICTURE = re.compile(r"[\w.+-]{1,200}\.png", re.ASCII)
_REPORT = re.compile(r"report\.[a-z]{1,5}|reference\.json|" + "|".join(map(re.escape, PICTURES)))
_RUN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_GRID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DATE = (1980, 1, 1, 0, 0, 0)  # of every entry: the same grid is the same archive


def run_files(folder: Path, within: Path) -> Iterator[tuple[str, int]]:
    """What there is of a finished run: names below its folder, and the bytes that each may have.

    The record comes last.
    """
    for name in FOLDERS:
        for picture in names_in(folder / name, within):
            if _PICTURE.fullmatch(picture):
                yield f"{name}/{picture}", MAX_PICTURE_BYTES
    for name, max_bytes in FILES.items():
        if os.path.lexists(folder / name):
            yield name, max_bytes


def pack(grid_dir: Path, runs: Iterable[tuple[str, str]], output: Path) -> int:
    """Write the archive of a grid, whole or not at all, and return its size in bytes.

    Arguments:
        grid_dir: The grid's folder.
        runs: Part and run id of each finished run.
        output: The file to write.

    Raises:
        ResultsError: A file of the grid is none, or too large.
        OSError: The archive cannot be written.
    """
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in sorted(names_in(grid_dir)):
                    if name == "grid.yaml" or _REPORT.fullmatch(name):
                        _add(archive, grid_dir, name, MAX_MANIFEST_BYTES)
                for part, run_id in runs:
                    for name, max_bytes in run_files(grid_dir / part / run_id, grid_dir):
                        _add(archive, grid_dir, f"{part}/{run_id}/{name}", max_bytes)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(output)
        flush_folder(output.absolute().parent)
    finally:
        temporary.unlink(missing_ok=True)
    return output.stat().st_size


def _add(archive: zipfile.ZipFile, grid_dir: Path, name: str, max_bytes: int) -> None:
    file = open_file(grid_dir / name, max_bytes, grid_dir)
    if file is None:  # it has just been replaced or moved
        return
    entry = zipfile.ZipInfo(f"{grid_dir.name}/{name}", _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    with file, archive.open(entry, "w", force_zip64=True) as target:
        shutil.copyfileobj(file, target)


def unpack(path: Path, folder: Path, *, part: bool = False) -> Path:
    """Unpack the archive of a grid below a folder, which is empty; return the grid's.

    ``part``: of runs alone, without the grid's manifest.

    Raises:
        ResultsError: It is no such archive: a name, a size or a checksum is none that it may have.
        OSError: The folder cannot be written.
    """
    file = open_file(path, MAX_ARCHIVE_BYTES)
    if file is None:
        raise ResultsError(f"{path}: no such file")
    with file:
        try:
            return _unpack(file, path, folder, part)
        except (
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            RuntimeError,
            EOFError,
        ) as error:
            raise ResultsError(f"{path}: damaged: {error}") from error
        except (ValueError, LookupError) as error:  # zipfile lets many kinds through
            raise ResultsError(f"{path}: damaged: {type(error).__name__}") from error


def _unpack(file: BinaryIO, path: Path, folder: Path, part: bool) -> Path:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        claimed = sum(entry.file_size for entry in entries)
        if len(entries) > MAX_ENTRIES or claimed > SPARE + MAX_RATIO * path.stat().st_size:
            raise ResultsError(f"{path}: damaged: it unpacks to {claimed / 1e6:,.0f} MB")
        names = [entry.filename for entry in entries]
        if len(set(names)) != len(names):
            raise ResultsError(f"{path}: damaged: a name stands twice")
        grids = {name.partition("/")[0] for name in names}
        if len(grids) != 1 or not (part or f"{min(grids)}/grid.yaml" in names):
            raise ResultsError(f"{path}: not the archive of a grid: no grid.yaml in it")
        for entry in entries:
            max_bytes = max_bytes_of(entry.filename)
            if max_bytes is None:
                raise ResultsError(f"{path}: holds {entry.filename!r}, which no grid has")
            if entry.file_size > max_bytes:
                raise ResultsError(f"{path}: {entry.filename!r} is larger than it may be")
            target = folder / entry.filename
            make_folder(target.parent)
            with archive.open(entry) as content, target.open("xb") as copy:
                shutil.copyfileobj(content, copy)
    return folder / min(grids)


def max_bytes_of(name: str) -> int | None:
    """How large a file of an archive may be; None for a name that none has."""
    parts = name.split("/")
    if not _GRID.fullmatch(parts[0]):
        return None
    if len(parts) == 2 and (parts[1] == "grid.yaml" or _REPORT.fullmatch(parts[1])):
        return MAX_MANIFEST_BYTES
    if len(parts) < 4 or parts[1] not in PARTS or not _RUN.fullmatch(parts[2]):
        return None
    if len(parts) == 4:
        return FILES.get(parts[3])
    is_picture = len(parts) == 5 and parts[3] in FOLDERS and _PICTURE.fullmatch(parts[4])
    return MAX_PICTURE_BYTES if is_picture else None
