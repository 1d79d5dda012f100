"""The groups of cells that share a pick, the runs that find it, and what is known of it already."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vaebench.config import Grid, Run, Tune, group_key, make_run, with_value
from vaebench.config.tuning import are_numbers
from vaebench.errors import ConfigError, ResultsError
from vaebench.schema.labels import cell_label
from vaebench.schema.manifest import read_manifest

PART = "tuning"  # the folder of tuning runs, beside "runs"
Entry = dict[str, Any]  # of ``tuned`` in a manifest


class Trial(NamedTuple):
    """A value, and the runs that try it, one for each tuning seed."""

    value: Any
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Group:
    """Cells that share a pick.

    Attributes:
        values: The values of the axes ``per``.
        cell: The cell that is trained for all of them.
        epochs: The epochs of its tuning runs.
        seeds: The seeds of its tuning runs.
        trials: The tuning runs, value by value.
        stored: What the manifest says of just these trials; None where it says nothing.
    """

    values: dict[str, Any]
    cell: dict[str, Any]
    epochs: int
    seeds: tuple[int, ...]
    trials: tuple[Trial, ...]
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


def groups(grid: Grid, folder: Path, *, anew: bool = False) -> list[Group]:
    """The groups of a grid that is tuned, in its order. Writes nothing.

    A group that was tuned before keeps its tuning seeds and, as long as it is a cell of the grid,
    the cell that was trained.

    Arguments:
        grid: With ``tune``.
        folder: The folder of its results.
        anew: Whether to tune again whatever the manifest says.

    Raises:
        ConfigError: The runs, those of earlier calls included, share a seed with the tuning.
    """
    tune = _required(grid)
    manifest = stored_manifest(folder)
    if not _asks_the_same(manifest, tune):
        manifest = {}  # of another grid, which is refused or replaced
    known = stored_entries(manifest)
    runs_of: dict[str, list[Run]] = {}
    for run in grid.runs(grid.name):
        if run.config.seed == grid.seeds[0]:
            runs_of.setdefault(group_key(tune.group(run.cell)), []).append(run)
    used = {*grid.seeds, *(entry["seed"] for entry in manifest.get("runs", []))}
    return [
        _group(grid, key, runs, None if anew else known.get(key), used)
        for key, runs in runs_of.items()
    ]


def picks(entries: Sequence[Entry]) -> dict[str, Any]:
    """What was picked, as :meth:`vaebench.config.Grid.runs` wants it."""
    return {group_key(entry["group"]): entry["pick"] for entry in entries}


def stored_entries(manifest: Mapping[str, Any]) -> dict[str, Entry]:
    """The entries of ``tuned``, by group."""
    return {group_key(entry["group"]): entry for entry in manifest.get("tuned", [])}


def known_picks(found: Sequence[Group]) -> list[Entry] | None:
    """The entries of all groups; None where one has yet to be tuned."""
    entries = [group.stored for group in found if group.stored is not None]
    return entries if len(entries) == len(found) else None


def stale(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """Groups whose pick is another in a new manifest: what was listed under the old one is gone."""
    before, after = picks(old.get("tuned", [])), picks(new.get("tuned", []))
    return {key for key in before if key in after and before[key] != after[key]}


def group_of(tune: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    """The key of a cell's group, by ``tune`` as a manifest has it."""
    return group_key({axis: cell.get(axis) for axis in tune["per"]})


def at_edge(tune: Tune, value: Any) -> bool:
    """Whether a pick is the lowest or the highest of numbers: a better one may lie beyond."""
    return are_numbers(tune.values) and value in (tune.values[0], tune.values[-1])


def _required(grid: Grid) -> Tune:
    if grid.tune is None:
        raise ConfigError(f"{grid.name}: has no tune")
    return grid.tune


def _asks_the_same(manifest: Mapping[str, Any], tune: Tune) -> bool:
    """Whether picks of a manifest are for the same key and groups."""
    before = manifest.get("tune") or {}
    return (before.get("key"), before.get("per")) == (tune.key, list(tune.per))


def _group(grid: Grid, key: str, runs: Sequence[Run], known: Entry | None, used: set[int]) -> Group:
    tune = _required(grid)
    cell = runs[0].cell
    seeds = tune.seeds_beside(used)
    if known is not None:
        cell = next((run.cell for run in runs if run.cell == known["cell"]), cell)
        if isinstance(tune.seeds, int) and len(known["seeds"]) == tune.seeds:
            seeds = tuple(known["seeds"])
    both = sorted(used.intersection(seeds))
    if both:
        raise ConfigError(
            f"{grid.name}: tune: seed {both[0]} has served for tuning and is one of the runs; "
            f"the two must differ"
        )
    epochs = tune.epochs_of(cell) or next(r.config.training.epochs for r in runs if r.cell == cell)
    trials = tuple(
        Trial(value, tuple(_trial(grid, key, cell, value, epochs, seed) for seed in seeds))
        for value in tune.values
    )
    asked = {
        "cell": cell,
        "epochs": epochs,
        "seeds": list(seeds),
        "values": list(tune.values),
    }
    if known is not None:
        said = {**known, "values": [entry["value"] for entry in known["values"]]}
        known = known if all(said[name] == value for name, value in asked.items()) else None
    return Group(tune.group(cell), cell, epochs, seeds, trials, known)


def _trial(grid: Grid, key: str, cell: dict[str, Any], value: Any, epochs: int, seed: int) -> Run:
    tune = _required(grid)
    raw = with_value(grid.settings_of(cell, {key: value}), "training.epochs", epochs)
    return Run(cell | {tune.key: value}, make_run(raw | {"seed": seed}, grid.name))
