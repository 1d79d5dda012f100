"""The plan of a call: for every run of a grid, whether to run, resume, rerun or skip it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vaebench import datasets
from vaebench.config import DatasetChoice, Grid, Run
from vaebench.environment import resolve_device
from vaebench.errors import ConfigError, ResultsError
from vaebench.grid.groups import PART, Group, groups, known_picks, picks
from vaebench.grid.manifest import (
    make_manifest,
    place_of,
    require_same_settings,
    superseded_places,
)
from vaebench.grid.options import Options, Rerun
from vaebench.grid.shards import part_of
from vaebench.plugins import told, where
from vaebench.report.loading import Damaged, dig, read_record
from vaebench.run import TRANSIENT, model_cost
from vaebench.run.loading import changed_plugin
from vaebench.schema.manifest import Planned as Listed
from vaebench.schema.manifest import planned, read_manifest
from vaebench.statistics.power import seeds_to_decide
from vaebench.storage import RunStore, find_run, worker_of
from vaebench.text import one_line

SUPERSEDED = "superseded: its code has changed"
MAX_REASON = 200  # characters of why a run has failed
Digest = Callable[[DatasetChoice], str | None]  # of data as they lie here
Action = Literal["run", "resume", "rerun", "skip"]


def too_few_seeds(grid: Grid, folder: Path) -> str | None:
    """What to say before the training of a grid whose claims its seeds cannot decide; else None.

    Seeds of earlier calls count: those of the manifest in the grid's folder.
    """
    seeds = set(grid.seeds)
    with suppress(ResultsError):
        seeds |= {run.seed for run in planned(read_manifest(folder))}
    differences = sum(claim.margin is None for claim in grid.claims)
    needed = seeds_to_decide(differences) if differences else 2  # of a t test
    if not grid.claims or len(seeds) >= needed:
        return None
    claims = "claim" if (differences or len(grid.claims)) == 1 else "claims"
    return (
        f"no outcome can decide the {differences or len(grid.claims)} {claims} of this grid with "
        f"{len(seeds)} seeds: at least {needed} are needed"
    )


class Planned(NamedTuple):
    """A run, the action to take, and why."""

    run: Run
    action: Action
    why: str

    @property
    def has_failed(self) -> bool:
        """Whether it has been done, and failed."""
        return self.why.startswith("failed: ")

    @property
    def is_damaged(self) -> bool:
        """Whether it is done again because something of it is damaged."""
        return self.why.endswith("is damaged")


# What to do about a run of which there is what lies in a folder, and why.
Decide = Callable[[Run, Path], tuple[Action, str]]


def plan(grid: Grid, options: Options, *, thorough: bool = True) -> list[Planned]:
    """Decide for every run of a grid what to do, and say why. Writes nothing.

    A damaged manifest is treated as missing: runs are known by their own configuration. The
    runs of a grid with ``tune`` are known once all is picked; until then, the plan is that of its
    tuning runs.

    Arguments:
        grid: Its runs.
        options: Where they are, and what is wanted.
        thorough: Read all that finished runs have left, checksums included; else their records are
            believed, which reads some kilobytes of a run instead of all of it.

    Raises:
        ConfigError: The grid is wrong, or its folder belongs to one with other settings.
    """
    if options.executor == "local":
        resolve_device(options.device)
    if options.tune_only and grid.tune is None:
        raise ConfigError(f"{grid.name}: the grid has no tune; leave out --tune-only")
    folder, runs = options.results / grid.name, grid.runs(grid.name)
    if options.rerun != "all":
        with suppress(ResultsError):
            renew = options.rerun == "stale"
            require_same_settings(folder, make_manifest(grid, runs), renew=renew)
    if grid.tune is not None:
        asked = groups(grid, grid.tune, runs, folder, anew=options.rerun == "all")
        entries = known_picks(asked)
        if entries is None:
            if options.shard is not None:
                raise ConfigError(
                    f"{grid.name}: a grid with tune has no shards until its picks are made; run it "
                    f"once with --tune-only, without --shard"
                )
            return plan_trials(asked, folder, options, thorough=thorough)
        runs = grid.runs(grid.name, picks(entries))
    if options.shard is not None:
        runs = part_of(runs, options.shard)
    return plan_runs(runs, folder, options, thorough=thorough)


def plan_trials(
    asked: Sequence[Group], folder: Path, options: Options, *, thorough: bool = True
) -> list[Planned]:
    """The plan of the tuning runs of groups whose pick is not known; see :func:`plan`."""
    trials = [trial for group in asked if group.stored is None for trial in group.trials]
    # a value that does not matter to a cell makes the same run as another
    runs = {run.run_id: run for _, tried in trials for run in tried}
    rerun: Rerun | None = "all" if options.rerun == "all" else None
    options = replace(options, rerun=rerun)
    return plan_runs([*runs.values()], folder, options, thorough=thorough, part=PART)


def plan_runs(
    runs: Sequence[Run],
    folder: Path,
    options: Options,
    *,
    thorough: bool = True,
    part: str = "runs",
) -> list[Planned]:
    """What is to be done about valid runs; see :func:`plan`.

    Raises:
        ConfigError: The model of one cannot be built.
    """
    for run in {str(run.cell): run for run in runs}.values():  # the seeds of a cell share a model
        try:
            model_cost(run.config)
        except Exception as error:  # a plugin may raise anything
            what = error if where(error) is None else told(error)
            raise ConfigError(f"{folder.name}: {run.config.model.name}: {what}") from error
    decide = decider(folder, runs, options, thorough=thorough)
    found = [(run, find_run(folder, run.run_id, part)) for run in runs]
    return [Planned(run, *_with_holder(at, decide(run, at))) for run, at in found]


def decider(
    folder: Path, runs: Sequence[Run], options: Options, *, thorough: bool = True
) -> Decide:
    """What decides about a run in a folder: published, or that of an attempt.

    Arguments:
        folder: The grid's.
        runs: All that are planned.
        options: What is wanted.
        thorough: As for :func:`plan`.
    """

    @cache
    def digest(data: DatasetChoice) -> str | None:
        return datasets.digest(data.name, options.data_dir, **data.options)

    older = superseded_places(folder, runs) if options.rerun == "stale" else set()

    def decide(run: Run, at: Path) -> tuple[Action, str]:
        # what is renewed is done as any run is, were it interrupted or failed meanwhile
        renewed = place_of({"cell": run.cell, "seed": run.config.seed}) in older
        rerun = None if renewed else options.rerun
        action, why = _decide(folder, run, at, rerun, thorough, digest)
        return action, SUPERSEDED if renewed and why == "new" else why

    return decide


def _with_holder(at: Path, decided: tuple[Action, str]) -> tuple[Action, str]:
    """The decision on a run in a folder, and who does it now, if that is an attempt's."""
    action, why = decided
    if not RunStore(at).is_published:
        if action == "skip":
            action, why = "resume", "finished, but not yet published"
        if (holder := worker_of(at)) is not None:
            why += f"; {holder} does it"
    return action, why


