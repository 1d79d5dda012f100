"""Contract tests over all figures, then known answers for the grids and the charts."""

import copy
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from experiments.benchmarks.chart import turns
from vaebench import figures
from vaebench.figures import style
from vaebench.figures.style import TEN

TITLE = "cnn / mse / kl, seed 0"
RATES = np.array([0.0, 1.2, 3.0])
Draw = Callable[[str], Figure]


def images(
    *leading: int, channels: int = 1, height: int = 8, width: int = 8, seed: int = 0
) -> NDArray[np.float32]:
    shape = (*leading, channels, height, width)
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def journal(**metrics: Sequence[float | None] | NDArray[Any]) -> list[dict[str, Any]]:
    """Two epochs, or as many as the metrics given as lists have."""
    defaults: dict[str, Any] = {"train/elbo": [-100.0, -90.0], "val/elbo": [-101.0, -91.0]}
    values = defaults | metrics if "train/elbo" not in metrics else metrics
    count = len(values["train/elbo"])
    return [
        {"epoch": k + 1, "time": k, "metrics": {name: v[k] for name, v in values.items()}}
        for k in range(count)
    ]


def series(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return 100 + np.random.default_rng(seed).random(shape).cumsum(axis=-1)


def cell(
    label: str, metrics: str = "SSIM 0.9", *, samples: int = 20, seed: int = 0
) -> figures.CellImages:
    return figures.CellImages(
        label, metrics, images(20, seed=seed), images(20, seed=1), images(samples)
    )


# Every figure, drawn from what a run would give, and that of the benchmarks.
def rate_curve(label: str, offset: float = 0.0) -> figures.RateCurve:
    rates = np.linspace(2.0, 6.0, 4)
    line = np.stack([rates, offset + 10 / rates], axis=1)
    seeds = line[:, 1] + np.arange(3.0)[:, None]
    return figures.RateCurve(label, line, ("0.5", "1", "2", "4"), line, rates, seeds)


DRAW: dict[str, Draw] = {
    "reconstructions": lambda title: figures.reconstructions(images(20), images(20), title=title),
    "samples": lambda title: figures.samples(images(64), title=title),
    "manifold": lambda title: figures.manifold(images(20, 20), np.linspace(-2, 2, 20), title=title),
    "traversals": lambda title: figures.traversals(
        images(3, 11), np.linspace(-3, 3, 11), RATES, title=title
    ),
    "latent": lambda title: figures.latent(
        images(200, 2)[..., 0, 0, 0], np.arange(200) % 10, title=title, axes=("z1", "z2")
    ),
    "interpolations": lambda title: figures.interpolations(images(6, 10), title=title),
    "curves": lambda title: figures.curves(
        journal(**{"train/rate": [20.0, 19.0], "train/distortion": [80.0, 71.0]}), title=title
    ),
    "gradient_variance": lambda title: figures.gradient_variance(
        journal(**{"grad/encoder_variance/kl": [2.0, 3.0], "grad/decoder_snr/kl": [0.1, 70.0]}),
        title=title,
        trained="kl",
    ),
    "turns": lambda title: turns(
        {"vaebench": [110.0, 120.0, 90.0], "a plain loop": [40.0]}, title=title, unit="images/s"
    ),
    "rate_per_dimension": lambda title: figures.rate_per_dimension(RATES, title=title),
    "learning_curves": lambda title: figures.learning_curves(
        {
            f"validation {name}, {loss}, nats per image": [
                figures.CellCurve(f"fnn / {loss} / {k}", np.arange(1, 9), -series(3, 8, seed=k))
                for k in range(3)
            ]
            for loss in ("bce", "mse (σ²=0.5) or gaussian (σ² optimal)")
            for name in ("ELBO", "rate", "distortion")
        },
        title=title,
    ),
    "budget_curves": lambda title: figures.budget_curves(
        {
            f"validation ELBO, {loss}, nats per image": [
                figures.CellCurve(
                    f"fnn / {loss} / {k}", np.arange(1, 9), -series(3, 8, seed=k), 2.0 + k
                )
                for k in range(3)
            ]
            for loss in ("bce", "mse (σ²=0.5) or gaussian (σ² optimal)")
        },
        title=title,
        clock="CPU seconds",
    ),
    "rate_curves": lambda title: figures.rate_curves(
        {
            f"{score}, nats": [
                rate_curve(f"{loss} (σ²=0.5)", offset) for offset, loss in enumerate(("bce", "mse"))
            ]
            for score in ("Distortion, mse", "SSIM", "PSNR")
        },
        title=title,
        shared=(3.0, 5.0),
        numbers="beta",
    ),
    "comparison": lambda title: figures.comparison(
        [cell("fnn / bce / kl"), cell("cnn / bce / kl")], title=title
    ),
}
every_figure = pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)


