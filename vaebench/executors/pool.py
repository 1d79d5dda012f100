"""The parent: hands tasks to workers, replaces those that die, ends those that take too long.

What happens to a task is told as an :class:`Event`. A task that failed for a reason that may pass
is tried again, where that is wanted; it resumes from its checkpoint.
"""

import math
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from vaebench import forking
from vaebench.errors import StorageError
from vaebench.executors.process import MAX_DUMP_SECONDS, Messages, Worker
from vaebench.executors.worker import Kind
from vaebench.run import TRANSIENT, Task, fail

MAX_WAIT = 3600.0  # seconds; Python cannot wait for any length of time
LOOK = 1.0  # seconds between two questions whether there is something to do by now


class Event(NamedTuple):
    """Something that happened to a task.

    Attributes:
        kind: ``started``, ``epoch`` (``data`` is the journal's line), ``warning`` (its text),
            ``lost`` (another process does it), or ``done`` (the record).
        task: The task.
        data: As ``kind`` says; empty for ``started`` and ``lost``.
    """

    kind: Kind
    task: Task
    data: dict[str, Any]


Hear = Callable[[Event], None]


def in_workers(
    tasks: Iterable[Task | None],
    hear: Hear,
    *,
    jobs: int,
    timeout: float | None = None,
    retries: int = 0,
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

    Raises:
        StorageError: A worker cannot write its results.
    """
    pool = _Pool(tasks, hear, math.inf if timeout is None else timeout, retries)
    try:
        while pool.hand_out(jobs):
            pool.take()
    finally:
        for worker in pool.workers:  # all at once: a second Ctrl-C must not leave one training
            worker.process.kill()
        for worker in pool.workers:
            worker.end()
        forking.end()


class _Pool:
    """The workers, and what they are to do."""

    def __init__(
        self, tasks: Iterable[Task | None], hear: Hear, timeout: float, retries: int
    ) -> None:
        self.tasks = iter(tasks)
        self.all_given = False
        self.again: deque[Task] = deque()
        self.workers: list[Worker] = []
        self.messages: Messages = queue.SimpleQueue()
        self.hear = hear
        self.timeout = timeout
        self.retries = retries

    @property
    def busy(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.task is not None]

    def hand_out(self, jobs: int) -> bool:
        """Give tasks to idle or new workers; whether there is anything left to wait for."""
        while len(self.busy) < jobs and (task := self._next()) is not None:
            worker = next((worker for worker in self.workers if worker.task is None), None)
            if worker is None:
                worker = Worker(self.messages)
                self.workers.append(worker)
            worker.give(task, due=time.monotonic() + self.timeout)
            if not task.retries:
                self.hear(Event("started", task, {}))
        return bool(self.busy) or not self.all_given

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
                self._finish(task, _record_of_death(task, worker.is_late, self.timeout, how, trace))
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
            self._finish(task, data)

    def _finish(self, task: Task, record: dict[str, Any]) -> None:
        """Tell the end of a task, or let it be tried again."""
        if record.get("failure") not in TRANSIENT or task.retries >= self.retries:
            self.hear(Event("done", task, record))
            return
        again = replace(task, retries=task.retries + 1)
        self.again.append(again)
        text = f"{record['reason']}; it is tried again ({again.retries} of {self.retries})"
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
