"""Copying a run's folder that somebody else made, and may still be writing."""

from pathlib import Path

from vaebench.errors import ResultsError
from vaebench.files import MAX_TENSORS_BYTES, TEMPORARY, names_in, read_file, write_atomic

MAX_DEPTH = 3  # of folders in that of a run: attempts/1/images
# What of a run goes first and last: its checkpoint must not be newer than its journal, and what
# follows the checkpoint is written anew.
FIRST, LAST = ("checkpoint.pt",), ("journal.jsonl", "record.json")


def copy_folder(source: Path, target: Path, within: Path, depth: int = 0) -> None:
    """Copy plain files and folders; nothing is followed, and what is half written is left out.

    A record that is written meanwhile is not copied: what belongs to it may not have been either.

    Raises:
        ResultsError: A link, or what is no file, or too large.
        OSError: The target cannot be written.
    """
    if depth > MAX_DEPTH:
        raise ResultsError(f"{source}: damaged: folders in folders")
    target.mkdir()
    names = [name for name in names_in(source, within) if not TEMPORARY.fullmatch(name)]
    for name in sorted(names, key=lambda name: (name not in FIRST, name in LAST, name)):
        if (source / name).is_dir():
            copy_folder(source / name, target / name, within, depth + 1)
        else:
            copy_file(source / name, target / name, within)


def copy_file(source: Path, target: Path, within: Path, max_bytes: int = MAX_TENSORS_BYTES) -> None:
    """Copy a plain file; nothing if it is gone by now.

    Raises:
        ResultsError: As for :func:`vaebench.files.open_file`.
    """
    content = read_file(source, max_bytes, within)
    if content is not None:
        write_atomic(target, content)
