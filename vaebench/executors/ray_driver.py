"""The driver's side of Ray: each run is one task of Ray Core, handed out as to workers of our own.

Only names and paths go to a node. What a task says comes back while it runs, as the items of a
streaming generator; what a run leaves lies in its folder, or comes as an archive from a node that
cannot see that. Ray itself repeats nothing (``max_retries=0``): a run whose node is lost is given a
new attempt, with a lease of its own, so that a node which was only out of reach writes in vain.
"""

import math
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from vaebench.errors import ClusterError, ResultsError
from vaebench.executors.doers import Hear
from vaebench.executors.messages import to_message
from vaebench.executors.pool import Pool
from vaebench.executors.process import MAX_DUMP_SECONDS
from vaebench.executors.ray_cluster import LOOK, MAX_SAID, Cluster
from vaebench.executors.ray_node import versions
from vaebench.executors.ray_results import Apart, next_attempt
from vaebench.forking import worker_settings
from vaebench.run import Task
from vaebench.storage import LostError, lease_of
from vaebench.text import one_line

BEAT = 10.0  # seconds between two renewals of the leases of what is under way
MOVES = 3  # times that a run is begun elsewhere as its node was lost; Ray's own number
_HOW = {  # what Ray's exceptions mean
    "NodeDiedError": "its node was lost",
    "WorkerCrashedError": "its process was killed or crashed",
    "OutOfMemoryError": "Ray killed it, as its node was running out of memory",
    "TaskCancelledError": "it was cancelled",
}
PASSED_ON = ("VAEBENCH_DATA", "VAEBENCH_MNIST_MIRROR")  # of the environment, where it is set


def in_ray(
    tasks: Iterable[Task | None],
    hear: Hear,
    cluster: Cluster,
    *,
    jobs: Callable[[], int],
    anew: Callable[[Task], Task],
    each: int = 1,
    timeout: float | None = None,
    retries: int = 0,
) -> None:
    """Do tasks on the nodes of a cluster; see :func:`vaebench.executors.in_workers`.

    Arguments:
        tasks: As there.
        hear: As there.
        cluster: Where.
        jobs: How many at a time, which may change as nodes come and go.
        anew: Gives a task whose process or node is lost the folder of a new attempt.
        each: Runs that may share a GPU; of memory, Ray gives them no share.
        timeout: As there; it counts from when a node has begun.
        retries: As there.

    Raises:
        StorageError: A run's folder cannot be written.
        ClusterError: The head is lost, or every node is left out.
    """
    said = _Tasks(cluster, each)
    options: dict[str, Any] = {"shares": each > 1, "anew": anew, "moves": MOVES}
    pool: Pool[_Doer] = Pool(tasks, hear, lambda _: _Doer(said), said, timeout, retries, **options)
    pool.work(jobs)


class _Doer:
    """One run at a time, as a task of Ray; a :class:`vaebench.executors.doers.Doer`."""

    def __init__(self, tasks: "_Tasks") -> None:
        self.tasks = tasks
        self.task: Task | None = None
        self.due = self.seconds = math.inf
        self.is_late = self.alone = self.moves = False
        self.gpu: str | None = None
        self.node = self.how = ""
        self.apart: Apart | None = None
        self.items: Any = None  # the generator of what its task says; None: it has ended

    def give(self, task: Task, seconds: float) -> None:
        """Hand a task to Ray; its time counts from when a node has begun."""
        self.task, self.seconds = task, seconds
        self.tasks.submit(self)

    def expire(self) -> None:
        """End the task, as it takes too long."""
        self.is_late, self.due = True, math.inf
        self.kill()

    def kill(self) -> None:
        """Have Ray kill the task's process."""
        self.tasks.cancel(self)

    def end(self, *, seconds: float = 0.0) -> tuple[str, str]:  # noqa: ARG002
        """Wait a moment for it to have ended, as it may be writing; say how it died."""
        self.tasks.wait(self)
        return self.how, ""


