"""How far the grids of a results folder are: what ``vaebench status`` prints.

Records are counted; journals are read only for runs that are not complete.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vaebench.errors import ResultsError, VaebenchError
from vaebench.report.loading import Damaged, counted, dig, read_record
from vaebench.report.sharing import Sharing
from vaebench.schema.labels import run_label
from vaebench.schema.manifest import Planned, grid_dirs, planned, read_manifest
from vaebench.schema.record import finite, outdated
from vaebench.schema.trial import epochs_of
from vaebench.storage import run_store, worker_of
from vaebench.text import lines as printable

# states of runs that have a record, but not one of a complete run
UNFINISHED = ("failed", "interrupted", "damaged", "stale", "superseded")


@dataclass(frozen=True)
class Started:
    """A run whose journal is ahead of its record, or has none: it is running, or it was killed.

    Attributes:
        run: The run.
        epochs: Epochs in its journal.
        of: Epochs that its settings ask for; None when they do not say.
        last: When the last of them ended, unix milliseconds; None before the first.
        by: The process that does it, as far as is known; None where it was left.
    """

    run: Planned
    epochs: int
    of: int | None
    last: int | None
    by: str | None = None


@dataclass(frozen=True)
class GridStatus:
    """One grid: how many of its planned runs are in which state.

    Attributes:
        name: The grid's name.
        directory: Its folder.
        planned: Runs of the manifest; the counts below add up to it.
        complete: Runs with a record that says so, of the current data and code.
        stale: Complete runs of other data than the grid's latest.
        superseded: Complete runs of older code than the grid's others.
        failed: Runs with a record that says so.
        interrupted: Runs with a record that says so.
        damaged: Runs whose record cannot be used.
        started: Runs under way, or killed.
        missing: Runs that have neither record nor journal.
        tuning: Tuning runs that are done while the picks are not yet known, else None.
        failures: Of the runs that failed: ``run_id``, ``cell``, ``seed``, ``reason``.
        last_activity: Latest time that a record or a journal mentions, unix milliseconds.
        problem: Why the grid cannot be read, instead of the counts.
    """

    name: str
    directory: Path
    planned: int = 0
    complete: int = 0
    failed: int = 0
    interrupted: int = 0
    damaged: int = 0
    stale: int = 0
    superseded: int = 0
    started: tuple[Started, ...] = ()
    missing: int = 0
    tuning: int | None = None
    failures: tuple[dict[str, Any], ...] = ()
    last_activity: int | None = None
    problem: str | None = None


def status(results: Path | str) -> list[GridStatus]:
    """Every grid in a results folder (or the one grid whose folder it is).

    Raises:
        ResultsError: The folder is not there, or holds no grid.
    """
    grids = grid_dirs(Path(results))
    if not grids:
        raise ResultsError(
            f"{results}: holds no grid; train one with `vaebench run-grid`, "
            "or name the folder it wrote to"
        )
    return [_status_of(grid) for grid in grids]


def status_json(rows: Sequence[GridStatus]) -> str:
    """The rows for programs: a list of mappings, times in unix milliseconds."""
    return json.dumps([asdict(row) for row in rows], indent=1, default=str) + "\n"


def status_text(rows: Sequence[GridStatus], now: float | None = None) -> str:
    """The rows for people, one line per grid and one per run that has started.

    Arguments:
        rows: What :func:`status` returned.
        now: Unix seconds that ages are counted from; the clock when None.
    """
    now = time.time() if now is None else now
    lines = []
    for row in rows:
        if row.problem is not None:
            lines.append(f"{row.name}: cannot be read: {row.problem}")
            continue
        counts = {name: getattr(row, name) for name in UNFINISHED}
        counts |= {"started": len(row.started), "missing": row.missing}
        parts = [f"{row.complete} of {counted(row.planned, 'run')} complete"]
        parts += [f"{n} {name}" for name, n in counts.items() if n]
        if row.last_activity is not None:
            parts.append(f"last activity {_age(row.last_activity, now)}")
        lines.append(f"{row.name}: {', '.join(parts)}")
        if row.tuning is not None:
            lines.append(
                f"  tuning: {counted(row.tuning, 'run')} done; the picks are not yet known"
            )
        for started in row.started:
            of = f" of {started.of}" if started.of is not None else ""
            when = f", last {_age(started.last, now)}" if started.last is not None else ""
            where = run_label(started.run.cell, started.run.seed)
            by = f"; {started.by}" if started.by is not None else ""
            lines.append(f"  {where}: {started.epochs}{of} epochs{when}{by}")
    return printable("\n".join(lines)) + "\n"


def _status_of(grid: Path) -> GridStatus:
    try:
        manifest = read_manifest(grid)
        runs = planned(manifest)
    except VaebenchError as error:
        return GridStatus(name=grid.name, directory=grid, problem=str(error))
    counts: Counter[str] = Counter()
    started: list[Started] = []
    times: list[int | None] = []
    complete, failures, share = [], [], Sharing()
    for run in runs:
        record = read_record(grid, run)
        if isinstance(record, Damaged):
            counts["damaged"] += 1
            continue
        ended = _time(dig(record, "finished"))
        begun = None if dig(record, "status") == "complete" else _started(grid, run, manifest)
        # an interrupted run that has been taken up again keeps its old record until it ends
        if begun is not None and (record is None or (begun.last or 0) > (ended or math.inf)):
            started.append(begun)
            times.append(begun.last)
        elif record is not None and record["status"] == "complete":
            record["metrics"] = {}  # all that differs between the records of a cell
            complete.append(share(record))
        else:
            counts["missing" if record is None else record["status"]] += 1
            if record is not None and record["status"] == "failed":
                reason = record.get("reason")
                failures.append({**asdict(run), "reason": None if reason is None else str(reason)})
        times.append(ended)
    older = outdated(complete)
    counts += Counter(older.get(record["run_id"], "complete") for record in complete)
    ended_tuning = list(grid.glob("tuning/*/record.json"))  # well or not
    return GridStatus(
        name=str(manifest.get("name") or grid.name),
        directory=grid,
        planned=len(runs),
        complete=counts["complete"],
        failed=counts["failed"],
        interrupted=counts["interrupted"],
        damaged=counts["damaged"],
        stale=counts["stale"],
        superseded=counts["superseded"],
        missing=counts["missing"],
        started=tuple(started),
        tuning=len(ended_tuning) if "tune" in manifest and "tuned" not in manifest else None,
        failures=tuple(failures),
        last_activity=max((time for time in times if time is not None), default=None),
    )


def _started(grid: Path, run: Planned, manifest: dict[str, Any]) -> Started | None:
    store = run_store(grid, run.run_id)
    if not store.path.is_dir():
        return None
    journal: list[dict[str, Any]] = []
    config = None
    unreadable = (VaebenchError, OSError, ValueError)
    with suppress(*unreadable):
        journal = store.journal
    if not journal:
        return None
    with suppress(*unreadable):
        config = store.config
    epochs = epochs_of(config or {}) or epochs_of(manifest.get("settings") or {})
    return Started(
        run=run,
        epochs=len(journal),
        of=epochs if isinstance(epochs, int) else None,
        last=_time(dig(journal[-1], "time")),
        by=None if (worker := worker_of(store.path)) is None else str(worker),
    )


def _time(value: object) -> int | None:
    known = finite(value)
    return None if known is None else int(known)


def _age(then: int, now: float) -> str:
    """How long ago a time was, in the unit that suits: ``3 min ago``."""
    seconds = max(now - then / 1000, 0.0)
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
