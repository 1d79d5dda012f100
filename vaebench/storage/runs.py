"""The folder of one run: configuration, journal, record, tensors, arrays, earlier attempts.

A journal is one line of JSON per epoch, read up to the first line that is torn or damaged.
"""

import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench import plain_yaml
from vaebench.errors import ResultsError
from vaebench.files import (
    MAX_CONFIG_BYTES,
    MAX_LINE_BYTES,
    MAX_TENSORS_BYTES,
    flush_folder,
    make_folder,
    require_archive,
    write_atomic,
)
from vaebench.schema.record import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_VALUE = 1e300  # of a metric: neither NaN nor a whole number that is no float


class RunStore:
    """The folder of one run.

    Attributes:
        path: The folder, ``<results>/<grid>/runs/<run_id>``.
        run_id: Its name.
        images: Folder of the square tiles, ``<key>-<epoch>.png``.
        figures: Folder of the figures, under fixed names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name
        self.images = path / "images"
        self.figures = path / "figures"
        self._journal = path / "journal.jsonl"

    @property
    def config(self) -> dict[str, Any] | None:
        """The stored configuration; None when there is none or it is damaged."""
        path = self.path / "config.yaml"
        try:
            value = plain_yaml.read(path, MAX_CONFIG_BYTES) if path.is_file() else None
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def record(self) -> dict[str, Any] | None:
        """The record, or None when the run has none yet.

        Raises:
            ResultsError: It is damaged, see :class:`vaebench.schema.record.Record`.
        """
        return Record.read(self.path / "record.json")

    @property
    def journal(self) -> list[dict[str, Any]]:
        """The journal's lines; a torn last line, and what follows a damaged one, is ignored.

        Raises:
            ResultsError: It cannot be read.
        """
        return _read_journal(self._journal)[0]

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
            ResultsError: The journal lacks epochs before this one.
        """
        lines, size = _read_journal(self._journal)
        last = lines[-1]["epoch"] if lines else 0
        if line["epoch"] <= last:
            return
        if line["epoch"] != last + 1:
            raise ResultsError(f"{self.path}: the journal ends at epoch {last}: epochs are missing")
        new = json.dumps(dict(line), allow_nan=False) + "\n"
        make_folder(self.path)
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
        _, size = _read_journal(self._journal)
        content = self._journal.read_bytes() if self._journal.exists() else b""
        if len(content) == size:
            return False
        write_atomic(self.path / "journal.torn", content[size:])
        write_atomic(self._journal, content[:size])
        return True

    def save_tensors(self, name: str, value: Mapping[str, Any]) -> None:
        """Write tensors and plain values to ``name``, atomically."""
        import torch

        buffer = io.BytesIO()
        torch.save(dict(value), buffer)
        write_atomic(self.path / name, buffer.getvalue())

    def load_tensors(self, name: str, max_bytes: int = MAX_TENSORS_BYTES) -> dict[str, Any] | None:
        """Read what :meth:`save_tensors` wrote, onto the CPU; None when it is not there.

        Arguments:
            name: The file's name.
            max_bytes: Bytes that it may have.

        Raises:
            ResultsError: The file is damaged or too large.
        """
        import torch

        value = _load(
            self.path / name,
            lambda path: torch.load(path, map_location="cpu", weights_only=True),
            max_bytes,
        )
        if not isinstance(value, dict | None):
            raise ResultsError(f"{self.path / name}: damaged: it holds no tensors by name")
        return value

    def save_arrays(self, arrays: Mapping[str, "NDArray[Any]"]) -> None:
        """Write ``arrays.npz``, atomically."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        write_atomic(self.path / "arrays.npz", buffer.getvalue())

    def arrays(self) -> dict[str, "np.ndarray[Any, Any]"] | None:
        """Read ``arrays.npz``; None when it is not there.

        Raises:
            ResultsError: The file is damaged.
        """
        import numpy as np

        def read(path: Path) -> dict[str, "np.ndarray[Any, Any]"]:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                return dict(file)

        return _load(self.path / "arrays.npz", read)

    def first_damaged(self, *names: str) -> str | None:
        """The first of some files of tensors or arrays that is there, but not as it was written."""
        for name in names:
            path = self.path / name
            try:
                if path.exists():
                    require_archive(path, MAX_TENSORS_BYTES)
            except Exception:  # zipfile raises many kinds for a damaged file
                return name
        return None

    @property
    def attempt(self) -> int:
        """1 for the first attempt at this run; each that was set aside adds one."""
        return 1 + sum(1 for _ in (self.path / "attempts").glob("*"))

    def clean(self) -> None:
        """Remove what a writer that was killed left half-written."""
        for path in self.path.glob("**/.*.tmp"):
            path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Move what this attempt left into ``attempts/<n>``, so that the next starts clean.

        The record goes first: whatever a crash leaves here must not pass for a finished run.
        """
        old = self.path / "attempts" / str(self.attempt)
        entries = [entry for entry in self.path.iterdir() if entry.name != "attempts"]
        make_folder(old)
        for entry in sorted(entries, key=lambda entry: entry.name != "record.json"):
            entry.replace(old / entry.name)
        flush_folder(old)
        flush_folder(self.path)


def run_store(grid_dir: Path, run_id: str, part: str = "runs") -> RunStore:
    """The folder of a run of a grid; ``part`` is ``tuning`` for a tuning run."""
    return RunStore(grid_dir / part / run_id)


def _load(
    path: Path, read: Callable[[Path], Any], max_bytes: int = MAX_TENSORS_BYTES
) -> dict[str, Any] | None:
    """What ``read`` finds in an archive; None when it is not there."""
    if not path.exists():
        return None
    try:
        require_archive(path, max_bytes)
        content: dict[str, Any] = read(path)
    except ResultsError:
        raise
    except Exception as error:  # torch, numpy and zipfile raise many kinds for a damaged file
        raise ResultsError(f"{path}: damaged: {type(error).__name__}") from error
    return content


def _read_journal(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The epochs from 1 on that lie whole in a journal, and the number of bytes they take."""
    lines: list[dict[str, Any]] = []
    size = 0
    if not path.exists():
        return lines, size
    if not path.is_file():
        raise ResultsError(f"{path}: damaged: not a file")
    try:
        with path.open("rb") as file:
            while raw := file.readline(MAX_LINE_BYTES):
                line = _epoch(raw, len(lines) + 1)
                if line is None:
                    break
                lines.append(line)
                size += len(raw)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror or error}") from error
    return lines, size


def _epoch(raw: bytes, epoch: int) -> dict[str, Any] | None:
    """The line of an epoch, with metrics that are numbers or were not measured; None of others."""
    try:
        line = json.loads(raw) if raw.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not isinstance(line.get("metrics"), dict):
        return None
    values = [line.get("epoch"), line.get("time", 0), *line["metrics"].values()]
    return line if line.get("epoch") == epoch and all(map(_is_number, values)) else None


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value is None
    return abs(value) < MAX_VALUE
