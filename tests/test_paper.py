"""Figures of a grid for papers."""

import numpy as np
from click.testing import CliRunner
from pages import train_grid
from records import edit_record, make_results, run_dirs

from vaebench import report
from vaebench.cli import main
from vaebench.report import paper


def call(*arguments):
    return CliRunner().invoke(main, ["figures", *map(str, arguments)])


def test_a_grid_is_drawn_as_pdf_and_png_and_curves_stand_beside_what_they_compare_with(tmp_path):
    grid = train_grid(tmp_path)
    done = call(grid)
    assert done.exit_code == 0, done.output
    names = {path.name for path in (grid / "paper").iterdir()}
    assert {name[:-4] for name in names if name.endswith("pdf")} == {
        name[:-4] for name in names if name.endswith("png")
    }
    assert {"learning-curves.pdf", "comparison.pdf", "fnn-bce-samples.pdf"} <= names
    assert f"wrote {len(names) // 2} figures" in done.stdout
    panels = paper._panels(report.load(grid))
    assert list(panels) == [
        f"validation {name}, {loss}, nats per image"
        for loss in ("bce (relaxed)", "mse (σ²=0.5)")
        for name in ("ELBO", "rate", "distortion")
    ]
    for heading, curves in panels.items():
        loss = "bce" if "bce" in heading else "mse"
        assert [curve.label for curve in curves] == [f"fnn / {loss}", f"cnn / {loss}"]
        assert all(curve.values.shape == (2, 5) for curve in curves)
        assert all(np.isfinite(curve.values).all() for curve in curves)


def test_what_published_runs_lack_is_said_and_the_rest_drawn(tmp_path):
    grid = make_results(tmp_path, axes={"model": ["fnn", "cnn"]}, seeds=(0, 1))
    done = call(grid, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "fnn: no arrays (published runs have none)" in done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "learning-curves.pdf",
        "learning-curves.png",
    }
    assert list(paper._panels(report.load(grid))) == ["training ELBO, nats per image"]


def test_nothing_to_draw_and_a_place_that_cannot_be_written_are_errors(tmp_path):
    grid = make_results(tmp_path, axes={"model": ["fnn"]}, seeds=(0,))
    (tmp_path / "file").write_text("")
    taken = call(grid, "--output", tmp_path / "file" / "below")
    assert taken.exit_code == 1
    assert "cannot be written" in taken.stderr
    for folder in run_dirs(grid):
        edit_record(folder, lambda r: r.update(status="failed", reason="why"))
    nothing = call(grid)
    assert nothing.exit_code == 1
    assert "no run has anything to draw" in nothing.stderr
