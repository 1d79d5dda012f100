"""Two result sets side by side: what counts as better, worse, no difference, not comparable."""

import json
import shutil

import pytest
import yaml
from click.testing import CliRunner
from records import assign, edit_manifest, edit_record, fail, make_results, run_dirs

from vaebench import report
from vaebench.cli import main
from vaebench.report.compare import BETTER, NO_DIFFERENCE, NOT_COMPARABLE, OUTCOMES, WORSE

AXES = {"model": ["fnn", "cnn"], "loss": ["bce", "mse"]}
SSIM = "test/ssim"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("base"), name="base", axes=AXES, seeds=range(9))


@pytest.fixture
def twins(base, tmp_path):
    """The same records twice; a test changes the second."""
    return base, shutil.copytree(base, tmp_path / "second")


def outcomes_of(first, second, metric=SSIM):
    """Outcome and reason by cell, in words, of one metric."""
    found = report.compare(report.load(first), report.load(second)).outcomes
    return {
        " / ".join(its.cell.values()): (its.outcome, its.reason)
        for its in found
        if its.column.metric == metric
    }


def shift(grid, metric, change):
    """Add ``change(cell, seed)`` to a metric of every run."""
    for folder in run_dirs(grid):
        edit_record(
            folder,
            lambda r: r["metrics"].__setitem__(
                metric, r["metrics"][metric] + change(r["cell"], r["seed"])
            ),
        )


def call(*arguments):
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_equal_records_show_no_difference_and_exit_with_0(twins):
    assert set(outcomes_of(*twins).values()) == {
        (NO_DIFFERENCE, "equal in every seed, up to rounding")
    }
    done = call(*twins)
    assert done.exit_code == 0
    assert "**" not in done.stdout


def test_cell_that_is_worse_in_every_seed_is_worse_and_exits_with_3(twins):
    shift(twins[1], SSIM, lambda c, s: -0.01 * (c == {"model": "cnn", "loss": "bce"}))
    outcomes = outcomes_of(*twins)
    assert outcomes.pop("cnn / bce") == (WORSE, "")
    assert {outcome for outcome, _ in outcomes.values()} == {NO_DIFFERENCE}
    done = call(*twins)
    assert done.exit_code == 3
    assert "| -0.0100 ±\u00a00.0000 | 0.0156 | **worse** |" in done.stdout
    # what is worse one way is better the other
    assert outcomes_of(*reversed(twins))["cnn / bce"] == (BETTER, "")
    assert call(*reversed(twins)).exit_code == 0


def test_lower_is_better_where_the_metric_says_so(twins):
    shift(twins[1], "test/mse_px", lambda c, s: -0.001)
    outcomes = outcomes_of(*twins, metric="test/mse_px")
    assert {outcome for outcome, _ in outcomes.values()} == {BETTER}


def test_differences_of_both_signs_show_no_difference(twins):
    shift(twins[1], SSIM, lambda c, s: 0.01 * (-1) ** s)
    assert set(outcomes_of(*twins).values()) == {(NO_DIFFERENCE, "")}
    assert call(*twins).exit_code == 0


def test_differences_as_small_as_rounding_are_none(twins):
    shift(twins[1], SSIM, lambda c, s: -1e-8)
    assert set(outcomes_of(*twins).values()) == {
        (NO_DIFFERENCE, "equal in every seed, up to rounding")
    }
    shift(twins[1], SSIM, lambda c, s: -1e-5)
    assert {outcome for outcome, _ in outcomes_of(*twins).values()} == {WORSE}


def test_cells_of_one_metric_are_one_family(twins):
    shift(twins[1], SSIM, lambda c, s: -0.01)
    found = json.loads(call(*twins, "--json").stdout)
    cells = [cell for cell in found["cells"] if cell["metric"] == SSIM]
    assert len(cells) == 4
    for cell in cells:
        assert cell["difference"]["p"] == 2 / 2**9
        assert cell["p_holm"] == pytest.approx(4 * 2 / 2**9)
        assert cell["family"] == f"4 cells by {SSIM}"
        assert cell["second"] - cell["first"] == pytest.approx(-0.01)
        assert cell["seeds"] == list(range(9))
    assert found["counts"][WORSE] == 4
    assert sum(found["counts"].values()) == len(found["cells"])
    assert set(found["counts"]) == set(OUTCOMES)


