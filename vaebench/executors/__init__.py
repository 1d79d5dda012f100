"""Where runs run: long-lived worker processes, one run at a time each, one CPU thread each.

A worker is ``python -m vaebench.executors``: plain dicts go to and fro as lines of JSON on its
standard input and output, so that a caller's script needs no ``__main__`` guard and a worker's
death is seen as the end of its output. Workers ignore SIGINT (the parent decides) and exit when
the parent is gone (their input ends). One that dies is replaced; its run is failed, the others go
on.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from vaebench.config import make_run
from vaebench.errors import StorageError
from vaebench.run import Task, close, remeasure, run

WORKER_DIED = "its worker process died"


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


def default_jobs(device: str) -> int:
    """Workers that fill this machine: one for each CPU core that this process may use.

    On a GPU, where the small models are bound by launches, at most four share the card.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1 if device == "cpu" else min(4, cores or 1)


def in_this_process(tasks: Sequence[Task], hear: Hear) -> None:
    """Do tasks one after the other, here."""
    for task in tasks:
        hear(Event("started", task, {}))

        def on_epoch(line: dict[str, Any], task: Task = task) -> None:
            hear(Event("epoch", task, line))

        def warn(text: str, task: Task = task) -> None:
            hear(Event("warning", task, {"warning": text}))

        hear(Event("done", task, do(task, on_epoch, warn)))


def do(
    task: Task, on_epoch: Callable[[dict[str, Any]], None], warn: Callable[[str], None]
) -> dict[str, Any]:
    """Do a run, or only measure a finished one, as the task says; return its record."""
    return run(task, on_epoch, warn) if task.metrics is None else remeasure(task)


def in_workers(tasks: Sequence[Task], hear: Hear, *, jobs: int) -> None:
    """Do tasks in worker processes, in their order, at most ``jobs`` at a time.

    Whatever ends this early (an interrupt, an exception of ``hear``) kills the workers: what they
    had finished is on the disk, and the tasks under way can be resumed.

    Arguments:
        tasks: What to do.
        hear: Is told of every event, in this thread.
        jobs: Number of workers.

    Raises:
        StorageError: A worker cannot write its results.
    """
    waiting = deque(tasks)
    said: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
    busy: dict[_Worker, Task] = {}
    idle: list[_Worker] = []
    try:
        idle += [_Worker(said) for _ in range(min(jobs, len(waiting)))]
        while waiting or busy:
            while waiting and idle:
                worker, task = idle.pop(), waiting.popleft()
                busy[worker] = task
                worker.give(task)
                hear(Event("started", task, {}))
            worker, message = said.get()
            if message is None:  # it died
                how = worker.end()
                if worker in busy:
                    task = busy.pop(worker)
                    record = close(task, "failed", f"{WORKER_DIED} ({how})")
                    hear(Event("done", task, record))
                else:
                    idle.remove(worker)
                if waiting:
                    idle.append(_Worker(said))
            elif "unwritable" in message:
                raise StorageError(message["unwritable"])
            elif "epoch" in message:
                hear(Event("epoch", busy[worker], message))
            elif "warning" in message:
                hear(Event("warning", busy[worker], message))
            else:
                idle.append(worker)
                hear(Event("done", busy.pop(worker), message))
    finally:
        workers = (*idle, *busy)
        for worker in workers:  # all at once: a second Ctrl-C must not leave one training
            worker.process.kill()
        for worker in workers:
            worker.kill()


class _Worker:
    """The parent's side of a worker process."""

    def __init__(self, said: "queue.SimpleQueue[Any]") -> None:
        # -P: a file in the working directory must not stand in for a module
        command = [sys.executable, "-P", "-m", "vaebench.executors"]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            process_group=0,  # a Ctrl-C in the terminal is for the parent
        )
        self.reader = threading.Thread(target=self._read, args=(said,), daemon=True)
        self.reader.start()

    def _read(self, said: "queue.SimpleQueue[Any]") -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                said.put((self, json.loads(line)))
        except ValueError:
            self.process.kill()  # half a line: it died while it spoke
        finally:
            said.put((self, None))

    def give(self, task: Task) -> None:
        """Send a task. That the worker is dead is noticed by the reader."""
        assert self.process.stdin is not None
        try:
            _send(self.process.stdin, to_message(task))
        except OSError:
            self.process.kill()

    def end(self) -> str:
        """Wait for a dead worker, and say how it died."""
        self.kill()
        code = self.process.returncode
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End the process, whatever it does, and wait for it."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def _environment() -> dict[str, str]:
    """The environment of workers: no thread pools besides PyTorch's own single thread.

    And memory that a step has freed stays with the process for the next step: glibc would give
    large blocks back to the system each time, and a convolution's step would spend a quarter to
    two fifths of its time on getting them again, page by page.
    """
    single = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    kept = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
    return {**os.environ, **dict.fromkeys(single, "1"), **kept}


def _send(stream: IO[bytes], message: dict[str, Any]) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def to_message(task: Task) -> dict[str, Any]:
    """A task as plain values."""
    return {
        "config": task.config.to_dict(),
        "cell": task.cell,
        "folder": str(task.folder),
        "device": task.device,
        "data_dir": None if task.data_dir is None else str(task.data_dir),
        "jobs": task.jobs,
        "metrics": task.metrics,
    }


def from_message(message: dict[str, Any]) -> Task:
    """The task that :func:`to_message` wrote."""
    data_dir = message["data_dir"]
    return Task(
        config=make_run(message["config"]),
        cell=message["cell"],
        folder=Path(message["folder"]),
        device=message["device"],
        data_dir=None if data_dir is None else Path(data_dir),
        jobs=message["jobs"],
        metrics=None if message["metrics"] is None else tuple(message["metrics"]),
    )


def work() -> None:
    """Do tasks from standard input until it ends, and tell their epochs and records."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like a message
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()

    def tell(message: dict[str, Any]) -> None:
        try:
            _send(out, message)
        except BrokenPipeError:  # the parent is gone, which is no failure of the run
            os._exit(0)

    while True:
        task = from_message(json.loads(tasks.get()))
        try:
            tell(do(task, tell, lambda text: tell({"warning": text})))
        except (StorageError, OSError) as error:  # not even a record can be written
            tell({"unwritable": str(error)})


def _listen(tasks: "queue.SimpleQueue[bytes]") -> None:
    """Receive tasks; when the input ends, the parent is gone, and nobody waits for the result."""
    for line in sys.stdin.buffer:
        tasks.put(line)
    os._exit(0)


if __name__ == "__main__":
    work()
