"""The runs of a plan, each taken when a worker is free for it: others may do the same grid."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from vaebench.files import make_folder
from vaebench.grid.planning import Decide, Planned
from vaebench.run import Task, publish_run
from vaebench.storage import (
    Held,
    Lease,
    LostError,
    RunStore,
    Taken,
    Watch,
    attempt_at,
    content_of,
    published_of,
    take_up,
)

POLL = 1.0  # seconds between two looks at runs that others do ...
POLL_EACH = 0.05  # ... and for each of them, as thousands of processes may look at once


class Taking:
    """Tasks, taken one by one.

    What other processes do is passed over. At the end it is looked at again: what turns out to be
    left by a process that died is taken over, what others are at work on is left to them. As a
    context it gives back at its end what is still taken.

    Arguments:
        tasks: What to do, in this order, with the plan of each.
        decide: Decides on a run in a folder, see :func:`vaebench.grid.planning.decider`.
        folder: The grid's.
        part: ``runs`` or ``tuning``.
        member: This process's membership of the grid.
        passed: Told of a run that another process does or has done, and why it is passed over.
        waits: Whether to wait until all runs have ended, whoever does them.
    """

    def __init__(
        self,
        tasks: Sequence[tuple[Planned, Task]],
        decide: Decide,
        folder: Path,
        part: str,
        member: Lease,
        passed: Callable[[Task, str], None],
        *,
        waits: bool = False,
    ) -> None:
        self._tasks = tasks
        self._decide = decide
        self._folder = folder
        self._part = part
        self._member = member
        self._passed = passed
        self._waits = waits
        self._watch = Watch()
        self._leases: dict[str, Lease] = {}
        self._failed = {p.run.run_id: self._record(p) for p, _ in tasks if p.has_failed}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for lease in self._leases.values():
            lease.release()

    def __iter__(self) -> Iterator[Task | None]:
        """Taken tasks; None where there is none at present, but there may be one later.

        Raises:
            Held: This process was not heard of for so long that another has taken the whole grid.
        """
        later = list(self._tasks)
        is_first = True
        while later:
            waiting, later = later, []
            for planned, task in waiting:
                if not self._member.is_current():
                    raise Held(
                        f"{self._folder}: this process was not heard of for a minute, and another "
                        f"needs the whole grid; wait for it, and run the same command"
                    )
                found = self._take(planned, task)
                if isinstance(found, Task):
                    yield found
                    later += [(planned, task)] if self._waits else []
                elif isinstance(found, Taken):
                    if is_first or self._waits or found.judgement == "unclear":
                        later.append((planned, task))
                    else:
                        self._passed(task, f"{found} does it")
            is_first = False
            until = time.monotonic() + max(POLL, POLL_EACH * len(later))
            while later and time.monotonic() < until:
                yield None

    def all_at_once(self) -> Iterator[Task]:
        """The same for those who can only wait."""
        for task in self:
            if task is None:
                time.sleep(POLL / 4)
            else:
                yield task

    def again(self, task: Task) -> Task:
        """A task in the folder of a new attempt: who did it may still be writing in the old one.

        Raises:
            LostError: Another process has taken the run over.
        """
        lease = self._leases[task.key]
        if not lease.is_current():
            raise LostError(f"{task.key}: another process has taken it over")
        lease.release()
        new = attempt_at(self._folder, task.key, self._part, self._watch)
        if isinstance(new, Taken):
            raise LostError(f"{task.key}: {new} has taken it over")
        self._leases[task.key] = new
        take_up(new)
        make_folder(content_of(new))
        return replace(task, folder=content_of(new))

    def _take(self, planned: Planned, task: Task) -> Task | Taken | None:
        """The task with the folder to do it in; who has it; None: it has ended."""
        run_id = planned.run.run_id
        known = self._leases.get(run_id)
        if known is not None and known.is_current():  # by a worker of this process
            return Taken(known.holder, "alive")
        published = self._folder / self._part / run_id
        if (published / "record.json").exists() and self._has_ended(planned, task, published):
            return None
        lease = attempt_at(self._folder, run_id, self._part, self._watch)
        if isinstance(lease, Taken):
            return lease
        try:
            return self._begin(lease, planned, task)
        except LostError:
            lease.release()
            return Taken(None, "unclear")
        except BaseException:
            lease.release()
            raise

    def _begin(self, lease: Lease, planned: Planned, task: Task) -> Task | None:
        published, content = published_of(lease), content_of(lease)
        if published.exists() and self._has_ended(planned, task, published):
            lease.release()
            return None
        take_up(lease)
        task = replace(task, folder=content)
        action, _ = self._decide(planned.run, content)
        self._leases[planned.run.run_id] = lease
        if action == "skip" and RunStore(content).record is not None:
            # whoever did it ended before it was published
            publish_run(task)
            self._passed(task, "it was done already")
            return None
        if action == "rerun":
            RunStore(content).set_aside()
        make_folder(content)
        return task

    def _has_ended(self, planned: Planned, task: Task, published: Path) -> bool:
        """Whether a run is published as one that is not to be done."""
        if planned.run.run_id in self._leases:  # by this process, or by one that took it over
            return True
        found = Planned(planned.run, *self._decide(planned.run, published))
        is_old = self._failed.get(planned.run.run_id) == self._record(planned)
        if found.action == "skip" or (found.has_failed and not is_old):
            self._passed(task, found.why)
            return True
        return False

    def _record(self, planned: Planned) -> tuple[int, int] | None:
        """What tells the record of a run from a later one."""
        try:
            status = (self._folder / self._part / planned.run.run_id / "record.json").stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns
