"""The curves of several cells against what was spent, each with the band of its seeds."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from vaebench.figures.style import (
    DPI,
    TEXT_SIZE,
    band_of,
    legended,
    looks_of,
    styled,
    wrapped,
)
from vaebench.figures.training_curves import label_epochs

_WIDTH = 7.6  # inches
_USUAL = 0.9  # of an axis: the first epochs of a steep curve may leave it
_BANDS = (
    "Line: median over seeds. Band: from the lowest to the highest seed, of five or more the "
    "middle half."
)


class CellCurve(NamedTuple):
    """One cell's curve.

    Attributes:
        label: The cell in words.
        epochs: Shape (E,).
        values: A row for each seed, (S, E); NaN where nothing was measured.
        seconds: What an epoch takes; None where that is not known, or does not compare.
    """

    label: str
    epochs: NDArray[Any]
    values: NDArray[Any]
    seconds: float | None = None


Panels = Mapping[str, Sequence[CellCurve]]


@styled
def learning_curves(panels: Panels, *, title: str) -> Figure:
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
    columns = 3 if len(panels) % 3 == 0 else min(2, len(panels))
    figure, looks, rows = _page(panels, len(panels), columns, title, _BANDS)
    for k, (heading, curves) in enumerate(panels.items()):
        panel = figure.add_subplot(rows, columns, k + 1)
        _head(panel, heading, columns)
        _draw(panel, curves, looks)
        label_epochs(panel, np.concatenate([np.asarray(curve.epochs) for curve in curves]))
    return figure


@styled
def budget_curves(panels: Panels, *, title: str, clock: str) -> Figure:
    """Scores over epochs, and beside that over seconds where all curves have these.

    Lines, bands and heights are those of :func:`learning_curves`. What is spent has a logarithmic
    axis: small budgets show, and a dearer epoch moves a curve to the right.

    Arguments:
        panels: As there.
        title: The grid.
        clock: What the seconds are: ``CPU seconds of training``.

    Raises:
        ValueError: As there.
    """
    timed = all(curve.seconds for curves in panels.values() for curve in curves)
    columns = 2 if timed else max(1, min(2, len(panels)))
    said = f"{_BANDS} {clock}: epochs times the median of what one takes." if timed else _BANDS
    said += " Higher is better."
    figure, looks, rows = _page(panels, len(panels) * (1 + timed), columns, title, said)
    add = partial(figure.add_subplot, rows, columns)
    for k, (heading, curves) in enumerate(panels.items()):
        panel = add(2 * k + 1 if timed else k + 1)
        _head(panel, heading, columns)
        _draw(panel, curves, looks)
        _spent(panel, "epochs")
        if timed:
            beside = add(2 * k + 2, sharey=panel)
            _draw(beside, curves, looks, over_seconds=True)
            _spent(beside, clock)
    return figure


def _page(
    panels: Panels, count: int, columns: int, title: str, explanation: str
) -> tuple[Figure, dict[str, Any], int]:
    """A page with the legend of all curves, how each of them looks, and the rows of panels."""
    looks = looks_of(curve.label for curves in panels.values() for curve in curves)
    if not looks:
        raise ValueError("learning curves need at least one panel with a curve")
    rows = math.ceil(count / columns)
    return legended((_WIDTH, 2.4 * rows + 0.2), title, explanation, looks), looks, rows


def _draw(
    panel: Any, curves: Sequence[CellCurve], looks: Mapping[str, Any], *, over_seconds: bool = False
) -> None:
    """The curves of a panel."""
    seen = []
    for label, epochs, values, seconds in curves:
        epochs, values = np.asarray(epochs), np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or values.shape[1:] != epochs.shape or not values.size:
            raise ValueError(
                f"{label}: values must have shape (S, E), E = {len(epochs)}; got {values.shape}"
            )
        if not np.isfinite(values).any():
            raise ValueError(f"{label}: no finite value")
        spent = epochs * (seconds or 1.0) if over_seconds else epochs
        low, middle, high = np.quantile(values, band_of(len(values)), axis=0)
        if len(values) > 1:
            colour = looks[label]["color"]
            panel.fill_between(spent, low, high, color=colour, alpha=0.18, linewidth=0)
        panel.plot(spent, middle, **looks[label])
        seen.append(values[np.isfinite(values)])
    _limit(panel, np.concatenate(seen))


def _head(panel: Any, heading: str, columns: int) -> None:
    """The heading over a panel, and the unit beside it."""
    what, _, unit = heading.rpartition(", ")
    room = 0.68 * _WIDTH * DPI / columns
    panel.set_title("\n".join(wrapped(what or heading, room, TEXT_SIZE)), loc="left")
    panel.set_ylabel(unit if what else "")


def _spent(panel: Any, what: str) -> None:
    """Make what was spent the logarithmic x-axis of a panel, from where its first curve enters."""
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter("{x:g}")  # the default would need math text
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel(what)
    bottom, _ = panel.get_ylim()
    points = [np.array(line.get_data(), float).T for line in panel.lines]
    before = [its[max(int(np.argmax(its[:, 1] > bottom)) - 1, 0), 0] for its in points]
    panel.set_xlim(left=0.95 * min(before))


def _limit(panel: Any, values: NDArray[np.float64]) -> None:
    """Let the first epochs of steep curves leave the axis."""
    low, high = np.quantile(values, [1 - _USUAL, _USUAL])
    span = float(high - low)
    least, most = float(values.min()), float(values.max())
    bottom = low - 0.2 * span if least < low - span else least
    top = high + 0.2 * span if most > high + span else most
    if span > 0 and (bottom, top) != (least, most):
        panel.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))
