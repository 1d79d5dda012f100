"""What cells, runs and likelihoods are called, and which record stands for a cell."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def median_seed(records: Sequence[Mapping[str, Any]]) -> tuple[int, str]:
    """Which of a cell's completed records stands for it, as an index, and why.

    The one of median validation ELBO of the weights that were measured, of two middle ones the
    lower. Where there is no validation split, or the test images serve as one, the lowest seed:
    nothing is ever selected on the test split.
    """
    scores = [_validation_elbo(record) for record in records]
    known = sorted(score for score in scores if score is not None)
    if len(records) > 1 and len(known) == len(records):
        median = known[(len(known) - 1) // 2]
        return scores.index(median), "the seed of median validation ELBO"
    seeds = [int(record["seed"]) for record in records]
    return seeds.index(min(seeds)), "the lowest seed"


def _validation_elbo(record: Mapping[str, Any]) -> float | None:
    measured, config = record.get("measured"), record.get("config")
    dataset = config.get("dataset") if isinstance(config, dict) else None
    if not isinstance(measured, dict) or not isinstance(dataset, dict):
        return None
    value = measured.get("val/elbo")
    usable = isinstance(value, float) and math.isfinite(value)
    return value if usable and dataset.get("validation") != "test" else None


def cell_label(cell: Mapping[str, Any]) -> str:
    """A cell in words: ``fnn / bce / sgvb``; axes beyond these three as ``latent_dim=8``."""
    plain = {"model", "loss", "estimator"}
    words = [str(v) if k in plain else f"{k.rpartition('.')[2]}={v}" for k, v in cell.items()]
    return " / ".join(words) or "run"


def run_label(cell: Mapping[str, Any], seed: int) -> str:
    """A run in words: ``fnn / bce / sgvb, seed 0``."""
    return f"{cell_label(cell)}, seed {seed}"


def likelihood_label(config: Mapping[str, Any]) -> str:
    """A name for all that must be equal before two ELBOs may be compared (data set apart).

    ``bce``; ``mse sigma2=0.5 output=sigmoid``; ``bce static`` on binarised pixels,
    ``cb dequantized`` on dequantised ones.
    """
    loss, dataset = _mapping(config.get("loss")), _mapping(config.get("dataset"))
    name = str(loss.get("name"))
    options = [f"{k}={v}" for k, v in _mapping(loss.get(name)).items()]
    binarize = dataset.get("binarize") or "none"
    pixels = [] if binarize == "none" else [str(binarize)]
    pixels += ["dequantized"] if dataset.get("dequantize") == "uniform" else []
    return " ".join([name, *options, *pixels])


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
