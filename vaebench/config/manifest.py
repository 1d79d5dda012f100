"""The manifest of a grid (``results/<grid>/grid.yaml``) as a grid file: it asks for its runs."""

import itertools
from collections.abc import Mapping
from typing import Any

from vaebench.config.grid import MAX_RUNS
from vaebench.errors import ConfigError
from vaebench.plugins import loaded

_OWN = ("name", "question", "axes", "seeds", "exclude", "claims", "published", "tune")


def is_manifest(raw: Mapping[str, Any]) -> bool:
    """Whether a mapping is a manifest: no grid file has ``runs`` or ``settings``."""
    return isinstance(raw.get("runs"), list) and isinstance(raw.get("settings"), dict)


def from_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a grid file that asks for the runs of a manifest.

    Cells that the axes make and the manifest does not list are excluded. A cell is asked for with
    every seed of the manifest. What it says of plugins names no file: no results folder makes code
    run.

    Raises:
        ConfigError: A plugin of its runs is not loaded.
    """
    plugins = manifest.get("plugins")
    listed = [each for each in plugins if isinstance(each, dict)] if plugins else []
    lacking = {str(each.get("name")) for each in listed} - {plugin.name for plugin in loaded()}
    if lacking:
        raise ConfigError(f"its runs use the plugin {min(lacking)[:60]}; name it with --plugin")
    own = {key: manifest[key] for key in _OWN if key in manifest}
    axes = own.get("axes")
    cells = [run.get("cell") for run in manifest["runs"] if isinstance(run, dict)]
    if isinstance(axes, dict) and all(isinstance(values, list) for values in axes.values()):
        known = {repr({a: cell.get(a) for a in axes}) for cell in cells if isinstance(cell, dict)}
        if known:
            # unless that many are no grid, as its validation will say
            some = itertools.islice(itertools.product(*axes.values()), MAX_RUNS)
            product = (dict(zip(axes, each, strict=True)) for each in some)
            own["exclude"] = [cell for cell in product if repr(cell) not in known]
        if isinstance(own.get("tune"), dict):
            own["tune"] = _with_values_as_keys(own["tune"], axes)
    return {**manifest["settings"], **own}


def _with_values_as_keys(tune: Mapping[str, Any], axes: Mapping[str, list[Any]]) -> dict[str, Any]:
    """``tune`` with epochs by the values of an axis: a manifest has these as text."""
    epochs = tune.get("epochs")
    if not isinstance(epochs, dict):
        return dict(tune)
    by_value: dict[str, Any] = {}
    for axis, of in epochs.items():
        values = {str(value): value for value in axes.get(axis, ())}
        named = isinstance(of, dict)
        by_value[axis] = {values.get(key, key): n for key, n in of.items()} if named else of
    return {**tune, "epochs": by_value}
