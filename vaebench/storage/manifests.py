"""``grid.yaml``, the manifest of a grid, and where grids lie."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vaebench import plain_yaml
from vaebench.errors import ResultsError
from vaebench.files import MAX_MANIFEST_BYTES

MAX_VALUES = 1_000  # of a key that is tuned, in all groups

_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # the name of a folder, and no way out of runs/
_KINDS = {
    "axes": dict,
    "seeds": list,
    "runs": list,
    "settings": dict,
    "tune": dict,
    "tuned": list,
}


def read_manifest(grid_dir: Path) -> dict[str, Any]:
    """Read ``grid.yaml``.

    Raises:
        ResultsError: There is none, or it is damaged.
    """
    path = grid_dir / "grid.yaml"
    if not path.is_file():
        raise ResultsError(f"{grid_dir}: not the folder of a grid: no grid.yaml in it")
    try:
        value = plain_yaml.read(path, MAX_MANIFEST_BYTES)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ResultsError(f"{path}: damaged: {error}") from error
    fault = _fault(value)
    if fault is not None:
        raise ResultsError(
            f"{path}: damaged: not the manifest of a grid ({fault}); delete it and run the same "
            f"command (finished runs are kept)"
        )
    manifest: dict[str, Any] = value
    return manifest


def _fault(value: object) -> str | None:
    """What is wrong with a manifest."""
    if not isinstance(value, dict):
        return "no mapping"
    for key in ("name", "axes", "seeds", "runs"):
        if key not in value:
            return f"it has no {key}"
    for key, kind in _KINDS.items():
        if not isinstance(value.get(key, kind()), kind):
            return f"{key} is no {'list' if kind is list else 'mapping'}"
    if not all(isinstance(k, str) and isinstance(v, list) for k, v in value["axes"].items()):
        return "axes are no lists of values"
    if not all(map(_is_run, value["runs"])):
        return "a run without run_id, cell and seed, or of the wrong kind"
    if "tune" in value and not _is_tune(value["tune"]):
        return "tune has no key and no axes per which there are picks"
    if "tuned" in value and not ("tune" in value and _is_table(value["tuned"], value["tune"])):
        return "tuned is no table of values, scores and picks"
    return None


def _is_run(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    run_id, cell, seed = (entry.get(key) for key in ("run_id", "cell", "seed"))
    return (
        isinstance(run_id, str)
        and _RUN_ID.fullmatch(run_id) is not None
        and isinstance(cell, dict)
        and all(isinstance(axis, str) for axis in cell)
        and isinstance(seed, int)
        and not isinstance(seed, bool)
        and seed >= 0
    )


def _is_tune(tune: dict[str, Any]) -> bool:
    per, values = tune.get("per"), tune.get("values")
    lists = isinstance(per, list) and _all_are(str, per) and isinstance(values, list)
    return isinstance(tune.get("key"), str) and lists


def _is_table(tuned: list[Any], tune: dict[str, Any]) -> bool:
    if not all(_is_tuned(group) and group["group"].keys() == {*tune["per"]} for group in tuned):
        return False
    values = [*tune["values"], *(entry["value"] for group in tuned for entry in group["values"])]
    return len(set(map(repr, values))) <= MAX_VALUES


def _is_tuned(group: object) -> bool:
    """Whether an entry of ``tuned`` is a group with its scores, one of whose values is the pick."""
    if not isinstance(group, dict):
        return False
    cells = group.get("group"), group.get("cell")
    seeds, tried = group.get("seeds"), group.get("values")
    return (
        all(isinstance(cell, dict) and _all_are(str, cell) for cell in cells)
        and isinstance(seeds, list)
        and len(seeds) > 0
        and isinstance(tried, list)
        and _all_are(int, [group.get("epochs"), *seeds])
        and all(_is_tried(entry, seeds) for entry in tried)
        and any(entry["value"] == group.get("pick") for entry in tried)
        and isinstance(group.get("edge"), bool)
    )


def _is_tried(entry: object, seeds: list[int]) -> bool:
    """Whether an entry is a value with a score, or a failure, for each of the seeds."""
    if not isinstance(entry, dict) or "value" not in entry:
        return False
    scores, failed = entry.get("scores"), entry.get("failed")
    return (
        isinstance(scores, list)
        and len(scores) == len(seeds)
        and isinstance(failed, list)
        and failed == [seed for seed, score in zip(seeds, scores, strict=True) if score is None]
        and all(map(_is_score, [entry.get("mean"), *scores]))
        and (entry.get("mean") is None) == bool(failed)
    )


def _is_score(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, float) and math.isfinite(value)


def _all_are(kind: type, values: Iterable[object]) -> bool:
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def grid_dirs(results_dir: Path) -> list[Path]:
    """Folders of grids: ``results_dir`` itself if it is one, else those directly below it."""
    if (results_dir / "grid.yaml").exists():
        return [results_dir]
    if not results_dir.is_dir():
        return []
    return sorted(path.parent for path in results_dir.glob("*/grid.yaml"))
