"""Groups of cells that share a pick: the tuning runs that find it, and picks that are stored."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaebench.config import Grid, Run, Tune, group_key, make_run, with_value
from vaebench.errors import ConfigError, ResultsError
from vaebench.schema.labels import cell_label
from vaebench.schema.manifest import read_manifest

PART = "tuning"  # the folder of tuning runs, beside "runs"
Entry = dict[str, Any]  # of ``tuned`` in a manifest


@dataclass(frozen=True)
class Group:
    """Cells that share a pick.

    Attributes:
        values: The values of the axes ``per``.
        cell: The cell that is trained for all of them.
        epochs: The epochs of its tuning runs.
        seeds: The seeds of its tuning runs.
        trials: Every value, and the runs that try it, one for each seed.
        stored: The manifest's entry for exactly these trials, or None.
    """

    values: dict[str, Any]
    cell: dict[str, Any]
    epochs: int
    seeds: tuple[int, ...]
    trials: tuple[tuple[Any, tuple[Run, ...]], ...]
    stored: Entry | None

    @property
    def label(self) -> str:
        """The group in words."""
        return cell_label(self.values) if self.values else "all cells"


def stored_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a grid's folder; empty where there is none, or a damaged one."""
    with suppress(ResultsError):
        return read_manifest(folder)
    return {}


def groups(
    grid: Grid, tune: Tune, runs: Sequence[Run], folder: Path, *, anew: bool = False
) -> list[Group]:
    """The groups of a grid that is tuned, in its order. Writes nothing.

    A group that was tuned before keeps its tuning seeds and, as long as it is a cell of the grid,
    the cell that was trained.

    Arguments:
        grid: The grid.
        tune: Its ``tune``.
        runs: Its runs, before anything is picked.
        folder: The folder of its results.
        anew: Whether to tune again whatever the manifest says.

    Raises:
        ConfigError: The runs, those of earlier calls included, share a seed with the tuning.
    """
    manifest = stored_manifest(folder)
    before = manifest.get("tune") or {}
    if (before.get("key"), before.get("per")) != (tune.key, list(tune.per)):
        manifest = {}  # of another grid, which is refused or replaced
    known = {} if anew else stored_entries(manifest)
    used = {*grid.seeds, *(entry["seed"] for entry in manifest.get("runs", []))}
    runs_of: dict[str, list[Run]] = {}
    for run in runs:
        if run.config.seed == grid.seeds[0]:
            runs_of.setdefault(group_key(tune.group(run.cell)), []).append(run)
    return [_group(grid, tune, runs, known.get(key), used) for key, runs in runs_of.items()]


def picks(entries: Sequence[Entry]) -> dict[str, Any]:
    """What was picked, as :meth:`vaebench.config.Grid.runs` wants it."""
    return {group_key(entry["group"]): entry["pick"] for entry in entries}


def stored_entries(manifest: Mapping[str, Any]) -> dict[str, Entry]:
    """The entries of ``tuned``, by group."""
    return {group_key(entry["group"]): entry for entry in manifest.get("tuned", [])}


def known_picks(all_groups: Sequence[Group]) -> list[Entry] | None:
    """The entries of all groups; None where one has yet to be tuned."""
    entries = [group.stored for group in all_groups if group.stored is not None]
    return entries if len(entries) == len(all_groups) else None


def stale(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """Groups whose pick differs in a new manifest: their runs of the old one no longer count."""
    before, after = picks(old.get("tuned", [])), picks(new.get("tuned", []))
    return {key for key in before if key in after and before[key] != after[key]}


def group_of(tune: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    """The key of a cell's group, by ``tune`` as a manifest has it."""
    return group_key({axis: cell.get(axis) for axis in tune["per"]})


def _group(
    grid: Grid, tune: Tune, runs: Sequence[Run], known: Entry | None, used: set[int]
) -> Group:
    trained, seeds = runs[0], tune.seeds_beside(used)
    if known is not None:
        trained = next((run for run in runs if run.cell == known["cell"]), trained)
        if isinstance(tune.seeds, int) and len(known["seeds"]) == tune.seeds:
            seeds = tuple(known["seeds"])
    both = sorted(used.intersection(seeds))
    if both:
        raise ConfigError(
            f"{grid.name}: tune: seed {both[0]} has served for tuning and is one of the runs; "
            f"use other seeds for one of them"
        )
    cell = trained.cell
    epochs = tune.epochs_of(cell) or trained.config.training.epochs
    if known is not None:
        tried = [entry["value"] for entry in known["values"]]
        said = (known["cell"], known["epochs"], known["seeds"], tried)
        known = known if said == (cell, epochs, [*seeds], [*tune.values]) else None
    trials = tuple((v, _trial(grid, tune, cell, v, epochs, seeds)) for v in tune.values)
    return Group(tune.group(cell), cell, epochs, seeds, trials, known)


def _trial(
    grid: Grid, tune: Tune, cell: dict[str, Any], value: Any, epochs: int, seeds: Sequence[int]
) -> tuple[Run, ...]:
    picked = {group_key(tune.group(cell)): value}
    raw = with_value(grid.settings_of(cell, picked), "training.epochs", epochs)
    config = make_run(raw, grid.name)
    cell = cell | {tune.key: value}
    return tuple(Run(cell, config.model_copy(update={"seed": seed})) for seed in seeds)