def texts(figure: Figure) -> list[str]:
    """All visible text of a figure."""
    figure.draw_without_rendering()
    found = figure.findobj(Text)
    shown = [artist for artist in found if isinstance(artist, Text) and artist.get_visible()]
    return [artist.get_text() for artist in shown]


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def picture(figure: Figure) -> NDArray[np.uint8]:
    """The pixels of the first axes of a figure, as they are in its PNG."""
    png = pixels(figures.to_png(figure))
    box = figure.axes[0].get_window_extent().extents
    x0, y0, x1, y1 = np.rint(box).astype(int)
    np.testing.assert_allclose(box, [x0, y0, x1, y1], atol=1e-6)
    return png[len(png) - y1 : len(png) - y0, x0:x1]


def enlarged(image: NDArray[Any], factor: int) -> NDArray[Any]:
    """Image (C, H, W) as RGB pixels."""
    levels = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    return np.asarray(np.rint(levels * 255).repeat(factor, axis=0).repeat(factor, axis=1))


# What holds for every figure


def test_every_public_figure_is_under_contract() -> None:
    others = {
        "to_png",
        "to_pdf",
        "untitled",
        "run_figures",
        "CellImages",
        "CellCurve",
        "RateCurve",
        "FIGURES",
        "Plot",
    }
    assert set(figures.__all__) - others == set(DRAW) - {"turns"}


@every_figure
def test_figure_shows_its_title(draw: Draw) -> None:
    figure = draw(TITLE)
    assert isinstance(figure, Figure)
    assert TITLE in texts(figure)


@every_figure
def test_long_title_is_wrapped_inside_the_figure_and_above_the_rest(draw: Draw) -> None:
    figure = draw(" / ".join(["model.latent_dim=128"] * 9))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert len(boxes) > 2
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    for above, below in pairwise(boxes):
        assert below.y1 <= above.y0 + 1
    assert figure.axes[0].get_window_extent().y1 < boxes[-1].y0


@every_figure
def test_nothing_is_cut_off_at_the_edge(draw: Draw) -> None:
    png = pixels(figures.to_png(draw(TITLE)))
    for edge in (png[:4], png[-4:], png[:, :4], png[:, -4:]):
        assert (edge == 255).all()
    assert png.min() == 0


@every_figure
def test_png_depends_on_nothing_but_the_arguments(draw: Draw) -> None:
    plain = figures.to_png(draw(TITLE))
    assert "Software" not in Image.open(io.BytesIO(plain)).info
    settings_of_a_user: dict[Any, Any] = {"font.size": 31, "axes.grid": False, "savefig.dpi": 30}
    with matplotlib.rc_context(settings_of_a_user):
        before = copy.deepcopy(dict(matplotlib.rcParams))
        assert figures.to_png(draw(TITLE)) == plain
        assert dict(matplotlib.rcParams) == before


@every_figure
def test_untitled_figures_have_neither_title_nor_explanation_and_the_rest(draw: Draw) -> None:
    titled = texts(draw(TITLE))
    with figures.untitled():
        bare = texts(draw(TITLE))
    assert TITLE not in bare
    gone = [text for text in titled if text not in bare]
    assert gone[0] == TITLE
    assert all(text in titled for text in bare)
    assert TITLE in texts(draw(TITLE)), "only inside"


@every_figure
def test_pdf_depends_on_nothing_but_the_arguments_and_has_its_text(draw: Draw) -> None:
    first = figures.to_pdf(draw(TITLE))
    assert first.startswith(b"%PDF")
    assert b"/FontFile2" in first  # TrueType: letters that can be searched and edited
    assert figures.to_pdf(draw(TITLE)) == first
    assert b"CreationDate" not in first


