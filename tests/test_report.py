"""Reports from synthetic records: what is ranked, rounded, escaped, linked, and what is refused."""

import csv
import html
import io
import itertools
import json
import math
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image
from records import (
    EPOCHS,
    START,
    edit_record,
    fail,
    make_metrics,
    make_results,
    run_dirs,
    write_journal,
)

from vaebench import report
from vaebench.errors import ConfigError, ResultsError
from vaebench.report import latex, markup, numbers
from vaebench.text import lines

SMALL = {"model": ["fnn", "cnn"], "loss": ["bce", "mse"]}


@pytest.fixture
def grid(tmp_path):
    return make_results(tmp_path, axes=SMALL)


@pytest.fixture
def tested(tmp_path):
    """With as many seeds as significance needs."""
    return make_results(tmp_path, axes=SMALL, seeds=range(9))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A finished grid with pictures, for tests that only read."""
    return make_results(tmp_path_factory.mktemp("shared"), pictures=True)


def runs_of(grid, **cell):
    """Folders of the runs of a cell, by seed."""
    manifest = yaml.safe_load((grid / "grid.yaml").read_text())
    return [
        grid / "runs" / run["run_id"]
        for run in manifest["runs"]
        if all(run["cell"][axis] == value for axis, value in cell.items())
    ]


def set_metric(folders, name, value):
    for folder in folders:
        edit_record(folder, lambda r: r["metrics"].__setitem__(name, value))


def declare(grid, name, **fields):
    for folder in run_dirs(grid):
        edit_record(folder, lambda r: r["metric_declarations"].setdefault(name, {}).update(fields))


def markdown_of(grid):
    return report.render(report.load(grid), "md", grid / "report.md")


def json_of(grid):
    return json.loads(report.render(report.load(grid), "json", grid / "report.json"))


def parsed_tables(text):
    """Tables of a Markdown text as a code host reads them: rows of cells as HTML."""
    page = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    return [
        [
            re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.S)
            for row in re.findall(r"<tr>(.*?)</tr>", table, flags=re.S)
        ]
        for table in re.findall(r"<table>(.*?)</table>", page, flags=re.S)
    ]


def column(text, heading):
    """The cells of the first table that has a column with this heading."""
    for first, *rows in parsed_tables(text):
        if heading in first:
            return [row[first.index(heading)] for row in rows]
    raise AssertionError(f"no column {heading!r}")


def is_bold(cells):
    return ["<strong>" in cell for cell in cells]


# -- reading ------------------------------------------------------------------------------------


def test_results_folder_with_one_grid_reads_like_the_grid_itself(shared):
    assert report.load(shared.parent) == report.load(shared)
    assert len(report.load(shared).records) == 24


def test_missing_folder_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(ResultsError, match=r"no such folder.*vaebench run-grid"):
        report.load(tmp_path / "nothing")


def test_folder_without_a_grid_is_an_error(tmp_path):
    with pytest.raises(ResultsError, match="holds no grid"):
        report.load(tmp_path)


def test_several_grids_are_an_error_that_names_them(tmp_path):
    for name in ("first", "second"):
        make_results(tmp_path, name=name, axes={"model": ["fnn"]}, seeds=[0])
    with pytest.raises(ResultsError, match=r"several grids \(first, second\)"):
        report.load(tmp_path)


@pytest.mark.parametrize(
    "runs", [[{"run_id": "a"}], ["a"], 7, [{"run_id": "a", "cell": {}, "seed": 0}] * 2]
)
def test_damaged_manifest_is_an_error_that_names_the_file(grid, runs):
    manifest = yaml.safe_load((grid / "grid.yaml").read_text())
    (grid / "grid.yaml").write_text(yaml.safe_dump({**manifest, "runs": runs}))
    with pytest.raises(ResultsError, match=r"grid\.yaml"):
        report.load(grid)


DAMAGE = {
    "torn": "{",
    "not text": "\udcff",
    "a list": "[]",
    "unknown status": {"status": "perhaps"},
    "another run": {"run_id": "other"},
    "another seed": {"seed": 99},
    "no metrics": {"metrics": None},
    "text metric": {"metrics": {"test/elbo": "good"}},
    "flag metric": {"metrics": {"test/elbo": True}},
    "wrong config": {"config": [1]},
    "wrong declaration": {"metric_declarations": {"elbo": 3}},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_record_is_reported_and_its_row_has_no_mean(grid, damage):
    victim = run_dirs(grid)[0]
    if isinstance(damage, dict):
        edit_record(victim, lambda r: r.update(damage))
    else:
        (victim / "record.json").write_bytes(damage.encode("utf-8", "surrogateescape"))
    loaded = report.load(grid)
    assert [found.run.run_id for found in loaded.damaged] == [victim.name]
    assert str(grid) not in loaded.damaged[0].reason  # it is published
    assert "(2 of 3 seeds)" in column(markdown_of(grid), "ELBO ↑")[0]
    assert json.loads(report.render(loaded, "json"))["cells"][0] == {
        "cell": {"model": "fnn", "loss": "bce"},
        "n": 2,
        "metrics": {},
    }


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=3,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(data=st.data(), value=JSON_VALUES)
def test_no_value_in_a_record_stops_a_report(shared, data, value):
    source = run_dirs(shared)[0] / "record.json"
    original = source.read_bytes()
    record = json.loads(original)
    key = data.draw(st.sampled_from(sorted(record)))
    inner = record[key]
    if isinstance(inner, dict) and inner and data.draw(st.booleans()):
        inner[data.draw(st.sampled_from(sorted(inner)))] = value
    else:
        record[key] = value
    try:
        source.write_text(json.dumps(record))
        loaded = report.load(shared)
        for name in report.FORMATS:
            assert report.render(loaded, name).encode()
        report.status_text(report.status(shared), now=START / 1000)
    finally:
        source.write_bytes(original)


def test_missing_and_foreign_runs_are_listed_and_not_counted(grid):
    gone = run_dirs(grid)[-1]
    (gone / "record.json").unlink()
    (grid / "runs" / "stray").mkdir()
    (grid / "runs" / ".hidden").mkdir()
    loaded = report.load(grid)
    assert [run.run_id for run in loaded.missing] == [gone.name]
    assert loaded.foreign == ("stray",)
    text = markdown_of(grid)
    assert "11 of 12 runs complete" in text
    assert column(text, "Run") == [gone.name]
    assert "does not list, not counted: stray" in text


# -- numbers ------------------------------------------------------------------------------------


def test_cells_of_the_json_hold_mean_std_and_interval_of_the_records(grid):
    content = json.loads(report.render(report.load(grid), "json"))
    assert {"grid", "runs", "cells", "effects", "claims"} <= content.keys()
    assert [run["run_id"] for run in content["runs"]] == [path.name for path in run_dirs(grid)]
    cell = content["cells"][1]
    assert cell["cell"] == {"model": "fnn", "loss": "mse"}
    assert cell["n"] == 3
    values = [make_metrics(cell["cell"], seed)["test/elbo"] for seed in (0, 1, 2)]
    assert cell["metrics"]["test/elbo"] == {
        "mean": pytest.approx(np.mean(values), rel=1e-12),
        "std": pytest.approx(np.std(values, ddof=1), rel=1e-9),
        "ci95": pytest.approx(4.302653 * np.std(values, ddof=1) / math.sqrt(3), rel=1e-6),
        "n": 3,
    }


@pytest.mark.slow
def test_every_format_shows_the_same_numbers(shared):
    loaded = report.load(shared)
    cells = json.loads(report.render(loaded, "json"))["cells"]
    rows = list(csv.DictReader(io.StringIO(report.render(loaded, "csv"))))
    names = ("elbo", "rate", "distortion", "ssim", "psnr", "mse_px", "mae_px", "active_units")
    text, tex = markdown_of(shared), report.render(report.load(shared, names), "latex")
    tex_rows = [line for line in tex.splitlines() if line.endswith(r"\\")]
    headings = [re.sub(r" \$.*", "", title) for title in tex_rows[0][:-3].split(" & ")]
    shown = {
        "ELBO ↑": "elbo",
        "Rate": "rate",
        "Distortion ↓": "distortion",
        "SSIM ↑": "ssim",
        "PSNR ↑": "psnr",
        "MSE per pixel ↓": "mse_px",
        "MAE per pixel ↓": "mae_px",
        "Active units": "active_units",
    }
    assert len(rows) == len(cells) == 8
    for heading, name in shown.items():
        in_tex = headings.index(heading.rstrip(" ↑↓"))
        for i, texts in enumerate(column(text, heading)):
            exact = cells[i]["metrics"][f"test/{name}"]
            assert float(rows[i][f"test/{name}_mean"]) == exact["mean"]
            assert float(rows[i][f"test/{name}_ci95"]) == exact["ci95"]
            mean, _, width = re.sub(r"<.*?>", " ", texts).partition("±")
            decimals = len(mean.strip().partition(".")[2])
            assert mean.strip() == f"{exact['mean']:.{decimals}f}"
            if width:
                assert width.strip() == f"{exact['ci95']:.{decimals}f}"
            entry = re.sub(
                r"[${}]|\\mathbf|\\scriptstyle|\\,", "", tex_rows[1 + i][:-3].split(" & ")[in_tex]
            )
            assert entry.replace(r"\pm", " ± ").split() == re.sub(r"<.*?>", " ", texts).split()


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(-101.376, 2, "-101.38"), (-0.001, 2, "0.00"), (1082144.0, 0, "1,082,144"), (0.0, 3, "0.000")],
)
def test_rounding_keeps_fixed_decimals_and_has_no_minus_zero(value, decimals, text):
    assert numbers.rounded(value, decimals) == text


@pytest.mark.parametrize(
    ("values", "unit", "decimals"),
    [
        ([-490.1, -101.3], "nats", 2),
        ([0.82, 0.91], "", 4),
        ([0.0207], "", 5),
        ([14090.4], "images/s", 0),
        ([8.0, 7.0], "", 0),
        ([], "", 0),
    ],
)
def test_decimals_suit_the_column(values, unit, decimals):
    assert numbers.decimals_of(values, unit) == decimals


def test_incomplete_row_has_no_mean_and_is_never_best(tested):
    best = runs_of(tested, model="fnn", loss="bce")
    set_metric(best, "test/ssim", 0.999)
    fail(best[1], "elbo stopped being finite in epoch 3")
    text = markdown_of(tested)
    assert column(text, "ELBO ↑")[0] == "incomplete (8 of 9 seeds)"
    assert column(text, "SSIM ↑")[0] == "—"
    assert "0.999" not in text.partition("## Seed by seed")[0]
    assert any(is_bold(column(text, "SSIM ↑"))[1:])
    assert "no mean is shown" in text


@pytest.mark.parametrize("gap", [None, math.nan])
def test_metric_missing_in_one_seed_has_no_mean(grid, gap):
    set_metric(run_dirs(grid)[:1], "test/psnr", gap)
    loaded = report.load(grid)
    summary = json.loads(report.render(loaded, "json"))["cells"][0]["metrics"]["test/psnr"]
    assert summary == {"mean": None, "std": None, "ci95": None, "n": 2}
    assert column(markdown_of(grid), "PSNR ↑")[0] == "—"


def test_nan_anywhere_in_a_record_is_null_in_the_json(grid):
    edit_record(run_dirs(grid)[0], lambda r: r.update(rate_per_dimension=[math.nan, 1.5]))
    content = json.loads(report.render(report.load(grid), "json"), parse_constant=pytest.fail)
    assert content["runs"][0]["rate_per_dimension"] == [None, 1.5]


def test_a_json_report_comes_in_pieces_of_which_none_holds_two_runs(grid):
    loaded = report.load(grid)
    pieces = list(report.pieces(loaded, "json"))
    assert "".join(pieces) == report.render(loaded, "json")
    assert max(piece.count('"environment": ') for piece in pieces) == 1
    assert sum(piece.count('"environment": ') for piece in pieces) == len(loaded.records) == 12
    output = grid.parent / "elsewhere.json"
    report.write(loaded, "json", output)
    assert output.read_text(encoding="utf-8") == "".join(pieces)


def test_one_seed_has_means_without_interval_and_says_so(tmp_path):
    text = markdown_of(make_results(tmp_path, seeds=[0]))
    assert "One seed per cell: no interval." in text
    assert "±" not in text
    assert "## Seed by seed" not in text


def test_several_seeds_say_what_the_interval_is_and_list_every_run(grid):
    text = markdown_of(grid)
    assert "95 % Student-t interval over seeds, n = 3." in text
    assert "## Seed by seed" in text
    assert column(text, "Seed") == ["0", "1", "2"] * 4
    assert column(text, "Cell")[3] == "fnn / mse"


def test_gap_is_the_mean_difference_between_training_and_test_elbo(grid):
    values = [make_metrics({"model": "fnn", "loss": "bce"}, seed) for seed in (0, 1, 2)]
    gap = np.mean([m["train_eval/elbo"] - m["test/elbo"] for m in values])
    assert column(markdown_of(grid), "Gap")[0].split(" ")[0] == f"{gap:.2f}"


# -- what is ranked -----------------------------------------------------------------------------


def test_elbo_is_best_within_a_loss_and_never_across_losses(tested):
    for cell, value in {
        ("fnn", "bce"): -100.0,
        ("cnn", "bce"): -99.0,
        ("fnn", "mse"): -50.0,
        ("cnn", "mse"): -60.0,
    }.items():
        set_metric(runs_of(tested, model=cell[0], loss=cell[1]), "test/elbo", value)
    text = markdown_of(tested)
    assert column(text, "ELBO ↑") == [
        "-100.00",
        "<strong>-50.00</strong>",
        "<strong>-99.00</strong>",
        "-60.00",
    ]
    assert "comparable only by base measure" in text
    assert "relaxed Bernoulli" in text
    assert "σ² = 0.5" in text
    assert column(text, "Loss")[:2] == ["bce (relaxed)", "mse (σ²=0.5)"]


def test_ssim_is_best_across_losses_and_ties_are_all_best(tested):
    set_metric(run_dirs(tested), "test/ssim", 0.8)
    set_metric(runs_of(tested, loss="mse"), "test/ssim", 0.9)
    assert is_bold(column(markdown_of(tested), "SSIM ↑")) == [False, True, False, True]


def test_lone_row_of_a_base_measure_is_not_marked(tmp_path):
    text = markdown_of(make_results(tmp_path, axes={"loss": ["bce", "mse"]}, seeds=range(9)))
    assert not any(is_bold(column(text, "ELBO ↑")))
    assert any(is_bold(column(text, "SSIM ↑")))


def test_densities_of_the_same_pixels_are_ranked_together_at_any_sigma2(tmp_path):
    axes = {"model": ["fnn", "cnn"], "loss": ["mse"]}
    tested = make_results(tmp_path, axes=axes, seeds=range(9))
    for folder in runs_of(tested, model="cnn"):
        edit_record(folder, lambda r: r["config"]["loss"]["mse"].update(sigma2=0.02))
        edit_record(folder, lambda r: r["config"]["loss"].update(name="gaussian"))
    set_metric(runs_of(tested, model="fnn"), "test/elbo", -50.0)
    set_metric(runs_of(tested, model="cnn"), "test/elbo", 400.0)
    assert is_bold(column(markdown_of(tested), "ELBO ↑")) == [False, True]


def test_every_row_that_is_not_significantly_worse_is_bold(tested):
    for i, (model, loss) in enumerate(itertools.product(("fnn", "cnn"), ("bce", "mse"))):
        for folder in runs_of(tested, model=model, loss=loss):
            noise = (-1) ** i * (-1) ** json.loads((folder / "record.json").read_text())["seed"]
            set_metric([folder], "test/ssim", 0.5 if i == 0 else 0.9 + 0.01 * noise)
    assert is_bold(column(markdown_of(tested), "SSIM ↑")) == [False, True, True, True]


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_no_row_is_bold_where_the_seeds_cannot_reach_significance(tmp_path, seeds):
    few = make_results(tmp_path, axes=SMALL, seeds=range(seeds))
    set_metric(runs_of(few, model="cnn"), "test/ssim", 0.99)
    assert "<strong>" not in "".join(column(markdown_of(few), "SSIM ↑"))


@pytest.mark.parametrize(("metric", "value"), [("test/rate", 0.1), ("test/active_units", 0)])
def test_collapsed_cell_is_never_bold_and_named(tested, metric, value):
    collapsed = runs_of(tested, model="cnn", loss="mse")
    set_metric(collapsed, "test/ssim", 0.999)
    set_metric(collapsed, metric, value)
    text = markdown_of(tested)
    assert not is_bold(column(text, "SSIM ↑"))[3]
    assert "Collapsed" in text


def test_importance_weighted_rows_are_ranked_by_log_px_and_not_by_elbo(tmp_path):
    axes = {"estimator": ["kl", "iwae", "sgvb"]}
    tested = make_results(tmp_path, axes=axes, seeds=range(9))
    declare(tested, "log_px", title="log p(x)", unit="nats", direction="higher")
    for name, value in {"kl": -100.0, "iwae": -90.0, "sgvb": -110.0}.items():
        set_metric(runs_of(tested, estimator=name), "test/elbo", value)
        set_metric(runs_of(tested, estimator=name), "test/log_px", value)
    text = markdown_of(tested)
    assert is_bold(column(text, "ELBO ↑")) == [True, False, False]
    assert is_bold(column(text, "log p(x) ↑")) == [False, True, False]


def test_binarisation_separates_rows_and_ends_the_relaxation(tested):
    for folder in runs_of(tested, model="cnn"):
        edit_record(folder, lambda r: r["config"]["dataset"].update(binarize="static"))
    text = markdown_of(tested)
    assert not any(is_bold(column(text, "ELBO ↑")))
    assert column(text, "Loss")[2] == "bce"


@pytest.mark.parametrize(("direction", "arrow"), [("lower", " ↓"), (None, ""), ("sideways", "")])
def test_arrow_and_ranking_follow_the_declaration_in_the_records(tested, direction, arrow):
    set_metric(run_dirs(tested), "test/ssim", 0.8)
    set_metric(runs_of(tested, model="fnn", loss="bce"), "test/ssim", 0.1)
    declare(tested, "ssim", direction=direction)
    marks = is_bold(column(markdown_of(tested), f"SSIM{arrow}"))
    assert marks == [direction == "lower", False, False, False]


def test_metrics_of_different_versions_are_not_ranked(tested):
    edit_record(run_dirs(tested)[0], lambda r: r["metric_declarations"]["ssim"].update(version=2))
    text = markdown_of(tested)
    assert not any(is_bold(column(text, "SSIM")))
    assert "declare them differently: ssim" in text


def test_new_metric_becomes_a_column_by_its_declaration(tested):
    set_metric(run_dirs(tested), "test/log_px", -90.0)
    fields = {"title": "log p(x)", "unit": "nats", "direction": "higher"}
    declare(tested, "log_px", comparable="likelihood", **fields)
    assert column(markdown_of(tested), "log p(x) ↑")[0] == "<strong>-90.00</strong>"


def test_costs_are_never_marked_and_compare_on_one_machine_only(tested):
    text = markdown_of(tested)
    assert any(is_bold(column(text, "SSIM ↑")))
    assert not any(is_bold(column(text, "Seconds per epoch ↓")))
    assert "Measured on cpu (Example CPU)" in text
    edit_record(run_dirs(tested)[0], lambda r: r["environment"].update(jobs=1))
    text = markdown_of(tested)
    assert "costs are not comparable" in text
    assert column(text, "Runs at a time") == ["1 and 2", "2", "2", "2"]


def test_costs_of_two_kinds_of_cpu_under_one_name_are_not_comparable(tested):
    kind = {"vendor": "AuthenticAMD", "family": 26, "instructions": ["avx2"], "vector_bits": 256}
    for folder in run_dirs(tested):
        edit_record(folder, lambda r: r["environment"].update(cpu_kind=kind))
    text = markdown_of(tested)
    assert "costs are not comparable" not in text
    words = "Example CPU, AuthenticAMD family 26, avx2, 256-bit vectors"
    assert f"All ran on cpu ({words}), 2 cores" in " ".join(text.split())
    older = kind | {"family": 25}
    edit_record(run_dirs(tested)[0], lambda r: r["environment"].update(cpu_kind=older))
    assert "costs are not comparable" in markdown_of(tested)


KINDS_NOTE = "did not all run on one kind of device"


def test_a_grid_of_one_kind_of_device_needs_no_note(grid):
    assert KINDS_NOTE not in markdown_of(grid)
    assert "devices" not in json_of(grid)


def test_runs_of_another_kind_of_device_are_named(grid):
    first, second, *rest = run_dirs(grid)
    for folder in (first, second):
        gpu = {"device": "cuda", "device_name": "Example GPU"}
        edit_record(folder, lambda r, gpu=gpu: r["environment"].update(gpu))
    text = markdown_of(grid)
    assert KINDS_NOTE in text
    assert "cuda (Example GPU): 2 runs (fnn / bce, seeds 0, 1); cpu (Example CPU): 10 runs." in text
    assert json_of(grid)["devices"] == {
        "cuda (Example GPU)": [first.name, second.name],
        "cpu (Example CPU)": [folder.name for folder in rest],
    }


def test_another_cpu_is_another_kind_of_device_and_an_old_record_names_less(grid):
    first, second, *_ = run_dirs(grid)
    other = {"cpu": "Old CPU", "device_name": None}  # as records had it before device names
    edit_record(first, lambda r: r["environment"].update(other))
    edit_record(second, lambda r: r.update(environment={}))
    text = markdown_of(grid)
    assert "cpu (Old CPU): 1 run (fnn / bce, seed 0)" in text
    assert "unknown device: 1 run (fnn / bce, seed 1)" in text
    assert "cpu (Example CPU): 10 runs." in text


def test_a_run_that_is_not_complete_has_no_say_in_the_kinds_of_device(grid):
    folder = run_dirs(grid)[0]
    edit_record(folder, lambda r: r["environment"].update(device="cuda", device_name="GPU"))
    fail(folder, "out of memory")
    assert KINDS_NOTE not in markdown_of(grid)
    assert "devices" not in json_of(grid)


# -- words --------------------------------------------------------------------------------------


def test_summary_says_what_was_run_and_where(grid):
    text = " ".join(markdown_of(grid).split())
    for part in (
        "4 cells with 3 seeds each (0, 1 and 2) on digits",
        "1,077 train, 360 validation and 360 test images",
        f"{EPOCHS} epochs, batch size 256, latent size 8",
        "12 of 12 runs complete",
        "All ran on cpu (Example CPU), 2 cores, Linux x86_64, 1 thread per run, 2 runs at a time",
    ):
        assert part in text


def test_failed_runs_are_listed_with_reason_and_command(grid):
    folders = run_dirs(grid)
    fail(folders[0], "elbo stopped being finite in epoch 3; lower learning_rate")
    fail(folders[1], "interrupted from the keyboard", status="interrupted")
    text = markdown_of(grid)
    assert column(text, "Status") == ["failed", "interrupted"]
    assert column(text, "Reason")[0] == "elbo stopped being finite in epoch 3; lower learning_rate"
    assert "--rerun failed" in text


def test_notes_and_environment_appear_once_and_differences_are_counted(grid):
    edit_record(run_dirs(grid)[0], lambda r: r["notes"].append("selected on the test split"))
    edit_record(run_dirs(grid)[0], lambda r: r["environment"]["packages"].update(torch="2.13.0"))
    text = markdown_of(grid)
    assert text.count("SSIM window: uniform 7x7.") == 1
    assert "selected on the test split (1 of 12 runs)" in text
    environment = dict(zip(column(text, "What"), column(text, "Value"), strict=True))
    assert environment["packages.torch"] == "2.13.0 (1 run); 2.14.0 (11 runs)"
    assert environment["dataset.digest"] == "d1"


def test_settings_stay_in_their_block_whatever_they_hold(tmp_path):
    value = {"text": "``` </details>\n```` | end"}
    grid = make_results(tmp_path, axes={"model": ["fnn"]}, seeds=[0], settings=value)
    blocks = [t for t in MarkdownIt().parse(markdown_of(grid)) if t.type == "fence"]
    assert [yaml.safe_load(block.content)["settings"] for block in blocks] == [value]


def test_grid_without_a_complete_run_still_has_a_report(grid):
    for folder in run_dirs(grid):
        fail(folder, "no memory")
    text = markdown_of(grid)
    assert "No run is complete" in text
    assert column(text, "Model") == ["fnn", "fnn", "cnn", "cnn"]
    for name in ("csv", "json", "latex"):
        assert "fnn" in report.render(report.load(grid), name)


# -- escaping -----------------------------------------------------------------------------------

TEXTS = st.text(max_size=40) | st.text("\\|`*_<>&#[]()!~$%{}^\"'-+=.1a \n", max_size=12)


def visible(text):
    """What a reader should see: one line, without what no reader can see."""
    obeyed = ("Cc", "Cf", "Cs", "Zl", "Zp")
    line = " ".join(text.split())
    return "".join("\ufffd" if unicodedata.category(c) in obeyed else c for c in line)


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_any_text_shows_literally_in_a_markdown_table(first, second):
    rows = markup.grid_lines(["a", "b"], [[markup.escape(first), markup.escape(second)]])
    [[heading, row]] = parsed_tables("\n".join(rows))
    assert heading == ["a", "b"]
    assert [html.unescape(cell) for cell in row] == [visible(first), visible(second)]


@settings(deadline=None)
@given(TEXTS)
def test_any_text_shows_literally_in_a_markdown_list(text):
    page = MarkdownIt("commonmark").render("\n".join(markup.bullets([text])))
    inner = re.fullmatch(r"<ul>\n<li>(.*)</li>\n</ul>\n", page, flags=re.S)
    assert inner
    assert html.unescape(inner[1]) == visible(text)


def unescape_latex(text):
    names = {value: key for key, value in latex._ESCAPES.items() if value != "---"}
    pattern = "|".join(re.escape(value) for value in sorted(names, key=len, reverse=True))
    return re.sub(pattern, lambda match: names[match[0]], text)


@given(TEXTS.filter(lambda text: "—" not in text))
def test_any_text_survives_latex(text):
    escaped = latex.escape(text)
    shown = "".join(c for c in " ".join(text.split()) if c.isprintable())
    assert unescape_latex(escaped) == shown
    assert not re.search(r"(?<!\\)[&%#_$]", escaped.replace(r"\\", ""))


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(name=TEXTS, value=TEXTS.filter(str.strip))
def test_any_grid_gives_a_table_with_its_columns_and_a_csv_with_its_values(
    tmp_path_factory, name, value
):
    axes = {"model": ["fnn"], "note": [value, value + "x"]}
    grid = make_results(tmp_path_factory.mktemp("any"), axes=axes, seeds=[0], question=name)
    loaded = report.load(grid)
    for rows in parsed_tables(report.render(loaded, "md")):
        assert {len(row) for row in rows} == {len(rows[0])}
    table = csv.DictReader(io.StringIO(report.render(loaded, "csv"), newline=""))
    assert [row["note"] for row in table] == [lines(run.cell["note"]) for run in loaded.planned]
    first = report.render(loaded, "latex").partition(r"\end{tabular}")[0]
    assert first.count(r" \\") == 3


# -- pictures -----------------------------------------------------------------------------------


def links(text, output):
    found = re.findall(r'<img src="([^"]*)"', text) + re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
    return [(output.parent / unquote(link)).resolve() for link in found]


def test_pictures_in_the_documents_folder_are_linked_where_they_lie(shared):
    found = links(markdown_of(shared), shared / "report.md")
    assert len(found) == 16
    assert all(path.is_file() and path.is_relative_to(shared / "runs") for path in found)
    assert {path.stem.partition("-")[2] for path in found} == {f"{EPOCHS:04d}"}


def test_pictures_elsewhere_are_copied_beside_the_document(shared, tmp_path):
    output = tmp_path / "a folder #1" / "my report.md"
    report.write(report.load(shared), "md", output)
    found = links(output.read_text(), output)
    assert len(set(found)) == 16
    assert all(path.parent == output.parent / "my report_files" for path in found)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in found)
    assert "my%20report_files/" in output.read_text()


def test_render_writes_nothing(shared, tmp_path):
    report.render(report.load(shared), "md", tmp_path / "report.md")
    assert list(tmp_path.iterdir()) == []


def test_without_a_file_pictures_are_linked_from_the_current_folder(shared, monkeypatch):
    monkeypatch.chdir(shared.parent)
    text = report.render(report.load(shared), "md")
    assert f'src="{shared.name}/runs/' in text
    assert all(path.is_file() for path in links(text, Path.cwd() / "report.md"))


def test_missing_pictures_are_dashes_without_a_note_on_pictures(grid, shared):
    text = markdown_of(grid)
    assert column(text, "Reconstruction") == ["—"] * 4
    assert [links(t, grid / "report.md") != [] for t in (text, markdown_of(shared))] == [0, 1]
    note = "Pictures, of the weights that were measured"
    assert [note in t for t in (text, markdown_of(shared))] == [False, True]


def test_comparison_is_shown_where_it_was_drawn(grid):
    assert "comparison.png" not in markdown_of(grid)
    (grid / "comparison.png").write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    assert "comparison.png" not in markdown_of(grid)
    Image.new("L", (8, 8)).save(grid / "comparison.png")
    assert grid / "comparison.png" in links(markdown_of(grid), grid / "report.md")


def shown_seed(grid):
    return re.findall(r"reconstructions of .*?, seed (\d+), epoch", markdown_of(grid))


def test_pictures_are_of_the_seed_of_median_validation_elbo(tmp_path):
    grid = make_results(tmp_path, axes={"model": ["fnn"]}, pictures=True)
    for folder, elbo in zip(run_dirs(grid), (-103.0, -101.0, -102.0), strict=True):
        edit_record(folder, lambda r, value=elbo: r["measured"].update({"val/elbo": value}))
    assert shown_seed(grid) == ["2"]
    assert "median validation ELBO" in markdown_of(grid)


@pytest.mark.parametrize("change", ["test split validates", "no validation"])
def test_pictures_are_of_the_lowest_seed_rather_than_selected_on_test(tmp_path, change):
    grid = make_results(tmp_path, axes={"model": ["fnn"]}, seeds=[5, 3, 4], pictures=True)
    for folder in run_dirs(grid):
        if change == "no validation":
            edit_record(folder, lambda r: r["measured"].update({"val/elbo": None}))
        else:
            edit_record(folder, lambda r: r["config"]["dataset"].update(validation="test"))
    assert shown_seed(grid) == ["3"]
    assert "the lowest seed" in markdown_of(grid)


@pytest.mark.slow
def test_comparison_picture_needs_arrays_and_skips_damaged_ones(tmp_path):
    bare = make_results(tmp_path, name="bare", axes=SMALL, seeds=[0])
    assert report.comparison_picture(report.load(bare)) is None
    full = make_results(tmp_path, name="full", axes=SMALL, seeds=[0], arrays=True)
    whole = report.comparison_picture(report.load(full))
    (run_dirs(full)[0] / "arrays.npz").write_bytes(b"PK")
    partial = report.comparison_picture(report.load(full))
    heights = [int.from_bytes(png[20:24], "big") for png in (whole, partial)]
    assert whole.startswith(b"\x89PNG")
    assert heights[1] < heights[0]


def test_comparison_picture_leaves_out_cells_of_other_test_images(tmp_path):
    same = make_results(tmp_path, name="same", axes=SMALL, seeds=[0], arrays=True)
    other = make_results(tmp_path, name="other", axes=SMALL, seeds=[0], arrays=True)
    path = run_dirs(other)[-1] / "arrays.npz"
    arrays = dict(np.load(path))
    arrays["originals"] = 1 - arrays["originals"]
    np.savez(path, **arrays)
    pictures = [report.comparison_picture(report.load(grid)) for grid in (same, other)]
    heights = [int.from_bytes(png[20:24], "big") for png in pictures]
    assert heights[1] < heights[0]


# -- writing, status, frames --------------------------------------------------------------------


def test_unknown_format_is_an_error_that_lists_the_known(shared):
    with pytest.raises(ResultsError, match="choose from md, csv, json, latex"):
        report.render(report.load(shared), "pdf")


def test_writing_to_a_folder_or_below_a_file_is_an_error(shared, tmp_path):
    with pytest.raises(ResultsError, match=r"is a folder.*report\.md"):
        report.write(report.load(shared), "md", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="cannot be written"):
        report.write(report.load(shared), "csv", tmp_path / "file" / "report.csv")


def test_equal_records_give_equal_reports(tmp_path):
    first, second = (make_results(tmp_path / name, axes=SMALL) for name in "ab")
    for name in report.FORMATS:
        texts = [
            report.render(report.load(grid), name, grid / "report") for grid in (first, second)
        ]
        assert texts[0] == texts[1]


def test_latex_is_a_booktabs_tabular_without_pictures(shared):
    text = report.render(report.load(shared), "latex")
    first = text.partition(r"\end{tabular}")[0]
    rows = [line for line in first.splitlines() if line.endswith(r"\\")]
    assert r"\begin{tabular}{lllrrrr}" in first  # ELBO, rate, SSIM, PSNR
    assert {line.count(" & ") for line in rows} == {6}
    assert r"\usepackage{booktabs}" in text
    assert ".png" in markdown_of(shared)
    assert ".png" not in text


def test_chosen_columns_are_shown_in_their_order_by_every_format(shared):
    chosen = report.load(shared, ["psnr", "test/elbo"])
    for format_ in ("md", "latex"):
        text = report.render(chosen, format_)
        assert 0 < text.index("PSNR") < text.index("ELBO")
        assert "SSIM" not in text.partition("Seed by seed")[0]
    with pytest.raises(ConfigError, match="no run has measured 'psnt'; did you mean 'psnr'"):
        report.load(shared, ["psnt"])


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (["ssim"], ["test/ssim", "test/rate"]),
        (["rate", "psnr"], ["test/rate", "test/psnr"]),
        (["elbo"], ["test/elbo"]),
    ],
)
def test_ssim_and_psnr_bring_the_rate_with_them(shared, asked, shown):
    assert [column.metric for column in report.load(shared, asked).table.columns] == shown


def test_status_counts_every_planned_run_once(grid):
    folders = run_dirs(grid)
    fail(folders[0], "diverged")
    fail(folders[1], "stopped", status="interrupted")
    for folder in folders[:2]:
        edit_record(folder, lambda r: r.update(finished=START + 10**9))
    (folders[2] / "record.json").write_text("{")
    (folders[3] / "record.json").unlink()
    write_journal(folders[3], 4)
    for path in sorted(folders[4].iterdir()):
        path.unlink()
    [row] = report.status(grid.parent)
    counts = (row.complete, row.failed, row.interrupted, row.damaged, len(row.started), row.missing)
    assert counts == (7, 1, 1, 1, 1, 1)
    assert sum(counts) == row.planned == 12
    assert (row.started[0].epochs, row.started[0].of) == (4, EPOCHS)
    assert row.last_activity == START + 10**9
    text = report.status_text([row], now=START / 1000 + 10**6 + 300)
    assert "7 of 12 runs complete, 1 failed, 1 interrupted, 1 damaged, 1 started, 1 missing" in text
    assert "last activity 5 min ago" in text
    assert "fnn / mse, seed 0: 4 of 10 epochs" in text
    [row_json] = json.loads(report.status_json([row]))
    assert row_json["name"] == "grid"
    assert row_json["started"][0]["epochs"] == 4
    [failure] = row_json["failures"]
    assert (failure["run_id"], failure["reason"]) == (folders[0].name, "diverged")


def test_interrupted_run_that_trains_again_counts_as_started(grid):
    folder = run_dirs(grid)[0]
    fail(folder, "stopped", status="interrupted")
    edit_record(folder, lambda r: r.update(finished=START + 500))
    [row] = report.status(grid)
    assert (row.interrupted, len(row.started)) == (0, 1)


def test_started_run_without_config_or_times_is_still_counted(grid):
    folder = run_dirs(grid)[0]
    (folder / "record.json").unlink()
    (folder / "config.yaml").write_text("{")
    (folder / "journal.jsonl").write_text('{"epoch": 1, "metrics": {}}\n')
    rows = report.status(grid)
    assert (rows[0].started[0].epochs, rows[0].started[0].last) == (1, None)
    assert "fnn / bce, seed 0: 1 of 10 epochs\n" in report.status_text(rows)


def test_status_shows_a_damaged_grid_beside_the_others(grid):
    (grid.parent / "broken").mkdir()
    (grid.parent / "broken" / "grid.yaml").write_text("{")
    broken, whole = report.status(grid.parent)
    assert broken.problem is not None
    assert whole.complete == 12
    assert "broken: cannot be read" in report.status_text([broken, whole])


def test_status_of_a_folder_without_grids_is_an_error(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ResultsError, match=re.escape(f"{folder}: ")):
            report.status(folder)


@pytest.mark.parametrize(
    ("seconds", "age"), [(5, "5 s"), (150, "2 min"), (3 * 3600, "3 h"), (86400 * 9, "9 days")]
)
def test_ages_are_in_the_unit_that_suits(grid, seconds, age):
    rows = report.status(grid)
    now = rows[0].last_activity / 1000 + seconds
    assert f"last activity {age} ago" in report.status_text(rows, now=now)


def test_frame_has_a_row_per_run_with_axes_and_metrics(grid):
    frame = report.to_frame(report.load(grid).records)
    assert list(frame.columns[:5]) == ["run_id", "model", "loss", "seed", "status"]
    assert len(frame) == 12
    cell = frame[(frame.model == "cnn") & (frame.loss == "mse") & (frame.seed == 1)]
    expected = make_metrics({"model": "cnn", "loss": "mse"}, 1)["test/elbo"]
    assert cell["test/elbo"].item() == expected


@pytest.mark.slow
def test_reading_records_imports_neither_torch_nor_mlflow(shared):
    code = (
        "import sys\n"
        "from vaebench import report\n"
        "assert report.status(sys.argv[1])\n"
        "assert not {'pandas', 'scipy.stats', 'statsmodels'} & sys.modules.keys()\n"
        "for name in report.FORMATS:\n"
        "    assert report.render(report.load(sys.argv[1]), name)\n"
        "heavy = {'torch', 'mlflow', 'matplotlib'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    root = Path(report.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(shared)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stdout.strip() == "[]"


def test_a_device_is_not_replaced_and_a_link_stays_a_link(tmp_path):
    grid = make_results(tmp_path, axes=SMALL, seeds=[0])
    with pytest.raises(ResultsError, match="is no file"):
        report.write(report.load(grid), "md", "/dev/null")
    assert Path("/dev/null").is_char_device()
    (tmp_path / "real.md").write_text("old")
    (tmp_path / "link.md").symlink_to(tmp_path / "real.md")
    report.write(report.load(grid), "md", tmp_path / "link.md")
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "real.md").read_text().startswith("#")