def make(tmp_path, name, seeds, change=0.0):
    grid = make_results(tmp_path, name=name, axes={"model": ["fnn"]}, seeds=seeds)
    assign(grid, SSIM, lambda c, s: 0.8 + 0.001 * s + change)
    return grid


def test_one_seed_cannot_be_tested(tmp_path):
    grids = make(tmp_path, "a", [0]), make(tmp_path, "b", [0], -0.3)
    assert outcomes_of(*grids) == {"fnn": (NO_DIFFERENCE, "one seed in common: no test")}
    assert call(*grids).exit_code == 0


def test_few_seeds_say_that_significance_cannot_be_reached(tmp_path):
    grids = make(tmp_path, "a", range(5)), make(tmp_path, "b", range(5), -0.3)
    [(outcome, reason)] = outcomes_of(*grids).values()
    assert outcome == NO_DIFFERENCE
    assert reason == "significance cannot be reached with 5 seeds: smallest adjusted p = 0.0625"


def test_runs_are_paired_on_the_seeds_that_both_have(tmp_path):
    grids = make(tmp_path, "a", range(9)), make(tmp_path, "b", range(2, 20), -0.01)
    found = json.loads(call(*grids, "--json").stdout)
    [cell] = [cell for cell in found["cells"] if cell["metric"] == SSIM]
    assert cell["seeds"] == list(range(2, 9))
    assert cell["difference"]["mean"] == pytest.approx(-0.01)
    assert cell["first"] == pytest.approx(0.805)
    assert cell["outcome"] == WORSE  # 2 / 2^7 = 0.0156, the only cell


def test_sets_without_a_seed_in_common_are_not_comparable(tmp_path):
    grids = make(tmp_path, "a", [0, 1]), make(tmp_path, "b", [2, 3])
    assert outcomes_of(*grids) == {"fnn": (NOT_COMPARABLE, "no seed in common")}


def digest(record):
    record["environment"]["dataset"]["digest"] = "d2"


CHANGES = {
    "version of the data set": (
        lambda r: r.update(versions={"dataset": 2}),
        "another version of the data set",
    ),
    "several versions": (
        lambda r: r["seed"] % 2 and r.update(numbers_version=2),  # the others do not say theirs
        "run by several versions of vaebench that give other numbers",
    ),
    "test images": (digest, "other test images"),
    "binarisation": (
        lambda r: r["config"]["dataset"].update(binarize="static"),
        "other test images",
    ),
    "metric version": (
        lambda r: r["metric_declarations"]["ssim"].update(version=2),
        "the metric is declared differently: another version or definition",
    ),
    "missing": (lambda r: r["metrics"].pop(SSIM), "not measured in every run"),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES.keys())
def test_numbers_of_another_meaning_are_not_comparable(twins, change, reason):
    shift(twins[1], SSIM, lambda c, s: -0.3)
    for folder in run_dirs(twins[1]):
        edit_record(folder, change)
    assert set(outcomes_of(*twins).values()) == {(NOT_COMPARABLE, reason)}
    assert call(*twins).exit_code == 0


def test_the_rate_stands_beside_ssim_and_psnr(twins):
    shift(twins[1], "test/rate", lambda c, s: 5.0)
    comparison = report.compare(*map(report.load, twins))
    for its in comparison.outcomes:
        if its.column.metric in (SSIM, "test/psnr"):
            assert its.rates is not None
            assert its.rates[1] - its.rates[0] == pytest.approx(5.0)
        else:
            assert its.rates is None
    ssim = report.comparison_text(comparison).partition("## SSIM")[2].partition("\n## ")[0]
    assert "| First (rate in nats) |" in ssim
    assert "(16." in ssim
    assert "(21." in ssim


@pytest.mark.parametrize(
    ("change", "versions", "words"),
    [
        (lambda r: r.update(numbers_version=2), {"numbers": [None, 2]}, "numbers None → 2"),
        (lambda r: r.update(versions={"loss": 2}), {"loss": [1, 2]}, "loss 1 → 2"),
    ],
)
def test_runs_of_two_versions_are_compared_and_marked(twins, change, versions, words):
    shift(twins[1], SSIM, lambda c, s: -0.3 * (c["model"] == "cnn"))
    for folder in run_dirs(twins[1]):
        edit_record(folder, change)
    assert {cell: outcome for cell, (outcome, _) in outcomes_of(*twins).items()} == {
        "fnn / bce": NO_DIFFERENCE,
        "fnn / mse": NO_DIFFERENCE,
        "cnn / bce": WORSE,
        "cnn / mse": WORSE,
    }
    done = call(*twins)
    assert done.exit_code == 3
    assert f"**worse** ({words})" in done.stdout
    assert f"Runs of two versions of vaebench ({words})" in done.stdout
    cells = json.loads(call(*twins, "--json").stdout)["cells"]
    assert all(cell["versions"] == versions for cell in cells)