def test_a_band_is_all_of_few_seeds_and_the_middle_half_of_many() -> None:
    for count, ends in ((3, (1.0, 3.0)), (5, (2.0, 4.0))):
        values = np.repeat(np.arange(1.0, count + 1)[:, None], 2, axis=1)
        curve = figures.CellCurve("fnn", np.array([1, 2]), values)
        (axes,) = figures.learning_curves({"ELBO, nats": [curve]}, title=TITLE).axes
        (band,) = axes.collections
        heights = band.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == ends
        (line,) = axes.lines
        assert line.get_ydata().tolist() == [(count + 1) / 2] * 2


def test_one_seed_has_no_band_and_wrong_curves_are_refused() -> None:
    one = figures.CellCurve("fnn", np.array([1, 2]), np.ones((1, 2)))
    (axes,) = figures.learning_curves({"ELBO, nats": [one]}, title=TITLE).axes
    assert not axes.collections
    for wrong in (np.ones((1, 3)), np.ones(2), np.full((1, 2), np.nan)):
        with pytest.raises(ValueError, match="fnn: "):
            figures.learning_curves({"ELBO": [one._replace(values=wrong)]}, title=TITLE)
    with pytest.raises(ValueError, match="at least one"):
        figures.learning_curves({}, title=TITLE)


def test_budgets_stand_on_logarithmic_axes_and_seconds_are_those_of_the_cell() -> None:
    fast, slow = (
        figures.CellCurve(label, np.arange(1, 4), np.array([[-3.0, -2.0, -1.0]]), seconds)
        for label, seconds in (("fnn", 2.0), ("cnn", 10.0))
    )
    panels = {"ELBO, nats": [fast, slow]}
    left, right = figures.budget_curves(panels, title=TITLE, clock="CPU seconds").axes
    assert [axes.get_xscale() for axes in (left, right)] == ["log", "log"]
    assert [line.get_xdata().tolist() for line in left.lines] == [[1, 2, 3]] * 2
    assert [line.get_xdata().tolist() for line in right.lines] == [[2, 4, 6], [10, 20, 30]]
    assert left.get_ylim() == right.get_ylim()
    untimed = {"ELBO, nats": [fast, slow._replace(seconds=None)]}
    (alone,) = figures.budget_curves(untimed, title=TITLE, clock="").axes
    assert alone.get_xlabel() == "epochs"
    with pytest.raises(ValueError, match="at least one"):
        figures.budget_curves({}, title=TITLE, clock="")


def test_rates_that_arms_share_are_shaded_and_wrong_points_refused() -> None:
    one = rate_curve("bce")
    for shared, spans in (((3.0, 5.0), 1), ((5.0, 3.0), 0), (None, 0)):
        (axes,) = figures.rate_curves(
            {"SSIM, ": [one]}, title=TITLE, shared=shared, numbers="beta"
        ).axes
        assert len(axes.patches) == spans
    (band,) = axes.collections
    assert band.get_paths()[0].vertices[:, 1].max() == 10 / 2 + 2
    wrong = one._replace(names=("1",))
    with pytest.raises(ValueError, match="bce: points must have shape"):
        figures.rate_curves({"SSIM, ": [wrong]}, title=TITLE, shared=None, numbers="beta")
    with pytest.raises(ValueError, match="at least one"):
        figures.rate_curves({}, title=TITLE, shared=None, numbers="")


def test_drawing_imports_neither_pyplot_nor_torch() -> None:
    script = (
        "import sys, json, numpy as np\n"
        "from vaebench import figures as f\n"
        "x = np.zeros((4, 1, 8, 8))\n"
        "f.to_png(f.samples(x, title='t'))\n"
        "f.to_png(f.curves([{'epoch': 1, 'metrics': {'train/elbo': -1.0}}], title='t'))\n"
        "print(json.dumps([m for m in ('matplotlib.pyplot', 'torch') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reconstructions", ["original", "reconstruction"]),
        ("manifold", ["z1", "z2", "\N{MINUS SIGN}2", "0", "2"]),
        ("traversals", ["z3 (3.0 nats)", "value of the dimension (prior standard deviations)"]),
        ("latent", ["z1", "z2", "class", "0", "9"]),
        ("interpolations", ["part of the way from the first to the second image", "0.11", "1"]),
        ("curves", ["epoch", "nats per image", "training", "validation"]),
        ("rate_per_dimension", ["rate (nats per image)", "latent dimension, sorted by rate"]),
        ("comparison", ["fnn / bce / kl", "SSIM 0.9", "reconstructions", "samples from the prior"]),
    ],
)
def test_figure_names_its_axes_with_their_units(name: str, expected: list[str]) -> None:
    shown = texts(DRAW[name](TITLE))
    assert [text for text in expected if text not in shown] == []


