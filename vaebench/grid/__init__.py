"""Run every cell of a grid once per seed, keep failures, skip what is finished, tell MLflow.

``plan`` says what would run and why the rest is skipped; ``run_grid`` does it, and first tunes what
the grid asks to be tuned. A grid's folder holds its manifest (``grid.yaml``): the settings that all
runs share, and the runs. Calling again with more seeds or other values of the same axes adds runs;
with other settings it is an error.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from vaebench.config import Grid, make_grid, make_single, read_yaml
from vaebench.errors import ConfigError, ResultsError
from vaebench.executors import in_this_process, require_loadable
from vaebench.files import dump_yaml, write_atomic
from vaebench.grid.crew import Crew, Executor, crew_of
from vaebench.grid.folder import (
    draw_own_figures,
    is_finished,
    mend,
    taking_part,
    unsafe,
    write_reports,
)
from vaebench.grid.groups import PART, picks
from vaebench.grid.listener import Follower, Listener, default_listener
from vaebench.grid.manifest import merged_manifest
from vaebench.grid.options import Options
from vaebench.grid.planning import (
    Decide,
    Planned,
    decider,
    plan,
    plan_runs,
    too_few_seeds,
)
from vaebench.grid.reference import write_reference
from vaebench.grid.results import Results, load_results
from vaebench.grid.shards import part_of
from vaebench.grid.taking import Taking
from vaebench.grid.tasks import make_tasks, training_images, warn
from vaebench.grid.tuning import tune
from vaebench.plugins import require_idle
from vaebench.run import LoadedRun, load_run
from vaebench.storage import has_others, locked, only_one, run_store
from vaebench.tracking import Writer, connect

__all__ = [
    "Listener",
    "Options",
    "Planned",
    "Results",
    "load_results",
    "plan",
    "run_grid",
    "train",
]

# of MLflow at the end of a grid, before it is given up: without progress, in any case, and when
# the user wants to leave
MAX_IDLE_SECONDS, MAX_SECONDS, MAX_SECONDS_IN_A_HURRY = 30.0, 300.0, 5.0


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
        listener: Told of the progress. None: lines on stderr in a terminal or notebook, else
            nothing; ``Listener()`` is silent everywhere.
        executor: Does the tasks; None: workers do.

    Raises:
        ConfigError: The grid or an option is wrong; nothing has been written.
        DataError: A data set is missing, corrupt or out of reach.
        ResultsError: The folder belongs to another grid, another process works on it, or no value
            that is to be tuned could be trained.
        TrackingError: The tracking URI is wrong. (An unreachable MLflow is only a warning.)
        KeyboardInterrupt: After what was running has been marked as interrupted.
    """
    return _do(_read(grid, make_grid), options or Options(), listener, executor)


def train(
    config: Grid | Mapping[str, Any] | Path | str,
    options: Options | None = None,
    listener: Listener | None = None,
) -> LoadedRun:
    """Do one run, in this process, as a grid of one, and load it.

    Arguments:
        config: A run's configuration, or a YAML file with it.
        options: As in :func:`run_grid`, without ``timeout`` and ``retries``, which need workers.
        listener: As in :func:`run_grid`.

    Raises:
        ResultsError: The run failed; its reason is in the message.
        Exception: As :func:`run_grid`.
    """
    grid = _read(config, make_single)
    runs = grid.runs(grid.name)
    if len(runs) > 1:
        raise ConfigError(f"{grid.name}: describes {len(runs)} runs; use `vaebench run-grid`")
    results = _do(grid, options or Options(), listener, in_this_process, waits=True)
    if results.failed:
        raise ResultsError(f"{runs[0].run_id}: {results.failed[0]['reason']}")
    return load_run(run_store(results.folder, runs[0].run_id).path)


def _read(grid: Grid | Mapping[str, Any] | Path | str | None, make: Callable[..., Grid]) -> Grid:
    require_idle("run_grid or train")
    if isinstance(grid, Grid):
        return grid
    if isinstance(grid, (str, Path)):
        return make(read_yaml(Path(grid)), source=str(grid))
    return make(grid or {})


