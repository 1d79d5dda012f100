"""What all figures share: colours, fonts, the heading, the checks of their arrays, and PNG bytes.

To add a colour or a setting, put it in the constants below; a figure never sets rcParams itself.
Layout is reckoned in pixels at `DPI`, so that image pixels fall on whole pixels of the PNG.
"""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray
from PIL import Image

DPI = 200
MARGIN = 20  # pixels around everything

# Okabe & Ito (2008), https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"
# Ten colours told apart with normal and with colour-blind eyes, and seen on white: the "muted"
# scheme of Tol (2021), https://personal.sron.nl/~pault/, and black.
TEN = (
    "#CC6677",
    "#332288",
    "#DDCC77",
    "#117733",
    "#88CCEE",
    "#882255",
    "#44AA99",
    "#999933",
    "#AA4499",
    "#000000",
)

LINES = ("-", "--", ":", "-.")
QUARTILES_FROM = 5  # seeds; of fewer, a band goes from the lowest to the highest

TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 10.0, 8.5, 7.5  # points
QUIET = "#555555"  # explanations, beside the black of titles and labels

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the same picture on every machine
    "font.size": TEXT_SIZE,
    "text.parse_math": False,  # a cell's label may hold a dollar sign
    "axes.titlesize": TEXT_SIZE,
    "axes.labelsize": TEXT_SIZE,
    "xtick.labelsize": SMALL_SIZE,
    "ytick.labelsize": SMALL_SIZE,
    "legend.fontsize": SMALL_SIZE,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": QUIET,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
}

P = ParamSpec("P")
_HEADED: ContextVar[bool] = ContextVar("headed", default=True)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the style of this module whatever rcParams the caller has, and leave those alone."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.style.context(["default", _STYLE]):
            return draw(*args, **kwargs)

    return inner


def to_png(figure: Figure) -> bytes:
    """PNG of a figure; equal figures give equal bytes (no date, no version of the software).

    Image grids are exact: every image pixel is a square of equal size.
    """
    buffer = io.BytesIO()
    with matplotlib.style.context(["default", _STYLE]):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]  # once; savefig draws twice, to these pixels
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba()))  # type: ignore[no-untyped-call]
    picture.save(buffer, format="PNG", dpi=(figure.dpi, figure.dpi))
    return buffer.getvalue()


def to_pdf(figure: Figure) -> bytes:
    """PDF of a figure, with fonts as text; equal figures give equal bytes (no date)."""
    buffer = io.BytesIO()
    with matplotlib.style.context(["default", _STYLE, {"pdf.fonttype": 42}]):
        figure.savefig(buffer, format="pdf", dpi="figure", metadata={"CreationDate": None})
    return buffer.getvalue()


@contextmanager
def untitled() -> Iterator[None]:
    """Draw figures without title and explanation, as a paper wants them, whose captions say it."""
    token = _HEADED.set(False)
    try:
        yield
    finally:
        _HEADED.reset(token)


def checked_images(name: str, images: NDArray[Any], leading: str = "N") -> NDArray[np.float32]:
    """Images as float32 clipped to [0, 1] (a linear decoder leaves that range).

    Arguments:
        name: The array's name in an error.
        images: Shape (*leading, C, H, W), C of 1 or 3.
        leading: The names of the leading dimensions, one letter each.

    Raises:
        ValueError: another number of dimensions or channels, nothing in it, NaN or infinity.
    """
    shape = ", ".join((*leading, "C", "H", "W"))
    array = np.asarray(images)
    if array.ndim != len(leading) + 3 or array.shape[-3] not in (1, 3) or array.size == 0:
        raise ValueError(
            f"{name} must have shape ({shape}) with C of 1 or 3, none of them 0; got {array.shape}"
        )
    checked_finite(name, array)
    return np.asarray(np.clip(array, 0.0, 1.0), dtype=np.float32)


def checked_finite(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array as it is.

    Raises:
        ValueError: it holds NaN or infinity, which would be drawn as holes.
    """
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise ValueError(f"{name} holds {bad} values that are NaN or infinite, of {array.size}")
    return array


def points(size: float) -> float:
    """Typographic points in pixels at `DPI`."""
    return size * DPI / 72


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width in pixels at `DPI` of one line of text of `size` points."""
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return points(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def minus(text: str) -> str:
    """The text with a minus sign that is as wide as a digit."""
    return text.replace("-", "\N{MINUS SIGN}")


class Heading:
    """Title and explanation, wrapped to `width` pixels, to be drawn at the top left of a figure."""

    def __init__(self, title: str, explanation: str, width: float) -> None:
        title, explanation = (title, explanation) if _HEADED.get() else ("", "")
        self._lines = [
            *((line, TITLE_SIZE, True) for line in wrapped(title, width, TITLE_SIZE, bold=True)),
            *((line, SMALL_SIZE, False) for line in wrapped(explanation, width, SMALL_SIZE)),
        ]
        self.height = MARGIN + sum(points(1.35 * size) for _, size, _ in self._lines) + points(4)

    def draw(self, figure: Figure) -> None:
        """Write it."""
        width, height = figure.get_size_inches() * DPI
        top = float(MARGIN)
        for line, size, bold in self._lines:
            figure.text(
                MARGIN / width,
                1 - top / height,
                line,
                size=size,
                va="top",
                weight="bold" if bold else "normal",
                color="black" if bold else QUIET,
            )
            top += points(1.35 * size)


def page(inches: tuple[float, float], title: str, explanation: str) -> tuple[Figure, float]:
    """A figure with only its heading, and where that ends, as a part of the height.

    What is added to the figure is laid out below the heading.
    """
    width = inches[0] * DPI
    heading = Heading(title, explanation, width - 2 * MARGIN)
    height = inches[1] * DPI + heading.height
    top = 1 - heading.height / height
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, top), w_pad=0.06, h_pad=0.06)
    figure = Figure(figsize=(inches[0], height / DPI), dpi=DPI, layout=layout)
    heading.draw(figure)
    return figure, top


def looks_of(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and dash of each line, by its label, in the order of their first occurrence."""
    return {
        label: {"color": TEN[i % len(TEN)], "linestyle": LINES[i // len(TEN) % len(LINES)]}
        for i, label in enumerate(dict.fromkeys(labels))
    }


def legended(
    inches: tuple[float, float], title: str, explanation: str, looks: Mapping[str, dict[str, Any]]
) -> Figure:
    """A :func:`page` with a legend of lines below it, for which it grows."""
    longest = max(text_width(label, SMALL_SIZE) for label in looks) + points(4 * SMALL_SIZE)
    across = max(1, min(3, int(inches[0] * DPI / longest)))
    grown = inches[1] + 0.18 * math.ceil(len(looks) / across)
    figure, _ = page((inches[0], grown), title, explanation)
    lines = [Line2D([], [], label=label, **look) for label, look in looks.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=across)
    return figure


def band_of(seeds: int) -> tuple[float, float, float]:
    """The quantiles of a band and of its middle, over so many seeds."""
    return (0.25, 0.5, 0.75) if seeds >= QUARTILES_FROM else (0.0, 0.5, 1.0)


def wrapped(text: str, width: float, size: float, *, bold: bool = False) -> list[str]:
    """The text in lines no wider than `width` pixels, except for single words that are wider."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, bold=bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
