"""Measurements that took turns: each turn a dot, the median a bar."""

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
from matplotlib.figure import Figure

from vaebench.figures.style import BLUE, GREY, checked_finite, page, styled


@styled
def turns(values: Mapping[str, Sequence[float]], *, title: str, unit: str) -> Figure:
    """Horizontal bars from zero, one for each name in the given order.

    Arguments:
        values: One value for each turn, by name.
        title: The question that they answer.
        unit: Unit of the values, in words.

    Raises:
        ValueError: nothing to show, or values that are not finite.
    """
    if not values or not all(len(each) for each in values.values()):
        raise ValueError("every name needs a value")
    for name, each in values.items():
        checked_finite(name, np.asarray(each, dtype=np.float64))
    most = max(len(each) for each in values.values())
    explanation = "One turn."
    if most > 1:
        explanation = f"Bars: median of up to {most} turns; dots: the turns."
    figure, _ = page((8.0, 0.8 + 0.34 * len(values)), title, explanation)
    panel = figure.add_subplot()
    places = range(len(values))
    medians = [median(each) for each in values.values()]
    panel.barh(places, medians, height=0.62, color=BLUE, alpha=0.55)
    for place, each in zip(places, values.values(), strict=True):
        panel.scatter(each, [place] * len(each), s=9, color="black", linewidths=0, zorder=3)
    for place, middle, each in zip(places, medians, values.values(), strict=True):
        panel.annotate(
            f"{middle:,.4g}" if middle < 1000 else f"{middle:,.0f}",
            (max(each), place),
            (6, 0),
            textcoords="offset points",
            va="center",
        )
    panel.set_yticks(places, list(values))
    panel.invert_yaxis()
    panel.margins(x=0.12)
    panel.set_xlim(left=0)
    panel.set_xlabel(unit)
    panel.grid(axis="y", visible=False)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_color(GREY)
    return figure
