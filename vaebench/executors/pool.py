"""The parent: hands tasks to workers, replaces those that die, ends those that take too long.

What happens to a task is told as an :class:`Event`. A task that failed for a reason that may pass
is tried again, where that is wanted; it resumes from its checkpoint. One that found no memory on a
GPU that it shared is tried again alone there, in any case.
"""

import math
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Generic

from vaebench import forking
from vaebench.errors import StorageError
from vaebench.executors.doers import D, Event, Hear, Source
from vaebench.executors.gpus import Gpus
from vaebench.executors.process import MAX_DUMP_SECONDS, Worker
from vaebench.run import TRANSIENT, Task, fail
from vaebench.storage import LostError

MAX_WAIT = 3600.0  # seconds; Python cannot wait for any length of time
LOOK = 1.0  # seconds between two questions whether there is something to do by now


def in_workers(
    tasks: Iterable[Task | None],
    hear: Hear,
    *,
    jobs: int,
    timeout: float | None = None,
    retries: int = 0,
    gpus: Gpus | None = None,
) -> None:
    """Do tasks in worker processes, in their order, at most ``jobs`` at a time.

    Whatever ends this early (an interrupt, an exception of ``hear``) kills the workers: what they
    had finished is on the disk, and the tasks under way can be resumed.

    Arguments:
        tasks: What to do; asked for the next when a worker is free. None: nothing as yet.
        hear: Is told of every event, in this thread.
        jobs: Number of workers.
        timeout: Seconds that a task may take at each try; None: any time.
        retries: How often a task is tried again that failed for a reason that may pass.
        gpus: What the workers share out among them; None: they use no GPU.

    Raises:
        StorageError: A worker cannot write its results.
    """
    messages: queue.SimpleQueue[tuple[Worker, list[Any] | None]] = queue.SimpleQueue()
    pool = Pool(
        tasks, hear, lambda gpu: Worker(messages, gpu), messages, timeout, retries, gpus=gpus
    )
    try:
        pool.work(lambda: jobs)
    finally:
        forking.end()


