"""The curves of several cells against the epoch, each with the band of its seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vaebench.figures.style import (
    DPI,
    SMALL_SIZE,
    TEN,
    TEXT_SIZE,
    page,
    points,
    styled,
    text_width,
    wrapped,
)
from vaebench.figures.training_curves import label_epochs

QUARTILES_FROM = 5  # seeds; of fewer, the band goes from the lowest to the highest
_LINES = ("-", "--", ":", "-.")
_WIDTH = 7.6  # inches
_USUAL = 0.9  # of an axis: the first epochs of a steep curve may leave it


class CellCurve(NamedTuple):
    """One cell's curve.

    Attributes:
        label: The cell in words.
        epochs: Shape (E,).
        values: A row for each seed, (S, E); NaN where nothing was measured.
    """

    label: str
    epochs: NDArray[Any]
    values: NDArray[Any]


@styled
def learning_curves(panels: Mapping[str, Sequence[CellCurve]], *, title: str) -> Figure:
    """A panel per metric: for each cell the median over seeds, and the band of the seeds.

    The band holds the middle half of five seeds or more, else all of them. An axis leaves out what
    lies beyond the outer deciles of all values, as first epochs do, by more than these span.

    Arguments:
        panels: Curves by the panel's heading, with its unit behind the last comma:
            ``validation ELBO, bce, nats per image``. A cell has one colour and dash in all panels.
        title: The grid.

    Raises:
        ValueError: There is no panel, or a curve has another shape or no finite value.
    """
    labels = list(dict.fromkeys(curve.label for its in panels.values() for curve in its))
    if not labels:
        raise ValueError("learning curves need at least one panel with a curve")
    looks = {
        label: (TEN[i % len(TEN)], _LINES[i // len(TEN) % len(_LINES)])
        for i, label in enumerate(labels)
    }
    columns = 3 if len(panels) % 3 == 0 else min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    longest = max(text_width(label, SMALL_SIZE) for label in labels) + points(4 * SMALL_SIZE)
    across = max(1, min(3, int(_WIDTH * DPI / longest)))
    legend = math.ceil(len(labels) / across)
    explanation = (
        "Line: median over seeds. Band: from the lowest to the highest seed, of five or more the "
        "middle half."
    )
    figure, _ = page((_WIDTH, 2.4 * rows + 0.18 * legend + 0.2), title, explanation)
    for k, (heading, curves) in enumerate(panels.items()):
        panel = figure.add_subplot(rows, columns, k + 1)
        seen = []
        for label, epochs, values in curves:
            epochs, values = np.asarray(epochs), np.asarray(values, dtype=np.float64)
            if values.ndim != 2 or values.shape[1:] != epochs.shape or not values.size:
                raise ValueError(
                    f"{label}: values must have shape (S, E), E = {len(epochs)}; got {values.shape}"
                )
            if not np.isfinite(values).any():
                raise ValueError(f"{label}: no finite value")
            colour, line = looks[label]
            band = (0.25, 0.75) if len(values) >= QUARTILES_FROM else (0.0, 1.0)
            low, middle, high = np.quantile(values, [band[0], 0.5, band[1]], axis=0)
            if len(values) > 1:
                panel.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
            panel.plot(epochs, middle, color=colour, linestyle=line, label=label)
            seen.append(values[np.isfinite(values)])
        _limit(panel, np.concatenate(seen))
        what, _, unit = heading.rpartition(", ")
        room = 0.68 * _WIDTH * DPI / columns
        panel.set_title("\n".join(wrapped(what or heading, room, TEXT_SIZE)), loc="left")
        panel.set_ylabel(unit if what else "")
        label_epochs(panel, np.concatenate([np.asarray(curve.epochs) for curve in curves]))
    handles: dict[Any, Any] = {}
    for axes in figure.axes:
        lines, names = axes.get_legend_handles_labels()
        handles |= dict(zip(names, lines, strict=True))
    figure.legend(
        [handles[label] for label in labels], labels, loc="outside lower center", ncols=across
    )
    return figure


def _limit(panel: Any, values: NDArray[np.float64]) -> None:
    """Let the first epochs of steep curves leave the axis."""
    low, high = np.quantile(values, [1 - _USUAL, _USUAL])
    span = float(high - low)
    least, most = float(values.min()), float(values.max())
    bottom = low - 0.2 * span if least < low - span else least
    top = high + 0.2 * span if most > high + span else most
    if span > 0 and (bottom, top) != (least, most):
        panel.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))
