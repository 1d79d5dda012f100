"""How noisy each estimator's gradient is, against the epoch of one run.

To add a quantity: a row in `_ROWS`, with the name that the journal has for it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from vaebench.figures.style import TEN, page, styled
from vaebench.figures.training_curves import label_epochs, metric_series

_PARTS = ("encoder", "decoder")
_ROWS = {"variance": "total variance (nats²)", "snr": "signal-to-noise ratio"}
_MARKERS = "osv^Dd<>ph"
_DASHES = ("-", "--", "-.", ":")
_EXPLANATION = (
    "Every estimator at this run's weights after each epoch, with the same draws of the noise on "
    "one batch of training images. Variance: trace of the covariance of a training step's "
    "gradient. Signal-to-noise: norm of the expected gradient over the root of that trace; a gap "
    "where the draws show no signal. Lines on top of each other: the same gradients."
)


@styled
def gradient_variance(journal: Sequence[Mapping[str, Any]], *, title: str, trained: str) -> Figure:
    """Variance and signal-to-noise ratio of every estimator's gradient, encoder beside decoder.

    Arguments:
        journal: One ``{"epoch": 1, "metrics": {"grad/encoder_variance/kl": 3.1, ...}}`` per epoch,
            for ``encoder`` and ``decoder``, ``variance`` and ``snr``, and any estimators. What is
            missing, null or not positive leaves a gap.
        trained: The estimator that trained the run.

    Raises:
        ValueError: the journal holds no gradient's variance.
    """
    names = _estimators(journal)
    if not names:
        raise ValueError("the journal holds no grad/ metric of any estimator")
    epochs = np.array([line["epoch"] for line in journal], dtype=np.int64)
    figure, _ = page((7.6, 4.9), title, _EXPLANATION)
    panels = np.asarray(figure.subplots(len(_ROWS), len(_PARTS), sharex=True))
    for row, (quantity, label) in zip(panels, _ROWS.items(), strict=True):
        for panel, part in zip(row, _PARTS, strict=True):
            keys = {name: f"grad/{part}_{quantity}/{name}" for name in names}
            series = {name: metric_series(journal, key) for name, key in keys.items()}
            curves = {n: np.where(values > 0, values, math.nan) for n, values in series.items()}
            _lines(panel, epochs, curves, trained)
            panel.set_title(f"{label}, {part}", loc="left")
    for panel in panels[-1]:
        label_epochs(panel, epochs)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(names), 6))
    return figure


def _estimators(journal: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the estimators, in the order of the line that has most of them."""
    lines = [
        list(dict.fromkeys(k.rpartition("/")[2] for k in line["metrics"] if k.startswith("grad/")))
        for line in journal
    ]
    return max(lines, key=len) if lines else []


def _lines(
    panel: Axes,
    epochs: NDArray[np.int64],
    curves: Mapping[str, NDArray[np.float64]],
    trained: str,
) -> None:
    """One line per estimator on a logarithmic axis; lines that coincide differ in dashes."""
    for k, (name, values) in enumerate(curves.items()):
        panel.plot(
            epochs,
            values,
            color=TEN[k % len(TEN)],
            linestyle=_DASHES[k % len(_DASHES)],
            marker=_MARKERS[k % len(_MARKERS)] if len(epochs) <= 20 else None,
            markersize=3.5,
            label=f"{name} (trained this run)" if name == trained else name,
        )
    drawn = np.concatenate(list(curves.values()))
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return
    panel.set_yscale("log")
    span = drawn.max() / drawn.min()
    decades = LogLocator(subs=(1.0, 2.0, 5.0) if span < 100 else (1.0,))
    panel.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]) if span < 10 else decades)
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter("{x:g}")  # the default would need math text
