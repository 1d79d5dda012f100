"""Run every cell of a grid once per seed, keep failures, skip what is finished, tell MLflow.

``plan`` says what would run and why the rest is skipped; ``run_grid`` does it. A grid's folder
holds its manifest (``grid.yaml``): the settings that all runs share, and the runs. Calling again
with more seeds or other values of the same axes adds runs; with other settings it is an error.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench import datasets, report
from vaebench.config import Grid, make_grid, make_single, read_yaml
from vaebench.environment import resolve_device
from vaebench.errors import ConfigError, ResultsError
from vaebench.executors import Event, Hear, default_jobs, in_this_process, in_workers
from vaebench.grid.folder import REPORTS, alone, mend, write_reports
from vaebench.grid.manifest import merged_manifest
from vaebench.grid.planning import Options, Planned, plan
from vaebench.run import LoadedRun, Task, close, load_run, model_cost
from vaebench.storage import cell_label, dump_yaml, run_label, run_store, write_atomic
from vaebench.tracking import Outcome, Writer, connect

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["REPORTS", "Listener", "Options", "Planned", "Results", "plan", "run_grid", "train"]

Executor = Callable[[Sequence[Task], Hear], None]
DRAIN = 30.0  # seconds without progress after which MLflow is given up at the end of a grid
LIMIT = 300.0  # seconds after which it is given up in any case
HURRY = 5.0  # seconds that MLflow has when the user wants to leave


class Listener:
    """Hears how a grid goes; override what you want to hear. All of it comes from one thread."""

    def planned(self, plan: Sequence[Planned], jobs: int, device: str) -> None:
        """What will run, before it does."""

    def event(self, event: Event) -> None:
        """A run was started, finished an epoch, or is done."""

    def warning(self, text: str) -> None:
        """Something that the user should know, and that stops nothing."""


@dataclass(frozen=True)
class Results:
    """What a grid left.

    Attributes:
        folder: The grid's folder.
        records: One for each of its runs that has a record.
        done: Records of the runs that this call did.
        tracking: What became of it in MLflow.
    """

    folder: Path
    records: Sequence[dict[str, Any]]
    done: Sequence[dict[str, Any]]
    tracking: Outcome

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Records of the runs that failed in this call."""
        return [record for record in self.done if record["status"] == "failed"]

    def to_frame(self) -> "pd.DataFrame":
        """One row per run: axes, seed, status, metrics."""
        return report.to_frame(self.records)


def run_grid(
    grid: Grid | Mapping[str, Any] | Path | str | None = None,
    options: Options | None = None,
    listener: Listener | None = None,
) -> Results:
    """Train and measure every run of a grid that is not finished, in workers, and report.

    Arguments:
        grid: A YAML file, its content, or a :class:`~vaebench.config.Grid`; None for the 8 cells
            on MNIST.
        options: Where and how.
        listener: Hears of the progress.

    Raises:
        ConfigError: The grid or an option is wrong; nothing has been written.
        DataError: A data set is missing, corrupt or out of reach.
        ResultsError: The folder belongs to another grid, or another process works on it.
        TrackingError: The tracking URI is wrong. (That MLflow is out of reach is a warning.)
        KeyboardInterrupt: After what was running has been marked as interrupted.
    """
    return _do(_read(grid, make_grid), options or Options(), listener or Listener())


def train(
    config: Grid | Mapping[str, Any] | Path | str,
    options: Options | None = None,
    listener: Listener | None = None,
) -> LoadedRun:
    """Do one run, in this process, as a grid of one, and load it.

    Arguments:
        config: A run's configuration, or a YAML file with it.
        options: As in :func:`run_grid`.
        listener: As in :func:`run_grid`.

    Raises:
        ResultsError: The run failed; its reason is in the message.
        Exception: As :func:`run_grid`.
    """
    grid = _read(config, make_single)
    runs = grid.runs(grid.name)
    if len(runs) > 1:
        raise ConfigError(f"{grid.name}: describes {len(runs)} runs; use `vaebench run-grid`")
    results = _do(grid, options or Options(), listener or Listener(), in_this_process)
    if results.failed:
        raise ResultsError(f"{runs[0].config.run_id}: {results.failed[0]['reason']}")
    return load_run(run_store(results.folder, runs[0].config.run_id).path)


def _read(grid: Grid | Mapping[str, Any] | Path | str | None, make: Callable[..., Grid]) -> Grid:
    if isinstance(grid, Grid):
        return grid
    if isinstance(grid, (str, Path)):
        return make(read_yaml(Path(grid)), source=str(grid))
    return make(grid or {})


