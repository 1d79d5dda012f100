"""A labelled grid of images as a figure, exact to the pixel: what all figures of `images` share.

Images are enlarged by a whole factor and placed on whole pixels, so that they stay sharp.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
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

_MIN_WIDTH = 800  # pixels of a figure: room for the heading
_BREAK = 20  # pixels

Texts = Mapping[float, str]  # by index of row or column, which may lie between two


def draw_grid(
    images: NDArray[np.float32],
    *,
    title: str,
    explanation: str,
    rows: Texts | None = None,
    details: Sequence[str] = (),
    columns: Texts | None = None,
    headings: Texts | None = None,
    x: str = "",
    y: str = "",
    gap: int = 6,
    row_break: int = 0,
    column_break: int = 0,
    room: tuple[int, int] = (1240, 1400),
) -> Figure:
    """A figure of images, whose axes have one pixel as unit.

    Arguments:
        images: Shape (rows, columns, C, H, W); the first row is drawn at the top.
        title: In bold, at the top.
        explanation: Below the title; both are wrapped to the width of the figure.
        rows: Labels of rows, at the left.
        details: A second, smaller line for each row's label; if given, every row has a label.
        columns: Labels of columns, below; where they would touch, not every one is written.
        headings: Texts above the images, each beginning at the left edge of its column.
        x: Name of the axis below.
        y: Name of the axis at the left.
        gap: Pixels between images.
        row_break: The row before which the gap is wider; 0: none.
        column_break: The column before which it is.
        room: Width and height that the images take at most, in pixels; more only if they do not
            fit unenlarged.
    """
    down, across, _, height, width = images.shape
    fits = (room[0] // across - gap) // width, (room[1] // down - gap) // height
    factor = max(1, min(fits))
    tops = _starts(down, factor * height + gap, row_break)
    lefts = _starts(across, factor * width + gap, column_break)
    picture = _mosaic(images, factor, tops, lefts)
    high, wide = picture.shape[:2]

    figure = Figure(figsize=(wide / DPI, high / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    image = _Unscaled(axes, interpolation="nearest", extent=(0, wide, high, 0))
    image.set_data(picture)
    image.set_clip_path(axes.patch)
    axes.add_image(image)
    axes.set(xlim=(0, wide), ylim=(high, 0))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=3)
    axes.set_xlabel(x, labelpad=2)
    axes.set_ylabel(y, labelpad=2)
    _label_columns(axes, columns or {}, lefts + factor * width / 2)
    _label_rows(axes, rows or {}, details, tops + factor * height / 2)
    for column, text in (headings or {}).items():
        axes.text(lefts[int(column)], -points(4), text, va="bottom", weight="bold")

    box = axes.get_tightbbox()  # of the images and of what is written beside them
    assert box is not None
    left, below = (MARGIN + math.ceil(max(0.0, -start)) for start in (box.x0, box.y0))
    right, above = (round(max(0.0, end)) for end in (box.x1 - wide, box.y1 - high))
    page_width = max(_MIN_WIDTH, left + wide + right + MARGIN)
    heading = Heading(title, explanation, page_width - 2 * MARGIN)
    page_height = below + high + above + round(heading.height + points(2))
    figure.set_size_inches(page_width / DPI, page_height / DPI)
    axes.set_position(
        (left / page_width, below / page_height, wide / page_width, high / page_height)
    )
    heading.draw(figure)
    return figure


class _Unscaled(AxesImage):
    """An image that is copied where its axes have as many pixels, which is most of its time.

    What matplotlib makes of it there is the same to the last bit. It has no such image of its own:
    that of ``figimage`` is resampled, too.
    """

    def make_image(
        self, renderer: Any, magnification: float = 1.0, unsampled: bool = False
    ) -> tuple[Any, float, float, Any]:
        """As matplotlib's: the picture, (H, W, 4), its corner in pixels, no transform."""
        picture, box = np.asarray(self.get_array()), self.axes.bbox
        exact = np.allclose((box.height, box.width), picture.shape[:2], rtol=0, atol=1e-6)
        if unsampled or magnification != 1 or not exact:
            return super().make_image(renderer, magnification, unsampled)
        rgba = np.full((*picture.shape[:2], 4), 255, np.uint8)
        rgba[..., :3] = picture[::-1]  # matplotlib begins at the bottom
        return rgba, round(box.x0), round(box.y0), None


def _starts(count: int, step: int, before: int) -> NDArray[np.int64]:
    """Where each image starts, along one side."""
    index = np.arange(count)
    return np.asarray(index * step + _BREAK * (index >= (before or count)), dtype=np.int64)


def _label_columns(axes: Axes, texts: Texts, centres: NDArray[np.float64]) -> None:
    at = np.interp(list(texts), np.arange(len(centres)), centres)
    widest = max((text_width(text, SMALL_SIZE) for text in texts.values()), default=0.0)
    free = float(np.diff(at).min()) if len(texts) > 1 else math.inf
    step = max(1, math.ceil(1.3 * widest / free))
    axes.set_xticks(at[::step], list(texts.values())[::step])


def _label_rows(
    axes: Axes, texts: Texts, details: Sequence[str], centres: NDArray[np.float64]
) -> None:
    at = np.interp(list(texts), np.arange(len(centres)), centres)
    if not details:  # names are larger than the numbers of an axis
        size = SMALL_SIZE if axes.get_ylabel() else TEXT_SIZE
        axes.set_yticks(at, list(texts.values()), size=size)
        return
    axes.set_yticks([])
    for y, label, detail in zip(at, texts.values(), details, strict=True):
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