def test_dollar_signs_of_a_title_make_no_formula() -> None:
    figure = figures.samples(images(4), title="a $x_1$ b")
    assert not figure.texts[0].get_parse_math()
    figures.to_png(figure)


def test_class_colours_differ_on_white_and_in_colour_blind_eyes() -> None:
    # Machado, Oliveira & Fernandes (2009), severity 1: protan-, deuteran-, tritanopia.
    eyes: dict[str, Any] = {
        "normal": np.eye(3),
        "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    }
    srgb = np.array([*(matplotlib.colors.to_rgb(colour) for colour in TEN), (1.0, 1.0, 1.0)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    for matrix in eyes.values():
        seen = np.clip(linear @ np.transpose(matrix), 0, 1)
        seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
        lab = rgb2lab(seen[None])[0]
        distance: NDArray[Any] = deltaE_ciede2000(lab[:, None], lab[None])  # type: ignore[no-untyped-call]
        assert distance[np.triu_indices(len(lab), 1)].min() > 11


# Grids of images


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 5, 9), (1, 300, 90)])
def test_each_image_pixel_becomes_an_exact_square(channels: int, height: int, width: int) -> None:
    image = images(1, channels=channels, height=height, width=width)
    shown = picture(figures.samples(image, title=TITLE))
    factor = shown.shape[0] // height
    assert factor >= 3
    assert shown.shape[:2] == (factor * height, factor * width)
    np.testing.assert_array_equal(shown, enlarged(image[0], factor))


def test_values_outside_the_unit_interval_are_clipped() -> None:
    image = np.array([-5.0, 0.5, 7.0]).reshape(1, 1, 1, 3)
    shown = picture(figures.samples(image, title=TITLE))
    assert shown[0, :: shown.shape[1] // 3, 0][:3].tolist() == [0, 128, 255]


def test_image_larger_than_the_figure_is_not_shrunk() -> None:
    shown = picture(figures.samples(images(1, height=4, width=1500), title=TITLE))
    assert shown.shape[:2] == (4, 1500)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (9, 9), (19, 10)])
def test_fewer_than_twenty_reconstructions_make_one_block(count: int, columns: int) -> None:
    white = np.ones((count, 1, 8, 8))
    figure = figures.reconstructions(white * 0, white * 0.5, title=TITLE)
    assert texts(figure).count("original") == 1
    levels = picture(figure)[:, 3, 0]
    assert np.unique(levels).tolist() == [0, 128, 255]  # originals above, gap, reconstructions
    assert np.all(np.diff(levels[levels < 255].astype(int)) >= 0)
    across = picture(figure)[3, :, 0]
    assert np.count_nonzero(np.diff(across.astype(int)) > 0) == columns - 1  # one gap fewer


def test_manifold_is_oriented_like_a_scatter_plot() -> None:
    grid = np.zeros((3, 3, 1, 4, 4))
    grid[0, 2] = 1.0  # lowest z2, highest z1
    grid[2, 0] = 0.5  # highest z2, lowest z1
    shown = picture(figures.manifold(grid, np.array([-1.0, 0.0, 1.0]), title=TITLE))[..., 0]
    assert (shown[-1, -1], shown[0, 0], shown[0, -1]) == (255, 128, 0)


def test_manifold_ticks_stand_at_their_values_on_an_uneven_axis() -> None:
    axis = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])
    figure = figures.manifold(images(5, 5), axis, title=TITLE)
    panel = figure.axes[0]
    size = panel.get_xlim()[1] / 5
    at = {
        text.get_text(): x
        for text, x in zip(panel.get_xticklabels(), panel.get_xticks(), strict=True)
    }
    assert at["0"] == pytest.approx(2.5 * size)
    assert at["1"] == pytest.approx((3.5 + 1 / 3) * size)
    up = {
        text.get_text(): y
        for text, y in zip(panel.get_yticklabels(), panel.get_yticks(), strict=True)
    }
    assert up["1"] == pytest.approx((1.5 - 1 / 3) * size)


