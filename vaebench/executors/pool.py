"""The parent: hands tasks to workers, replaces those that die, ends those that take too long.

What happens to a task is told as an :class:`Event`. A task that failed for a reason that may pass
is tried again, where that is wanted; it resumes from its checkpoint.
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from vaebench.errors import StorageError
from vaebench.executors.process import Said, Worker
from vaebench.run import TRANSIENT, Task, fail

WORKER_DIED = "its worker process died"
HOUR = 3600.0  # seconds: no wait is longer, as there is a longest one that Python can wait


class Event(NamedTuple):
    """Something that happened to a task.

    Attributes:
        kind: ``started``, ``epoch`` (``data`` is the journal's line), ``warning`` (its text), or
            ``done`` (the record).
        task: The task.
        data: As ``kind`` says; empty for ``started``.
    """

    kind: Literal["started", "epoch", "warning", "done"]
    task: Task
    data: dict[str, Any]


Hear = Callable[[Event], None]


def in_workers(
    tasks: Sequence[Task],
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
        tasks: What to do.
        hear: Is told of every event, in this thread.
        jobs: Number of workers.
        timeout: Seconds that a task may take at each try; None: any time.
        retries: How often a task is tried again that failed for a reason that may pass.

    Raises:
        StorageError: A worker cannot write its results.
    """
    pool = _Pool(tasks, hear, jobs, timeout, retries)
    try:
        while pool.waiting or pool.busy:
            pool.hand_out()
            pool.take()
    finally:
        pool.end()


class _Pool:
    """The workers, and who does what."""

    def __init__(
        self, tasks: Sequence[Task], hear: Hear, jobs: int, timeout: float | None, retries: int
    ) -> None:
        self.waiting = deque(tasks)
        self.busy: dict[Worker, Task] = {}
        self.idle: list[Worker] = []
        self.hear = hear
        self.jobs = jobs
        self.timeout = timeout
        self.retries = retries
        self.due: dict[Worker, float] = {}  # when a busy one has taken too long
        self.said: Said = queue.SimpleQueue()

    def hand_out(self) -> None:
        """Give waiting tasks to idle or new workers."""
        while self.waiting and len(self.busy) < self.jobs:
            if not self.idle:
                self.idle.append(Worker(self.said))
            worker, task = self.idle.pop(), self.waiting.popleft()
            self.busy[worker] = task
            if self.timeout is not None:
                self.due[worker] = time.monotonic() + self.timeout
            worker.give(task)
            if not task.retries:
                self.hear(Event("started", task, {}))

    def take(self) -> None:
        """Wait for a message, or for a worker to be late, and act on it."""
        wait = min(self.due.values(), default=float("inf")) - time.monotonic()
        try:
            worker, message = self.said.get(timeout=min(HOUR, max(0.0, wait)))
        except queue.Empty:
            self._expire()
            return
        if message is None:
            self._died(worker)
        elif "unwritable" in message:
            raise StorageError(message["unwritable"])
        elif "epoch" in message:
            self.hear(Event("epoch", self.busy[worker], message))
        elif "warning" in message:
            self.hear(Event("warning", self.busy[worker], message))
        else:
            self._done(worker, message)

    def end(self) -> None:
        """End all workers."""
        workers = (*self.idle, *self.busy)
        for worker in workers:  # all at once: a second Ctrl-C must not leave one training
            worker.process.kill()
        for worker in workers:
            worker.kill()

    def _expire(self) -> None:
        now = time.monotonic()
        for worker in [worker for worker, due in self.due.items() if due <= now]:
            del self.due[worker]
            worker.expire()  # that it is dead is heard like any other death

    def _died(self, worker: Worker) -> None:
        task = self.busy.pop(worker, None)
        self.due.pop(worker, None)
        if task is None:
            if worker in self.idle:
                self.idle.remove(worker)
            worker.kill()
            return
        how, trace = worker.end()
        if worker.is_late:
            reason = f"timed out after {self.timeout:g} s (--timeout)"
            record = fail(task, "timeout", reason, trace)
        else:
            record = fail(task, "died", f"{WORKER_DIED} ({how}{_guess(how)})", trace)
        self._finish(task, record)

    def _done(self, worker: Worker, record: dict[str, Any]) -> None:
        task = self.busy.pop(worker)
        self.due.pop(worker, None)
        # one that is late is dead; one where something unforeseen happened may be in any state
        if worker.is_late or record.get("failure") not in (None, "diverged"):
            worker.kill()
        else:
            self.idle.append(worker)
        self._finish(task, record)

    def _finish(self, task: Task, record: dict[str, Any]) -> None:
        """Tell the end of a task, or let it be tried again."""
        if record.get("failure") not in TRANSIENT or task.retries >= self.retries:
            self.hear(Event("done", task, record))
            return
        again = replace(task, retries=task.retries + 1)
        self.waiting.append(again)
        text = f"{record['reason']}; it is tried again ({again.retries} of {self.retries})"
        self.hear(Event("warning", again, {"warning": text}))


def _guess(how: str) -> str:
    """The most likely reason of a death: the kernel kills without a word."""
    return "; out of memory? lower --jobs or training.batch_size" if "SIGKILL" in how else ""
