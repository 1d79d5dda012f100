"""Which numbers a run has, what they declare, and which of a finished run are out of date."""

from collections.abc import Iterable, Mapping
from typing import Any

from vaebench.config import RunConfig
from vaebench.declarations import COSTS, definition
from vaebench.likelihoods import LIKELIHOODS
from vaebench.metrics import METRICS
from vaebench.plugins import Registry
from vaebench.schema.trial import SAMPLES


def measured_names(config: RunConfig, *, labelled: bool = True) -> list[str]:
    """Metrics that are measured of a run: all but those that are opt-in or mean nothing there.

    ``labelled``: whether its images have labels.
    """
    return [
        name
        for name, metric in METRICS.items()
        if name not in impossible(config, labelled=labelled)
        and (not metric.opt_in or samples(config, name))
    ]


def declarations(config: RunConfig, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What metrics and costs of a run declare, by the name behind the slash."""
    declared = {}
    for name in names:
        registry: Registry[Any] = COSTS if name in COSTS else METRICS
        declaration, plugin = registry[name].declaration, registry.plugin(name)
        k = samples(config, name)
        declared[name] = (declaration.with_samples(k) if k else declaration).to_dict()
        if plugin:  # of another source it may be another number
            declared[name] |= {"plugin": plugin.name, "source": plugin.digest}
    return declared


def outdated(config: RunConfig, record: dict[str, Any]) -> list[str]:
    """Metrics that a record lacks, or has by an older definition or with another K."""
    old = []
    names = measured_names(config, labelled=has_labels(record))
    for name, now in declarations(config, names).items():
        then = definition(record["metric_declarations"].get(name, {}))
        current = then[0] > now["version"] or then == definition(now)
        if record["metrics"].get(f"test/{name}") is None or not current:
            old.append(name)
    return old


def samples(config: RunConfig, name: str) -> int | None:
    """K of an opt-in metric; None where it is not asked for."""
    asked: int | None = getattr(config.metrics, name, None)
    return min(asked, SAMPLES) if asked and config.trial else asked


def is_relaxed(config: RunConfig) -> bool:
    """Whether the loss is a distribution of binary pixels, and the pixels are gray."""
    return LIKELIHOODS[config.loss.name].support == "binary" and config.dataset.binarize == "none"


def has_labels(record: Mapping[str, Any]) -> bool:
    """Whether the images of a finished run have labels."""
    return bool(record["environment"].get("dataset", {}).get("labelled", True))


def impossible(config: RunConfig, *, labelled: bool = True) -> dict[str, str]:
    """Metrics that mean nothing for a run, and why."""
    unlabelled = [name for name, metric in METRICS.items() if metric.needs_labels and not labelled]
    reasons = dict.fromkeys(unlabelled, "the images have no labels")
    if config.trial:  # it would have to be trained
        judged = [name for name, metric in METRICS.items() if metric.part == "generation"]
        reasons |= dict.fromkeys(judged, "a trial has no classifier")
    if config.dataset.dequantize == "none":
        reasons["bits_per_dim"] = "the images are not dequantised"
    if is_relaxed(config):
        reasons["log_px"] = f"{config.loss.name} on gray pixels is not a normalised density"
    return reasons


def unmeasured_notes(config: RunConfig) -> list[str]:
    """What was asked for and is not measured, and why."""
    return [
        f"{METRICS[name].declaration.title} is not measured: {why}."
        for name, why in impossible(config).items()
        if samples(config, name)
    ]
