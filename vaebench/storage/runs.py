"""The folder of one run: configuration, journal, record, tensors, arrays, earlier attempts.

A journal is one line of JSON per epoch, read up to the first line that is torn or damaged.
"""

import io
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from vaebench import plain_yaml
from vaebench.errors import ResultsError
from vaebench.files import (
    MAX_CONFIG_BYTES,
    MAX_JOURNAL_BYTES,
    MAX_LINE_BYTES,
    MAX_TENSORS_BYTES,
    clean,
    flush_folder,
    make_folder,
    names_in,
    open_archive,
    open_file,
    read_file,
    require_no_link,
    require_single,
    unreadable,
    write_atomic,
)
from vaebench.schema.record import Record
from vaebench.storage.attempts import find_run
from vaebench.storage.journal import epoch_of
from vaebench.storage.leases import WORK
from vaebench.tensors import read_arrays, require_tensors
from vaebench.text import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_SAID = 200  # characters of what numpy says of a damaged file
PARTS = ("runs", "tuning")  # of a grid's folder, which hold those of runs
_NUMBER = re.compile("[0-9]{1,6}")  # beside it lies what came late, see attempts

_Content = TypeVar("_Content")


class RunStore:
    """The folder of one run.

    Attributes:
        path: The folder, ``<results>/<grid>/runs/<run_id>`` or that of an attempt.
        within: The grid's folder, below which no link is followed; ``path`` if it is alone.
        run_id: Its name.
        images: Folder of the square tiles, ``<key>-<epoch>.png``.
        figures: Folder of the figures, under fixed names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.within = _grid_of(path)
        self.run_id = path.name
        self.images = path / "images"
        self.figures = path / "figures"
        self._journal = path / "journal.jsonl"

    @property
    def is_published(self) -> bool:
        """Whether it is where the run stays; else an attempt works in it, or has been left."""
        return self.within == self.path or self.path.parent.name in PARTS

    @property
    def config(self) -> dict[str, Any] | None:
        """The stored configuration; None when there is none or it is damaged."""
        try:
            content = read_file(self.path / "config.yaml", MAX_CONFIG_BYTES, self.within)
            value = plain_yaml.load(content) if content is not None else None
        except (ResultsError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def record(self) -> dict[str, Any] | None:
        """The record, or None when the run has none yet.

        Raises:
            ResultsError: It is damaged, see :class:`vaebench.schema.record.Record`.
        """
        return Record.read(self.path / "record.json", self.within)

    @property
    def journal(self) -> list[dict[str, Any]]:
        """The journal's lines; a torn last line, and what follows a damaged one, is ignored.

        Raises:
            ResultsError: It cannot be read.
        """
        return self._read_journal()[0]

    def whole_journal(self, epochs: int) -> list[dict[str, Any]]:
        """The journal of a run that has ended after so many epochs.

        Raises:
            ResultsError: It cannot be read, or not to its end.
        """
        lines = self.journal
        if len(lines) < epochs:
            raise ResultsError(
                f"{self._journal}: damaged: {len(lines)} of {epochs} epochs are left"
            )
        return lines

    def append(self, line: Mapping[str, Any]) -> None:
        """Append an epoch to the journal unless it is there, mending a torn last line first.

        Raises:
            ResultsError: The journal lacks epochs before this one, or is no plain file of one name.
        """
        lines, size = self._read_journal()
        last = lines[-1]["epoch"] if lines else 0
        if line["epoch"] <= last:
            return
        if line["epoch"] != last + 1:
            raise ResultsError(f"{self.path}: the journal ends at epoch {last}: epochs are missing")
        new = json.dumps(dict(line), allow_nan=False) + "\n"
        make_folder(self.path)
        require_single(self._journal)
        with self._journal.open("ab") as file:
            file.truncate(size)
            file.write(new.encode())
            file.flush()
            os.fsync(file.fileno())
        if not lines:
            flush_folder(self.path)  # the file may be new

    def set_aside_torn_lines(self) -> bool:
        """Move what follows the last whole epoch of the journal to ``journal.torn``, if anything.

        Raises:
            ResultsError: The journal cannot be read.
        """
        _, size = self._read_journal()
        content = read_file(self._journal, MAX_JOURNAL_BYTES, self.within) or b""
        if len(content) == size:
            return False
        self.write("journal.torn", content[size:])
        self.write(self._journal.name, content[:size])
        return True

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file of the folder or of one below it, atomically.

        Raises:
            ResultsError: A link leads to it.
        """
        write_atomic(self.path / name, content, self.within)

    def save_tensors(self, name: str, value: Mapping[str, Any]) -> None:
        """Write tensors and plain values to ``name``, atomically."""
        import torch

        buffer = io.BytesIO()
        torch.save(dict(value), buffer)
        self.write(name, buffer.getvalue())

    def load_tensors(self, name: str, max_bytes: int = MAX_TENSORS_BYTES) -> dict[str, Any] | None:
        """Read what :meth:`save_tensors` wrote, onto the CPU; None when it is not there.

        Arguments:
            name: The file's name.
            max_bytes: Bytes that it may have.

        Raises:
            ResultsError: The file is damaged or too large, or holds something else.
        """
        import torch

        def read(file: BinaryIO) -> dict[str, Any]:
            size = os.fstat(file.fileno()).st_size
            return require_tensors(torch.load(file, map_location="cpu", weights_only=True), size)

        return self._load(name, read, max_bytes)

    def save_arrays(self, arrays: Mapping[str, "NDArray[Any]"]) -> None:
        """Write ``arrays.npz``, atomically."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        self.write("arrays.npz", buffer.getvalue())

    def arrays(self) -> dict[str, "np.ndarray[Any, Any]"] | None:
        """Read ``arrays.npz``; None when it is not there.

        Raises:
            ResultsError: The file is damaged, or holds something else than numbers.
        """
        return self._load("arrays.npz", read_arrays)

    def first_damaged(self, *names: str) -> str | None:
        """The first of some files of tensors or arrays that is there, but not as it was written."""
        for name in names:
            try:
                if file := open_archive(self.path / name, MAX_TENSORS_BYTES, self.within):
                    file.close()
            except ResultsError:
                return name
        return None

    @property
    def attempt(self) -> int:
        """1 for the first attempt at this run; each that was set aside adds one."""
        try:
            names = names_in(self.path / "attempts", self.within)
        except ResultsError:  # no folder: `set_aside` says so
            return 1
        return 1 + max((int(name) for name in names if _NUMBER.fullmatch(name)), default=0)

    def clean(self) -> None:
        """Remove what a writer that was killed left half-written.

        Raises:
            ResultsError: One of the folders is a link, or cannot be read.
        """
        for folder in (self.path, self.images, self.figures):
            clean(folder, self.within)

    def set_aside(self) -> None:
        """Move what this attempt left into ``attempts/<n>``, so that the next starts clean.

        The record goes first: whatever a crash leaves here must not pass for a finished run. What
        was half-written is removed.
        """
        with suppress(ResultsError):  # a link goes aside as it is
            self.clean()
        old = self.path / "attempts" / str(self.attempt)
        require_no_link(old, self.within)
        names = [name for name in names_in(self.path, self.within) if name != "attempts"]
        make_folder(old)
        for name in sorted(names, key=lambda name: name != "record.json"):
            (self.path / name).replace(old / name)
        flush_folder(old)
        flush_folder(self.path)

    def _load(
        self, name: str, read: Callable[[BinaryIO], _Content], max_bytes: int = MAX_TENSORS_BYTES
    ) -> _Content | None:
        """What ``read`` finds in an archive; None when it is not there."""
        path = self.path / name
        file = open_archive(path, max_bytes, self.within)
        if file is None:
            return None
        with file:
            try:
                return read(file)
            except ValueError as error:
                raise ResultsError(f"{path}: damaged: {one_line(error, MAX_SAID)}") from error
            except Exception as error:  # torch and numpy raise many kinds for a damaged file
                raise ResultsError(f"{path}: damaged: {type(error).__name__}") from error

    def _read_journal(self) -> tuple[list[dict[str, Any]], int]:
        """The epochs from 1 on that lie whole in it, and the number of bytes they take."""
        lines: list[dict[str, Any]] = []
        size = 0
        file = open_file(self._journal, MAX_JOURNAL_BYTES, self.within)
        if file is None:
            return lines, size
        try:
            with file:
                while raw := file.readline(MAX_LINE_BYTES):
                    line = epoch_of(raw, len(lines) + 1)
                    if line is None:
                        break
                    lines.append(line)
                    size += len(raw)
        except OSError as error:
            raise unreadable(self._journal, error) from error
        return lines, size


def run_store(grid_dir: Path, run_id: str, part: str = "runs") -> RunStore:
    """The folder of a run of a grid as it is now, be it published or not.

    ``part`` is ``tuning`` for a tuning run.
    """
    return RunStore(find_run(grid_dir, run_id, part))


def _grid_of(path: Path) -> Path:
    """The folder of the grid that a run is of; its own if it is alone."""
    if path.parent.name in PARTS:
        return path.parents[1]
    is_attempt = len(path.parents) > 4 and path.parents[3].name == WORK
    return path.parents[4] if is_attempt else path
