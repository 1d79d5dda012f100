"""The thread that follows a training grid and sends what it leaves on disk to MLflow.

Training never waits for it and never fails because of it. A tracking server that is away is tried
again, more and more rarely; what is not sent at the end is sent by the same command next time,
since every writer starts by sending what is missing.
"""

import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from vaebench.errors import VaebenchError
from vaebench.storage import cell_label, read_manifest, run_store
from vaebench.tracking.store import Window
from vaebench.tracking.sync import GridSync
from vaebench.tracking.views import Link

INTERVAL = 5.0  # seconds between two looks at the folders
PAUSES = (5.0, 10.0, 20.0, 40.0, 60.0)  # seconds without MLflow, after the first failure, ...

Say = Callable[[str], None]


class Outcome(NamedTuple):
    """What became of a grid in MLflow.

    Attributes:
        sent: Runs that are shown as they lie in the folder.
        unsent: Runs that are not: the same command sends them.
        links: The saved views; none when MLflow was never reached.
        problem: What went wrong, in one or two lines, or None.
    """

    sent: int
    unsent: int
    links: list[Link]
    problem: str | None


def sync(window: Window) -> Outcome:
    """Send a grid that nothing trains now, in this thread.

    Raises:
        TrackingError: MLflow refused or is out of reach.
        ResultsError: The grid's folder is damaged.
    """
    grid = GridSync(window)
    for run_id in grid.unsent():
        grid.run(run_id, ended=True)
    for label in grid.cells:
        grid.cell(label)
    grid.grid(ended=True)
    for label in grid.cells if grid.finished() else ():
        grid.model(label)
    unsent = len(grid.unsent())
    return Outcome(len(grid.started()) - unsent, unsent, grid.links(), None)


class Writer:
    """Sends a grid to MLflow in the background while it trains.

    Every method may be called from any thread, returns at once (``close`` within its time), and
    raises nothing.

    Arguments:
        window: Where to, from :func:`~vaebench.tracking.connect`; its folder holds a manifest.
        warn: Is told the first problem, once, from the writer's thread.
        interval: Seconds between two looks at the folders.
    """

    def __init__(self, window: Window, warn: Say | None = None, interval: float = INTERVAL) -> None:
        self.window = window
        self._warn = warn
        self._interval = interval
        self._changed = threading.Condition()
        self._touched: set[str] = set()
        self._closing = False
        self._progress = 0  # things sent, so that close can tell slow from stuck
        self._problem: str | None = None
        self._grid: GridSync | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)

    def start(self) -> None:
        """Begin: open the store, and send what is missing there."""
        self._thread.start()

    def touch(self, run_id: str) -> None:
        """Say that something of a run changed on disk: its journal, a picture, its record."""
        with self._changed:
            self._touched.add(run_id)
            self._changed.notify()

    def close(self, timeout: float = 60.0, limit: float = math.inf) -> Outcome:
        """Send the rest and stop.

        Arguments:
            timeout: Give up when nothing could be sent for so many seconds.
            limit: Give up after so many seconds in any case.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        began = time.monotonic()
        seen, since = -1, began
        while self._thread.is_alive() and (now := time.monotonic()) - since < timeout:
            if now - began > limit:
                break
            if self._progress != seen:
                seen, since = self._progress, now
            self._thread.join(0.05)
        if self._thread.is_alive() and self._problem is None:
            self._problem = f"MLflow at {self.window.address} takes too long"
        return self._outcome()

    def _outcome(self) -> Outcome:
        grid, links = self._grid, list[Link]()
        try:
            if grid is None:
                runs = [entry["run_id"] for entry in read_manifest(self.window.folder)["runs"]]
                stores = [run_store(self.window.folder, run_id) for run_id in runs]
                return Outcome(0, sum(s.config is not None for s in stores), links, self._problem)
            started, unsent = len(grid.started()), len(grid.unsent())
            return Outcome(started - unsent, unsent, grid.links(), self._problem)
        except VaebenchError as error:  # a damaged folder, which the grid reports as well
            return Outcome(0, 0, links, self._problem or str(error))

    def _work(self) -> None:
        failures = 0
        while True:
            closing = self._closing  # read first: a closing round sees all that was written before
            try:
                self._round(closing)
                failures = 0
            except Exception as error:  # whatever it is, it must not reach the training
                failures += 1
                # a folder may be moved away under our eyes: once is no news, except at the ends
                if failures > 1 or closing or self._grid is None:
                    self._report(error)
            if closing:
                return
            pause = PAUSES[min(failures, len(PAUSES)) - 1] if failures else self._interval
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=pause)

    def _round(self, closing: bool) -> None:
        if self._grid is None:
            self._grid = GridSync(self.window)
            self._progress += 1
            self._grid.grid()
            for run_id in self._grid.unsent():
                self.touch(run_id)
        grid = self._grid
        with self._changed:
            todo = grid.unsent() if closing else [r for r in self._touched if r in grid.runs]
            self._touched.clear()
        failed: Exception | None = None
        for run_id in todo:
            try:
                self._send(grid, run_id, closing)
            except Exception as error:
                self.touch(run_id)
                if failed or not closing:  # while closing, one run may fail and the others go on
                    raise
                failed = error
            self._progress += 1
        if closing:
            for label in grid.cells:
                grid.cell(label)
                self._progress += 1
            grid.grid(ended=True)
            for label in grid.cells if grid.finished() else ():
                grid.model(label)
                self._progress += 1
        if failed:
            raise failed

    def _send(self, grid: GridSync, run_id: str, closing: bool) -> None:
        grid.run(run_id, ended=closing)
        if grid.is_sent(run_id) and not closing:
            grid.cell(cell_label(grid.runs[run_id].cell))
            grid.grid()

    def _report(self, error: Exception) -> None:
        told = self._problem is not None
        known = isinstance(error, VaebenchError)
        self._problem = str(error) if known else f"{type(error).__name__}: {error}"
        if self._warn is not None and not told:
            self._warn(self._problem)