def _decide(
    folder: Path, run: Run, at: Path, rerun: Rerun | None, thorough: bool, digest: Digest
) -> tuple[Action, str]:
    store = RunStore(at)
    record = read_record(folder, Listed(run.run_id, run.cell, run.config.seed), at=at)
    if isinstance(record, Damaged):
        return "rerun", "its record is damaged"
    status = record["status"] if record else None
    finished = record if status == "complete" and rerun != "all" else None
    if finished and (why := _stale(run, finished, digest)):
        if rerun == "stale":
            return "rerun", why
        return "skip", f"{why}; --rerun stale trains it anew"
    if finished and not thorough and _is_of(run, finished.get("config")):
        return "skip", "complete"
    try:
        epochs = len(store.journal)
    except ResultsError:
        return "rerun", "its journal cannot be read"
    if status is not None and not _is_of(run, store.config):
        return "rerun", "its stored configuration is damaged"
    if rerun == "all":
        return ("rerun", "--rerun all") if status or epochs else ("run", "new")
    if rerun == "stale":
        return "skip", f"{status or 'missing'}; --rerun stale leaves it"
    if status == "complete":
        damaged = store.first_damaged("weights.pt", "arrays.npz")
        return ("rerun", f"its {damaged} is damaged") if damaged else ("skip", "complete")
    if status == "failed" and record is not None:
        if rerun == "missing":
            return "skip", "failed; --rerun missing leaves it"
        resumes = record.get("failure") in TRANSIENT and epochs
        reason = one_line(record.get("reason"), MAX_REASON)
        return "resume" if resumes else "rerun", f"failed: {reason}"
    if rerun == "failed":
        return "skip", f"{status or 'missing'}; --rerun failed leaves it"
    if epochs:
        return "resume", f"after epoch {epochs} of {run.config.epochs}"
    return "run", status or "new"


def _stale(run: Run, record: dict[str, Any], digest: Digest) -> str | None:
    """Why a complete run is of other sources than lie here now; None if it is not."""
    data, now = dig(record, "environment", "dataset", "digest"), digest(run.config.dataset)
    changed = ["the data have changed"] if None not in (data, now) and data != now else []
    if plugin := changed_plugin(run.config, record):
        changed.append(f"the plugin {plugin} has changed")
    return f"stale: {' and '.join(changed)}" if changed else None


def _is_of(run: Run, stored: dict[str, Any] | None) -> bool:
    """Whether a stored configuration is that of a run; what is measured may differ."""
    stored = {key: value for key, value in (stored or {}).items() if key != "metrics"}
    return stored == run.config.identity()
