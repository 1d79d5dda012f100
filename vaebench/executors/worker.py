"""The worker's side: tasks in, epochs and records out, until the parent is gone."""

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vaebench.errors import StorageError
from vaebench.executors.messages import from_message, send
from vaebench.run import Task, remeasure, run

WHERE_ARE_YOU = signal.SIGUSR1  # is answered with a traceback and the end, whatever a worker does
EXPENDABLE = "500"  # of 1000: where memory ends, the kernel shall end a worker, not the parent


def do(
    task: Task, on_epoch: Callable[[dict[str, Any]], None], warn: Callable[[str], None]
) -> dict[str, Any]:
    """Do a run, or only measure a finished one, as the task says; return its record."""
    return run(task, on_epoch, warn) if task.metrics is None else remeasure(task)


def work(faults: int | None = None) -> None:
    """Do tasks from standard input until it ends, and tell their epochs and records.

    Arguments:
        faults: File descriptor that gets a traceback if this process crashes, or is asked where it
            is before it is ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if faults is not None:
        os.set_inheritable(faults, False)
        faulthandler.enable(faults)
        faulthandler.register(WHERE_ARE_YOU, faults, chain=True)
    with suppress(OSError):  # there is such a thing on Linux only
        Path("/proc/self/oom_score_adj").write_text(EXPENDABLE)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like a message
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()

    def tell(message: dict[str, Any]) -> None:
        try:
            send(out, message)
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
