"""Who leads at which budget, from journals whose answers are known."""

import json

import pytest
from records import edit_record, make_results, run_dirs
from test_report import links

from vaebench import report
from vaebench.report import paper
from vaebench.report.budget import EPOCHS
from vaebench.report.pictures import budget_figure, pictures
from vaebench.schema.manifest import PICTURES

MODELS = {"model": ["fnn", "cnn"]}
SEEDS = (0, 1, 2)


def scores(grid, score, *, epochs=lambda cell, seed: 10, name="val/elbo"):
    """Write journals whose validation ELBO is a function of cell, seed and epoch."""
    for folder in run_dirs(grid):
        record = json.loads((folder / "record.json").read_text())
        cell, seed = record["cell"], record["seed"]
        lines = (
            json.dumps({"epoch": e, "time": e, "metrics": {name: score(cell, seed, e)}})
            for e in range(1, epochs(cell, seed) + 1)
        )
        (folder / "journal.jsonl").write_text("".join(f"{line}\n" for line in lines))


def crossing(cell, seed, epoch):
    """The cnn leads from epoch 5 on; seeds scatter by 0.01."""
    gap = -3.0 if epoch < 5 else 2.0
    return -100.0 + epoch + 0.01 * seed * epoch + (gap if cell["model"] == "cnn" else 0.0)


def costs(grid, name, of):
    for folder in run_dirs(grid):
        edit_record(folder, lambda r: r["metrics"].__setitem__(f"cost/{name}", of(r["cell"])))


def priced(cell):
    """The CPU seconds of an epoch: the cnn takes four times as long."""
    return 8.0 if cell["model"] == "cnn" else 2.0


@pytest.fixture
def grid(tmp_path):
    found = make_results(tmp_path, axes=MODELS, seeds=SEEDS)
    scores(found, crossing)
    costs(found, "cpu_seconds_per_epoch", priced)
    return found


def rows(grid, unit=EPOCHS):
    """Budget, leader, lead and verdict."""
    return [
        (its.spent, its.lead.first.cell["model"], round(its.lead.by, 6), its.lead.word)
        for its in report.load(grid).budget.leaders
        if its.unit == unit
    ]


def test_who_leads_changes_with_the_epochs(grid):
    clearly = "leads clearly"
    assert rows(grid) == [
        (1, "fnn", 3, clearly),
        (2, "fnn", 3, clearly),
        (5, "cnn", 2, clearly),
        (10, "cnn", 2, clearly),
    ]


def test_seconds_are_epochs_times_the_cpu_time_of_one_and_end_with_the_first_cell(grid):
    # the fnn ends after 20 s; by then the cnn has trained for two epochs, at first for one
    found = rows(grid, "CPU seconds")
    assert [row[:2] for row in found] == [(10, "fnn"), (20, "fnn")]
    fnn, cnn = ({"model": name} for name in ("fnn", "cnn"))
    expected = [crossing(fnn, 1, a) - crossing(cnn, 1, b) for a, b in ((5, 1), (10, 2))]
    assert [row[2] for row in found] == pytest.approx(expected)


def test_seconds_are_left_out_where_costs_do_not_compare(grid):
    edit_record(run_dirs(grid)[0], lambda r: r["environment"].update(cpu="Another CPU"))
    its = report.load(grid).budget
    assert its.clock is None
    assert {leader.unit for leader in its.leaders} == {EPOCHS}
    assert "Seconds are left out" in report.render(report.load(grid), "md")
    assert len(budget_figure(report.load(grid)).axes) == 1


def test_on_another_device_than_a_cpu_seconds_are_those_of_the_clock(grid):
    costs(grid, "seconds_per_epoch", lambda cell: 1.0)
    for folder in run_dirs(grid):
        edit_record(folder, lambda r: r["environment"].update(device="cuda"))
    assert [row[:2] for row in rows(grid, "seconds")] == [
        (1, "fnn"),
        (2, "fnn"),
        (5, "cnn"),
        (10, "cnn"),
    ]


def test_a_lead_by_luck_of_one_seed_is_within_the_spread_and_the_close_cells_are_named(grid):
    def lucky(cell, seed, epoch):
        return -100.0 + (0.1 + 5.0 * (seed - 1) if cell["model"] == "cnn" else 0.0)

    scores(grid, lucky)
    assert rows(grid)[-1] == (10, "cnn", 0.1, "leads within the spread")
    assert "| 10 epochs | cnn | -99.90 | 0.10 | fnn | leads within the spread of fnn |" in (
        report.render(report.load(grid), "md")
    )


def test_a_median_that_the_mean_contradicts_is_no_clear_lead(tmp_path):
    def crossed(cell, seed, epoch):  # the cnn is a little worse in five seeds, far better in four
        low, high = (0.9, 3.0) if cell["model"] == "cnn" else (1.0, 0.0)
        return -100.0 + (low if seed < 5 else high)

    grid = make_results(tmp_path, axes=MODELS, seeds=range(9))
    scores(grid, crossed)
    last = report.load(grid).budget.leaders[-1].lead
    known = last.contrast.difference
    assert last.first.cell == {"model": "fnn"}
    assert known.mean < -known.ci95
    assert last.word == "leads within the spread"


def test_one_seed_leads_without_a_verdict(tmp_path):
    grid = make_results(tmp_path, axes=MODELS, seeds=[0])
    scores(grid, crossing)
    assert {row[3] for row in rows(grid)} == {"leads, one seed: no test"}


