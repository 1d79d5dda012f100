"""Listeners of a grid, and the follower that tells them and MLflow what happens."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from vaebench.executors import Event
from vaebench.grid.planning import Planned
from vaebench.run import Task, close, discard, publish_run
from vaebench.schema.labels import run_label
from vaebench.storage import GRACE, LostError, lease_of
from vaebench.text import lines


class Listener:
    """Told how a grid goes; override the methods you need. They are called in one thread."""

    def planned(self, plan: Sequence[Planned], jobs: int, device: str) -> None:
        """The plan, before anything runs."""

    def tuned(self, tune: Mapping[str, Any], entries: Sequence[dict[str, Any]]) -> None:
        """What has been picked: ``tune`` and ``tuned``, as in ``grid.yaml``."""

    def event(self, event: Event) -> None:
        """A run was started, finished an epoch, or is done."""

    def measuring(self, what: str) -> None:
        """Something of a grid is measured beside its runs, which may take a minute."""

    def passed(self, task: Task, why: str) -> None:
        """A run of the plan that is not done, as another process does it or has done it."""

    def warning(self, text: str) -> None:
        """A problem that stops nothing."""


class Lines(Listener):
    """Prints a line to stderr when a grid starts, for each run that is done, and for warnings."""

    def __init__(self) -> None:
        self.done = 0
        self.total = 0

    def planned(self, plan: Sequence[Planned], jobs: int, device: str) -> None:
        """Say how many runs there are to do."""
        self.done, self.total = 0, sum(entry.action != "skip" for entry in plan)
        skipped = len(plan) - self.total
        self._say(f"{self.total} runs to do on {device}, {jobs} at a time; {skipped} skipped")

    def event(self, event: Event) -> None:
        """Say which run is done."""
        if event.kind == "done":
            self.done += 1
            label = run_label(event.task.cell, event.task.config.seed)
            reason = event.data.get("reason")
            status = f"{event.data['status']}: {reason}" if reason else event.data["status"]
            self._say(f"[{self.done}/{self.total}] {label}: {status}")

    def passed(self, task: Task, why: str) -> None:
        """Say which run is left out."""
        self.total -= 1
        self._say(f"{run_label(task.cell, task.config.seed)}: left out: {why}")

    def warning(self, text: str) -> None:
        """Print a warning."""
        self._say(f"Warning: {text}")

    @staticmethod
    def _say(text: str) -> None:
        with suppress(OSError):  # nothing that trains stops because nobody can read of it
            print(lines(text), file=sys.stderr, flush=True)  # noqa: T201


def default_listener() -> Listener:
    """Lines on stderr if a person reads it: in a terminal or a notebook; else a silent listener."""
    is_notebook = type(sys.stderr).__module__.startswith("ipykernel.")
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    return Lines() if is_notebook or is_terminal else Listener()


class FailedFast(Exception):
    """Ends a grid at the first failure, if the user wants that."""


class Follower:
    """Follows the events of tasks: tells the listener and MLflow, keeps what is under way.

    As a context it marks what is under way at its end as interrupted, so that it resumes after its
    last whole epoch, and keeps :class:`FailedFast` to itself.

    Arguments:
        listener: Told of every event.
        touch: Told the id of each run of which MLflow is to hear.
        fail_fast: Whether the first failure ends the grid.
    """

    def __init__(
        self,
        listener: Listener,
        touch: Callable[[str], None] = lambda _: None,
        *,
        fail_fast: bool = False,
    ) -> None:
        self.listener = listener
        self.touch = touch
        self.fail_fast = fail_fast
        self.open: dict[str, Task] = {}
        self.done: list[dict[str, Any]] = []

    def __call__(self, event: Event) -> None:
        """Hear of an event; an executor's ``hear``."""
        task, run_id = event.task, event.task.key
        if event.kind in ("started", "warning"):  # a warning may be that it is tried again
            self.open[run_id] = task
        if event.kind == "warning" and task.retries:
            with suppress(LostError, OSError):  # its worker may take a while to begin
                lease = lease_of(task.folder)
                if lease is not None:
                    lease.renew(GRACE)
        if event.kind == "lost":
            discard(task)
            event = self._lost(task, "another process has taken it over")
        if event.kind == "done":
            try:
                publish_run(task)
                self.done.append(event.data)
                del self.open[run_id]
            except LostError as error:
                event = self._lost(task, str(error))
        self.touch(run_id)
        try:
            if event.kind == "warning":
                label = run_label(task.cell, task.config.seed)
                self.listener.warning(f"{label} ({run_id}): {event.data['warning']}")
            else:
                self.listener.event(event)
        except OSError:  # nobody reads the progress any more, which is no reason to stop
            self.listener = Listener()
        if self.fail_fast and event.data.get("status") == "failed":
            raise FailedFast

    def _lost(self, task: Task, why: str) -> Event:
        """A run that is another process's by now."""
        del self.open[task.key]
        label = run_label(task.cell, task.config.seed)
        self.listener.warning(f"{label} ({task.key}): {why}")
        return Event("lost", task, {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        reason = f"stopped: {error!r}"
        if isinstance(error, FailedFast):
            reason = "stopped, as another run failed (--fail-fast)"
        elif isinstance(error, KeyboardInterrupt):
            reason = "interrupted"
        for run_id, task in self.open.items() if error else ():
            # on a full disk nothing is marked, and it resumes all the same
            with suppress(OSError, LostError):
                lease_of(task.folder)
                close(task, "interrupted", reason)
                publish_run(task)
            self.touch(run_id)
        return isinstance(error, FailedFast)
