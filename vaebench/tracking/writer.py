"""The thread that follows a training grid and sends what it leaves on disk to MLflow.

Training never waits for it and never fails because of it. A tracking server that is away is tried
again, more and more rarely, and the user is told once when it goes and once when it is back. What
is not sent at the end is sent by ``vaebench sync`` or by the same command next time.
"""

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from vaebench.errors import VaebenchError
from vaebench.schema.labels import cell_label
from vaebench.schema.manifest import read_manifest
from vaebench.storage import run_store
from vaebench.tracking.failures import Unreachable
from vaebench.tracking.orphans import close_orphans
from vaebench.tracking.publisher import Publisher
from vaebench.tracking.replay import PAUSES, Outcome, said, send_all
from vaebench.tracking.store import Window

INTERVAL = 5.0  # seconds between two looks at the folders
RESTS = (5.0, 10.0, 20.0, 40.0, 60.0)  # seconds without MLflow, after the first failure, ...
TOLD = 3  # outages: one that comes and goes for days would fill the screen

Say = Callable[[str], None]


class _GivenUp(Exception):
    """Nobody waits for the writer any more."""


class Writer:
    """Sends a grid to MLflow in the background while it trains.

    Every method may be called from any thread, returns at once (``close`` within its time), and
    raises nothing.

    Arguments:
        window: Where to, from :func:`~vaebench.tracking.connect`; its folder holds a manifest.
        warn: Is told of an outage when it begins and when it is over, from the writer's thread.
        interval: Seconds between two looks at the folders.
        rests: Seconds without a look after the first failure, the second, ...
    """

    def __init__(
        self,
        window: Window,
        warn: Say | None = None,
        interval: float = INTERVAL,
        rests: tuple[float, ...] = RESTS,
    ) -> None:
        self.window = window
        self._interval = interval
        self._rests = rests
        self._outages = _Outages(window, warn)
        self._changed = threading.Condition()
        self._touched: set[str] = set()
        self._live: set[str] = set()  # what this process trains, or has trained
        self._closing = False
        self._given_up = False
        self._progress = 0  # things sent, so that close can tell slow from stuck
        self._grid: Publisher | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)

    def start(self) -> None:
        """Begin: open the store, send what is missing there, close what nobody trains."""
        self._thread.start()

    def touch(self, run_id: str) -> None:
        """Say that something of a run changed on disk: its journal, a picture, its record."""
        with self._changed:
            self._touched.add(run_id)
            self._live.add(run_id)

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
        self._given_up = self._thread.is_alive()
        if self._given_up:
            self._outages.problem = (
                self._outages.problem or f"MLflow at {self.window.address} takes too long"
            )
        return self._outcome()

    def _outcome(self) -> Outcome:
        grid, problem, command = self._grid, self._outages.problem, self.window.command
        try:
            if grid is None:
                runs = [entry["run_id"] for entry in read_manifest(self.window.folder)["runs"]]
                stores = [run_store(self.window.folder, run_id) for run_id in runs]
                started = sum(store.config is not None for store in stores)
                return Outcome(0, started, [], problem, command)
            started, unsent = len(grid.started()), len(grid.unsent())
            return Outcome(started - unsent, unsent, grid.links(), problem, command)
        except VaebenchError as error:  # a damaged folder, which the grid reports as well
            return Outcome(0, 0, [], problem or str(error), command)

    def _work(self) -> None:
        failures = 0
        while True:
            closing = self._closing  # read first: a closing round sees all that was written before
            try:
                if self._grid is None or failures > 1:
                    self._open()  # anew after an outage: the store may be another one
                problem = self._finish(failures) if closing else self._round()
            except _GivenUp:
                return
            except Exception as error:  # whatever it is, it must not reach the training
                problem = said(error)
            failures = failures + 1 if problem else 0
            # a folder may be moved away under our eyes: once is no news, except at the ends
            if failures != 1 or closing or self._grid is None:
                self._outages.report(problem, closing)
            if closing:
                return
            rest = self._rests[min(failures, len(self._rests)) - 1] if failures else self._interval
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=rest)

    def _step(self) -> None:
        if self._given_up:
            raise _GivenUp
        self._progress += 1

    def _open(self) -> None:
        grid = Publisher(self.window)
        self._step()
        grid.grid()
        close_orphans(grid)
        with self._changed:
            self._touched.update(grid.unsent())
        self._grid = grid

    def _round(self) -> str | None:
        """Send what has changed; return what MLflow refused of it."""
        grid = self._grid
        assert grid is not None
        with self._changed:
            waiting = {run_id for run_id in self._touched if run_id in grid.runs}
            self._touched.clear()
        refused: str | None = None
        for run_id in sorted(waiting):
            self._step()
            try:
                self._send(grid, run_id)
            except Exception as error:
                missing = waiting if isinstance(error, Unreachable) else {run_id}
                with self._changed:
                    self._touched.update(missing)
                if isinstance(error, Unreachable):
                    raise
                refused = refused or said(error)
            else:
                waiting = waiting - {run_id}
        return refused

    def _send(self, grid: Publisher, run_id: str) -> None:
        grid.run(run_id, ended=run_id not in self._live)
        if grid.is_sent(run_id):
            grid.cell(cell_label(grid.runs[run_id].cell))
            grid.grid()

    def _finish(self, failures: int) -> str | None:
        """Send all that is missing, close all that is open; return what MLflow refused."""
        assert self._grid is not None
        pauses = () if failures else PAUSES
        return send_all(self._grid, ended=True, between=self._step, pauses=pauses)


class _Outages:
    """Tells the user what is wrong with MLflow: once when it begins, once when it is over."""

    def __init__(self, window: Window, warn: Say | None) -> None:
        self.problem: str | None = None
        self._window = window
        self._listener = warn
        self._told = 0

    def report(self, problem: str | None, closing: bool) -> None:
        """Take note of what is wrong now, or that nothing is."""
        before, self.problem = self.problem, problem
        if problem and not before:
            self._told += 1
            if self._told <= TOLD:
                more = "" if closing else "; training goes on, what is missing is sent later"
                last = " (the last outage that is told)" if self._told == TOLD else ""
                self._warn(f"{problem}{more}{last}")
        if before and not problem and self._told <= TOLD:
            self._warn(f"MLflow at {self._window.address} takes everything again")

    def _warn(self, text: str) -> None:
        with suppress(OSError):  # nobody reads any more, which is no reason to stop
            if self._listener:
                self._listener(text)
