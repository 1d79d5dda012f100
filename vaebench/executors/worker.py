"""The worker's side: tasks in, epochs and records out, until the parent is gone."""

import faulthandler
import gc
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from vaebench.errors import ConfigError, ResultsError, StorageError
from vaebench.executors.messages import from_message, send
from vaebench.run import Task, remeasure, run
from vaebench.storage import LostError, lease_of, renewed

Kind = Literal["started", "epoch", "warning", "lost", "done"]
Refusal = Literal["unwritable", "unknown"]  # no record can be written; what it needs is not there

DUMP_AND_EXIT = signal.SIGUSR1  # a worker answers with a traceback and ends, whatever it does
OOM_SCORE = "500"  # of 1000: where memory ends, the kernel kills a worker rather than the parent

LATER = (
    "matplotlib.backends.backend_agg",
    "PIL.PngImagePlugin",
    "safetensors.torch",
    "skimage.metrics._structural_similarity",
    "sklearn.neighbors",
    "torch._dynamo",  # by optimisers
)


def do(task: Task, tell: Callable[[Kind, dict[str, Any]], None]) -> None:
    """Do a run, or only measure a finished one, as the task says; tell epochs and the record.

    Meanwhile the run's lease is renewed. Where it is lost, that is told instead of a record.
    """
    if task.metrics is not None:
        tell("done", remeasure(task))
        return
    try:
        with _attended(task) as lost:

            def on_epoch(line: dict[str, Any]) -> None:
                if lost.is_set():
                    raise LostError(f"{task.key}: another process does it")
                tell("epoch", line)

            record = run(task, on_epoch, lambda text: tell("warning", {"warning": text}))
    except LostError:
        tell("lost", {})
    else:
        tell("done", record)


@contextmanager
def _attended(task: Task) -> Iterator[threading.Event]:
    """Renew the lease of a run, if it has one; the event says that it is lost."""
    lease = lease_of(task.folder)
    with renewed(lease) if lease is not None else nullcontext(threading.Event()) as lost:
        yield lost


def preload() -> None:
    """Import what runs import when they need it, and keep it out of the garbage collector's way."""
    for name in LATER:
        import_module(name)
    gc.collect()
    gc.freeze()


def work(faults: int | None = None) -> None:
    """Do tasks from standard input until it ends; write what happens to standard output.

    Arguments:
        faults: File descriptor that gets a traceback if this process crashes or is told to end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if faults is not None:
        os.set_inheritable(faults, False)
        faulthandler.enable(faults)
        faulthandler.register(DUMP_AND_EXIT, faults, chain=True)
    with suppress(OSError):  # only Linux has it
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like a message
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()

    def tell(kind: Kind | Refusal, data: dict[str, Any]) -> None:
        try:
            send(out, [kind, data])
        except BrokenPipeError:  # the parent is gone, which is no failure of the run
            os._exit(0)

    while True:
        try:
            task = from_message(json.loads(tasks.get()))
        except ConfigError as error:
            tell("unknown", {"reason": str(error)})
            continue
        try:
            do(task, tell)
        except (StorageError, ResultsError, OSError) as error:  # not even a record can be written
            tell("unwritable", {"reason": str(error)})


def _listen(tasks: "queue.SimpleQueue[bytes]") -> None:
    """Receive tasks; when the input ends, the parent is gone, and nobody waits for the result."""
    for line in sys.stdin.buffer:
        tasks.put(line)
    os._exit(0)
