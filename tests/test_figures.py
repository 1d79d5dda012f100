import copy
import io
import json
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from vaebench import figures
from vaebench.figures.style import TEN

RNG = np.random.default_rng(0)
TITLE = "cnn / mse / kl, seed 0"


def images(*leading, channels=1, height=8, width=8):
    return RNG.random((*leading, channels, height, width), dtype=np.float32)


def journal(epochs=3, **metrics):
    """One line per epoch; a metric is a value, or a list with one value per epoch."""
    defaults = {f"{split}/{name}": value for split in ("train", "val") for name, value in NATS}
    defaults |= {"train/learning_rate": 1e-3, "train/beta": 1.0}
    values = {
        name: list(value) if isinstance(value, (list, np.ndarray)) else [value] * epochs
        for name, value in (defaults | metrics).items()
    }
    return [
        {"epoch": k + 1, "time": k, "metrics": {name: v[k] for name, v in values.items()}}
        for k in range(epochs)
    ]


NATS = (("elbo", -100.0), ("rate", 20.0), ("distortion", 80.0))
ORIGINALS = images(20)


def cell(name, metrics="SSIM 0.9", originals=ORIGINALS, samples=8):
    return figures.CellImages(name, metrics, originals, images(20), images(samples))


# Every figure, with arguments that a run would give: the contract tests below run over all of them.
DRAW = {
    "reconstructions": lambda t: figures.reconstructions(images(20), images(20), title=t),
    "samples": lambda t: figures.samples(images(64), title=t),
    "manifold": lambda t: figures.manifold(images(20, 20), np.linspace(-2, 2, 20), title=t),
    "traversals": lambda t: figures.traversals(
        images(3, 11), np.linspace(-3, 3, 11), np.array([0.0, 1.2, 3.0]), title=t
    ),
    "latent": lambda t: figures.latent(
        RNG.normal(size=(200, 2)), np.arange(200) % 10, title=t, axes=("z1", "z2")
    ),
    "interpolations": lambda t: figures.interpolations(images(6, 10), title=t),
    "curves": lambda t: figures.curves(journal(), title=t),
    "rate_per_dimension": lambda t: figures.rate_per_dimension(np.array([0.0, 1.2, 3.0]), title=t),
    "comparison": lambda t: figures.comparison([cell("fnn / bce / kl"), cell("b")], title=t),
}
FUNCTIONS = pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)


def texts(figure):
    """All visible text of a figure, in one string."""
    figure.canvas.draw()
    found = figure.findobj(lambda artist: hasattr(artist, "get_text") and artist.get_visible())
    return " | ".join(text for artist in found if (text := artist.get_text()))


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_every_public_figure_is_under_contract():
    tiles = {"tile", "paired_tile", "tile_png", "to_png", "CellImages"}
    assert set(figures.__all__) - tiles == set(DRAW)


@FUNCTIONS
def test_figure_shows_its_title(draw):
    figure = draw(TITLE)
    assert isinstance(figure, Figure)
    assert TITLE in texts(figure)


@FUNCTIONS
def test_long_title_stays_inside_the_figure(draw):
    figure = draw(" / ".join(["model.latent_dim=128"] * 9))
    renderer = figure.canvas.get_renderer()
    edges = [text.get_window_extent(renderer) for text in figure.texts]
    assert max(edge.x1 for edge in edges) <= figure.bbox.x1
    tops = sorted((edge.y0, edge.y1) for edge in edges)
    assert all(below[1] <= above[0] + 1 for below, above in zip(tops, tops[1:], strict=False))


@FUNCTIONS
def test_nothing_is_cut_off_at_the_edge(draw):
    pixels = decoded(figures.to_png(draw(TITLE)))
    edge = np.concatenate([pixels[:4].ravel(), pixels[-4:].ravel(), pixels[:, :4].ravel()])
    assert (edge == 255).all()
    assert (pixels[:, -4:] == 255).all()
    assert pixels.min() < 255


@FUNCTIONS
def test_figure_leaves_rcparams_alone_and_does_not_depend_on_them(draw, monkeypatch):
    def png():
        global RNG
        RNG = np.random.default_rng(1)
        return figures.to_png(draw(TITLE))

    plain = png()
    with matplotlib.rc_context({"font.size": 31, "axes.grid": False, "savefig.dpi": 30}):
        before = copy.deepcopy(dict(matplotlib.rcParams))
        assert png() == plain
        assert dict(matplotlib.rcParams) == before


def test_title_with_dollar_signs_is_no_formula():
    assert "$x_1 $ 5" in texts(figures.samples(images(4), title="$x_1 $ 5"))


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("manifold", ["z1", "z2", "\N{MINUS SIGN}2", "0"]),
        ("traversals", ["z3 (3.0 nats)", "z1 (0.0 nats)", "prior standard deviations"]),
        ("latent", ["z1", "z2", "class", "9"]),
        ("interpolations", ["from the first to the second image", "0.11"]),
        ("curves", ["epoch", "nats per image", "training", "validation", "distortion"]),
        ("rate_per_dimension", ["rate (nats per image)", "3.2 nats" * 0 + "4.2 nats in all"]),
        ("comparison", ["fnn / bce / kl", "SSIM 0.9", "reconstructions", "samples from the prior"]),
        ("reconstructions", ["original", "reconstruction"]),
    ],
)
def test_figure_names_its_axes_and_units(name, labels):
    shown = texts(DRAW[name](TITLE))
    assert [label for label in labels if label not in shown] == []


def test_drawing_imports_neither_pyplot_nor_torch():
    script = (
        "import sys, json, numpy as np\n"
        "from vaebench import figures as f\n"
        "x = np.zeros((4, 1, 8, 8))\n"
        "f.to_png(f.samples(x, title='t'))\n"
        "f.to_png(f.curves([{'epoch': 1, 'metrics': {'train/elbo': -1.0}}], title='t'))\n"
        "f.tile_png(f.tile(x))\n"
        "print(json.dumps([m for m in ('matplotlib.pyplot', 'torch') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout) == []


def test_png_carries_no_software_version():
    info = Image.open(io.BytesIO(figures.to_png(DRAW["samples"](TITLE)))).info
    assert "Software" not in info


def test_png_resolution_can_be_chosen():
    figure = DRAW["samples"](TITLE)
    full, half = (decoded(figures.to_png(figure, dpi=dpi)) for dpi in (None, 100))
    assert full.shape[0] == 2 * half.shape[0]


# Image grids


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 5, 9), (3, 8, 8), (1, 28, 28)])
def test_each_image_pixel_becomes_an_exact_square(channels, height, width):
    shown = images(4, channels=channels, height=height, width=width)
    png = decoded(figures.to_png(figures.samples(shown, title=TITLE)))
    first = (shown[0] * 255).transpose(1, 2, 0)
    factor = 2 * max(1, (1000 // 2 - 6) // (2 * max(height, width)))  # near, then searched
    matches = [
        (k, y, x)
        for k in range(factor, factor + 400)
        for y in [top_of_images(png)]
        for x in [20]
        if (large := np.repeat(np.repeat(first, k, 0), k, 1)).shape[0] + y <= png.shape[0]
        and large.shape[1] + x <= png.shape[1]
        and np.abs(png[y : y + large.shape[0], x : x + large.shape[1]] - large).max() <= 1.0
    ]
    assert len(matches) == 1


def top_of_images(png):
    """Row of the first image pixel: the images start at the margin and fill the left column."""
    column = (png[:, 20:60] < 250).all(axis=(1, 2))
    return int(np.argmax(column))
