"""Grids of images: reconstructions, samples, manifold, traversals, interpolations, comparison.

To add one: check its arrays, bring its images to shape (rows, columns, C, H, W), and hand them to
`draw_grid` with their labels.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vaebench.figures.grid import draw_grid
from vaebench.figures.style import checked_finite, checked_images, minus, styled

_ROWS = 16  # of latent dimensions in a figure


class CellImages(NamedTuple):
    """One row of `comparison`. A plain tuple in this order does as well."""

    label: str
    """The cell, as "fnn / bce / sgvb"."""
    metrics_text: str
    """One short line, as "SSIM 0.912, ELBO -101.3"; may be empty."""
    originals: NDArray[Any]
    """Test images (N, C, H, W) in [0, 1], the same in every cell."""
    reconstructions: NDArray[Any]
    """Their reconstructions, of the same shape."""
    samples: NDArray[Any]
    """Samples from the prior, (M, C, H, W) in [0, 1]."""


@styled
def reconstructions(
    originals: NDArray[Any], reconstructions: NDArray[Any], *, title: str
) -> Figure:
    """Originals above their reconstructions, ten in a row, two such rows if there are 20 images.

    Arguments:
        originals: Shape (N, C, H, W) in [0, 1].
        reconstructions: The same shape; clipped to [0, 1].
    """
    above, below = _checked_pair(originals, reconstructions)
    columns = min(10, len(above))
    blocks = min(2, len(above) // columns)
    rows = [a[: blocks * columns].reshape(blocks, columns, *a.shape[1:]) for a in (above, below)]
    return draw_grid(
        np.stack(rows, axis=1).reshape(2 * blocks, columns, *above.shape[1:]),
        title=title,
        explanation="Test images and the decoder's mean at the mean of their posterior.",
        rows=dict(enumerate(["original", "reconstruction"] * blocks)),
        row_break=2,
    )


@styled
def samples(samples: NDArray[Any], *, title: str) -> Figure:
    """Samples from the prior in a square grid.

    Arguments:
        samples: Shape (N, C, H, W) in [0, 1], clipped; the first n*n are shown, n at most 8.
    """
    images = checked_images("samples", samples)
    n = min(8, math.isqrt(len(images)))
    return draw_grid(
        images[: n * n].reshape(n, n, *images.shape[1:]),
        title=title,
        explanation="The decoder's mean at z drawn from the prior N(0, I).",
        room=(1000, 1000),
    )


@styled
def manifold(grid: NDArray[Any], axis: NDArray[Any], *, title: str) -> Figure:
    """What the decoder makes of a 2-d latent space, oriented like a scatter plot of it.

    Arguments:
        grid: Shape (n, n, C, H, W) in [0, 1], clipped; ``grid[i, j]`` is decoded from
            z1 = ``axis[j]``, z2 = ``axis[i]``. z1 grows to the right, z2 upwards.
        axis: The n values of z1 and z2, growing.
    """
    images = checked_images("grid", grid, "nn")
    values = checked_finite("axis", np.asarray(axis, dtype=np.float64))
    n = len(values) if values.ndim == 1 else 0
    if images.shape[:2] != (n, n):
        raise ValueError(
            f"grid must have one row and one column per value of axis; "
            f"got {images.shape} for an axis of shape {values.shape}"
        )
    if np.any(np.diff(values) <= 0):
        raise ValueError("the values of axis must grow")
    round_values = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(values[0], values[-1])
    ticks = {
        float(np.interp(value, values, np.arange(n))): minus(f"{value:g}")
        for value in np.round(round_values, 9) + 0.0  # no minus zero
        if values[0] <= value <= values[-1]
    }
    return draw_grid(
        images[::-1],
        title=title,
        explanation="The decoder's mean at each point of the latent plane.",
        rows={n - 1 - at: text for at, text in ticks.items()},
        columns=ticks,
        x="z1",
        y="z2",
        gap=0,
        room=(1200, 1200),
    )


@styled
def traversals(
    images: NDArray[Any],
    values: NDArray[Any],
    rate_per_dimension: NDArray[Any],
    *,
    title: str,
) -> Figure:
    """One row per latent dimension, moved while the others stay 0; the highest rate comes first.

    Arguments:
        images: Shape (Z, K, C, H, W) in [0, 1], clipped: row j moves dimension j.
        values: The K values that the dimension takes.
        rate_per_dimension: Mean KL of each dimension in nats, shape (Z,). A collapsed dimension,
            near 0 nats, changes nothing and comes last. The 16 highest are shown.
    """
    rows = checked_images("images", images, "ZK")
    at = checked_finite("values", np.asarray(values, dtype=np.float64))
    rates = checked_finite("rate_per_dimension", np.asarray(rate_per_dimension, dtype=np.float64))
    if at.shape != rows.shape[1:2] or rates.shape != rows.shape[:1]:
        raise ValueError(
            f"images {rows.shape} need {rows.shape[1]} values and {rows.shape[0]} rates; "
            f"got {at.shape} and {rates.shape}"
        )
    order = np.argsort(-rates, kind="stable")[:_ROWS]
    explanation = "One latent dimension moved, the others 0; sorted by rate (mean KL per image)."
    if len(rates) > _ROWS:
        explanation += f" The {_ROWS} highest of {len(rates)} dimensions."
    return draw_grid(
        rows[order],
        title=title,
        explanation=explanation,
        rows={k: f"z{j + 1} ({minus(f'{rates[j]:.1f}')} nats)" for k, j in enumerate(order)},
        columns={k: minus(f"{value:.2g}") for k, value in enumerate(at)},
        x="value of the dimension (prior standard deviations)",
    )


@styled
def interpolations(images: NDArray[Any], *, title: str) -> Figure:
    """Paths between two test images, one per row, in equal steps.

    Arguments:
        images: Shape (R, K, C, H, W) in [0, 1], clipped; step k is decoded at k / (K - 1) of the
            straight line between the two posterior means.
    """
    rows = checked_images("images", images, "RK")
    steps = np.linspace(0, 1, rows.shape[1])
    return draw_grid(
        rows,
        title=title,
        explanation="Decoded along the line between the posterior means of two test images.",
        columns={k: f"{step:.2g}" for k, step in enumerate(steps)},
        x="part of the way from the first to the second image",
    )


@styled
def comparison(cells: Sequence[CellImages], *, title: str) -> Figure:
    """All cells of a grid on the same test images: reconstructions left, samples right.

    The first row holds real images: left those that are reconstructed, right the test images that
    follow, as a measure for the samples (when there are enough of them).

    Arguments:
        cells: One `CellImages` per row, in the order of the rows.
        title: The grid.

    Raises:
        ValueError: no cells, cells of different test images (draw one figure per data set), or
            images of another shape or not finite.
    """
    if not cells:
        raise ValueError("a comparison needs at least one cell")
    pairs = [_checked_pair(cell[2], cell[3]) for cell in cells]
    drawn = [checked_images("samples", cell[4]) for cell in cells]
    originals = pairs[0][0]
    for cell, (other, _), sample in zip(cells, pairs, drawn, strict=True):
        if not np.array_equal(other, originals) or sample.shape[1:] != originals.shape[1:]:
            raise ValueError(
                f"{cell[0]} shows other test images than {cells[0][0]}; "
                "draw one comparison per data set"
            )
    n = min(8, len(originals), *(len(sample) for sample in drawn))
    further = originals[n : 2 * n]
    blank = np.ones((n - len(further), *originals.shape[1:]), np.float32)  # white as the page
    rows = [np.concatenate([originals[:n], further, blank])]
    rows += [
        np.concatenate([below[:n], sample[:n]])
        for (_, below), sample in zip(pairs, drawn, strict=True)
    ]
    return draw_grid(
        np.stack(rows),
        title=title,
        explanation="Left: the same test images, reconstructed by each cell from its posterior"
        " mean. Right: each cell's samples from the prior N(0, I)"
        + (", below other test images." if len(further) else "."),
        rows=dict(enumerate(["test images", *(cell[0] for cell in cells)])),
        details=["", *(cell[1] for cell in cells)],
        headings={0: "reconstructions", n: "samples from the prior"},
        row_break=1,
        column_break=n,
    )


def _checked_pair(
    originals: NDArray[Any], reconstructions: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    above = checked_images("originals", originals)
    below = checked_images("reconstructions", reconstructions)
    if above.shape != below.shape:
        raise ValueError(
            f"originals and reconstructions differ in shape: {above.shape} and {below.shape}"
        )
    return above, below
