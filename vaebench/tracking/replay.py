"""All that lies in a grid's folder, sent to MLflow in order; ``vaebench sync``.

Each step may be repeated at will, so that one that fails is tried again, and any number of replays
leaves the same store.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vaebench.errors import TrackingError, VaebenchError
from vaebench.schema.manifest import grid_dirs
from vaebench.tracking.failures import Unreachable
from vaebench.tracking.orphans import close_orphans, untrained
from vaebench.tracking.publisher import Publisher
from vaebench.tracking.store import Window, connect
from vaebench.tracking.views import Link

PAUSES = (1.0, 2.0)  # seconds before a step is tried again
PATIENCE = 15.0  # seconds after which a step is not: the server hangs

Say = Callable[[str], None]
Step = Callable[[], None]


class Outcome(NamedTuple):
    """What became of a grid in MLflow.

    Attributes:
        sent: Runs that are shown as they lie in the folder.
        unsent: Runs that are not: ``vaebench sync`` sends them.
        links: The saved views; none when MLflow was never reached.
        problem: What went wrong, in one or two lines, or None.
        command: Sends what is missing.
    """

    sent: int
    unsent: int
    links: list[Link]
    problem: str | None
    command: str = "vaebench sync"


def sync(window: Window) -> Outcome:
    """Send what is missing of a grid, in this thread.

    What nobody trains any more is closed, and nobody can train it meanwhile; of a grid that is
    training, nothing is closed.

    Raises:
        Unreachable: MLflow is out of reach, or takes nothing.
        TrackingError: MLflow cannot show this grid.
        ResultsError: The grid's manifest is damaged.
    """
    with untrained(window.folder) as ended:
        grid = Publisher(window, watches=not ended)
        problem = send_all(grid, ended=ended)
    started, unsent = len(grid.started()), len(grid.unsent())
    return Outcome(started - unsent, unsent, grid.links(), problem, window.command)


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


def send_all(
    grid: Publisher,
    *,
    ended: bool,
    between: Step = lambda: None,
    pauses: Sequence[float] = PAUSES,
) -> str | None:
    """Bring a grid's store up to date, and return the first thing that MLflow refused, if any.

    Arguments:
        grid: The grid.
        ended: Whether nothing trains it any more, so that what is unfinished is closed.
        between: Called before every step; what it raises ends the replay.
        pauses: Seconds before a step that failed is tried again.

    Raises:
        Unreachable: MLflow is out of reach, or takes nothing.
    """
    refused: str | None = None
    for step in _steps(grid, ended=ended):
        between()
        try:
            _patiently(step, pauses)
        except Unreachable:
            raise
        except Exception as error:  # what is wrong with one run must not keep the others away
            refused = refused or said(error)
    return refused


def said(error: Exception) -> str:
    """An error in one or two lines."""
    known = isinstance(error, VaebenchError)
    return str(error) if known else f"{type(error).__name__}: {error}"


def _steps(grid: Publisher, *, ended: bool) -> Iterator[Step]:
    for run_id in grid.unsent():
        yield partial(grid.run, run_id, ended=ended)
    if ended:
        yield partial(close_orphans, grid)
    for label in grid.cells:
        yield partial(grid.cell, label, ended=ended)
    yield partial(grid.grid, ended=ended)
    if ended and grid.finished():  # a model is traced, which would take time from what trains
        for label in grid.cells:
            yield partial(grid.model, label)


def _patiently(step: Step, pauses: Sequence[float]) -> None:
    """Do a step; if MLflow is out of reach, again after each pause."""
    until = time.monotonic() + PATIENCE
    for pause in pauses:
        try:
            return step()
        except Unreachable:
            if time.monotonic() > until:
                raise
            time.sleep(pause)
    return step()
