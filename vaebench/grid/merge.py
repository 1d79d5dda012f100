"""Folders of runs, brought together: each finished run is checked, and published as any run is."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vaebench.config import make_run
from vaebench.errors import ConfigError, ResultsError, VaebenchError
from vaebench.files import dump_yaml, write_atomic
from vaebench.grid.folder import taking_part, write_reports
from vaebench.grid.groups import PART, stale, stored_manifest
from vaebench.grid.manifest import differing_settings, other_numbers, with_runs_of
from vaebench.grid.reference import keep_rows
from vaebench.report.loading import Damaged, dig, read_record
from vaebench.schema.labels import run_label
from vaebench.schema.manifest import Planned, grid_dirs, planned, read_manifest
from vaebench.schema.record import Record, versions
from vaebench.schema.reference import FILE, read_reference
from vaebench.storage import (
    Late,
    RunStore,
    Taken,
    Watch,
    attempt_at,
    content_of,
    locked,
    publish,
    take_up,
)
from vaebench.storage.archives import pack, run_files, unpack
from vaebench.storage.copying import copy_file

ARCHIVES = (".zip",)
ENDED = ("complete", "failed")


@dataclass
class Merged:
    """What became of one grid of one source.

    Attributes:
        source: What was named.
        grid: The grid's name.
        took: Runs that are in the target now.
        left: Why others were left, and how many.
        refused: What must not be merged, and why; a run's label, or nothing for the whole grid.
    """

    source: Path
    grid: str
    took: int = 0
    left: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str]] = field(default_factory=list)


def merge(
    sources: Sequence[Path], into: Path, hear: Callable[[Merged], None] = lambda _: None
) -> list[Merged]:
    """Bring the finished runs of folders and archives together, and write the reports anew.

    A run that is there stays; one that is there but not complete is set aside for a complete one.
    Nothing of a source is changed.

    Arguments:
        sources: Folders of grids, results folders, or archives that :func:`export` wrote.
        into: The results folder to bring them to.
        hear: Told of each grid when it is merged.

    Raises:
        ResultsError: A source is not there, or an archive is damaged. What came before it stays.
        ConfigError: A source is the target.
    """
    for source in sources:
        if not source.exists():
            raise ResultsError(f"{source}: no such folder or archive")
    results = []
    for source in sources:
        with _opened(source, into) as folders:
            for folder in folders:
                merged = _merge(folder, source, into)
                results.append(merged)
                hear(merged)
    return results


def export(grid_dir: Path, output: Path) -> tuple[int, int]:
    """Write the finished runs of a grid to one archive; return their number and its size in bytes.

    Raises:
        ResultsError: There is no grid, or its manifest or a file of a run is damaged.
        OSError: The archive cannot be written.
    """
    manifest = read_manifest(grid_dir)
    found = []
    for run in planned(manifest):
        record = read_record(grid_dir, run)
        if isinstance(record, dict) and record["status"] in ENDED:
            found.append(("runs", run.run_id))
    found += [(PART, path.parent.name) for path in sorted(grid_dir.glob(f"{PART}/*/record.json"))]
    return sum(part == "runs" for part, _ in found), pack(grid_dir, found, output)


@contextmanager
def _opened(source: Path, into: Path) -> Iterator[list[Path]]:
    """The grids of a source, unpacked for the moment if it is an archive."""
    if source.is_file():
        if source.suffix not in ARCHIVES:
            raise ResultsError(f"{source}: neither a folder nor an archive (.zip)")
        into.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=into, prefix=".merge-") as folder:
            yield [unpack(source, Path(folder))]
        return
    folders = grid_dirs(source)
    if not folders:
        raise ResultsError(f"{source}: holds no grid (no grid.yaml here or one level below)")
    yield folders


def _merge(folder: Path, source: Path, into: Path) -> Merged:
    manifest = read_manifest(folder)
    target = into / folder.resolve().name
    if manifest["name"] != target.name:
        raise ResultsError(f"{folder}: is the folder of grid {manifest['name']!r}; rename it so")
    if target.resolve() == folder.resolve():
        raise ConfigError(f"{source}: is what it is to be merged into; choose another --into")
    merged = Merged(source, target.name)
    with taking_part(target):
        with locked(target, "manifest"):
            old = stored_manifest(target)
            if old and (why := differing_settings(old, manifest) + other_numbers(old, manifest)):
                merged.refused.append(("", f"other settings: {'; '.join(why)}"))
                return merged
            if old and stale(old, manifest):
                merged.refused.append(("", "another value is picked there by its tuning"))
                return merged
            runs = _known(old, manifest, merged)
            both = with_runs_of(target, old or None, manifest | {"runs": runs})
            write_atomic(target / "grid.yaml", dump_yaml(both))
        digests: dict[str, Any] = {}
        for run in planned(both):
            _note_digest(read_record(target, run), digests)
        for run in planned(manifest | {"runs": runs}):
            _take(folder, target, run, "runs", digests, merged)
        for path in sorted(folder.glob(f"{PART}/*/record.json")):
            _take_trial(folder, target, path, merged)
        with suppress(ResultsError):  # of the same data, or else the report does not show them
            if rows := read_reference(folder / FILE, folder):
                keep_rows(target, rows)
        if merged.took or not (target / "report.md").exists():
            write_reports(target)
    return merged


def _known(old: Mapping[str, Any], new: Mapping[str, Any], merged: Merged) -> list[dict[str, Any]]:
    """The runs of a new manifest, less those that another version of has in the old one."""
    there = {(str(run["cell"]), run["seed"]): run["run_id"] for run in old.get("runs", [])}
    runs = []
    for run in new["runs"]:
        if there.get((str(run["cell"]), run["seed"]), run["run_id"]) != run["run_id"]:
            label = run_label(run["cell"], run["seed"])
            merged.refused.append((label, "the target has it by another version of a component"))
        else:
            runs.append(run)
    return runs


def _take_trial(folder: Path, target: Path, path: Path, merged: Merged) -> None:
    """Take a tuning run, which no manifest lists; its record says of which cell it is."""
    try:
        record = Record.read(path, folder) or {}
        run = Planned(path.parent.name, record["cell"], record["seed"])
    except (VaebenchError, LookupError, ValueError) as error:
        merged.refused.append((f"{PART}/{path.parent.name}", str(error)))
        return
    _take(folder, target, run, PART, {}, merged)


def _take(
    folder: Path,
    target: Path,
    run: Planned,
    part: str,
    digests: dict[str, Any],
    merged: Merged,
) -> None:
    """Take a run, or say why not."""
    source, label = folder / part / run.run_id, run_label(run.cell, run.seed)
    try:
        record = Record.read_planned(source / "record.json", run, folder)
        if record is None or record["status"] not in ENDED:
            merged.left["not finished"] += 1
            return
        there = read_record(target, run, at=target / part / run.run_id)
        if isinstance(there, dict) and (
            there["status"] == "complete" or record["status"] != "complete"
        ):
            merged.left["there already" if there == record else "the target has its own"] += 1
            return
        if why := _fault(RunStore(source), record, digests):
            merged.refused.append((label, why))
            return
        lease = attempt_at(target, run.run_id, part, Watch())
        if isinstance(lease, Taken):
            merged.left[f"{lease} does it"] += 1
            return
        try:
            take_up(lease)
            content = content_of(lease)
            if content.exists():
                RunStore(content).set_aside()
            _copy(folder, source, content)
            late = publish(lease)
        except BaseException:
            lease.release()
            raise
    except ResultsError as error:
        merged.refused.append((label, str(error)))
        return
    if isinstance(late, Late):
        merged.left["another process did it meanwhile"] += 1
    else:
        merged.took += 1
        _note_digest(record, digests)


def _copy(folder: Path, source: Path, content: Path) -> None:
    for name, max_bytes in run_files(source, folder):
        copy_file(source / name, content / name, folder, max_bytes)


def _fault(store: RunStore, record: Mapping[str, Any], digests: Mapping[str, Any]) -> str | None:
    """What is wrong with a finished run; None for nothing."""
    config = make_run(record["config"], source=str(store.path / "record.json"))
    if versions(record) == config.versions and config.run_id != record["run_id"]:
        return "its configuration is that of another run"
    stored = store.config or {}
    if {k: v for k, v in stored.items() if k != "metrics"} != config.identity():
        return "its config.yaml is not that of its record"
    name, digest = (dig(record, "environment", "dataset", key) for key in ("name", "digest"))
    if digest != digests.get(str(name), digest):
        return f"was trained on another {name} than the runs that are there"
    if record["status"] == "complete":
        store.whole_journal(int(record["epochs"]))
        if damaged := store.first_damaged("weights.pt", "arrays.npz"):
            return f"its {damaged} is damaged"
    return None


def _note_digest(record: Mapping[str, Any] | Damaged | None, digests: dict[str, Any]) -> None:
    if isinstance(record, Mapping) and record["status"] == "complete":
        name, digest = (dig(record, "environment", "dataset", key) for key in ("name", "digest"))
        if digest is not None:
            digests.setdefault(str(name), digest)