def test_a_grid_alone_is_set_against_its_superseded_runs(twins):
    folder = twins[1]
    old = yaml.safe_load((folder / "grid.yaml").read_text())["runs"]
    for run in run_dirs(folder):
        copy = shutil.copytree(run, run.with_name(f"{run.name}-old"))
        edit_record(copy, lambda r: r.update(run_id=f"{r['run_id']}-old", numbers_version=1))
        edit_record(run, lambda r: r.update(numbers_version=2))
    shift(folder, SSIM, lambda c, s: -0.3)
    nothing = call(folder)
    assert nothing.exit_code == 1
    assert "no runs of an older version" in nothing.stderr
    edit_manifest(folder, superseded=[{**run, "run_id": f"{run['run_id']}-old"} for run in old])
    done = call(folder)
    assert done.exit_code == 3
    assert "**worse** (numbers 1 → 2)" in done.stdout
    assert "its runs of an older version" in done.stdout
    analysis = report.load(folder)
    assert analysis.foreign == ()  # they are the grid's, though in no table
    assert len(analysis.records) == 36
    assert "36 runs of older versions" in report.render(analysis, "md", folder / "report.md")


def test_another_variance_is_the_same_base_measure_and_a_relaxed_loss_another(twins):
    shift(twins[1], "test/elbo", lambda c, s: -50)
    shift(twins[1], SSIM, lambda c, s: -0.1)
    for folder in run_dirs(twins[1]):
        edit_record(folder, lambda r: r["config"]["loss"].get("mse", {}).update(sigma2=0.02))
    elbo = outcomes_of(*twins, metric="test/elbo")
    assert elbo["fnn / mse"] == elbo["fnn / bce"] == (WORSE, "")
    for folder in run_dirs(twins[1]):
        edit_record(folder, lambda r: r["config"].update(loss={"name": "bce", "bce": {}}))
    elbo = outcomes_of(*twins, metric="test/elbo")
    assert elbo["fnn / mse"] == elbo["cnn / mse"] == (NOT_COMPARABLE, "another likelihood")
    assert elbo["fnn / bce"] == (WORSE, "")
    assert {outcome for outcome, _ in outcomes_of(*twins).values()} == {WORSE}


def test_incomplete_rows_and_cells_of_one_side_are_not_comparable(twins):
    fail(run_dirs(twins[1])[0], "no memory")
    manifest = yaml.safe_load((twins[1] / "grid.yaml").read_text())
    edit_manifest(twins[1], runs=manifest["runs"][:-9])
    outcomes = outcomes_of(*twins)
    assert outcomes["fnn / bce"] == (NOT_COMPARABLE, "incomplete (8 of 9 seeds) in the second")
    assert outcomes["cnn / mse"] == (NOT_COMPARABLE, "only in the first")
    assert outcomes_of(*reversed(twins))["cnn / mse"] == (NOT_COMPARABLE, "only in the second")


def test_costs_and_metrics_without_a_direction_are_not_compared(twins):
    shift(twins[1], "cost/seconds_per_epoch", lambda c, s: 100)
    shift(twins[1], "test/rate", lambda c, s: 100)
    assert call(*twins).exit_code == 0
    metrics = {its.column.metric for its in report.compare(*map(report.load, twins)).outcomes}
    assert metrics == {
        f"test/{name}" for name in ("elbo", "distortion", "ssim", "psnr", "mse_px", "mae_px")
    }


def test_text_says_what_was_compared_and_which_settings_differ(twins):
    edit_manifest(twins[1], settings={"training": {"epochs": 20, "batch_size": 256}})
    text = call(*twins).stdout
    assert f"first: base in {twins[0]}, 36 of 36 runs complete" in text
    assert "training.epochs: 10 in the first, 20 in the second" in text
    assert "| SSIM ↑ | 0 | 0 | 4 | 0 |" in text


@pytest.mark.parametrize(
    ("second", "code", "named"), [([], 1, "name a second grid"), (["nowhere"], 1, "nowhere: ")]
)
def test_wrong_usage_and_missing_folders_are_errors(base, second, code, named):
    done = call(base, *second)
    assert done.exit_code == code
    assert named in done.stderr