def test_a_run_that_stopped_early_keeps_its_score_and_a_shorter_one_ends_the_table(grid):
    scores(grid, crossing, epochs=lambda cell, seed: 4 if cell["model"] == "fnn" else 10)
    assert [row[0] for row in rows(grid)] == [1, 2, 4]
    stopping = {"epochs": 50, "early_stopping": {"patience": 2}}
    for folder in run_dirs(grid):
        edit_record(folder, lambda r: r["config"].update(training=stopping))
    scores(grid, crossing, epochs=lambda cell, seed: 4 if cell["model"] == "fnn" else 8 + seed)
    assert [row[0] for row in rows(grid)] == [1, 2, 5, 10]
    last = report.load(grid).budget.leaders[3].lead
    fnn, cnn = ({"model": name} for name in ("fnn", "cnn"))
    assert last.first.of("val/elbo") == tuple(crossing(cnn, s, 8 + s) for s in SEEDS)
    assert last.second.of("val/elbo") == tuple(crossing(fnn, s, 4) for s in SEEDS)
    assert "stopped early keeps" in report.render(report.load(grid), "md")


def test_bounds_of_different_base_measures_are_never_set_against_each_other(tmp_path):
    grid = make_results(tmp_path, axes={**MODELS, "loss": ["bce", "mse"]}, seeds=SEEDS)
    scores(grid, crossing)
    its = report.load(grid).budget
    assert list(its.groups) == ["bce (relaxed)", "mse (σ²=0.5)"]
    for leader in its.leaders:
        assert {cell.cell["loss"] for cell in leader.lead.group} == {leader.among[:3]}
    headings = [axes.get_title("left") for axes in budget_figure(report.load(grid)).axes]
    assert [heading for heading in headings if heading] == [
        f"validation ELBO, {name}" for name in its.groups
    ]


def test_strata_that_no_axis_sets_apart_have_names_of_their_own(tmp_path):
    axes = {"dataset": ["digits", "toy"], "loss": ["bce", "mse"]}
    grid = make_results(tmp_path, axes=axes, seeds=SEEDS)
    scores(grid, lambda cell, seed, epoch: float(epoch))
    names = ["digits / bce (relaxed)", "digits / mse (σ²=0.5)"]
    names += [name.replace("digits", "toy") for name in names]
    assert list(report.load(grid).budget.groups) == names
    panels = paper._panels(report.load(grid))
    assert [len(curves) for curves in panels.values()] == [1] * 4


@pytest.mark.parametrize(("between", "groups"), [(100.0, 2), (12.0, 1)])
def test_cells_that_compare_but_lie_far_apart_have_panels_of_their_own(tmp_path, between, groups):
    grid = make_results(tmp_path, axes={**MODELS, "loss": ["mse", "cb"]}, seeds=SEEDS)
    scores(grid, lambda c, s, e: crossing(c, s, e) + (between if c["loss"] == "cb" else 0.0))
    analysis = report.load(grid)
    assert len(analysis.budget.groups) == groups
    said = "mse (σ²=0.5) and cb compare, but lie further apart" in report.render(analysis, "md")
    assert said == (groups == 2)


def test_cells_of_another_bound_are_drawn_but_not_ranked(tmp_path):
    grid = make_results(tmp_path, axes={"estimator": ["sgvb", "kl", "iwae"]}, seeds=SEEDS)
    scores(grid, lambda cell, seed, epoch: float(epoch * len(cell["estimator"])))
    its = report.load(grid).budget
    (group,) = its.groups.values()
    assert len(group) == 3
    assert {cell.cell["estimator"] for leader in its.leaders for cell in leader.lead.group} == {
        "sgvb",
        "kl",
    }
    assert "train for another bound: iwae." in report.render(report.load(grid), "md")


def test_an_incomplete_cell_is_drawn_but_not_ranked(grid):
    edit_record(run_dirs(grid)[-1], lambda r: r.update(status="failed", reason="why"))
    its = report.load(grid).budget
    (group,) = its.groups.values()
    assert [len(scores.values) for scores in group] == [3, 2]
    assert its.leaders == ()


@pytest.mark.parametrize("value", ['"high"', "null", "1e999", "NaN", "true", "1" + "0" * 400])
def test_a_score_that_is_no_number_is_a_gap(grid, value):
    path = run_dirs(grid)[0] / "journal.jsonl"
    _, *rest = path.read_text().splitlines()
    broken = json.dumps({"epoch": 1, "time": 1, "metrics": {"val/elbo": "?"}})
    path.write_text("\n".join([broken.replace('"?"', value), *rest, ""]))
    assert [row[0] for row in rows(grid)] in ([2, 5, 10], [])  # what is no JSON ends a journal
    report.render(report.load(grid), "md")


def test_the_report_shows_the_picture_where_it_was_drawn(grid):
    text = report.render(report.load(grid), "md", grid / "report.md")
    assert "## Score over budget" in text
    assert "budget.png" not in text
    drawn = dict(pictures(report.load(grid)))
    assert drawn.keys() <= set(PICTURES)
    (grid / "budget.png").write_bytes(drawn["budget.png"])
    shown = report.render(report.load(grid), "md", grid / "report.md")
    assert grid / "budget.png" in links(shown, grid / "report.md")


def test_one_epoch_has_no_scores_over_budget(grid):
    scores(grid, crossing, epochs=lambda cell, seed: 1)
    analysis = report.load(grid)
    assert "Score over budget" not in report.render(analysis, "md")
    assert "budget.png" not in dict(pictures(analysis))


def test_json_has_the_leaders(grid):
    found = json.loads(report.render(report.load(grid), "json"))["budget"]
    last = [row for row in found if row["unit"] == EPOCHS][-1]
    assert (last["spent"], last["first"], last["second"]) == (
        10,
        {"model": "cnn"},
        {"model": "fnn"},
    )
    assert (last["lead"], last["mean"]) == (pytest.approx(2.0), pytest.approx(2.0))
    assert last["close"] == []
