"""All that lies in a grid's folder, sent to MLflow in order; ``vaebench sync``.

Each step may be repeated at will: one that fails is tried again, and any number of replays leaves
the same store. ``carry_out`` is where all that goes wrong with MLflow is met.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vaebench.errors import ResultsError, TrackingError, VaebenchError
from vaebench.schema.labels import run_label
from vaebench.schema.manifest import grid_dirs
from vaebench.storage import RunStore, join, run_store
from vaebench.tracking import payload
from vaebench.tracking.failures import Locked, Unreachable, explained
from vaebench.tracking.payload import Key, Seed
from vaebench.tracking.publisher import Outcome, Publisher, ended_record, key_of
from vaebench.tracking.store import Window, connect
from vaebench.tracking.views import Link

PAUSES = (1.0, 2.0)  # seconds before a step is tried again
PATIENCE = 15.0  # seconds after which a step is not: the server hangs; a locked database does not

Say = Callable[[str], None]


class Step(NamedTuple):
    """Something to send: what it is, in words, and what sends it."""

    what: str
    do: Callable[[], None]


def carry_out(
    steps: Iterable[Step],
    uri: str,
    refused: Callable[[str, str], None],
    pauses: Sequence[float] | None = None,
) -> None:
    """Do steps in order; while MLflow is out of reach, one again after each pause.

    Arguments:
        steps: What to do. What is wrong with one does not keep the others away.
        uri: MLflow's URI, whose password is in no message.
        refused: Is told of each step that failed: what it was, and why.
        pauses: Seconds before a step that failed is tried again; by default ``PAUSES``.

    Raises:
        Unreachable: MLflow is out of reach, or takes nothing.
    """
    for what, do in steps:
        until = time.monotonic() + PATIENCE
        for pause in (*(PAUSES if pauses is None else pauses), None):
            try:
                with explained(uri):
                    do()
                break
            except Unreachable as error:
                is_late = time.monotonic() > until and not isinstance(error, Locked)
                if pause is None or is_late:
                    raise
                time.sleep(pause)
            except VaebenchError as error:
                refused(what, str(error))
                break


def all_steps(grid: Publisher, *, ended: bool) -> Iterator[Step]:
    """What brings a grid's store up to date; ``ended``: nothing trains it any more."""
    for run_id in grid.unsent():
        yield Step(run_id, partial(grid.run, run_id, ended=ended))
    if ended:
        yield Step("orphans", partial(close_orphans, grid))
    for label in grid.cells:
        yield Step(label, partial(grid.cell, label, ended=ended))
    yield Step(grid.window.grid, partial(grid.grid, ended=ended))
    if ended and grid.finished():  # a model is traced, which would take time from what trains
        for label in grid.cells:
            yield Step(label, partial(grid.model, label))


def sync(window: Window) -> Outcome:
    """Send what is missing of a grid, in this thread.

    What nobody trains any more is closed, and nobody can train it meanwhile; of a grid that is
    training, nothing is closed.

    Raises:
        Unreachable: MLflow is out of reach, or takes nothing.
        TrackingError: MLflow cannot show this grid.
        ResultsError: The grid's manifest is damaged.
    """
    problems: list[str] = []
    with untrained(window.folder) as ended:
        grid = _opened(window, watches=not ended)
        carry_out(all_steps(grid, ended=ended), window.uri, lambda _, why: problems.append(why))
    return grid.outcome(problems[0] if problems else None)


def _opened(window: Window, *, watches: bool) -> Publisher:
    """A grid's publisher; on a busy machine others may hold the database for long."""
    for pause in PAUSES:
        try:
            return Publisher(window, watches=watches)
        except Locked:
            time.sleep(pause)
    return Publisher(window, watches=watches)


