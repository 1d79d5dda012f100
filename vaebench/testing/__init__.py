"""Contract tests of components: what vaebench expects of a model, a loss, ... and whether it holds.

``vaebench check PLUGIN`` prints the list; in a test of pytest::

    from vaebench import testing

    def test_my_vae():
        testing.require("my_vae.py")

A check is a function of the entry's name and its options, in the list of its kind; it raises an
AssertionError that says what is wrong, and whatever else it raises is told with the plugin's line.
Losses and metrics are checked with small built-in models, models and estimators with ``bce``.
"""

import ast
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import sklearn.datasets  # noqa: F401 (its first import draws from `random`)

from vaebench.config import make_run, with_value
from vaebench.config.run import TRAINED_WITH
from vaebench.errors import ConfigError, VaebenchError
from vaebench.metrics import METRICS
from vaebench.plugins import Registry, known, load, told
from vaebench.plugins.source import read_source
from vaebench.testing import data, estimators, likelihoods, models
from vaebench.testing.common import unmoved

__all__ = ["Finding", "check", "require"]

Check = Callable[[str, Mapping[str, Any]], object]  # a text says what could not be checked

CHECKS: Mapping[str, Mapping[str, Check]] = {
    "model": models.CHECKS,
    "loss": likelihoods.CHECKS,
    "estimator": estimators.CHECKS,
    "dataset": data.DATASET_CHECKS,
    "metric": data.METRIC_CHECKS,
}
"""Checks by kind of entry and by what they make sure of."""

REGISTRIES: dict[str, Registry[Any]] = {
    **{kind: TRAINED_WITH[kind] for kind in ("model", "loss", "estimator", "dataset")},
    "metric": METRICS,
}
SEEDING = ("manual_seed", "manual_seed_all", "seed_everything", "set_rng_state")
SEEDING_ALSO = ("random.seed", "np.random.seed", "numpy.random.seed", "torch.seed")


class Finding(NamedTuple):
    """What a check found.

    Attributes:
        entry: The kind and the name of an entry, ``model residual``; or the plugin's name.
        what: What should hold.
        fault: Why it does not; None where it holds.
        remark: What of it could not be checked, and why.
    """

    entry: str
    what: str
    fault: str | None
    remark: str | None = None


def check(plugin: str | Path, settings: Mapping[str, Any] | None = None) -> list[Finding]:
    """Check everything that a plugin enters.

    Arguments:
        plugin: A file or a module; it is loaded.
        settings: Dotted configuration keys and values, such as the options of a data set that has
            none by default.

    Raises:
        ConfigError: It cannot be loaded, it enters nothing, or a setting is wrong.
    """
    before = {name.name for name in known()}
    with unmoved() as moved:
        load([str(plugin)])
    found = next((p for p in known() if _is(p.name, p.path, plugin)), None)
    if found is None or found.path is None:
        raise ConfigError(f"plugin {plugin}: is not loaded")
    importing = f"moves the global random state of {', '.join(moved)}" if moved else None
    findings = (
        []
        if found.name in before
        else [Finding(found.name, "importing it draws nothing", importing)]
    )
    calls = ", ".join(_seedings(found.path))
    findings.append(
        Finding(found.name, "it seeds no global random stream", f"calls {calls}" if calls else None)
    )
    raw: dict[str, Any] = {}
    for key, value in (settings or {}).items():
        raw = with_value(raw, key, value)
    entered = [
        (kind, name)
        for kind, registry in REGISTRIES.items()
        for name in registry
        if (owner := registry.plugin(name)) and owner.path == found.path
    ]
    if not entered:
        raise ConfigError(f"plugin {plugin}: enters no model, loss, estimator, data set or metric")
    for kind, name in entered:
        options = {} if kind == "metric" else _options(kind, name, raw)
        for what, function in CHECKS[kind].items():
            findings.append(_found(f"{kind} {name}", what, function, name, options))
    return findings


def require(plugin: str | Path, settings: Mapping[str, Any] | None = None) -> None:
    """Check a plugin as :func:`check` does, in a test.

    Raises:
        AssertionError: Something does not hold; all of it is in the message.
    """
    faults = [f"{f.entry}: {f.what}: {f.fault}" for f in check(plugin, settings) if f.fault]
    assert not faults, "\n".join(faults)


def _options(kind: str, name: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an entry as a configuration has them."""
    settings = with_value(dict(raw), kind, name)
    if kind == "loss":  # which may need such pixels, and a model that serves it
        settings = {"dataset": {"name": "mnist", "dequantize": "uniform"}, **settings}
        if REGISTRIES["loss"][name].support == "binary":
            settings["dataset"] = "mnist"
    config = make_run(settings, "check")
    chosen = getattr(config, kind)
    return dict(chosen.options)


def _found(
    entry: str, what: str, function: Check, name: str, options: Mapping[str, Any]
) -> Finding:
    try:
        with unmoved() as moved:
            remark = function(name, options)
    except AssertionError as error:
        return Finding(entry, what, " ".join(str(error).split()) or told(error))
    except VaebenchError as error:
        return Finding(entry, what, str(error))
    except Exception as error:
        return Finding(entry, what, told(error))
    if moved:
        return Finding(entry, what, f"moves the global random state of {', '.join(moved)}")
    return Finding(entry, what, None, remark if isinstance(remark, str) else None)


def _is(name: str, path: Path | None, plugin: str | Path) -> bool:
    return name == str(plugin) or (path is not None and path == Path(plugin).expanduser().resolve())


def _seedings(path: Path) -> Iterable[str]:
    """Calls in a source that seed a global random stream, with their lines."""
    for node in ast.walk(ast.parse(read_source(path))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            # a generator's own seed moves nothing else
            own = isinstance(node.func, ast.Attribute) and "enerator" in ast.unparse(
                node.func.value
            )
            last = name.rpartition(".")[2]
            if not own and (last in SEEDING or name in SEEDING_ALSO):
                yield f"{name} (line {node.lineno})"