def _do(
    grid: Grid,
    options: Options,
    listener: Listener | None,
    executor: Executor | None,
    *,
    waits: bool = False,
) -> Results:
    """Do a grid; ``waits``: also for the runs that other processes do."""
    listener = listener or default_listener()
    with crew_of(options, executor) as crew:
        return _do_with(crew, grid, options, listener, waits)


def _do_with(crew: Crew, grid: Grid, options: Options, listener: Listener, waits: bool) -> Results:
    device = crew.device
    first = plan(grid, options, thorough=False)
    if crew.loads:
        require_loadable([entry.run.config for entry in first])
    window = connect(options.results, grid.name, options.tracking_uri, grid.tracking_uri)
    images = training_images(first, options)
    folder = options.results / grid.name

    def do(
        todo: Sequence[Planned],
        follower: Follower,
        part: str = "runs",
        *,
        decide: Decide | None = None,
        waits: bool = False,
    ) -> None:
        chosen = [entry for entry in todo if entry.action != "skip"]
        images.update(training_images(chosen, options, known=images))
        jobs = max(1, min(crew.jobs(), len(chosen)))
        listener.planned(todo, jobs, device)
        warn(chosen, images, listener)
        tasks = make_tasks(chosen, folder / part, options, device, jobs)
        decide = decide or decider(folder, [entry.run for entry in todo], options)
        taking = Taking(tasks, decide, folder, part, member, listener.passed, waits=waits)
        with taking, follower:
            crew.do(taking, follower, jobs)

    whole = options.rerun in ("stale", "all")
    with taking_part(folder, whole=whole, tell=listener.warning) as member:
        for text in filter(None, (unsafe(folder), too_few_seeds(grid, folder))):
            listener.warning(text)
        with locked(folder, "manifest"):
            damaged = mend(folder)
        if damaged:
            listener.warning(damaged)
        runs, tuned = grid.runs(grid.name), None
        if grid.tune is not None:
            untuned, trials = grid.runs(grid.name), Follower(listener)
            do_trials = partial(do, follower=trials, part=PART, waits=True)
            tuned = tune(grid, grid.tune, untuned, options, listener, do_trials)
            runs = grid.runs(grid.name, picks(tuned))
        with locked(folder, "manifest"):
            part = part_of(runs, options.shard) if options.shard else runs
            todo = plan_runs(part, folder, options)  # another process may have been here
            decide = decider(folder, part, options)  # of what was, before the manifest is renewed
            anew, renew = options.rerun == "all", options.rerun == "stale"
            manifest = merged_manifest(folder, grid, runs, replace=anew, renew=renew, tuned=tuned)
            write_atomic(folder / "grid.yaml", dump_yaml(manifest))
        if options.tune_only:
            return Results(write_reports(folder))
        writer = Writer(window, warn=listener.warning)
        follower = Follower(listener, writer.touch, fail_fast=options.fail_fast)
        writer.start()
        limit = MAX_SECONDS
        try:
            do(todo, follower, decide=decide, waits=waits)
            done = {record["run_id"] for record in follower.done if record["status"] == "complete"}
            done |= {entry.run.run_id for entry in todo if entry.why == "complete"}
            finished = [entry.run.config for entry in todo if entry.run.run_id in done]
            write_reference(folder, finished, options.data_dir, listener)
        except BaseException:
            limit = MAX_SECONDS_IN_A_HURRY
            raise
        finally:
            ended = not has_others(folder, member)
            try:
                for text in draw_own_figures(folder):
                    listener.warning(text)
                analysis = write_reports(folder)
                ended = ended or is_finished(analysis)
            finally:  # of those who end at once, one closes the grid
                with only_one(folder, "closing") if ended else nullcontext(False) as is_last:
                    tracking = writer.close(MAX_IDLE_SECONDS, limit, ended=is_last)
            if limit < MAX_SECONDS and tracking.unsent:  # no results are printed that say so
                unsent = f"{tracking.unsent} runs unsent; send: {tracking.command}"
                listener.warning(f"MLflow: {unsent}")
        return Results(analysis, follower.done, tracking)