def sync_all(directory: Path, uri: str | None, say: Say) -> None:
    """Send what is missing of every grid below a folder; one that fails does not stop the others.

    Arguments:
        directory: The results folder, or the folder of one grid.
        uri: Tracking URI, as for :func:`~vaebench.tracking.connect`.
        say: Is told what was sent, a line per grid.

    Raises:
        TrackingError: There is no grid, or something could not be sent; the reasons are in it.
    """
    folders = grid_dirs(directory)
    if not folders:
        raise TrackingError(f"{directory} holds no grid to send")
    problems = []
    for folder in map(Path.resolve, folders):
        try:
            window = connect(folder.parent, folder.name, uri)
            outcome = sync(window)
        except VaebenchError as error:
            problems.append(f"{folder.name}: {error}")
            continue
        waiting = f", {outcome.unsent} not finished or unsent" if outcome.unsent else ""
        say(f"{folder.name}: {outcome.sent} runs are shown{waiting}: {window.address}")
        problems += [f"{folder.name}: {outcome.problem}"] if outcome.problem else []
    if problems:
        raise TrackingError("\n".join(problems))


def fill(window: Window, say: Say) -> list[Link]:
    """Send the runs that have ended and are not in the store; others may still be training.

    ``say`` is told how many, and what is damaged and left out. Returns the links to the views.
    """
    with untrained(window.folder) as ended:
        grid = Publisher(window, watches=not ended)
        unsent = [grid.runs[run_id] for run_id in grid.unsent() if grid.runs[run_id].has_record]
        if unsent:
            runs = "1 run" if len(unsent) == 1 else f"{len(unsent)} runs"
            say(f"{window.grid}: sending {runs} to MLflow ...")

        def steps() -> Iterator[Step]:
            for run in unsent:
                what = f"{run_label(run.cell, run.seed)} ({run.run_id})"
                yield Step(what, partial(_send_whole, grid, run, ended=ended))
            for label in grid.cells if any(grid.is_sent(run.run_id) for run in unsent) else ():
                yield Step(label, partial(grid.cell, label, ended=ended))
                if grid.finished():
                    yield Step(label, partial(grid.model, label))
            yield Step("views", grid.send_views)

        def left_out(what: str, why: str) -> None:
            say(f"{window.grid}: {what} is left out: {' '.join(why.split())}")

        carry_out(steps(), window.uri, left_out)
        for why in grid.client.left_out:
            say(f"{window.grid}: left out: {' '.join(why.split())}")
        return grid.links()


def close_orphans(grid: Publisher) -> None:
    """Close what MLflow takes for running though nobody will finish it.

    A process that is killed tells MLflow nothing. What still belongs to its grid is finished or
    closed when the grid is sent again; what does not is closed here: attempts that were set aside,
    and runs of settings that were given up. Attempts that one who was killed has not marked as
    superseded are marked.
    """
    current = {("grid",), *(("cell", label) for label in grid.cells)}
    runs = {key_of(run) for run in grid.runs.values()}
    for _, run_id, attempt in runs:
        grid.client.supersede(run_id, int(attempt))
    current |= runs
    for key, shown in grid.client.runs.items():
        if shown.status == "RUNNING" and key not in current:
            grid.client.set_status(shown, *_what_became(grid.window.folder, key))


@contextmanager
def untrained(folder: Path) -> Iterator[bool]:
    """Keep a grid from being trained as long as the context lasts, so that its runs can be closed.

    False: a process trains or measures it already, or nobody can say; no run is to be closed then.
    """
    with ExitStack() as held:
        free = False
        with suppress(ResultsError, OSError):
            held.enter_context(join(folder, whole=True, waits=False))
            free = True
        yield free


def _what_became(folder: Path, key: Key) -> tuple[str, int | None]:
    """Status and end of an attempt that was set aside, or of a run that was given up."""
    if key[0] != "run":
        return "KILLED", None
    store = run_store(folder, key[1])
    aside = RunStore(store.path / "attempts" / key[2])
    store = aside if aside.path.exists() else store
    journal, record = store.journal, ended_record(store)
    if record is not None:
        return payload.STATUS[record["status"]], int(record["finished"])
    return "KILLED", int(journal[-1]["time"]) if journal else None


def _send_whole(grid: Publisher, run: Seed, *, ended: bool) -> None:
    """Send a run which has a record, all of which can be read.

    Raises:
        ResultsError: Something of it is damaged.
    """
    store = run.store
    record = payload.finished_record(store, store.journal)
    if store.config is None:
        raise ResultsError(f"{store.path / 'config.yaml'}: damaged")
    store.whole_journal(record.get("epochs", 0) if record else 0)
    grid.run(run.run_id, ended=ended)