def test_traversals_put_the_highest_rate_first_and_the_collapsed_last() -> None:
    rows = np.array([0.2, 0.4, 0.6]).reshape(3, 1, 1, 1, 1) * np.ones((3, 11, 1, 8, 8))
    figure = figures.traversals(
        rows, np.linspace(-3, 3, 11), np.array([1.0, 0.0, 2.5]), title=TITLE
    )
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["z3 (2.5 nats)", "z1 (1.0 nats)", "z2 (0.0 nats)"]
    levels = picture(figure)[:, 0, 0].astype(int)
    levels = levels[levels < 255]
    assert levels[np.flatnonzero(np.diff(levels, prepend=-1))].tolist() == [153, 51, 102]


def test_traversals_of_many_dimensions_say_how_many_they_leave_out() -> None:
    figure = figures.traversals(images(40, 3), np.array([-1, 0, 1]), np.arange(40.0), title=TITLE)
    assert "The 16 highest of 40 dimensions" in " ".join(texts(figure))
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert (len(labels), labels[0]) == (16, "z40 (39.0 nats)")


def test_column_labels_that_would_touch_are_thinned_out() -> None:
    figure = figures.interpolations(images(1, 100), title=TITLE)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_xticklabels()]
    assert 2 < len(boxes) < 100
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_comparison_shows_further_test_images_above_the_samples() -> None:
    originals = np.linspace(0.1, 0.9, 16).reshape(16, 1, 1, 1) * np.ones((16, 1, 8, 8))
    row = figures.CellImages("cell", "", originals, originals * 0, originals * 0)
    shown = picture(figures.comparison([row], title=TITLE))[0, :, 0].astype(int)
    firsts = shown[np.flatnonzero((np.diff(shown, prepend=255) != 0) & (shown < 255))]
    assert firsts.tolist() == np.rint(255 * originals[:, 0, 0, 0]).tolist()


def test_comparison_with_few_test_images_leaves_that_place_white() -> None:
    row = figures.CellImages("cell", "", *(np.zeros((3, 1, 8, 8)) for _ in range(3)))
    figure = figures.comparison([row], title=TITLE)
    shown = picture(figure)
    half = shown.shape[1] // 2
    assert (shown[0, :half] == 0).any()
    assert (shown[0, half:] == 255).all()
    assert (shown[-1, half:] == 0).any()
    assert not any("other test images" in text for text in texts(figure))


