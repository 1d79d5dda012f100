"""``grid.yaml``: the settings that all runs of a grid share, its axes, its runs.

A later call with the same settings adds its runs; one with other settings is refused. A cell and
seed stands there once, with the id that its run has now: a complete run of an older version is
listed under ``superseded`` from then on, and its folder stays.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from vaebench.config import NUMBERS_VERSION, Grid, Run, make_run, with_later_keys
from vaebench.errors import ConfigError, ResultsError
from vaebench.grid.groups import Entry, group_of, stale, stored_entries, stored_manifest
from vaebench.report.loading import Damaged, dig, read_record
from vaebench.schema.manifest import MANIFEST_VERSION, Planned, read_manifest
from vaebench.schema.record import versions


def make_manifest(
    grid: Grid, runs: Sequence[Run], tuned: Sequence[Entry] | None = None
) -> dict[str, Any]:
    """What ``grid.yaml`` says of a grid with these runs, and what was picked for them."""
    tune: dict[str, Any] = {} if grid.tune is None else {"tune": grid.tune.model_dump(mode="json")}
    if tuned is not None:
        tune["tuned"] = list(tuned)
    picked = [] if grid.tune is None else [grid.tune.key]
    cells = {str(run.cell): run.config for run in runs}.values()
    configs = [config.identity() for config in cells]
    used = {plugin.name: plugin.digest for config in cells for plugin in config.plugins}
    plugins = [{"name": name, "digest": digest} for name, digest in sorted(used.items())]
    return {
        "schema_version": MANIFEST_VERSION,
        "name": grid.name,
        "question": grid.question,
        "axes": {axis: list(values) for axis, values in grid.axes.items()},
        "seeds": list(grid.seeds),
        "claims": [claim.model_dump(mode="json", exclude_none=True) for claim in grid.claims],
        "published": [entry.model_dump(mode="json", exclude_none=True) for entry in grid.published],
        **tune,
        "numbers_version": NUMBERS_VERSION,
        **({"plugins": plugins} if plugins else {}),
        "settings": _without(_shared(configs), ["seed", *grid.axes, *picked]),
        "runs": [{"run_id": run.run_id, "cell": run.cell, "seed": run.config.seed} for run in runs],
    }


def _shared(configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the configurations that have a key agree on, key by key."""
    shared: dict[str, Any] = {}
    for key in dict.fromkeys(key for config in configs for key in config):
        values = [config[key] for config in configs if key in config]
        if all(isinstance(value, dict) for value in values):
            shared[key] = _shared(values)
        elif all(value == values[0] for value in values):
            shared[key] = values[0]
    return shared


