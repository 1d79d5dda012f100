"""Run every cell of a grid once per seed, keep failures, skip what is finished, tell MLflow.

``plan`` says what would run and why the rest is skipped; ``run_grid`` does it, and first tunes what
the grid asks to be tuned. A grid's folder
holds its manifest (``grid.yaml``): the settings that all runs share, and the runs. Calling again
with more seeds or other values of the same axes adds runs; with other settings it is an error.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vaebench import datasets, report
from vaebench.config import DatasetChoice, Grid, make_grid, make_single, read_yaml
from vaebench.environment import resolve_device
from vaebench.errors import ConfigError, ResultsError
from vaebench.executors import Hear, default_jobs, in_this_process, in_workers
from vaebench.files import dump_yaml, write_atomic
from vaebench.grid.folder import REPORTS, alone, mend, unsafe, write_reports
from vaebench.grid.groups import PART
from vaebench.grid.listener import FailedFast, Follower, Listener, default_listener
from vaebench.grid.manifest import merged_manifest
from vaebench.grid.planning import Options, Planned, plan
from vaebench.grid.results import Results, load_results
from vaebench.grid.tasks import make_tasks
from vaebench.grid.tuning import tune
from vaebench.run import LoadedRun, Task, load_run
from vaebench.schema.labels import run_label
from vaebench.storage import run_store
from vaebench.tracking import Window, Writer, connect

__all__ = [
    "REPORTS",
    "Listener",
    "Options",
    "Planned",
    "Results",
    "load_results",
    "plan",
    "run_grid",
    "train",
]

Executor = Callable[[Sequence[Task], Hear], None]
DRAIN = 30.0  # seconds without progress after which MLflow is given up at the end of a grid
LIMIT = 300.0  # seconds after which it is given up in any case
HURRY = 5.0  # seconds that MLflow has when the user wants to leave


def run_grid(
    grid: Grid | Mapping[str, Any] | Path | str | None = None,
    options: Options | None = None,
    listener: Listener | None = None,
    executor: Executor | None = None,
) -> Results:
    """Train and measure every run of a grid that is not finished, in workers, and report.

    A grid with ``tune`` is tuned first, unless its picks are known.

    Arguments:
        grid: A YAML file, its content, or a :class:`~vaebench.config.Grid`; None for the 8 cells
            on MNIST.
        options: Where and how.
        listener: Hears of the progress. None: lines on stderr in a terminal or notebook, else
            nothing; ``Listener()`` is silent everywhere.
        executor: Does the tasks; None: workers do.

    Raises:
        ConfigError: The grid or an option is wrong; nothing has been written.
        DataError: A data set is missing, corrupt or out of reach.
        ResultsError: The folder belongs to another grid, another process works on it, or no value
            that is to be tuned could be trained.
        TrackingError: The tracking URI is wrong. (That MLflow is out of reach is a warning.)
        KeyboardInterrupt: After what was running has been marked as interrupted.
    """
    options = options or Options()
    if executor and (options.timeout is not None or options.retries):
        raise ConfigError("timeout, retries: only where workers do the runs; leave out executor")
    return _do(_read(grid, make_grid), options, listener or default_listener(), executor)


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
    results = _do(grid, options, listener or default_listener(), in_this_process)
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
    images = _load({e.run.config.dataset for e in first if e.action != "skip"}, options)
    folder = options.results / grid.name

    def prepared(todo: Sequence[Planned], part: str = "runs") -> tuple[list[Task], Executor]:
        """The tasks of a plan, and what does them."""
        chosen = [entry for entry in todo if entry.action != "skip"]
        wanted = 1 if executor else options.jobs or default_jobs(device)
        jobs = max(1, min(wanted, len(chosen)))
        images.update(_load({e.run.config.dataset for e in chosen} - images.keys(), options))
        listener.planned(todo, jobs, device)
        _warn(chosen, images, listener)
        tasks = make_tasks(chosen, folder, options, device, jobs, part=part)
        workers = partial(in_workers, jobs=jobs, timeout=options.timeout, retries=options.retries)
        return tasks, executor or workers

    def do_trials(todo: Sequence[Planned]) -> None:
        tasks, execute = prepared(todo, PART)
        follower = Follower(listener, lambda _: None, fail_fast=False)
        try:
            execute(tasks, follower)
        except BaseException as error:
            follower.close_open_runs(_why(error))
            raise

    with alone(folder):
        for text in filter(None, (unsafe(folder), mend(folder))):
            listener.warning(text)
        tuned = tune(grid, grid.tune, options, listener, do_trials) if grid.tune else None
        todo = plan(grid, options, tuned=tuned)  # another process may have finished it meanwhile
        runs, replace = [entry.run for entry in todo], options.rerun == "all"
        manifest = merged_manifest(folder, grid, runs, replace=replace, tuned=tuned)
        write_atomic(folder / "grid.yaml", dump_yaml(manifest))
        if options.tune_only:
            write_reports(folder)
            return load_results(folder)
        tasks, execute = prepared(todo)
        return _run(tasks, execute, window, options, listener)


def _load(wanted: Iterable[DatasetChoice], options: Options) -> dict[DatasetChoice, int]:
    """Download what is missing, once, and find what is wrong, before any run is touched.

    Returns:
        The number of training images of each.
    """
    return {
        dataset: len(datasets.load(data_dir=options.data_dir, **dataset.model_dump()).train.x)
        for dataset in wanted
    }


def _run(
    tasks: Sequence[Task], execute: Executor, window: Window, options: Options, listener: Listener
) -> Results:
    """Do tasks while MLflow is told; write the reports, however it ends."""
    folder = options.results / window.grid
    writer = Writer(window, warn=listener.warning)
    writer.start()
    follower = Follower(listener, writer.touch, fail_fast=options.fail_fast)
    limit = LIMIT
    try:
        execute(tasks, follower)
    except FailedFast:
        follower.close_open_runs("stopped, as another run failed (--fail-fast)")
    except BaseException as error:
        follower.close_open_runs(_why(error))
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


def _why(error: BaseException) -> str:
    """Why the runs under way ended, for their records."""
    return "interrupted" if isinstance(error, KeyboardInterrupt) else f"stopped: {error!r}"


def _warn(
    chosen: Sequence[Planned], images: Mapping[DatasetChoice, int], listener: Listener
) -> None:
    """Say what is done again because it is damaged, and which batches cannot be filled."""
    for entry in chosen:
        if entry.is_damaged:
            label = run_label(entry.run.cell, entry.run.config.seed)
            listener.warning(f"{label} ({entry.run.run_id}): {entry.why}; it is done again")
    configs = [entry.run.config for entry in chosen]
    batches = dict.fromkeys((config.dataset, config.training.batch_size) for config in configs)
    for dataset, size in batches:
        if size > images[dataset]:
            listener.warning(
                f"training.batch_size is {size}, but {dataset.name} has only {images[dataset]} "
                f"training images: an epoch is one step with all of them; lower it if you want more"
            )
