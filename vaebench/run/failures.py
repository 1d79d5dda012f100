"""Runs that fail: of which kind, why in words, and where in ``error.txt``.

A further kind is a name in ``Failure``; if it may pass by itself, in ``TRANSIENT`` as well.
"""

import re
import traceback
from typing import Any, Literal

import torch

from vaebench.errors import DivergedError, VaebenchError
from vaebench.plugins import told
from vaebench.run.record import Task, close
from vaebench.storage import RunStore

Failure = Literal["diverged", "error", "memory", "system", "died", "timeout"]
# These say nothing against a run or its checkpoint: the same again may succeed, and resumes.
TRANSIENT: tuple[Failure, ...] = ("memory", "system", "died", "timeout")

_NO_MEMORY = re.compile(
    r"not enough memory|can't allocate memory|out of memory|cannot allocate memory|ALLOC_FAILED",
    re.I,
)
_AMOUNT = re.compile(r"(?:tried|unable) to allocate ([\d.]+ \w+)", re.I)


def failed(task: Task, error: Exception) -> dict[str, Any]:
    """Record that a run ended with an exception, and return the record.

    Of what vaebench raises on purpose, the message is the reason; all else leaves its traceback.
    """
    if isinstance(error, VaebenchError):
        kind: Failure = "diverged" if isinstance(error, DivergedError) else "error"
        return close(task, "failed", str(error), kind)
    trace = "".join(traceback.format_exception(error))
    if is_out_of_memory(error):
        return fail(task, "memory", _out_of_memory(error), trace)
    reason = told(error)
    return fail(task, "system" if isinstance(error, OSError) else "error", reason, trace)


def fail(task: Task, kind: Failure, reason: str, trace: str) -> dict[str, Any]:
    """Record that a run failed, keep the trace of where it was (if any), and return the record.

    A finished run that was only to be measured keeps its folder as it is.
    """
    if trace and task.metrics is None:
        RunStore(task.folder).write("error.txt", trace)
        reason = f"{reason} (see {task.folder.name}/error.txt)"
    return close(task, "failed", reason, kind)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that there was no memory: of this machine, or of its GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and bool(_NO_MEMORY.search(str(error)))


def _out_of_memory(error: Exception) -> str:
    amount = _AMOUNT.search(str(error))
    wanted = f" when it wanted {amount[1]} more" if amount else ""
    return f"out of memory{wanted}; lower training.batch_size or --jobs"
