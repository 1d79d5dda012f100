"""Where runs run: long-lived worker processes, one run at a time each, one CPU thread each.

::

    pool       the parent: who does what, who dies, who takes too long, what is tried again
    doers      what a worker and a task of Ray have in common
    process    the parent's side of one worker
    worker     the worker's side
    gpus       which GPU takes the next run
    messages   tasks as lines of JSON
    ray_*      the same on the nodes of a Ray cluster: ``cluster`` is there, ``driver`` hands out,
               ``node`` does a run, ``results`` keeps what a node sends

A worker is ``python -m vaebench.executors``, or on Linux a fork of one that has done its imports
(:mod:`vaebench.forking`): plain dicts go to and fro as lines of JSON on its
standard input and output, so that a caller's script needs no ``__main__`` guard, and the end of a
worker's output means that it died. Workers ignore SIGINT (the parent decides) and exit when
the parent is gone (their input ends). One that dies is replaced; its run is failed, the others go
on.
"""

import os
from collections.abc import Iterable
from typing import Any

from vaebench.executors.doers import Event, Hear
from vaebench.executors.gpus import Gpus, visible_gpus
from vaebench.executors.messages import require_loadable
from vaebench.executors.pool import in_workers
from vaebench.executors.worker import Kind, do
from vaebench.forking import single_threaded, worker_environment
from vaebench.run import Task

__all__ = [
    "Event",
    "Gpus",
    "Hear",
    "default_jobs",
    "in_this_process",
    "in_workers",
    "require_loadable",
    "single_threaded",
    "visible_gpus",
    "worker_environment",
]


def default_jobs(device: str, gpus: int = 1) -> int:
    """Workers that fill this machine: one for each CPU core that this process may use.

    On GPUs, where the small models are bound by launches, at most four share each.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1 if device == "cpu" else min(4 * max(1, gpus), cores or 1)


def in_this_process(tasks: Iterable[Task], hear: Hear) -> None:
    """Do tasks one after the other, here."""
    for task in tasks:

        def tell(kind: Kind, data: dict[str, Any], task: Task = task) -> None:
            hear(Event(kind, task, data))

        tell("started", {})
        do(task, tell)
