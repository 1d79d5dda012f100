"""Results on disk: atomic writes, journals that survive a torn line, folders of runs.

::

    <results>/<grid>/grid.yaml                  the manifest
    <results>/<grid>/runs/<run_id>/config.yaml  the resolved configuration
                                   journal.jsonl     one line per epoch
                                   checkpoint.pt     to resume from
                                   best.pt           best weights on validation
                                   weights.pt        the weights that were measured
                                   arrays.npz        what the figures are made from
                                   images/  figures/
                                   record.json       written last

Reading imports neither torch nor mlflow.
"""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vaebench.errors import ResultsError
from vaebench.storage.records import best_seed, cell_label, run_label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


__all__ = [
    "RunStore",
    "best_seed",
    "cell_label",
    "dump_json",
    "dump_yaml",
    "grid_dirs",
    "read_json",
    "read_manifest",
    "run_label",
    "run_store",
    "write_atomic",
]


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that it is there whole or not at all, and is on the disk when we return."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise ResultsError(f"{path}: damaged: {error}") from error
    if not isinstance(value, dict):
        raise ResultsError(f"{path}: damaged: not a JSON object")
    return value


class RunStore:
    """The folder of one run.

    Attributes:
        path: The folder, ``<results>/<grid>/runs/<run_id>``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def images(self) -> Path:
        """Folder of the square tiles, ``<key>-<epoch>.png``."""
        return self.path / "images"

    @property
    def figures(self) -> Path:
        """Folder of the figures, under fixed names."""
        return self.path / "figures"

    @property
    def config(self) -> dict[str, Any] | None:
        """The stored configuration; None when there is none or it is damaged."""
        try:
            value = yaml.load((self.path / "config.yaml").read_bytes(), Loader=_Loader)
        except (OSError, ValueError, yaml.YAMLError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def record(self) -> dict[str, Any] | None:
        """The record, or None when the run has none yet.

        Raises:
            ResultsError: It is damaged.
        """
        path = self.path / "record.json"
        return read_json(path) if path.exists() else None

    @property
    def journal(self) -> list[dict[str, Any]]:
        """The journal's lines; a torn last line, and what follows a damaged one, is ignored."""
        return self._read_journal()[0]

    def _read_journal(self) -> tuple[list[dict[str, Any]], int]:
        """Whole lines, and the number of bytes that they take."""
        path = self.path / "journal.jsonl"
        lines: list[dict[str, Any]] = []
        size = 0
        if not path.exists():
            return lines, size
        for raw in path.read_bytes().splitlines(keepends=True):
            try:
                line = json.loads(raw)
            except (ValueError, RecursionError):
                break
            if not raw.endswith(b"\n") or not isinstance(line, dict) or "epoch" not in line:
                break
            lines.append(line)
            size += len(raw)
        return lines, size

    def append(self, line: Mapping[str, Any]) -> None:
        """Append an epoch to the journal unless it is there, mending a torn last line first.

        Raises:
            ResultsError: The journal lacks epochs before this one.
        """
        lines, size = self._read_journal()
        last = lines[-1]["epoch"] if lines else 0
        if line["epoch"] <= last:
            return
        if line["epoch"] != last + 1:
            raise ResultsError(f"{self.path}: the journal ends at epoch {last}: epochs are missing")
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "journal.jsonl").open("ab") as file:
            file.truncate(size)
            file.write((json.dumps(dict(line), allow_nan=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def save_tensors(self, name: str, value: Mapping[str, Any]) -> None:
        """Write tensors and plain values to ``name``, atomically."""
        import torch

        buffer = io.BytesIO()
        torch.save(dict(value), buffer)
        write_atomic(self.path / name, buffer.getvalue())

    def load_tensors(self, name: str) -> dict[str, Any] | None:
        """Read what :meth:`save_tensors` wrote, onto the CPU; None when it is not there.

        Raises:
            ResultsError: The file is damaged.
        """
        import torch

        path = self.path / name
        if not path.exists():
            return None
        try:
            value: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises half a dozen kinds for a damaged file
            raise ResultsError(f"{path}: damaged: {type(error).__name__}") from error
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

        path = self.path / "arrays.npz"
        if not path.exists():
            return None
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
            raise ResultsError(f"{path}: damaged: {type(error).__name__}") from error

    @property
    def attempt(self) -> int:
        """1 for the first attempt at this run; each that was set aside adds one."""
        return 1 + sum(1 for _ in (self.path / "attempts").glob("*"))

    def clean(self) -> None:
        """Remove what a writer that was killed left half-written."""
        for path in self.path.glob("**/.*.tmp"):
            path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Move what this attempt left into ``attempts/<n>``, so that the next starts clean."""
        old = self.path / "attempts" / str(self.attempt)
        entries = [entry for entry in self.path.iterdir() if entry.name != "attempts"]
        old.mkdir(parents=True)
        for entry in entries:
            entry.replace(old / entry.name)


def run_store(grid_dir: Path, run_id: str) -> RunStore:
    """The folder of a run of a grid."""
    return RunStore(grid_dir / "runs" / run_id)


def read_manifest(grid_dir: Path) -> dict[str, Any]:
    """Read ``grid.yaml``.

    Raises:
        ResultsError: There is none, or it is damaged.
    """
    path = grid_dir / "grid.yaml"
    try:
        value = yaml.load(path.read_bytes(), Loader=_Loader)
    except OSError as error:
        raise ResultsError(f"{grid_dir}: not the folder of a grid: no grid.yaml in it") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ResultsError(f"{path}: damaged: {' '.join(str(error).split())}") from error
    wanted = {"name", "axes", "seeds", "runs"}
    kinds = {"axes": dict, "seeds": list, "runs": list, "settings": dict}
    if (
        not isinstance(value, dict)
        or not wanted <= value.keys()
        or not all(isinstance(value.get(key, kind()), kind) for key, kind in kinds.items())
    ):
        raise ResultsError(
            f"{path}: damaged: not the manifest of a grid; delete it and run the same command "
            f"(finished runs are kept)"
        )
    return value


def grid_dirs(results_dir: Path) -> list[Path]:
    """Folders of grids: ``results_dir`` itself if it is one, else those directly below it."""
    if (results_dir / "grid.yaml").exists():
        return [results_dir]
    if not results_dir.is_dir():
        return []
    return sorted(path.parent for path in results_dir.glob("*/grid.yaml"))


# the C parser, where it is there, reads a manifest of 10,000 runs ten times as fast
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
