"""The curves of one run against the epoch.

To add a panel: a metric in nats goes into `_PANELS`, a setting of the training into `_SCHEDULES`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vaebench.figures.style import BLUE, DPI, MARGIN, ORANGE, QUIET, SMALL_SIZE, minus, page, styled

_MIN_SPAN = 1.0  # nats: less than this between lowest and highest is noise, not a curve
_PANELS = {
    "elbo": "ELBO, higher is better",
    "rate": "rate, KL(q(z|x), p(z))",
    "distortion": "distortion, \N{MINUS SIGN}E log p(x|z)",
}
_SCHEDULES = {"learning_rate": "learning rate", "beta": "beta, weight of the rate"}
_SPLITS = (("train", "training", BLUE, "-", "o"), ("val", "validation", ORANGE, "--", "s"))


@styled
def curves(journal: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """ELBO, rate and distortion against the epoch; learning rate and beta where they vary.

    The y-axis leaves out what lies further than three interquartile ranges from the quartiles of
    its curve, as the first epochs do, and a note in the panel says how many points and how far;
    with fewer than 8 epochs it shows everything. Values that are missing, null or NaN leave a gap.

    Arguments:
        journal: One ``{"epoch": 1, "metrics": {"train/elbo": -150.2, ...}}`` per epoch, with
            ``train/`` and ``val/`` of elbo, rate and distortion in nats (``val/`` may be missing,
            and rate and distortion for a bound that does not split), ``train/learning_rate``
            and ``train/beta``.

    Raises:
        ValueError: the journal holds no finite ``train/elbo``.
    """
    epochs = np.array([line["epoch"] for line in journal], dtype=np.int64)
    losses = {
        name: {
            split: series
            for split, *_ in _SPLITS
            if np.isfinite(series := metric_series(journal, f"{split}/{name}")).any()
        }
        for name in _PANELS
    }
    if "train" not in losses["elbo"]:
        raise ValueError("the journal holds no epoch with a finite train/elbo")
    shown = [name for name in _PANELS if losses[name]]
    schedules = {name: metric_series(journal, f"train/{name}") for name in _SCHEDULES}
    varying = [
        name
        for name, values in schedules.items()
        if len(np.unique(values[np.isfinite(values)])) > 1
    ]

    count = len(shown) + len(varying)
    columns = 2 if count == 4 else min(3, count)
    rows = math.ceil(count / columns)
    explanation = "Training: mean over the epoch. "
    if "train" not in losses["rate"] and "val" in losses["rate"]:
        explanation = "Training: mean over the epoch, of a bound other than the ELBO. "
    if "val" in losses["elbo"]:
        explanation += "Validation: after the epoch. "
    explanation += "All at beta = 1."
    figure, top = page((7.6, 2.1 * rows + 0.5), title, explanation)
    axes = [figure.add_subplot(rows, columns, k + 1) for k in range(count)]
    for name, panel in zip(shown, axes, strict=False):
        _loss_panel(panel, epochs, losses[name], title=_PANELS[name])
        panel.set_ylabel("nats per image")
    for name, panel in zip(varying, axes[len(shown) :], strict=True):
        _schedule_panel(panel, epochs, schedules[name], title=_SCHEDULES[name])
    for panel in axes:
        label_epochs(panel, epochs)
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="lower right",
        bbox_to_anchor=(1 - MARGIN / (figure.get_figwidth() * DPI), top + 0.01),
        ncols=2,
        borderaxespad=0,
        borderpad=0,
    )
    return figure


def metric_series(journal: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    """One metric per line, NaN where it is missing, null or infinite."""
    values = np.array(
        [math.nan if (value := line["metrics"].get(key)) is None else value for line in journal],
        dtype=np.float64,
    )
    return np.where(np.isfinite(values), values, math.nan)


def label_epochs(panel: Axes, epochs: NDArray[np.int64]) -> None:
    """Make epochs the x-axis of a panel."""
    panel.set_xlabel("epoch")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10]))
    if len(epochs) == 1:
        panel.set_xlim(epochs[0] - 1, epochs[0] + 1)


def _loss_panel(
    panel: Axes, epochs: NDArray[np.int64], curves: Mapping[str, NDArray[np.float64]], *, title: str
) -> None:
    for split, name, colour, line, marker in _SPLITS:
        if split in curves:
            panel.plot(
                epochs,
                curves[split],
                color=colour,
                linestyle=line,
                label=name,
                marker=marker if len(epochs) <= 20 else None,
                markersize=3.5,
            )
    panel.set_title(title, loc="left")
    values = np.concatenate(list(curves.values()))
    values = values[np.isfinite(values)]
    ranges = [_usual_range(curve[np.isfinite(curve)]) for curve in curves.values()]
    low = min(low for low, _ in ranges)
    high = max(high for _, high in ranges)
    span = max(high - low, _MIN_SPAN)
    middle = (low + high) / 2
    low, high = middle - 0.56 * span, middle + 0.56 * span
    panel.set_ylim(low, high)
    for outside, where, extreme, y, side in (
        (values < low, "\N{DOWNWARDS ARROW} {} below", values.min(), 0.03, "bottom"),
        (values > high, "\N{UPWARDS ARROW} {} above", values.max(), 0.97, "top"),
    ):
        if count := int(outside.sum()):
            points = where.format(f"{count} point" + "s" * (count > 1))
            panel.text(
                0.98,
                y,
                f"{points}, to {minus(f'{extreme:.1f}')}",
                transform=panel.transAxes,
                ha="right",
                va=side,
                size=SMALL_SIZE,
                color=QUIET,
            )


def _usual_range(values: NDArray[np.float64]) -> tuple[float, float]:
    """Lowest and highest value within three interquartile ranges of the quartiles (Tukey)."""
    if len(values) >= 8:
        lower, upper = np.quantile(values, [0.25, 0.75])
        reach = 3 * max(upper - lower, _MIN_SPAN / 4)
        values = values[(values >= lower - reach) & (values <= upper + reach)]
    return float(values.min()), float(values.max())


def _schedule_panel(
    panel: Axes, epochs: NDArray[np.int64], values: NDArray[np.float64], *, title: str
) -> None:
    panel.plot(epochs, values, color=BLUE, drawstyle="steps-mid")
    panel.set_title(title, loc="left")
    finite = values[np.isfinite(values)]
    if finite.min() > 0 and finite.max() >= 10 * finite.min():
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")  # the default would need math text
