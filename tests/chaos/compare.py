"""A finished grid against the undisturbed one, bit for bit; MLflow's store against the journals.

Both are read with as little of vaebench as can be: what is wrong there would be wrong here, too.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

TIMED = {"train/seconds", "train/cpu_seconds", "val/seconds", "val/cpu_seconds"}
COSTS = {
    "cost/seconds_per_epoch",
    "cost/cpu_seconds_per_epoch",
    "cost/images_per_second",
    "cost/peak_memory_mb",
}
ROLES = "SELECT run_uuid, value FROM tags WHERE key = 'vaebench.role'"


def contents(grid: Path) -> dict[str, dict[str, Any]]:
    """All that must be the same whatever happened, by run: metrics, weights, curves, arrays."""
    return {folder.name: _content(folder) for folder in sorted((grid / "runs").iterdir())}


def _content(folder: Path) -> dict[str, Any]:
    record = json.loads((folder / "record.json").read_text())
    weights = torch.load(folder / "weights.pt", weights_only=True)
    with np.load(folder / "arrays.npz") as arrays:
        figures = {name: _bytes(arrays[name]) for name in arrays.files}
    return {
        "status": record["status"],
        "metrics": {k: v for k, v in record["metrics"].items() if k not in COSTS},
        "measured": (record["measured"], record["best"], record["rate_per_dimension"]),
        "weights": {name: _bytes(tensor.numpy()) for name, tensor in weights.items()},
        "journal": [
            (line["epoch"], {k: v for k, v in line["metrics"].items() if k not in TIMED})
            for line in journal(folder)
        ],
        "arrays": figures,
        "pictures": sorted(str(p.relative_to(folder)) for p in folder.glob("[fi]*/*.png")),
    }


def journal(folder: Path) -> list[dict[str, Any]]:
    """The lines of a journal, each of which must be whole."""
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def _bytes(array: np.ndarray[Any, Any]) -> tuple[str, tuple[int, ...], bytes]:
    return str(array.dtype), array.shape, array.tobytes()


def differences(grid: Path, expected: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What of a finished grid is not as in the undisturbed one, or should not lie there."""
    try:
        found = contents(grid)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        yield f"cannot be read: {error!r}"
        return
    if found.keys() != expected.keys():
        yield f"runs {sorted(found)}, not {sorted(expected)}"
    for run_id in found.keys() & expected.keys():
        for name, value in expected[run_id].items():
            if found[run_id][name] != value:
                yield f"{run_id}: its {name} differ"
    for path in grid.rglob(".*.tmp"):
        if ".work" in path.parts:  # of a process that was killed as it took or gave back a lease
            continue
        yield f"left behind: {path.relative_to(grid)}"


def faults_of_mlflow(results: Path) -> Iterator[str]:
    """What the store shows wrongly: points missing or twice, runs that never end."""
    with closing(sqlite3.connect(f"file:{results / 'mlflow.db'}?mode=ro", uri=True)) as store:
        yield from _faults(store, results / "chaos")


def _faults(store: sqlite3.Connection, grid: Path) -> Iterator[str]:
    status = dict(store.execute("SELECT run_uuid, status FROM runs WHERE lifecycle_stage='active'"))
    roles = {run: role for run, role in store.execute(ROLES) if run in status}
    yield from (f"{roles[run]} left {said}" for run, said in status.items() if said == "RUNNING")
    names = dict(store.execute("SELECT run_uuid, value FROM tags WHERE key='vaebench.run_id'"))
    shown = Counter(names[run] for run, role in roles.items() if role == "run")
    folders = {folder.name: folder for folder in (grid / "runs").iterdir()}
    if shown != Counter(folders.keys()):
        yield f"runs {dict(shown)}, not one for each of {sorted(folders)}"
    for run, role in roles.items():
        if role == "run" and names[run] in folders:
            yield from _wrong_points(store, run, folders[names[run]])
        elif role in ("cell", "grid"):
            yield from (f"{role}: {key} {n} times" for key, n in _counted(store, run) if n > 1)
    levels = Counter(roles.values())
    if (levels["grid"], levels["cell"]) != (1, len(folders)):
        yield f"levels: {dict(levels)}"
    ready, other = (
        store.execute(
            f"SELECT count(*) FROM logged_models WHERE lifecycle_stage='active' AND status {how} 2"
        ).fetchone()[0]
        for how in ("=", "!=")
    )
    if (ready, other) != (len(folders), 0):
        yield f"{ready} models, and {other} that are half made"


def _wrong_points(store: sqlite3.Connection, run: str, folder: Path) -> Iterator[str]:
    record = json.loads((folder / "record.json").read_text())
    expected = {
        (key, line["epoch"], line["time"], float(value))
        for line in journal(folder)
        for key, value in line["metrics"].items()
        if value is not None
    }
    expected |= {
        (key, 0, record["finished"], float(value))
        for key, value in record["metrics"].items()
        if value is not None
    }
    asked = "SELECT key, step, timestamp, value FROM metrics WHERE run_uuid = ?"
    points = set(store.execute(asked, (run,)))
    if points != expected:
        wrong = sorted(points ^ expected)[:3]
        yield f"{folder.name}: {len(expected - points)} missing, {len(points - expected)}, {wrong}"
    yield from (f"{folder.name}: {key} {n} times" for key, n in _counted(store, run) if n > 1)


def _counted(store: sqlite3.Connection, run: str) -> list[tuple[str, int]]:
    asked = "SELECT key || ' at ' || step, count(*) FROM metrics WHERE run_uuid = ? GROUP BY 1"
    return list(store.execute(asked, (run,)))
