"""Runs that MLflow takes for running though nobody will finish them.

A process that is killed tells MLflow nothing. What still belongs to its grid is finished or closed
when the grid is sent again; what does not is closed here: attempts that were set aside, and runs of
settings that were given up.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vaebench.errors import ResultsError
from vaebench.storage import RunStore, hold, run_store
from vaebench.tracking import payload
from vaebench.tracking.client import Key
from vaebench.tracking.failures import explained
from vaebench.tracking.payload import Seed
from vaebench.tracking.publisher import Publisher, ended_record


def close_orphans(grid: Publisher) -> None:
    """Close what runs in MLflow and is not of the grid any more, with the status that it has.

    Raises:
        TrackingError: MLflow refused or is out of reach.
    """
    with explained(grid.window.uri):
        for key, shown in grid.client.runs.items():
            if shown.status != "RUNNING" or _is_current(grid, key):
                continue
            status, time = _what_became(grid.window.folder, key)
            grid.client.end(shown, status, time)


@contextmanager
def untrained(folder: Path) -> Iterator[bool]:
    """Keep a grid from being trained as long as the context lasts, so that its runs can be closed.

    False: a process trains or measures it already, or nobody can say; no run is to be closed then.
    """
    with ExitStack() as held:
        try:
            held.enter_context(hold(folder))
            free = True
        except (ResultsError, OSError):
            free = False
        yield free


def _is_current(grid: Publisher, key: Key) -> bool:
    if key[0] == "run":
        return key[1] in grid.runs and key[2] == str(grid.runs[key[1]].store.attempt)
    return key[0] == "grid" or key[1] in grid.cells


def _what_became(folder: Path, key: Key) -> tuple[str, int | None]:
    """Status and end of an attempt that was set aside, or of a run that was given up."""
    if key[0] != "run":
        return "KILLED", None
    store = run_store(folder, key[1])
    aside = store.path / "attempts" / key[2]
    run = Seed(key[1], {}, 0, RunStore(aside) if aside.exists() else store)
    journal, record = run.store.journal, ended_record(run)
    if record is not None:
        return payload.STATUS[record["status"]], int(record["finished"])
    return "KILLED", int(journal[-1]["time"]) if journal else None
