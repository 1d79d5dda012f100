"""The thread that follows a training grid and sends what it leaves on disk to MLflow.

Training never waits for it and never fails because of it. A tracking server that is away is tried
again, more and more rarely, and the user is told once when it goes and once when it is back. What
is not sent at the end is sent by ``vaebench sync`` or by the same command next time.
"""

import math
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial

from vaebench.errors import VaebenchError
from vaebench.schema.labels import cell_label
from vaebench.schema.manifest import read_manifest
from vaebench.tracking.describe import describe_sharing
from vaebench.tracking.failures import explain
from vaebench.tracking.payload import seeds
from vaebench.tracking.publisher import Outcome, Publisher
from vaebench.tracking.replay import Say, Step, all_steps, carry_out, close_orphans
from vaebench.tracking.store import Window

INTERVAL = 5.0  # seconds between two looks at the folders
RESTS = (5.0, 10.0, 20.0, 40.0, 60.0)  # seconds without MLflow, after the first failure, ...
WORK = 0.5  # seconds of processor time that count as progress
MAX_TOLD = 3  # outages: one that comes and goes for days would fill the screen


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
        warn: Say = lambda _: None,
        interval: float = INTERVAL,
        rests: tuple[float, ...] = RESTS,
    ) -> None:
        self.window = window
        self._listener = warn
        self._interval = interval
        self._rests = rests
        self._problem: str | None = None
        self._told = 0
        self._changed = threading.Condition()
        self._touched: set[str] = set()
        self._live: set[str] = set()  # what this process trains, or has trained
        self._closing = False
        self._ended = True
        self._given_up = False  # nobody waits for the writer any more
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

    def close(
        self, timeout: float = 60.0, limit: float = math.inf, *, ended: bool = True
    ) -> Outcome:
        """Send the rest and stop.

        Arguments:
            timeout: Give up when nothing could be sent for so many seconds in which this process
                did nothing else either: a model is traced here before it is sent.
            limit: Give up after so many seconds in any case.
            ended: Whether nobody else trains the grid, so that it can be closed; else only what
                this process has done is sent.
        """
        with self._changed:
            self._ended = ended
            self._closing = True
            self._changed.notify()
        began = time.monotonic()
        seen, since = (-1, 0), began
        while self._thread.is_alive() and (now := time.monotonic()) - since < timeout:
            if now - began > limit:
                break
            done = self._progress, int(time.process_time() / WORK)
            if done != seen:
                seen, since = done, now
            self._thread.join(0.05)
        self._given_up = self._thread.is_alive()
        if self._given_up and not self._problem:
            self._problem = f"MLflow at {self.window.address} takes too long"
        try:
            if self._grid is not None:
                return self._grid.outcome(self._problem)
            folder = self.window.folder
            started = sum(run.started for run in seeds(folder, read_manifest(folder)))
            return Outcome(0, started, [], self._problem, self.window.command)
        except VaebenchError as error:  # a damaged folder, which the grid reports as well
            return Outcome(0, 0, [], self._problem or str(error), self.window.command)

    def _work(self) -> None:
        failures = 0
        while True:
            closing = self._closing  # read first: a closing round sees all that was written before
            try:
                problem = self._round(closing, failures)
            except Exception as error:  # whatever it is, it must not reach the training
                problem = str(explain(error, self.window.uri))
            if self._given_up:
                return
            failures = failures + 1 if problem else 0
            # a folder may be moved away under our eyes: once is no news, except at the ends
            if failures != 1 or closing or self._grid is None:
                self._report(problem, closing)
            if closing:
                return
            rest = self._rests[min(failures, len(self._rests)) - 1] if failures else self._interval
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=rest)

    def _round(self, closing: bool, failures: int) -> str | None:
        """Send what has changed, when closing all that is missing; return what MLflow refused."""
        steps: list[Step] = []
        if self._grid is None or failures:  # anew after an outage: the store may be another one
            first = self._grid is None
            self._grid = grid = Publisher(self.window)
            if first and (others := grid.client.others):
                where, experiment = self.window.address, self.window.experiment
                self._tell(describe_sharing(where, experiment, others.values()))
            steps = [Step("grid", grid.grid), Step("orphans", partial(close_orphans, grid))]
            with self._changed:
                self._touched.update(grid.unsent())
        elif closing and self._ended and self._grid.manifest != read_manifest(self.window.folder):
            self._grid = Publisher(self.window)  # another process has added runs, and ended
        grid = self._grid
        problems: list[str] = []
        if closing and not self._ended:
            with self._changed:
                self._touched |= self._live
        is_last = closing and self._ended
        carry_out(
            self._counted(all_steps(grid, ended=True) if is_last else self._news(grid, steps)),
            self.window.uri,
            lambda _, why: problems.append(why),
            None if closing and not failures else (),
        )
        return problems[0] if problems else None

    def _counted(self, steps: Iterable[Step]) -> Iterator[Step]:
        for step in steps:
            if self._given_up:
                return
            self._progress += 1
            yield step

    def _news(self, grid: Publisher, first: Iterable[Step]) -> Iterator[Step]:
        yield from first
        with self._changed:
            waiting = sorted(self._touched & grid.runs.keys())
        for run_id in waiting:
            yield Step(run_id, partial(self._send, grid, run_id))
        if any(map(grid.is_sent, waiting)):
            yield Step("grid", grid.grid)

    def _send(self, grid: Publisher, run_id: str) -> None:
        with self._changed:
            self._touched.discard(run_id)
        try:
            grid.run(run_id, ended=run_id not in self._live)
            if grid.is_sent(run_id):
                grid.cell(cell_label(grid.runs[run_id].cell))
        except Exception:
            with self._changed:
                self._touched.add(run_id)
            raise

    def _report(self, problem: str | None, closing: bool) -> None:
        """Tell the user what is wrong with MLflow: once when it begins, once when it is over."""
        before, self._problem = self._problem, problem
        if problem and not before:
            self._told += 1
            more = "" if closing else "; training goes on, what is missing is sent later"
            last = " (the last outage that is told)" if self._told == MAX_TOLD else ""
            self._tell(f"{problem}{more}{last}")
        if before and not problem:
            self._tell(f"MLflow at {self.window.address} takes everything again")

    def _tell(self, text: str) -> None:
        if self._told <= MAX_TOLD:
            with suppress(OSError):  # nobody reads any more, which is no reason to stop
                self._listener(text)