def _without(settings: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Settings less some dotted keys; of a choice, less its name."""
    for key in keys:
        *path, last = key.split(".")
        section = settings
        for part in path:
            section = section.get(part, {})
        if isinstance(section.get(last), dict):
            section[last].pop("name", None)
        else:
            section.pop(last, None)
    return settings


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """What differs between two settings, among the keys that both have."""
    lines: list[str] = []
    for key in (key for key in before if key in after and before[key] != after[key]):
        if isinstance(before[key], dict) and isinstance(after[key], dict):
            lines += _differences(before[key], after[key], f"{prefix}{key}.")
        else:
            lines.append(f"{prefix}{key}: {before[key]} there, {after[key]} here")
    return lines


def differing_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In what two manifests differ besides their runs and their version, one line each."""
    before, after = old.get("settings", {}), new["settings"]
    differing = _differences(with_later_keys(before), with_later_keys(after))
    if list(old["axes"]) != list(new["axes"]):
        differing.append(f"axes: {', '.join(old['axes'])} there, {', '.join(new['axes'])} here")
    for key in ("key", "per"):
        there, here = ((m.get("tune") or {}).get(key) for m in (old, new))
        if there != here:
            differing.append(f"tune.{key}: {there} there, {here} here")
    return differing


def other_numbers(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What to say where two manifests are of different versions of the numbers, if they are."""
    differ = old.get("numbers_version") != new["numbers_version"]
    return ["it was run by a version of vaebench that gives other numbers"] * differ


def require_same_settings(
    folder: Path, new: dict[str, Any], *, renew: bool = False
) -> dict[str, Any] | None:
    """Compare a manifest with that of a grid's folder, and return that; None: there is none.

    ``renew``: a grid of an older NUMBERS_VERSION is to be trained anew, and no other grid.

    Raises:
        ConfigError: They differ in more than runs; what differs is named.
        ResultsError: That of the folder is damaged.
    """
    if not (folder / "grid.yaml").exists():
        return None
    old = read_manifest(folder)
    differing = differing_settings(old, new)
    superseded = other_numbers(old, new)
    if superseded and not differing and not renew:
        raise ConfigError(
            f"{folder} was run by a version of vaebench that gives other numbers: --rerun stale "
            f"trains it anew and keeps the old runs to compare with; --name starts another grid"
        )
    if differing:
        differing += superseded
        raise ConfigError(
            f"{folder} holds a grid of this name with other settings ({'; '.join(differing)}); "
            f"use --name for a new one, or --rerun all to replace it"
        )
    return old


def merged_manifest(
    folder: Path,
    grid: Grid,
    runs: Sequence[Run],
    *,
    replace: bool,
    renew: bool = False,
    tuned: Sequence[Entry] | None = None,
) -> dict[str, Any]:
    """The manifest, with the runs of earlier calls that had the same settings.

    Arguments:
        folder: The grid's folder.
        grid: What this call asks for.
        runs: Its runs.
        replace: Whether a grid with other settings is given up rather than an error.
        renew: Whether one of an older NUMBERS_VERSION is trained anew rather than an error.
        tuned: What was picked for them.
    """
    new = make_manifest(grid, runs, tuned)
    try:
        old = require_same_settings(folder, new, renew=renew)
    except (ConfigError, ResultsError):
        if not replace:
            raise
        return new
    return with_runs_of(folder, old, new, tuned=tuned is not None)


def with_runs_of(
    folder: Path, old: dict[str, Any] | None, new: dict[str, Any], *, tuned: bool = True
) -> dict[str, Any]:
    """A manifest with the runs of an older one of the same settings.

    Arguments:
        folder: The grid's folder.
        old: The older one; None for none.
        new: The manifest.
        tuned: Whether what is picked is known in ``new``.
    """
    if old is None:
        return new
    if gone := stale(old, new):  # the runs of groups for which another value is picked now
        kept = [e for e in old["runs"] if group_of(old["tune"], e["cell"]) not in gone]
        old = old | {"runs": kept}
    if tuned and ("tuned" in old or "tuned" in new):
        entries_of = {**stored_entries(old), **stored_entries(new)}
        new = new | {"tuned": list(entries_of.values())}
    given = {place_of(entry) for entry in new["runs"]}
    others = (_renewed(folder, entry) for entry in old["runs"] if place_of(entry) not in given)
    entries = {entry["run_id"]: entry for entry in (*others, *new["runs"])}.values()
    axes = {
        axis: [*old["axes"][axis], *(v for v in values if v not in old["axes"][axis])]
        for axis, values in new["axes"].items()
    }

    def position(entry: dict[str, Any]) -> tuple[list[int], int]:
        indices = [
            values.index(value) if (value := entry["cell"].get(axis)) in values else len(values)
            for axis, values in axes.items()
        ]
        return indices, entry["seed"]

    superseded = _superseded(folder, old, entries)
    return new | {
        "question": new["question"] or old.get("question", ""),  # options may have left it out
        "axes": axes,
        "seeds": sorted({entry["seed"] for entry in entries}),
        "settings": _united(old.get("settings", {}), new["settings"]),
        "runs": sorted(entries, key=position),
        **({"superseded": superseded} if superseded else {}),
    }


def place_of(entry: Mapping[str, Any]) -> str:
    """Cell and seed of an entry of a manifest, as one text."""
    return json.dumps([entry["cell"], entry["seed"]], sort_keys=True, default=str)


def superseded_places(folder: Path, runs: Sequence[Run]) -> set[str]:
    """The places (cell and seed) of runs whose cell and seed has a run of an older version.

    All are where the whole grid is of an older NUMBERS_VERSION: new seeds, too, are its renewal.
    """
    entries = [{"run_id": r.run_id, "cell": r.cell, "seed": r.config.seed} for r in runs]
    old = stored_manifest(folder)
    if old and old.get("numbers_version") != NUMBERS_VERSION:
        return {place_of(entry) for entry in entries}
    ids = {entry["run_id"] for entry in entries}
    others = (*old.get("superseded", []), *old.get("runs", []))
    return {place_of(entry) for entry in others if entry["run_id"] not in ids}


def _superseded(
    folder: Path, old: Mapping[str, Any], entries: Collection[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The complete runs of a manifest whose place is now another run's, with those of before."""
    ids = {place_of(entry): entry["run_id"] for entry in entries}

    def is_done(entry: Mapping[str, Any]) -> bool:
        run = Planned(entry["run_id"], entry["cell"], entry["seed"])
        return bool(dig(read_record(folder, run), "status") == "complete")

    gone = [e for e in old["runs"] if ids.get(place_of(e), e["run_id"]) != e["run_id"]]
    kept = {e["run_id"]: e for e in (*old.get("superseded", []), *filter(is_done, gone))}
    return [entry for run_id, entry in kept.items() if run_id not in ids.values()]


def _renewed(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of an earlier call, with another id where its record is of older versions.

    It is then missing until a call does it: no cell has runs of two versions.
    """
    record = read_record(folder, Planned(entry["run_id"], entry["cell"], entry["seed"]))
    if record is None or isinstance(record, Damaged) or "config" not in record:
        return entry
    try:
        config = make_run(record["config"])
    except ConfigError:
        return entry
    return entry if versions(record) == config.versions else entry | {"run_id": config.run_id}


def _united(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Both mappings, section by section."""
    both = {k: _united(old[k], v) for k, v in new.items() if isinstance(old.get(k), dict)}
    return old | new | both
