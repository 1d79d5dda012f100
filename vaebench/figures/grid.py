"""A labelled grid of images as a figure, exact to the pixel: what all figures of `images` share.

Images are enlarged by a whole factor and placed on whole pixels, so that they stay sharp. A new
way to label a grid belongs in `Labels`, a new way to space it in `Spacing`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vaebench.figures.style import (
    DPI,
    MARGIN,
    QUIET,
    SMALL_SIZE,
    TEXT_SIZE,
    Heading,
    points,
    text_width,
)

_LEAST_FIGURE_WIDTH = 800  # pixels: room for the heading


@dataclass(frozen=True)
class Labels:
    """What stands beside the grid. Keys are indices of rows and columns, or lie between two."""

    rows: Mapping[float, str] = field(default_factory=dict)
    details: Sequence[str] = ()
    """A second, smaller line for each row label; if given, every row has a label."""
    columns: Mapping[float, str] = field(default_factory=dict)
    x: str = ""
    y: str = ""

    def width(self) -> float:
        """Pixels that the row labels take."""
        widths = [text_width(text, self.row_size, bold=bool(self.details)) for text in self._rows]
        widths += [text_width(text, SMALL_SIZE) for text in self.details]
        return max(widths, default=-points(5)) + points(5) + points(14) * bool(self.y)

    def height(self) -> float:
        """Pixels that the column labels take."""
        return points(13) * bool(self.columns) + points(14) * bool(self.x)

    def draw(self, axes: Axes, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> None:
        """Write them; `rows` and `columns` are the centres of the images in pixels."""
        axes.set_xlabel(self.x, labelpad=2)
        axes.set_ylabel(self.y, labelpad=2)
        at = np.interp(list(self.columns), np.arange(len(columns)), columns)
        texts = list(self.columns.values())
        widest = max((text_width(text, SMALL_SIZE) for text in texts), default=0.0)
        room = float(np.diff(at).min()) if len(texts) > 1 else math.inf
        step = max(1, math.ceil(1.3 * widest / room))  # where they would touch, not every one
        axes.set_xticks(at[::step], texts[::step])
        at = np.interp(list(self.rows), np.arange(len(rows)), rows)
        if not self.details:
            axes.set_yticks(at, self._rows, size=self.row_size)
            return
        axes.set_yticks([])
        for y, label, detail in zip(at, self._rows, self.details, strict=True):
            place = "bottom" if detail else "center"
            axes.text(-points(5), y, label, ha="right", va=place, weight="bold")
            axes.text(
                -points(5),
                y + points(1),
                detail,
                ha="right",
                va="top",
                size=SMALL_SIZE,
                color=QUIET,
            )

    @property
    def row_size(self) -> float:
        """Font size of the row labels: names are larger than the numbers of an axis."""
        return SMALL_SIZE if self.y else TEXT_SIZE

    @property
    def _rows(self) -> list[str]:
        return list(self.rows.values())


@dataclass(frozen=True)
class Spacing:
    """Pixels between and around the images."""

    gap: int = 6
    break_width: int = 20
    """Added to the gap before each row in `row_breaks` and each column in `column_breaks`."""
    row_breaks: Sequence[int] = ()
    column_breaks: Sequence[int] = ()
    head: float = 0.0
    """Left free above the images."""
    width: int = 1240
    """The most that the images take; more only if they do not fit unenlarged."""
    height: int = 1400

    def factor(self, shape: tuple[int, ...]) -> int:
        """By how much images of shape (rows, columns, C, H, W) are enlarged."""
        rows, columns, _, height, width = shape
        across = (self.width // columns - self.gap) // width
        return max(1, min(across, (self.height // rows - self.gap) // height))

    def starts(self, count: int, size: int, breaks: Sequence[int]) -> NDArray[np.int64]:
        """Where each of `count` images of `size` pixels starts, along one side."""
        index = np.arange(count)
        before = np.searchsorted(np.sort(breaks), index, side="right")
        return np.asarray(index * (size + self.gap) + self.break_width * before, dtype=np.int64)


def draw_grid(
    images: NDArray[np.float32],
    *,
    title: str,
    explanation: str,
    labels: Labels | None = None,
    spacing: Spacing | None = None,
) -> tuple[Figure, Axes]:
    """A figure of images, shape (rows, columns, C, H, W), and its axes, whose unit is one pixel.

    Rows are drawn from the top. The heading is wrapped to the width of the figure.
    """
    labels, spacing = labels or Labels(), spacing or Spacing()
    factor = spacing.factor(images.shape)
    rows, columns, _, height, width = images.shape
    tops = spacing.starts(rows, factor * height, spacing.row_breaks)
    lefts = spacing.starts(columns, factor * width, spacing.column_breaks)
    picture = _mosaic(images, factor, tops, lefts)

    left, below = round(MARGIN + labels.width()), round(MARGIN + labels.height())
    page_width = max(_LEAST_FIGURE_WIDTH, left + picture.shape[1] + MARGIN)
    heading = Heading(title, explanation, page_width - 2 * MARGIN)
    page_height = round(heading.height + spacing.head + points(2)) + picture.shape[0] + below
    figure = Figure(figsize=(page_width / DPI, page_height / DPI), dpi=DPI)
    heading.draw(figure)
    place = np.array([left, below, picture.shape[1], picture.shape[0]], dtype=np.float64)
    place /= [page_width, page_height, page_width, page_height]
    axes = figure.add_axes((place[0], place[1], place[2], place[3]))
    axes.imshow(
        picture,
        interpolation="nearest",
        aspect="auto",
        extent=(0, picture.shape[1], picture.shape[0], 0),
    )
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=3)
    labels.draw(axes, tops + factor * height / 2, lefts + factor * width / 2)
    return figure, axes


def _mosaic(
    images: NDArray[np.float32], factor: int, tops: NDArray[np.int64], lefts: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """One white picture, (H, W, 3), with every image enlarged at its place.

    Grey levels are made here, by rounding: a colour map would move some of them by two.
    """
    levels = np.rint(images * 255).astype(np.uint8)
    large = levels.repeat(factor, axis=3).repeat(factor, axis=4).transpose(0, 1, 3, 4, 2)
    height, width = large.shape[2:4]
    picture = np.full((tops[-1] + height, lefts[-1] + width, 3), 255, np.uint8)
    for row, top in zip(large, tops, strict=True):
        for image, left in zip(row, lefts, strict=True):
            picture[top : top + height, left : left + width] = image
    return picture
