"""Charts of a trained model: the latent scatter, the rate of each latent dimension.

To add one: a `@styled` function that takes arrays and `title`, starts with `page` and labels its
axes with units.
"""

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from vaebench.figures.style import BLUE, GREY, SMALL_SIZE, TEN, checked_finite, page, styled

_COLLAPSED = 0.01  # nats


@styled
def latent(
    points: NDArray[Any], labels: NDArray[Any] | None, *, title: str, axes: tuple[str, str]
) -> Figure:
    """Posterior means in two dimensions, coloured by class, with its number at each class's median.

    Arguments:
        points: Shape (N, 2).
        labels: Integer class of each point, shape (N,); None where there are no labels.
        axes: The names of the two dimensions, as ("z1", "z2") or
            ("first principal component of E[z|x]", "second principal component of E[z|x]").
    """
    places = checked_finite("points", np.asarray(points, dtype=np.float64))
    classes = np.zeros(len(places), int) if labels is None else np.asarray(labels)
    if places.ndim != 2 or places.shape[1] != 2 or classes.shape != places.shape[:1]:
        raise ValueError(
            f"points must have shape (N, 2) and labels (N,), got {places.shape} and {classes.shape}"
        )
    names, index = np.unique(classes, return_inverse=True)
    few = len(names) <= len(TEN)
    many = matplotlib.colormaps["viridis"](np.linspace(0, 1, len(names)))
    colours = np.array(TEN) if few else many
    marked = "without labels" if labels is None else "numbers at the class medians"
    explanation = f"Posterior means of {len(places):,} test images; {marked}."
    figure, _ = page((6.0, 5.2), title, explanation)
    panel = figure.add_subplot()
    # In the order of the data: drawn class by class, the last class would cover the others.
    panel.scatter(places[:, 0], places[:, 1], c=colours[index], s=6, alpha=0.75, linewidths=0)
    for k, name in enumerate(names if labels is not None else ()):
        panel.scatter([], [], color=colours[k], s=22, label=str(name))
        x, y = np.median(places[index == k], axis=0)
        panel.text(
            x,
            y,
            str(name),
            size=13,
            weight="bold",
            ha="center",
            va="center",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    panel.set_aspect("equal", adjustable="datalim")
    panel.set_xlabel(axes[0])
    panel.set_ylabel(axes[1])
    if labels is None:
        return figure
    panel.legend(
        title="class",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        ncols=math.ceil(len(names) / 20),
        borderaxespad=0.2,
        handletextpad=0.2,
    )
    return figure


@styled
def rate_per_dimension(rates: NDArray[Any], *, title: str) -> Figure:
    """Bars of the rate of each latent dimension, the highest first; collapsed ones are named so.

    Arguments:
        rates: Mean KL of each dimension in nats, shape (Z,). Below 0.01 nats a dimension is
            called collapsed: its posterior is the prior, for every image.
    """
    values = checked_finite("rates", np.asarray(rates, dtype=np.float64))
    if values.ndim != 1 or not len(values):
        raise ValueError(f"rates must have shape (Z,), Z at least 1; got {values.shape}")
    order = np.argsort(-values, kind="stable")
    high = values[order]
    used = high >= _COLLAPSED
    explanation = (
        f"Mean KL on the test images: {values.sum():.1f} nats in all, "
        f"{int(used.sum())} of {len(values)} dimensions carry {_COLLAPSED} or more."
    )
    figure, _ = page((min(7.6, 4.6 + 0.1 * len(values)), 2.8), title, explanation)
    panel = figure.add_subplot()
    place = np.arange(len(values))
    panel.bar(place[used], high[used], color=BLUE, width=0.75)
    if not used.all():
        name = f"collapsed (below {_COLLAPSED} nats)"
        panel.scatter(
            place[~used], high[~used], color=GREY, marker="x", s=22, label=name, clip_on=False
        )
        panel.legend(loc="upper right")
    if len(values) <= 16:
        for x, y in zip(place[used], high[used], strict=True):
            panel.annotate(
                f"{y:.2f}", (x, y), (0, 2), textcoords="offset points", ha="center", size=SMALL_SIZE
            )
    step = math.ceil(len(values) / 24)
    panel.set_xticks(place[::step], [f"z{j + 1}" for j in order[::step]])
    panel.set_xlim(-0.6, len(values) - 0.4)
    panel.set_ylim(0, max(1.12 * float(high[0]), _COLLAPSED))
    panel.grid(visible=False, axis="x")
    panel.set_xlabel("latent dimension, sorted by rate")
    panel.set_ylabel("rate (nats per image)")
    return figure