def test_comparison_labels_do_not_overlap() -> None:
    rows = [cell(f"fnn / bce / sgvb / latent_dim={k}", "SSIM 0.91, PSNR 21.3") for k in range(8)]
    figure = figures.comparison(rows, title=TITLE)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) == 2 * 8 + 3
    overlaps = [(a, b) for k, a in enumerate(boxes) for b in boxes[:k] if a.overlaps(b)]
    assert overlaps == []


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: figures.samples(images(4, channels=2), title=""), r"samples must .* C of 1 or 3"),
        (lambda: figures.samples(images(), title=""), r"\(N, C, H, W\)"),
        (lambda: figures.samples(images(0), title=""), "none of them 0"),
        (lambda: figures.samples(images(4) * np.nan, title=""), "256 values that are NaN"),
        (lambda: figures.samples(images(4) * np.inf, title=""), "NaN or infinite"),
        (lambda: figures.reconstructions(images(4), images(3), title=""), "differ in shape"),
        (lambda: figures.manifold(images(3, 4), np.arange(3), title=""), "one row and one column"),
        (lambda: figures.manifold(images(2, 2), np.zeros(2), title=""), "must grow"),
        (lambda: figures.traversals(images(3, 5), np.arange(4), RATES, title=""), "5 values and 3"),
        (lambda: figures.interpolations(images(5), title=""), r"\(R, K, C, H, W\)"),
        (lambda: figures.comparison([], title=""), "at least one cell"),
        (lambda: figures.comparison([cell("a"), cell("b", seed=5)], title=""), "b shows other"),
        (lambda: figures.comparison([cell("a", samples=0)], title=""), "samples must"),
        (
            lambda: figures.latent(np.zeros((3, 2)), np.zeros(4), title="", axes=("a", "b")),
            r"\(N, 2\)",
        ),
        (
            lambda: figures.latent(
                np.array([[np.nan, 0.0]]), np.array([1]), title="", axes=("a", "b")
            ),
            "points holds 1 values",
        ),
        (lambda: figures.rate_per_dimension(np.zeros((2, 2)), title=""), r"shape \(Z,\)"),
        (lambda: figures.curves([], title=""), "no epoch"),
        (lambda: figures.curves(journal(**{"train/elbo": [math.nan]}), title=""), "no epoch"),
    ],
)
def test_arrays_that_do_not_fit_are_named_in_the_error(
    draw: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw()


# Charts


def panel_named(figure: Figure, start: str) -> Axes:
    (panel,) = [axes for axes in figure.axes if axes.get_title(loc="left").startswith(start)]
    return panel


def test_first_epochs_do_not_squash_the_curve_and_the_panel_says_so() -> None:
    elbo = np.concatenate([[-400.0, -200.0], np.linspace(-110, -100, 48)])
    panel = panel_named(figures.curves(journal(**{"train/elbo": elbo}), title=TITLE), "ELBO")
    low, high = panel.get_ylim()
    assert -112 < low < -110 < -100 < high < -98
    assert [text.get_text() for text in panel.texts] == [
        "\N{DOWNWARDS ARROW} 2 points below, to \N{MINUS SIGN}400.0"
    ]


def test_late_spike_does_not_squash_the_curve_either() -> None:
    distortion = np.linspace(90, 80, 30)
    distortion[20] = 1e6
    lines = journal(**{"train/elbo": -distortion, "val/distortion": distortion})
    panel = panel_named(figures.curves(lines, title=TITLE), "distortion")
    assert panel.get_ylim()[1] < 91
    assert [text.get_text() for text in panel.texts] == [
        "\N{UPWARDS ARROW} 1 point above, to 1000000.0"
    ]


def test_few_epochs_are_shown_whole() -> None:
    elbo = [-1e6, -400.0, -100.0, -100.0]
    panel = panel_named(figures.curves(journal(**{"train/elbo": elbo}), title=TITLE), "ELBO")
    assert panel.get_ylim()[0] < -1e6
    assert len(panel.texts) == 0


@given(
    st.lists(
        st.floats(-1e6, 1e6) | st.sampled_from([None, math.nan, math.inf]), min_size=2, max_size=30
    )
)
@settings(deadline=None, max_examples=20)
def test_curve_holds_all_finite_points_or_says_how_many_are_outside(
    values: list[float | None],
) -> None:
    values[0] = -1.0
    panel = panel_named(figures.curves(journal(**{"train/elbo": values}), title=TITLE), "ELBO")
    low, high = panel.get_ylim()
    finite = [v for v in values if v is not None and math.isfinite(v)]
    outside = sum(not low <= v <= high for v in finite)
    assert outside <= len(finite) / 2
    said = sum(int(text.get_text().split()[1]) for text in panel.texts)
    assert said == outside


def test_noise_of_a_collapsed_rate_is_not_blown_up() -> None:
    rate = 1e-6 * np.arange(20)
    lines = journal(**{"train/elbo": -100 - rate, "train/rate": rate})
    low, high = panel_named(figures.curves(lines, title=TITLE), "rate").get_ylim()
    assert high - low > 1


def test_single_epoch_without_validation_is_a_visible_point() -> None:
    figure = figures.curves(journal(**{"train/elbo": [-100.0]}), title=TITLE)
    (line,) = figure.axes[0].get_lines()
    assert line.get_marker() == "o"
    assert "validation" not in texts(figure)


@pytest.mark.parametrize(
    ("rate", "beta", "panels"),
    [
        ([1e-3, 1e-3], [1.0, 1.0], []),
        ([1e-3, 1e-5], [1.0, 1.0], ["learning rate"]),
        ([1e-3, 1e-3], [0.0, 1.0], ["beta, weight of the rate"]),
        ([1e-3, 1e-4], [0.5, 1.0], ["learning rate", "beta, weight of the rate"]),
    ],
)
def test_settings_are_drawn_only_where_they_vary(
    rate: list[float], beta: list[float], panels: list[str]
) -> None:
    lines = journal(**{"train/learning_rate": rate, "train/beta": beta})
    figure = figures.curves(lines, title=TITLE)
    assert [axes.get_title(loc="left") for axes in figure.axes][1:] == panels
    assert not any("mathdefault" in text for text in texts(figure))


def test_bound_that_does_not_split_has_no_empty_panels() -> None:
    nothing: dict[str, list[Any]] = {
        "train/rate": [None, None],
        "train/distortion": [math.nan, math.inf],
    }
    lines = journal(**nothing)
    assert len(figures.curves(lines, title=TITLE).axes) == 1


def test_latent_scatter_gives_each_class_its_colour_and_its_number_at_the_median() -> None:
    points = np.array([[0.0, 0.0], [2.0, 4.0], [100.0, 5.0], [-3.0, -3.0]])
    figure = figures.latent(points, np.array([7, 7, 7, 1]), title=TITLE, axes=("a", "b"))
    (panel,) = figure.axes
    numbers = {text.get_text(): text.get_position() for text in panel.texts}
    assert numbers == {"1": (-3.0, -3.0), "7": (2.0, 4.0)}
    expected = [matplotlib.colors.to_rgb(TEN[k]) for k in (1, 1, 1, 0)]
    drawn = np.asarray(panel.collections[0].get_facecolor())[:, :3]
    np.testing.assert_allclose(drawn, expected)


def test_latent_scatter_of_more_than_ten_classes_has_as_many_colours() -> None:
    figure = figures.latent(np.eye(26)[:, :2], np.arange(26), title=TITLE, axes=("a", "b"))
    assert len(np.unique(figure.axes[0].collections[0].get_facecolor(), axis=0)) == 26


def test_rate_bars_are_sorted_and_collapsed_dimensions_are_marked() -> None:
    figure = figures.rate_per_dimension(np.array([0.5, 0.009, 4.0, 0.01]), title=TITLE)
    (panel,) = figure.axes
    bars = [bar.get_height() for bar in panel.patches if isinstance(bar, Rectangle)]
    assert bars == [4.0, 0.5, 0.01]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["z3", "z1", "z4", "z2"]
    assert "collapsed (below 0.01 nats)" in texts(figure)
    assert any("4.5 nats in all, 3 of 4 dimensions" in text for text in texts(figure))


def test_rate_bars_of_a_wholly_collapsed_model_can_be_drawn() -> None:
    figure = figures.rate_per_dimension(np.zeros(100), title=TITLE)
    assert len(figure.axes[0].patches) == 0
    assert len(figure.axes[0].get_xticks()) <= 24


@pytest.mark.parametrize("name", DRAW)
def test_an_image_that_is_copied_is_the_one_that_matplotlib_makes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = figures.to_png(DRAW[name](TITLE))
    monkeypatch.delattr("vaebench.figures.grid._Unscaled.make_image")
    assert figures.to_png(DRAW[name](TITLE)) == copied


@pytest.mark.parametrize("name", DRAW)
def test_a_png_has_the_pixels_that_savefig_writes(name: str) -> None:
    figure, buffer = DRAW[name](TITLE), io.BytesIO()
    drawn = Image.open(io.BytesIO(figures.to_png(figure)))
    with matplotlib.style.context(["default", style._STYLE]):
        DRAW[name](TITLE).savefig(buffer, format="png", dpi="figure")
    saved = Image.open(buffer)
    assert np.array_equal(np.asarray(drawn), np.asarray(saved))
    assert drawn.info["dpi"] == saved.info["dpi"]


def test_an_image_at_another_resolution_is_scaled() -> None:
    figure, buffer = DRAW["samples"](TITLE), io.BytesIO()
    pixels = np.asarray(Image.open(io.BytesIO(figures.to_png(figure))))
    figure.savefig(buffer, format="png", dpi=100)
    half = np.asarray(Image.open(buffer))
    assert half.shape[0] == round(pixels.shape[0] / 2)
    middle = slice(half.shape[0] // 3, half.shape[0] // 2)
    assert abs(half[middle].mean() - pixels[::2][middle].mean()) < 3
