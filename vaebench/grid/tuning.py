"""Tuning: pick a setting for each group of cells, by the bound that is trained, on validation.

The runs that find a pick are ordinary runs below ``tuning/`` in the grid's folder: they resume, and
are kept when values are added. Their scores and the picks stand in ``grid.yaml``, which is written
when all is picked; ``groups`` says what a group is and what is known of it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaebench.config import Grid, Run, Tune
from vaebench.config.tuning import are_numbers
from vaebench.errors import ConfigError, ResultsError
from vaebench.files import dump_yaml, write_atomic
from vaebench.grid.groups import (
    PART,
    Entry,
    Group,
    group_of,
    groups,
    known_picks,
    picks,
    stale,
    stored_manifest,
)
from vaebench.grid.listener import Listener
from vaebench.grid.manifest import make_manifest
from vaebench.grid.options import Options
from vaebench.grid.planning import Planned, plan_trials
from vaebench.run import SCORE
from vaebench.storage import locked, run_store


def tune(
    grid: Grid,
    asked: Tune,
    runs: Sequence[Run],
    options: Options,
    listener: Listener,
    do: Callable[[Sequence[Planned]], object],
) -> list[Entry]:
    """Find the picks of a grid that are not known yet; return the entries of all its groups.

    Arguments:
        grid: With a tune.
        asked: That tune.
        runs: Its runs, before anything is picked.
        options: Where and how.
        listener: Told of the tuning runs, of picks at the edge, and of the whole table.
        do: Does planned tuning runs.

    Raises:
        ConfigError: The pick of a group is another than its finished runs had.
        ResultsError: No value of a group could be trained with every seed.
    """
    folder = options.results / grid.name
    all_groups = groups(grid, asked, runs, folder, anew=options.rerun == "all")
    entries = known_picks(all_groups)
    if entries is None:
        if not (folder / "grid.yaml").exists():  # for `status`, and for whoever changes settings
            # it lists no runs yet: name those that it will not list
            left_out = {"exclude": list(grid.exclude)} if grid.exclude else {}
            manifest = make_manifest(grid, runs) | {"runs": []} | left_out
            with locked(folder, "manifest"):
                if not (folder / "grid.yaml").exists():
                    write_atomic(folder / "grid.yaml", dump_yaml(manifest))
        do(plan_trials(all_groups, folder, options))
        entries = [group.stored or _entry(asked, group, folder) for group in all_groups]
        if options.rerun != "all":
            _require_same_picks(folder, asked, entries)
    for entry, group in zip(entries, all_groups, strict=True):
        if entry["edge"]:
            listener.warning(
                f"tune: {group.label}: the best {asked.key}, {entry['pick']}, is the "
                f"{'lowest' if entry['pick'] == asked.values[0] else 'highest'} tried: widen values"
            )
    listener.tuned(asked.model_dump(mode="json"), entries)
    return entries


def _entry(asked: Tune, group: Group, folder: Path) -> Entry:
    """What the tuning runs of a group say; the first of the best values is picked."""
    tried: list[dict[str, Any]] = []
    for value, runs in group.trials:
        scores = [_score(folder, run.run_id) for run in runs]
        known = [score for score in scores if score is not None]
        failed = [seed for seed, score in zip(group.seeds, scores, strict=True) if score is None]
        mean = None if failed else sum(known) / len(known)
        tried.append({"value": value, "scores": scores, "mean": mean, "failed": failed})
    means = [entry["mean"] for entry in tried if entry["mean"] is not None]
    if not means:
        raise ResultsError(
            f"tune: {group.label}: no value of {asked.key} could be trained with every seed; "
            f"see {folder / PART}, and choose other values"
        )
    pick = next(entry["value"] for entry in tried if entry["mean"] == max(means))
    return {
        "group": group.values,
        "cell": group.cell,
        "epochs": group.epochs,
        "seeds": list(group.seeds),
        "values": tried,
        "pick": pick,
        # a better value may lie beyond the lowest or highest of numbers
        "edge": are_numbers(asked.values) and pick in (asked.values[0], asked.values[-1]),
    }


def _score(folder: Path, run_id: str) -> float | None:
    """The score of a tuning run in nats; None for one that failed."""
    try:
        record = run_store(folder, run_id, PART).record or {}
    except ResultsError:
        return None
    score = record.get("metrics", {}).get(SCORE) if record.get("status") == "complete" else None
    return None if score is None else float(score)


def _require_same_picks(folder: Path, asked: Tune, entries: Sequence[Entry]) -> None:
    """Refuse another pick for cells that have been run with the old one."""
    old = stored_manifest(folder)
    changed = stale(old, {"tuned": entries})
    for run in old.get("runs", []):
        key = group_of(old["tune"], run["cell"]) if changed else None
        store = run_store(folder, run["run_id"])
        if key in changed and (store.path / "journal.jsonl").exists():
            before, after = picks(old["tuned"])[key], picks(entries)[key]
            raise ConfigError(
                f"{folder}: tune: {asked.key} {after} is best for {run['cell']} now, and {before} "
                f"was, with which it has been run; use --name for a new grid, or --rerun all to "
                f"replace it"
            )
