"""What happens in a grid as JSON lines: ``run-grid --log-file FILE`` and ``run-grid --json``.

A line is an object with ``time`` (UTC, ISO 8601), ``event`` and what belongs to it; those of a run
have its ``run_id``, ``cell`` and ``seed``::

    plan      action, why: of a run, with --dry-run
    planned   runs, skipped, jobs, device, and trial where it is one
    started
    epoch     epoch, epochs, metrics
    done      status, reason, metrics
    passed    why: another process does the run, or has done it
    warning   text
    measuring what
    tuned     tune, tuned
    end       status (done, failed, interrupted, error), and what is known: failed, report, unsent,
              trial

To add an event, write it in a method of :class:`Log`.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

from vaebench.cli.output import unwritable
from vaebench.errors import ConfigError, OutputError
from vaebench.executors import Event
from vaebench.grid import Listener, Planned, Results
from vaebench.report import FORMATS
from vaebench.run import Task
from vaebench.schema.record import finite


class Log(Listener):
    """Writes every event as a line of JSON. Nothing that trains stops because it cannot.

    As a context it closes a file of its own and, were there lines that could not be written, says
    so at the end.

    Arguments:
        file: Where to; each line is flushed.
        path: Its name, where it is a file of the log's own.
    """

    def __init__(self, file: IO[str], path: Path | None = None) -> None:
        self.file = file
        self.path = path
        self.problem: OSError | None = None
        self.results: Results | None = None

    @classmethod
    def to(cls, path: Path) -> "Log":
        """A log that goes on at the end of a file.

        Raises:
            ConfigError: The file cannot be written.
        """
        try:
            return cls(path.open("a", encoding="utf-8"), path)
        except OSError as error:
            raise ConfigError(f"--log-file: {path}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        done, status = self.results, "done"
        if error is not None:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
            self._say("end", status=status, reason=str(error) or None)
        elif done is not None:
            self._say(
                "end",
                status="failed" if done.failed else "done",
                failed=[record["run_id"] for record in done.failed],
                report=str(done.folder / FORMATS["md"].file),
                unsent=done.tracking.unsent,
                **({"trial": True} if done.analysis.is_trial else {}),
            )
        if self.path is not None:
            with suppress(OSError):
                self.file.close()
        if self.problem is not None and error is None:
            if self.path is None:
                raise unwritable(self.problem) from self.problem
            reason = self.problem.strerror or self.problem
            raise OutputError(f"{self.path}: ends early, all else is done: {reason}")

    def planned(self, plan: Sequence[Planned], jobs: int, device: str) -> None:
        """Say how many runs there are to do."""
        todo = sum(entry.action != "skip" for entry in plan)
        trial = {"trial": True} if any(entry.run.config.trial for entry in plan) else {}
        skipped = len(plan) - todo
        self._say("planned", runs=todo, skipped=skipped, jobs=jobs, device=device, **trial)

    def listed(self, plan: Sequence[Planned]) -> None:
        """Say of every run of a plan what is to be done, and why."""
        for run, action, why in plan:
            self._say(
                "plan",
                run_id=run.run_id,
                cell=run.cell,
                seed=run.config.seed,
                action=action,
                why=why,
            )

    def tuned(self, tune: Mapping[str, Any], entries: Sequence[dict[str, Any]]) -> None:
        """Say what was picked."""
        self._say("tuned", tune=tune, tuned=entries)

    def event(self, event: Event) -> None:
        """Say what happened to a run."""
        task, data = event.task, event.data
        said: dict[str, Any] = {}
        if event.kind != "started":
            said["metrics"] = {k: finite(v) for k, v in (data.get("metrics") or {}).items()}
        if event.kind == "epoch":
            said |= {"epoch": data["epoch"], "epochs": task.config.epochs}
        if event.kind == "done":
            said |= {"status": data["status"], "reason": data.get("reason")}
        self._say(event.kind, run_id=task.key, cell=task.cell, seed=task.config.seed, **said)

    def measuring(self, what: str) -> None:
        """Say what is measured beside the runs."""
        self._say("measuring", what=what)

    def passed(self, task: Task, why: str) -> None:
        """Say which run is left to another process."""
        self._say("passed", run_id=task.key, cell=task.cell, seed=task.config.seed, why=why)

    def warning(self, text: str) -> None:
        """Say a warning."""
        self._say("warning", text=text)

    def _say(self, event: str, **fields: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"time": now, "event": event, **fields}, default=str)
        if self.problem is None:
            try:
                self.file.write(f"{line}\n")
                self.file.flush()
            except OSError as error:
                self.problem = error


class Several(Listener):
    """Tells several listeners the same, whatever a listener may be told."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.listeners = listeners

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Listener, name):
            return super().__getattribute__(name)
        methods = [getattr(listener, name) for listener in self.listeners]

        def tell(*arguments: Any) -> None:
            for method in methods:
                method(*arguments)

        return tell