class Pool(Generic[D]):
    """The doers, and what they are to do.

    Arguments:
        tasks: As for :func:`in_workers`.
        hear: As for :func:`in_workers`.
        hire: Makes a doer, bound to a GPU or to none.
        messages: What doers say.
        timeout: As for :func:`in_workers`.
        retries: As for :func:`in_workers`.
        gpus: What doers share; None: they have no GPU, or somebody else shares them out.
        shares: Whether a task that found no memory may have had a GPU beside others.
        anew: Gives a task a new attempt's folder, where its doer may still be writing in the old
            one; may raise LostError.
        moves: How often a task that is lost with its machine is done elsewhere, whatever
            ``retries`` is.
    """

    def __init__(
        self,
        tasks: Iterable[Task | None],
        hear: Hear,
        hire: Callable[[str | None], D],
        messages: Source[D],
        timeout: float | None,
        retries: int,
        *,
        gpus: Gpus | None = None,
        shares: bool = False,
        anew: Callable[[Task], Task] = lambda task: task,
        moves: int = 0,
    ) -> None:
        self.tasks = iter(tasks)
        self.all_given = False
        self.again: deque[Task] = deque()
        self.alone: deque[Task] = deque()
        self.workers: list[D] = []
        self.messages = messages
        self.hire = hire
        self.hear = hear
        self.timeout = math.inf if timeout is None else timeout
        self.retries = retries
        self.gpus = gpus
        self.shares = shares or (gpus is not None and gpus.each > 1)
        self.anew = anew
        self.moves = moves

    def work(self, jobs: Callable[[], int]) -> None:
        """Do all tasks, at most ``jobs()`` at a time; whatever ends this early ends the doers."""
        try:
            while self.hand_out(jobs()):
                self.take()
        finally:
            for worker in self.workers:  # all at once: a second Ctrl-C must not leave one training
                worker.kill()
            for worker in self.workers:
                worker.end()

    @property
    def busy(self) -> list[D]:
        """Those that do something."""
        return [worker for worker in self.workers if worker.task is not None]

    def hand_out(self, jobs: int) -> bool:
        """Give tasks to idle or new workers; whether there is anything left to wait for."""
        while len(self.busy) < jobs and self._give_one():
            pass
        return bool(self.busy or self.again or self.alone) or not self.all_given

    def _give_one(self) -> bool:
        """Give the next task to a doer; False: there is no task, or no GPU for it, at present."""
        emptied = gpu = None
        if self.gpus is not None:
            busy = [(worker.gpu, worker.alone) for worker in self.busy]
            emptied, gpu = self.gpus.room(busy, waits=bool(self.alone))
        if self.alone and (self.gpus is None or emptied is not None):
            self._give(self.alone.popleft(), emptied, alone=True)
            return True
        if self.gpus is not None and gpu is None:
            return False
        task = self._next()
        if task is not None:
            self._give(task, gpu, alone=False)
        return task is not None

    def _give(self, task: Task, gpu: str | None, *, alone: bool) -> None:
        idle = (worker for worker in self.workers if worker.task is None and worker.gpu == gpu)
        worker = next(idle, None)
        if worker is None:
            worker = self.hire(gpu)
            self.workers.append(worker)
        worker.alone = alone
        worker.give(task, self.timeout)
        if not task.retries:
            self.hear(Event("started", task, {}))

    def _next(self) -> Task | None:
        """The next task to give; None: there is none as yet, or none any more."""
        if self.again:
            return self.again.popleft()
        if self.all_given:
            return None
        try:
            return next(self.tasks)
        except StopIteration:
            self.all_given = True
            return None

    def take(self) -> None:
        """Wait for a message, for a worker to be late, or for a moment, and act on it."""
        due = min((worker.due for worker in self.workers), default=math.inf)
        wait = min(MAX_WAIT if self.all_given else LOOK, due - time.monotonic())
        try:
            worker, message = self.messages.get(timeout=max(0.0, wait))
        except queue.Empty:
            for worker in self.workers:
                if worker.due <= time.monotonic():
                    worker.expire()  # that it is dead is heard like any other death
            return
        task = worker.task
        if worker not in self.workers:
            return  # it was ended, and this is the end of its output
        if message is None:
            self.workers.remove(worker)
            how, trace = worker.end(seconds=MAX_DUMP_SECONDS)  # it has closed its output
            if task is not None:
                record = _record_of_death(task, worker.is_late, self.timeout, how, trace)
                self._finish(worker, task, record)
        elif task is not None:
            kind, data = message
            if kind == "unwritable":
                raise StorageError(data["reason"])
            if kind == "unknown":
                kind, data = "done", fail(task, "error", data["reason"], "")
            if kind not in ("done", "lost"):
                self.hear(Event(kind, task, data))
                return
            worker.task, worker.due = None, math.inf
            if kind == "lost":
                self.hear(Event(kind, task, data))
                return
            # one that is late is dead; one where something unforeseen happened may be in any state
            if worker.is_late or data.get("failure") not in (None, "diverged"):
                self.workers.remove(worker)
                worker.end()
            self._finish(worker, task, data)

    def _finish(self, worker: D, task: Task, record: dict[str, Any]) -> None:
        """Tell the end of a task, or let it be tried again."""
        failure = record.get("failure")
        alone = failure == "memory" and self.shares and not worker.alone
        limit = max(self.retries, self.moves if worker.moves else 0)
        if not alone and (failure not in TRANSIENT or task.retries >= limit):
            self.hear(Event("done", task, record))
            return
        try:
            again = replace(self.anew(task), retries=task.retries + 1)
        except LostError:
            self.hear(Event("lost", task, {}))
            return
        (self.alone if alone else self.again).append(again)
        how = "alone on a GPU" if alone else f"({again.retries} of {limit})"
        text = f"{record['reason']}; it is tried again {how}"
        self.hear(Event("warning", again, {"warning": text}))


def _record_of_death(
    task: Task, is_late: bool, timeout: float, how: str, trace: str
) -> dict[str, Any]:
    if is_late:
        return fail(task, "timeout", f"timed out after {timeout:g} s (--timeout)", trace)
    last = trace.strip().rpartition("\n")[2]
    if "exit code" in how and last:  # an exception that nothing caught: an import's, say
        return fail(task, "error", f"its worker process ended with {last}", trace)
    # the kernel kills without a message
    likely = "; out of memory? lower --jobs or training.batch_size" if "SIGKILL" in how else ""
    return fail(task, "died", f"its worker process died ({how}{likely})", trace)