class _Tasks:
    """The tasks of Ray under way; a :class:`vaebench.executors.doers.Source` of what they say."""

    def __init__(self, cluster: Cluster, each: int) -> None:
        import ray

        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self.ray: Any = ray
        self.cluster = cluster
        self.each = each
        self.versions = versions()
        self.open: dict[Any, _Doer] = {}
        self.said: deque[tuple[_Doer, list[Any] | None]] = deque()
        self.renewed = time.monotonic()
        self.warned: set[str] = set()
        self.remote = ray.remote(
            num_cpus=1,
            max_retries=0,
            num_returns="streaming",
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": passed | worker_settings()},
        )(_program())

    def submit(self, doer: _Doer) -> None:
        """Hand the task of a doer to Ray."""
        task = doer.task
        assert task is not None
        there = replace(
            task,
            folder=task.folder.absolute(),
            jobs=-(-task.jobs // max(1, len(self.cluster.able))),
            data_dir=None if task.data_dir is None else task.data_dir.absolute(),
        )
        message = to_message(there) | {"attempt": next_attempt(task)}
        share = 0.0 if task.device == "cpu" else 1.0 if doer.alone else 1.0 / self.each
        options: dict[str, Any] = {"name": task.key, "num_gpus": share}
        if self.cluster.left_out:
            ids = ",".join(sorted(self.cluster.left_out))
            options["label_selector"] = {"ray.io/node-id": f"!in({ids})"}
        doer.node, doer.apart, doer.moves, doer.due = "", None, False, math.inf
        started = self.remote.options(**options)
        doer.items = started.remote(message, _nonce(task), self.versions)
        self.open[doer.items] = doer

    def cancel(self, doer: _Doer) -> None:
        """Have Ray kill the process of a task, if it has one."""
        if doer.items is not None and self.cluster.is_heard:
            with suppress(Exception):
                self.ray.cancel(doer.items, force=True)

    def wait(self, doer: _Doer) -> None:
        """Wait a moment for a task that was cancelled, and forget it."""
        until = time.monotonic() + MAX_DUMP_SECONDS
        while doer.items is not None and time.monotonic() < until:
            self._read(self.ray.wait([doer.items], timeout=0.2)[0], hears=False)
        self._close(doer)

    def _close(self, doer: _Doer) -> None:
        self.open.pop(doer.items, None)
        doer.items = None

    def get(self, *, timeout: float) -> tuple[_Doer, list[Any] | None]:
        """What a task has said; see :class:`vaebench.executors.doers.Source`."""
        until = time.monotonic() + timeout
        while not self.said:
            self.cluster.require_head()
            self._renew()
            left = min(LOOK, until - time.monotonic())
            if left <= 0:
                raise queue.Empty
            if not self.open:
                time.sleep(left)
                continue
            ready, _ = self.ray.wait([*self.open], timeout=left)
            if ready:  # also what else there is: no task may be heard before all others, always
                ready, _ = self.ray.wait([*self.open], num_returns=len(self.open), timeout=0)
            self._read(ready)
        return self.said.popleft()

    def _renew(self) -> None:
        """Keep the leases of what is under way, or waits for a node."""
        if time.monotonic() - self.renewed < BEAT:
            return
        self.renewed = time.monotonic()
        for doer in [*self.open.values()]:
            assert doer.task is not None
            try:
                lease = lease_of(doer.task.folder)
                if lease is not None:
                    lease.renew()
            except LostError:
                self.cancel(doer)
                self._close(doer)
                self.said.append((doer, ["lost", {}]))
            except (OSError, ResultsError):  # a disk that is full, or away for a moment
                pass

    def _read(self, ready: Iterable[Any], *, hears: bool = True) -> None:
        for items in ready:
            doer = self.open[items]
            try:
                kind, data = self.ray.get(next(items))
            except StopIteration:
                self._died(doer, "it ended without a record")
            except self.ray.exceptions.RayError as error:
                doer.moves = isinstance(error, self.ray.exceptions.NodeDiedError)
                self._died(doer, _HOW.get(type(error).__name__) or one_line(error, MAX_SAID))
            else:
                if hears:
                    self._hear(doer, kind, data)

    def _died(self, doer: _Doer, how: str) -> None:
        where = self._name(doer)
        doer.how = f"{how}, on {where}" if where else how
        self._close(doer)
        self.said.append((doer, None))

    def _name(self, doer: _Doer) -> str:
        return self.cluster.nodes.get(doer.node, doer.node)

    def _hear(self, doer: _Doer, kind: str, data: dict[str, Any]) -> None:
        assert doer.task is not None
        if kind == "node":
            doer.node, doer.due = data["id"], time.monotonic() + doer.seconds
            return
        if kind == "refused":
            self._leave_out(doer, data["reason"])
            return
        if kind == "apart":
            doer.apart = Apart(doer.task)
            text = f"its folder is not seen on {self._name(doer)}, which sends it when it has ended"
            kind, data = "warning", {"warning": text}
            if doer.node in self.warned:
                return
            self.warned.add(doer.node)
        elif doer.apart is not None:
            doer.apart.hear(kind, data)
            if kind == "piece":
                return
        if kind in ("done", "lost", "unwritable"):
            self._close(doer)
        self.said.append((doer, [kind, data]))

    def _leave_out(self, doer: _Doer, reason: str) -> None:
        """Give the run of a node that must not do it to another node, and that node no more."""
        name = self._name(doer)
        self.cluster.left_out.add(doer.node)
        self._close(doer)
        if self.cluster.able <= self.cluster.left_out:
            raise ClusterError(f"Ray: no node is left: {name}: {reason}")
        self.submit(doer)
        text = f"the node {name} is left out: {reason}"
        self.said.append((doer, ["warning", {"warning": text}]))


def _nonce(task: Task) -> str:
    """What tells a run's folder from another one of the same path."""
    lease = lease_of(task.folder)
    if lease is None:
        raise ResultsError(f"{task.folder}: nodes do only runs of grids, which have leases")
    return lease.holder.nonce


def _program() -> Callable[..., Iterator[tuple[str, dict[str, Any]]]]:
    """What a node runs. Being no global name, it travels as code, and begins wherever Python is."""

    def vaebench_run(message: Any, nonce: str, wanted: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        import ray

        yield "node", {"id": ray.get_runtime_context().get_node_id()}
        try:
            from vaebench.executors.ray_node import serve
        except ImportError as error:
            yield "refused", {"reason": f"no vaebench as it is here: {error}"}
            return
        yield from serve(message, nonce, wanted)

    return vaebench_run
