"""Scores over the rate: a line for each arm, with the band of its seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vaebench.figures.style import (
    GREY,
    SMALL_SIZE,
    band_of,
    checked_finite,
    legended,
    looks_of,
    styled,
)

_WIDTH = 7.6  # inches


class RateCurve(NamedTuple):
    """One arm's curve.

    Attributes:
        label: The arm in words.
        points: Rate in nats and value of each cell, means over its seeds, (P, 2).
        names: The number that belongs to each point: its beta, say.
        line: The curve through the points, (L, 2).
        rates: The rates that every seed covers, (G,).
        seeds: Each seed's curve there, (S, G).
    """

    label: str
    points: NDArray[np.float64]
    names: Sequence[str]
    line: NDArray[np.float64]
    rates: NDArray[np.float64]
    seeds: NDArray[np.float64]


@styled
def rate_curves(
    panels: Mapping[str, Sequence[RateCurve]],
    *,
    title: str,
    shared: tuple[float, float] | None,
    numbers: str,
) -> Figure:
    """A panel per score: each arm's curve, its points, and the band of its seeds.

    Arguments:
        panels: Curves by the panel's heading, with its unit behind the last comma:
            ``Distortion, bce, nats``. An arm has one colour and dash in all panels.
        title: The grid.
        shared: The rates that all arms cover, in nats, which are shaded; None where there is one.
        numbers: What the names of the points are: ``beta``.

    Raises:
        ValueError: There is no panel, or a curve's points and their names are not as many.
    """
    looks = looks_of(curve.label for curves in panels.values() for curve in curves)
    if not looks:
        raise ValueError("curves over the rate need at least one panel with a curve")
    below = {label: k % 2 == 0 for k, label in enumerate(looks)}
    columns = 3 if len(panels) > 4 else min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    said = "Point: mean over seeds of a cell"
    said += f", with its {numbers}." if numbers else "."
    said += " Band: the curves of the seeds, of five or more the middle half."
    overlap = shared is not None and shared[0] < shared[1]
    if shared is not None:
        said += " Shaded: rates that all arms cover." if overlap else " The arms share no rates."
    figure = legended((_WIDTH, 2.5 * rows + 0.2), title, said, looks)
    for k, (heading, curves) in enumerate(panels.items()):
        panel = figure.add_subplot(rows, columns, k + 1)
        if shared is not None and overlap:
            panel.axvspan(*shared, color=GREY, alpha=0.15, linewidth=0)
        for label, points, names, line, rates, seeds in curves:
            checked_finite(label, points)
            if points.shape != (len(names), 2):
                raise ValueError(
                    f"{label}: points must have shape (P, 2), P = {len(names)}; got {points.shape}"
                )
            if len(seeds) > 1 and rates.size:
                low, _, high = np.quantile(seeds, band_of(len(seeds)), axis=0)
                colour = looks[label]["color"]
                panel.fill_between(rates, low, high, color=colour, alpha=0.25, linewidth=0)
            panel.plot(*line.T, **looks[label])
            panel.plot(*points.T, "o", color=looks[label]["color"], markersize=3.5)
            for name, place in zip(names, points, strict=True):
                panel.annotate(
                    name,
                    (float(place[0]), float(place[1])),
                    (3, -8) if below[label] else (-3, 4),  # arms cross: each has a side
                    textcoords="offset points",
                    ha="left" if below[label] else "right",
                    size=SMALL_SIZE - 1.5,
                    color=looks[label]["color"],
                )
        panel.margins(0.1)
        what, _, unit = heading.rpartition(", ")
        panel.set_title(what, loc="left")
        panel.set_ylabel(unit)
        panel.set_xlabel("rate (nats per image)")
    return figure
