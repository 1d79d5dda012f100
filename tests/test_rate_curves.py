"""The figure over the rate: which cells make an arm, and what its panels hold."""

import numpy as np
import pytest
from records import DECLARATIONS, assign, edit_record, make_results, run_dirs
from test_report import links

from vaebench import report
from vaebench.report.pictures import pictures
from vaebench.report.rate_curves import rate_figure

BETAS = [1.0, 0.25, 0.5, 2.0, 4.0]
AXES = {"loss": ["bce", "mse"], "training.beta": BETAS}
SEEDS = (0, 1, 2)


def rate(cell, seed):
    """4 nats less for every doubling of beta; mse has 3 less; seeds scatter by a tenth."""
    lower = 3.0 if cell.get("loss") == "mse" else 0.0
    return 16.0 - 4.0 * np.log2(cell.get("training.beta", 1.0)) - lower + 0.1 * seed


def score(cell, seed):
    return 0.5 + 0.01 * rate(cell, seed)


def made(tmp_path, axes=AXES, of=rate, **options):
    grid = make_results(tmp_path, axes=axes, seeds=SEEDS, **options)
    assign(grid, "test/rate", of)
    assign(grid, "test/ssim", score)
    return grid


@pytest.fixture
def grid(tmp_path):
    return made(tmp_path)


def panels(grid):
    """Titles to axes."""
    figure = rate_figure(report.load(grid))
    return {axes.get_title("left"): axes for axes in figure.axes}


def test_distortions_of_different_base_measures_have_panels_of_their_own(grid):
    found = panels(grid)
    assert list(found) == [
        *("Distortion ↓, bce (relaxed)", "Distortion ↓, mse (σ²=0.5)"),
        *("SSIM ↑", "PSNR ↑"),
    ]
    # a line and its points for each arm
    assert [len(axes.lines) for axes in found.values()] == [2, 2, 4, 4]


def test_points_are_means_over_seeds_and_a_line_runs_through_them(grid):
    line, shown, *_ = panels(grid)["SSIM ↑"].lines
    cells = [{"loss": "bce", "training.beta": beta} for beta in BETAS]
    rates = [np.mean([rate(cell, seed) for seed in SEEDS]) for cell in cells]
    assert shown.get_xdata().tolist() == pytest.approx(rates)
    assert shown.get_ydata().tolist() == pytest.approx([0.5 + 0.01 * r for r in rates])
    x, y = line.get_data()
    assert (x.min(), x.max()) == (pytest.approx(min(rates)), pytest.approx(max(rates)))
    assert y == pytest.approx(0.5 + 0.01 * x)


def test_points_are_named_by_their_number(grid):
    texts = [text.get_text() for text in panels(grid)["SSIM ↑"].texts]
    assert texts == ["1", "0.25", "0.5", "2", "4"] * 2


def test_the_shaded_rates_are_those_of_all_arms_and_seeds(grid):
    (span,) = panels(grid)["SSIM ↑"].patches
    # the highest rate of mse is 13 + 8 for the lowest seed, the lowest of bce 8.2 for the highest
    assert (span.get_x(), span.get_x() + span.get_width()) == (
        pytest.approx(8.2),
        pytest.approx(21.0),
    )


def test_a_band_ends_where_one_seed_has_no_rates(grid):
    band, _ = panels(grid)["SSIM ↑"].collections
    x = band.get_paths()[0].vertices[:, 0]
    assert (x.min(), x.max()) == (pytest.approx(8.2), pytest.approx(24.0))


def test_one_arm_has_no_shared_range(tmp_path):
    figure = rate_figure(report.load(made(tmp_path, axes={"training.beta": BETAS})))
    assert not any(axes.patches for axes in figure.axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all cells"]


@pytest.mark.parametrize(
    "axes",
    [
        {"model": ["fnn", "cnn"]},
        {"loss": ["bce", "mse"], "training.beta": BETAS[:3]},
        {"training.learning_rate": [1e-4, 3e-4, 1e-3, 3e-3]},
    ],
    ids=["no numbers", "three points", "a number that does not move the rate"],
)
def test_grids_without_curves_have_no_such_figure(tmp_path, axes):
    grid = made(tmp_path, axes=axes)
    assert rate_figure(report.load(grid)) is None
    assert "rate.png" not in dict(pictures(report.load(grid)))


def test_a_score_that_one_run_lacks_leaves_its_arm_out(grid):
    edit_record(run_dirs(grid)[0], lambda r: r["metrics"].pop("test/psnr"))
    found = panels(grid)
    assert [len(found[name].lines) for name in ("SSIM ↑", "PSNR ↑")] == [4, 2]


def test_an_incomplete_cell_is_no_point(grid):
    edit_record(run_dirs(grid)[0], lambda r: r.update(status="failed", reason="why"))
    texts = [text.get_text() for text in panels(grid)["SSIM ↑"].texts]
    assert texts == ["0.25", "0.5", "2", "4", *("1", "0.25", "0.5", "2", "4")]


def test_the_report_shows_the_picture_where_it_was_drawn(grid):
    assert "classifier_frechet" not in DECLARATIONS  # nor is it drawn: no run has measured it
    assert "rate.png" not in report.render(report.load(grid), "md")
    (grid / "rate.png").write_bytes(dict(pictures(report.load(grid)))["rate.png"])
    text = report.render(report.load(grid), "md", grid / "report.md")
    assert grid / "rate.png" in links(text, grid / "report.md")
