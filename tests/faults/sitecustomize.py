"""Loaded by workers that a test starts with this folder on PYTHONPATH: faults in real processes.

``FAULTS`` is JSON: a run's seed to the name of a function here, which is called after the second
epoch, when there is a checkpoint. With ``FAULTS_ONCE``, a folder, each strikes once.
"""

import ctypes
import errno
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crashes() -> None:
    ctypes.string_at(0)


def hangs() -> None:
    """In C, with the interpreter's lock: no thread of Python's moves any more."""
    ctypes.PyDLL(None).sleep(3600)


def hangs_deaf() -> None:
    """Stopped, it answers no signal but the one that kills."""
    os.kill(os.getpid(), signal.SIGSTOP)


def wants_memory() -> None:
    import torch

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 200_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    torch.ones(1_000_000_000)


def loses_its_disk() -> None:
    raise OSError(errno.EIO, "Input/output error")


def has_a_bug() -> None:
    raise ValueError("nobody foresaw this")


def plant(faults: dict[str, str], once: Path) -> None:
    """Strike after the second epoch of the runs that have a fault."""
    import vaebench.run as module

    append = module.RunStore.append

    def appended(store: Any, line: Any) -> None:
        append(store, line)
        name = faults.get(str((store.config or {}).get("seed")))
        if name is None or line["epoch"] != 2 or (once / name).exists():
            return
        (once / name).touch()
        globals()[name]()

    module.RunStore.append = appended  # type: ignore[method-assign]


if "FAULTS" in os.environ and "vaebench.executors" in sys.orig_argv:
    plant(json.loads(os.environ["FAULTS"]), Path(os.environ["FAULTS_ONCE"]))