def _do(
    grid: Grid, options: Options, listener: Listener, executor: Executor | None = None
) -> Results:
    device = resolve_device(options.device)
    todo = plan(grid, options)
    chosen = [entry for entry in todo if entry.action != "skip"]
    wanted = 1 if executor else options.jobs or default_jobs(device)
    jobs = max(1, min(wanted, len(chosen)))
    window = connect(options.results, grid.name, options.tracking_uri, grid.tracking_uri)
    listener.planned(todo, jobs, device)
    for dataset in {entry.run.config.dataset for entry in chosen}:
        # downloads what is missing, once, and finds what is wrong before any worker starts
        datasets.load(data_dir=options.data_dir, **dataset.model_dump())

    folder = options.results / grid.name
    with alone(folder):
        _warn_of_damage(folder, chosen, listener)
        replace = options.rerun == "all"
        manifest = merged_manifest(folder, grid, [e.run for e in todo], replace=replace)
        write_atomic(folder / "grid.yaml", dump_yaml(manifest))
        for entry in chosen:
            if entry.action == "rerun":
                run_store(folder, entry.run.config.run_id).set_aside()
        tasks = [
            Task(
                config=entry.run.config,
                cell=entry.run.cell,
                folder=run_store(folder, entry.run.config.run_id).path,
                device=device,
                data_dir=options.data_dir,
                jobs=jobs,
            )
            for entry in chosen
        ]
        writer = Writer(window, warn=listener.warning)
        writer.start()
        follower = _Follower(listener, writer, fail_fast=options.fail_fast)
        limit = LIMIT
        try:
            (executor or partial(in_workers, jobs=jobs))(_longest_first(tasks), follower)
        except _FailedFast:
            follower.close_open_runs("stopped, as another run failed (--fail-fast)")
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            follower.close_open_runs("interrupted" if interrupted else f"stopped: {error!r}")
            limit = HURRY
            raise
        finally:
            try:
                write_reports(folder)
            finally:
                tracking = writer.close(DRAIN, limit)
            if limit == HURRY and tracking.unsent:  # no results are printed that would say so
                listener.warning(f"MLflow: {tracking.unsent} runs unsent; send: {tracking.command}")
    return Results(folder, report.load(folder).records, follower.done, tracking)


def _warn_of_damage(folder: Path, chosen: Sequence[Planned], listener: Listener) -> None:
    """Say what is done again because it is damaged, the grid's own manifest included."""
    manifest = mend(folder)
    if manifest is not None:
        listener.warning(manifest)
    for entry in chosen:
        if entry.is_damaged:
            label = run_label(entry.run.cell, entry.run.config.seed)
            listener.warning(f"{label} ({entry.run.config.run_id}): {entry.why}; it is done again")


class _FailedFast(Exception):
    """Ends a grid at the first failure, if the user wants that."""


class _Follower:
    """Follows the events of a grid: tells the listener and MLflow, keeps what is under way."""

    def __init__(self, listener: Listener, writer: Writer, *, fail_fast: bool) -> None:
        self.listener = listener
        self.writer = writer
        self.fail_fast = fail_fast
        self.open: dict[str, Task] = {}
        self.done: list[dict[str, Any]] = []

    def __call__(self, event: Event) -> None:
        run_id = event.task.key
        if event.kind == "started":
            self.open[run_id] = event.task
        if event.kind == "done":
            del self.open[run_id]
            self.done.append(event.data)
        self.writer.touch(run_id)
        try:
            if event.kind == "warning":
                self._warn(event)
            else:
                self.listener.event(event)
        except OSError:  # nobody reads the progress any more, which is no reason to stop
            self.listener = Listener()
        if self.fail_fast and event.data.get("status") == "failed":
            raise _FailedFast

    def _warn(self, event: Event) -> None:
        label = run_label(event.task.cell, event.task.config.seed)
        self.listener.warning(f"{label} ({event.task.key}): {event.data['warning']}")

    def close_open_runs(self, reason: str) -> None:
        """Mark what was under way as interrupted: it resumes after its last whole epoch.

        Where the disk is full, nothing is marked, and they resume just the same.
        """
        for run_id, task in self.open.items():
            with suppress(OSError):
                close(task, "interrupted", reason)
            self.writer.touch(run_id)


def _longest_first(tasks: Sequence[Task]) -> list[Task]:
    """So that no worker begins the longest run when the others are done."""

    lengths: dict[str, int] = {}  # the seeds of a cell take equally long
    for task in tasks:
        cell = cell_label(task.cell)
        if cell not in lengths:
            lengths[cell] = model_cost(task.config)[1] * task.config.training.epochs
    return sorted(tasks, key=lambda task: lengths[cell_label(task.cell)], reverse=True)
