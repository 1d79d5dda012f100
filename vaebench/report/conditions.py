"""Under which conditions a verdict holds: budget, learning rate and its tuning, rates."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vaebench.report.cells import Cell
from vaebench.report.loading import Report, setting

# more information in the code makes better pictures: beside these stands what it was
AT_RATE = ("test/ssim", "test/psnr")
LEARNING_RATE = "training.learning_rate"


def conditions(report: Report, cells: Sequence[Cell]) -> tuple[str, ...]:
    """``5 epochs``, and ``learning rate 0.001 (not tuned)``, of the runs of these cells."""
    records = [record for cell in cells for record in cell.records]
    said = []
    epochs = _distinct(setting(record, "training", "epochs") for record in records)
    if epochs:
        said.append(f"{_list(epochs)} {'epoch' if epochs == [1] else 'epochs'}")
    learning_rates = _distinct(setting(r, "training", "learning_rate") for r in records)
    if learning_rates:
        said.append(f"learning rate {_list(learning_rates)} ({_tuning(report)})")
    return tuple(said)


def rates(first: Sequence[Cell], second: Sequence[Cell]) -> tuple[str, ...]:
    """The mean rates of both sides of a claim, which explain much of what differs."""
    means = []
    for side in (first, second):
        values = [
            cell.summaries["test/rate"].mean for cell in side if "test/rate" in cell.summaries
        ]
        if not values or None in values:
            return ()
        means.append(float(np.mean([value for value in values if value is not None])))
    return (f"rates {means[0]:.1f} and {means[1]:.1f} nats",)


def _tuning(report: Report) -> str:
    tune = report.manifest.get("tune") or {}
    if tune.get("key") != LEARNING_RATE or not report.manifest.get("tuned"):
        return "not tuned"
    per = tune.get("per") or []
    return f"tuned per {' and '.join(per)}" if per else "tuned"


def _distinct(values: Iterable[Any]) -> list[Any]:
    return sorted({value for value in values if isinstance(value, int | float)})


def _list(values: Sequence[Any]) -> str:
    *most, last = [f"{value:g}" for value in values]
    return f"{', '.join(most)} or {last}" if most else str(last)
