"""Run every cell of a grid once per seed, keep failures, skip what is finished, tell MLflow.

``plan`` says what would run and why the rest is skipped; ``run_grid`` does it. A grid's folder
holds its manifest (``grid.yaml``): the settings that all runs share, and the runs. Calling again
with more seeds or other values of the same axes adds runs; with other settings it is an error.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench import datasets, report
from vaebench.config import DatasetChoice, Grid, make_grid, make_single, read_yaml
from vaebench.environment import resolve_device
from vaebench.errors import ConfigError, ResultsError
from vaebench.executors import Hear, default_jobs, in_this_process, in_workers
from vaebench.grid.folder import REPORTS, alone, mend, unsafe, write_reports
from vaebench.grid.following import FailedFast, Follower, Listener
from vaebench.grid.manifest import merged_manifest
from vaebench.grid.planning import Options, Planned, plan
from vaebench.run import LoadedRun, Task, load_run, model_cost
from vaebench.storage import cell_label, dump_yaml, run_label, run_store, write_atomic
from vaebench.tracking import Outcome, Window, Writer, connect

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["REPORTS", "Listener", "Options", "Planned", "Results", "plan", "run_grid", "train"]

Executor = Callable[[Sequence[Task], Hear], None]
DRAIN = 30.0  # seconds without progress after which MLflow is given up at the end of a grid
LIMIT = 300.0  # seconds after which it is given up in any case
HURRY = 5.0  # seconds that MLflow has when the user wants to leave


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
    executor: Executor | None = None,
) -> Results:
    """Train and measure every run of a grid that is not finished, in workers, and report.

    Arguments:
        grid: A YAML file, its content, or a :class:`~vaebench.config.Grid`; None for the 8 cells
            on MNIST.
        options: Where and how.
        listener: Hears of the progress.
        executor: Does the tasks; None: workers do.

    Raises:
        ConfigError: The grid or an option is wrong; nothing has been written.
        DataError: A data set is missing, corrupt or out of reach.
        ResultsError: The folder belongs to another grid, or another process works on it.
        TrackingError: The tracking URI is wrong. (That MLflow is out of reach is a warning.)
        KeyboardInterrupt: After what was running has been marked as interrupted.
    """
    options = options or Options()
    if executor and (options.timeout is not None or options.retries):
        raise ConfigError("timeout, retries: only where workers do the runs; leave out executor")
    return _do(_read(grid, make_grid), options, listener or Listener(), executor)


def train(
    config: Grid | Mapping[str, Any] | Path | str,
    options: Options | None = None,
    listener: Listener | None = None,
) -> LoadedRun:
    """Do one run, in this process, as a grid of one, and load it.

    Arguments:
        config: A run's configuration, or a YAML file with it.
        options: As in :func:`run_grid`, less ``timeout`` and ``retries``: nobody could end or
            replace this process.
        listener: As in :func:`run_grid`.

    Raises:
        ResultsError: The run failed; its reason is in the message.
        Exception: As :func:`run_grid`.
    """
    grid = _read(config, make_single)
    runs, options = grid.runs(grid.name), options or Options()
    if len(runs) > 1:
        raise ConfigError(f"{grid.name}: describes {len(runs)} runs; use `vaebench run-grid`")
    if options.timeout is not None or options.retries:
        raise ConfigError("timeout, retries: only where workers do the runs; use run_grid")
    results = _do(grid, options, listener or Listener(), in_this_process)
    if results.failed:
        raise ResultsError(f"{runs[0].run_id}: {results.failed[0]['reason']}")
    return load_run(run_store(results.folder, runs[0].run_id).path)


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
    first = plan(grid, options, thorough=False)
    window = connect(options.results, grid.name, options.tracking_uri, grid.tracking_uri)
    loaded = {entry.run.config.dataset for entry in first if entry.action != "skip"}
    _load(loaded, options)
    folder = options.results / grid.name
    with alone(folder):
        todo = plan(grid, options)  # again: another process may have finished it meanwhile
        chosen = [entry for entry in todo if entry.action != "skip"]
        wanted = 1 if executor else options.jobs or default_jobs(device)
        jobs = max(1, min(wanted, len(chosen)))
        _load({entry.run.config.dataset for entry in chosen} - loaded, options)
        listener.planned(todo, jobs, device)
        _warn(folder, chosen, listener)
        replace = options.rerun == "all"
        manifest = merged_manifest(folder, grid, [e.run for e in todo], replace=replace)
        write_atomic(folder / "grid.yaml", dump_yaml(manifest))
        tasks = [_task(folder, entry, options, device, jobs) for entry in chosen]
        workers = partial(in_workers, jobs=jobs, timeout=options.timeout, retries=options.retries)
        return _run(_longest_first(tasks), executor or workers, window, options, listener)


def _load(wanted: Iterable[DatasetChoice], options: Options) -> None:
    """Download what is missing, once, and find what is wrong, before any run is touched."""
    for dataset in wanted:
        datasets.load(data_dir=options.data_dir, **dataset.model_dump())


def _task(folder: Path, entry: Planned, options: Options, device: str, jobs: int) -> Task:
    """The task of a planned run; what an earlier attempt left is set aside."""
    store = run_store(folder, entry.run.run_id)
    if entry.action == "rerun":
        store.set_aside()
    return Task(
        config=entry.run.config,
        cell=entry.run.cell,
        folder=store.path,
        device=device,
        data_dir=options.data_dir,
        jobs=jobs,
    )


def _run(
    tasks: Sequence[Task], execute: Executor, window: Window, options: Options, listener: Listener
) -> Results:
    """Do tasks while MLflow is told; write the reports, however it ends."""
    folder = options.results / window.grid
    writer = Writer(window, warn=listener.warning)
    writer.start()
    follower = Follower(listener, writer, fail_fast=options.fail_fast)
    limit = LIMIT
    try:
        execute(tasks, follower)
    except FailedFast:
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


def _warn(folder: Path, chosen: Sequence[Planned], listener: Listener) -> None:
    """Say what the folder is not safe from, and what is done again because it is damaged."""
    for text in (unsafe(folder), mend(folder)):
        if text is not None:
            listener.warning(text)
    for entry in chosen:
        if entry.is_damaged:
            label = run_label(entry.run.cell, entry.run.config.seed)
            listener.warning(f"{label} ({entry.run.run_id}): {entry.why}; it is done again")


def _longest_first(tasks: Sequence[Task]) -> list[Task]:
    """So that no worker begins the longest run when the others are done."""

    lengths: dict[str, int] = {}  # the seeds of a cell take equally long
    for task in tasks:
        cell = cell_label(task.cell)
        if cell not in lengths:
            lengths[cell] = model_cost(task.config)[1] * task.config.training.epochs
    return sorted(tasks, key=lambda task: lengths[cell_label(task.cell)], reverse=True)
