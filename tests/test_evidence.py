"""Effects, claims and published numbers of a report, from records whose answers are known."""

import itertools
import json

import pytest
import yaml
from markdown_it import MarkdownIt
from records import assign, edit_manifest, edit_record, fail, make_results, run_dirs

from vaebench import report
from vaebench.errors import ResultsError

SMALL = {"model": ["fnn", "cnn"], "loss": ["bce", "mse"]}
SEEDS = range(9)


def ssim(cell, seed):
    """cnn adds 0.010 to 0.018, more with the seed; bce adds 0.002 in both; both together 0.004."""
    cnn, bce = cell["model"] == "cnn", cell["loss"] == "bce"
    return 0.8 + cnn * (0.010 + 0.001 * seed) + 0.002 * bce + 0.004 * (cnn and bce) + 0.005 * seed


def elbo(cell, seed):
    """The cnn is better by 1 + seed/10 with mse, worse by 2 + seed/10 with bce."""
    gain = (1 + seed / 10) if cell["loss"] == "mse" else -(2 + seed / 10)
    return (-470.0 if cell["loss"] == "mse" else -100.0) + gain * (cell["model"] == "cnn") + seed


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Four cells with nine seeds, whose SSIM and ELBO are the functions above.

    Tests may set other metrics, and what the grid claims: each sets what it needs.
    """
    grid = make_results(tmp_path_factory.mktemp("known"), axes=SMALL, seeds=SEEDS)
    assign(grid, "test/ssim", ssim)
    assign(grid, "test/elbo", elbo)
    return grid


def json_of(grid):
    return json.loads(report.render(report.load(grid), "json"))


def markdown_of(grid):
    return report.render(report.load(grid), "md", grid / "report.md")


def effects_of(grid, metric):
    return {
        (effect["contrast"], *itertools.chain(*effect["within"].values())): effect
        for effect in json_of(grid)["effects"]
        if effect["metric"] == metric
    }


def claims_of(grid, *claims):
    edit_manifest(grid, claims=list(claims))
    return json_of(grid)["claims"]


def verdicts_of(grid, *claims):
    return [claim["verdict"] for claim in claims_of(grid, *claims)]


def better(metric, first, second, **more):
    return {"metric": metric, "better": first, "than": second, **more}


def same(metric, first, second, margin):
    return {"metric": metric, "same": [first, second], "margin": margin}


def section(text, heading):
    """The lines of a section of a Markdown text."""
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


# -- effects --------------------------------------------------------------------------------------


def test_effects_on_ssim_and_psnr_have_the_rate_beside_them(known):
    assign(known, "test/rate", lambda c, s: 10.0 + 2.5 * (c["model"] == "cnn") + s / 10)
    found = json_of(known)["effects"]
    for effect in found:
        if effect["metric"] not in ("test/ssim", "test/psnr"):
            assert effect["rate"] is None
        elif effect["contrast"] == "cnn - fnn":
            assert effect["rate"] == pytest.approx(2.5)
        else:
            assert effect["rate"] == pytest.approx(0.0, abs=1e-9)
    lines = section(markdown_of(known), "Effects of the axes").splitlines()
    at = next(i for i, line in enumerate(lines) if line.endswith("| Rate (nats) |"))
    assert "SSIM" in lines[at]
    assert lines[at + 2].startswith("| cnn - fnn |")
    assert lines[at + 2].endswith("| +2.50 |")
    assert "+2.50" in report.render(report.load(known), "latex")


def test_effects_are_differences_seed_by_seed_averaged_over_the_other_axes(known):
    effects = effects_of(known, "test/ssim")
    cnn = effects[("cnn - fnn",)]
    assert cnn["values"] == pytest.approx([0.012 + 0.001 * seed for seed in SEEDS])
    assert (cnn["n"], cnn["pairs"], cnn["seeds"]) == (9, 2, list(SEEDS))
    assert cnn["mean"] == pytest.approx(0.016)
    # s of 0.001 x (0..8) is 0.001 sqrt(7.5); t(0.975, 8 degrees) = 2.306004
    assert cnn["ci95"] == pytest.approx(2.306004 * 0.001 * 7.5**0.5 / 3, rel=1e-5)
    assert cnn["effect_size"] == pytest.approx(0.016 / (0.001 * 7.5**0.5))
    assert effects[("bce - mse",)]["mean"] == pytest.approx(0.004)


def test_interaction_is_the_difference_of_two_differences(known):
    interaction = effects_of(known, "test/ssim")[("(cnn - fnn) × (bce - mse)",)]
    assert interaction["values"] == pytest.approx([0.004] * 9)
    assert (interaction["kind"], interaction["pairs"]) == ("interaction", 1)


def test_effects_are_tested_exactly_and_adjusted_over_the_contrasts_of_their_metric(known):
    effects = list(effects_of(known, "test/ssim").values())
    assert len(effects) == 3
    for effect in effects:  # every seed has the same sign
        assert effect["p"] == effect["smallest_p"] == 2 / 2**9
        assert effect["p_holm"] == effect["smallest_p_holm"] == pytest.approx(3 * 2 / 2**9)
        assert effect["family"] == "3 contrasts of test/ssim"


def test_elbo_has_effects_within_each_loss_and_none_across(known):
    effects = effects_of(known, "test/elbo")
    assert set(effects) == {("cnn - fnn", "bce"), ("cnn - fnn", "mse")}
    assert effects[("cnn - fnn", "mse")]["mean"] == pytest.approx(1.4)
    assert effects[("cnn - fnn", "bce")]["mean"] == pytest.approx(-2.4)
    assert {effect["family"] for effect in effects.values()} == {"2 contrasts of test/elbo"}
    shown = section(markdown_of(known), "Effects of the axes")
    assert "rows whose bounds compare" in shown
    assert "The losses compared are bce (relaxed), mse (σ²=0.5)" in shown


def test_costs_and_metrics_without_a_direction_are_not_tested(known):
    metrics = {effect["metric"] for effect in json_of(known)["effects"]}
    assert {"test/elbo", "test/ssim", "test/psnr"} <= metrics
    assert not any(metric.startswith("cost/") for metric in metrics)
    assert not {"test/rate", "test/active_units"} & metrics


def test_estimators_are_compared_with_closed_form_kl_whatever_their_order(tmp_path):
    for i, order in enumerate(itertools.permutations(["sgvb", "kl", "iwae"])):
        grid = make_results(tmp_path, name=f"g{i}", axes={"estimator": list(order)}, seeds=[0, 1])
        assert set(effects_of(grid, "test/ssim")) == {("sgvb - kl",), ("iwae - kl",)}


def test_other_axes_are_compared_with_their_first_value_and_interact_when_they_have_two(tmp_path):
    axes = {"model": ["fnn", "cnn"], "model.latent_dim": [2, 8, 32], "training.beta": [1, 4]}
    grid = make_results(tmp_path, axes=axes, seeds=[0, 1])
    assert set(effects_of(grid, "test/ssim")) == {
        ("cnn - fnn",),
        ("latent_dim=8 - latent_dim=2",),
        ("latent_dim=32 - latent_dim=2",),
        ("beta=4 - beta=1",),
        ("(cnn - fnn) × (beta=4 - beta=1)",),
    }


def test_incomplete_cell_takes_the_numbers_of_every_contrast_that_needs_it(tmp_path):
    grid = make_results(tmp_path, axes=SMALL, seeds=SEEDS)
    fail(run_dirs(grid)[0], "no memory")  # fnn / bce, seed 0
    effects = effects_of(grid, "test/elbo")
    gone = effects[("cnn - fnn", "bce")]
    assert "fnn / bce" in gone["reason"]
    assert "(8 of 9 seeds)" in gone["reason"]
    assert (gone["mean"], gone["ci95"], gone["p"], gone["p_holm"]) == (None,) * 4
    assert gone["values"] == []
    assert effects[("cnn - fnn", "mse")]["family"] == "1 contrast of test/elbo"
    assert {e["mean"] for e in effects_of(grid, "test/ssim").values()} == {None}
    shown = section(markdown_of(grid), "Effects of the axes")
    assert "(8 of 9 seeds)" in shown


def test_metric_missing_in_one_run_has_no_contrast(tmp_path):
    grid = make_results(tmp_path, axes=SMALL, seeds=SEEDS)
    edit_record(run_dirs(grid)[0], lambda r: r["metrics"].update({"test/psnr": None}))
    reasons = {effect["reason"] for effect in effects_of(grid, "test/psnr").values()}
    assert reasons == {"not measured in 1 run"}


def test_metric_declared_in_two_versions_has_no_effects(tmp_path):
    grid = make_results(tmp_path, axes=SMALL, seeds=SEEDS)
    edit_record(run_dirs(grid)[0], lambda r: r["metric_declarations"]["ssim"].update(version=2))
    assert effects_of(grid, "test/ssim") == {}


def test_cells_with_different_seeds_are_not_paired(tmp_path):
    grid = make_results(tmp_path, axes={"model": ["fnn", "cnn"]}, seeds=[0, 1, 2])
    manifest = yaml.safe_load((grid / "grid.yaml").read_text())
    edit_manifest(grid, runs=manifest["runs"][:-1])
    [effect] = effects_of(grid, "test/ssim").values()
    assert effect["reason"] == "its cells have different seeds"


def test_unbalanced_grid_is_averaged_over_whole_pairs_alone(tmp_path):
    grid = make_results(tmp_path, axes={**SMALL, "estimator": ["sgvb", "kl"]}, seeds=SEEDS)
    manifest = yaml.safe_load((grid / "grid.yaml").read_text())
    left_out = {"model": "cnn", "loss": "mse", "estimator": "sgvb"}
    edit_manifest(grid, runs=[run for run in manifest["runs"] if run["cell"] != left_out])
    assign(grid, "test/ssim", lambda c, s: 0.5 + 0.1 * (c["model"] == "cnn") + (c["loss"] == "mse"))
    effects = effects_of(grid, "test/ssim")
    cnn = effects[("cnn - fnn",)]
    assert (cnn["pairs"], cnn["unpaired_cells"]) == (3, 1)
    assert cnn["mean"] == pytest.approx(0.1)  # the mse cell without a partner would make it -0.15
    interaction = effects[("(cnn - fnn) × (bce - mse)",)]
    assert (interaction["pairs"], interaction["unpaired_cells"]) == (1, 3)
    assert interaction["mean"] == pytest.approx(0.0)
    shown = section(markdown_of(grid), "Effects of the axes")
    assert "cnn - fnn: averaged over 3 pairs; 1 cell without a partner" in shown


def test_axes_without_a_single_pair_have_an_effect_without_numbers(tmp_path):
    grid = make_results(tmp_path, axes=SMALL, seeds=[0, 1])
    manifest = yaml.safe_load((grid / "grid.yaml").read_text())
    kept = [
        r for r in manifest["runs"] if (r["cell"]["model"] == "cnn") == (r["cell"]["loss"] == "mse")
    ]
    edit_manifest(grid, runs=kept)
    reasons = {effect["reason"] for effect in effects_of(grid, "test/ssim").values()}
    assert reasons == {"no cells that differ in nothing else"}


def test_one_seed_shows_differences_without_interval_or_test(tmp_path):
    grid = make_results(tmp_path, axes=SMALL, seeds=[0])
    [effect] = [e for key, e in effects_of(grid, "test/elbo").items() if key[1] == "bce"]
    assert isinstance(effect["mean"], float)
    assert (effect["n"], effect["ci95"], effect["p"], effect["smallest_p"]) == (1, None, None, None)
    shown = section(markdown_of(grid), "Effects of the axes")
    assert "One seed: no interval, and nothing can be tested." in shown
    assert "±" not in shown


def test_few_seeds_are_said_to_be_too_few_rather_than_not_significant(tmp_path):
    grid = make_results(tmp_path, axes=SMALL, seeds=range(6))
    assign(grid, "test/ssim", ssim)
    effect = effects_of(grid, "test/ssim")[("cnn - fnn",)]
    assert effect["p"] == 2 / 2**6 < 0.05 < effect["smallest_p_holm"] == pytest.approx(6 / 2**6)
    shown = section(markdown_of(grid), "Effects of the axes").partition("<details>")[0]
    assert "Significance cannot be reached with 6 seeds" in shown
    assert "**" not in shown
    assert "p = " not in shown


def test_significant_effects_are_bold_and_carry_p_and_interval(known):
    shown = section(markdown_of(known), "Effects of the axes").partition("<details>")[0]
    assert "| cnn - fnn | **+0.0160 ±\u00a00.0021<br>p = 0.0117** |" in shown
    assert "ELBO ↑, bce (relaxed) | ELBO ↑, mse (σ²=0.5)" in shown
    assert "| cnn - fnn | **-2.40 ±\u00a00.21<br>p = 0.00781** | **+1.40 ±" in shown


def test_grid_of_one_cell_has_no_effects(tmp_path):
    grid = make_results(tmp_path, axes={"model": ["fnn"]})
    assert json_of(grid)["effects"] == []
    assert "## Effects" not in markdown_of(grid)


# -- claims ---------------------------------------------------------------------------------------

CNN, FNN = {"model": "cnn"}, {"model": "fnn"}
BCE, MSE = {"loss": "bce"}, {"loss": "mse"}


def test_claims_are_supported_or_refuted_by_sign_and_adjusted_p(known):
    claims = claims_of(
        known,
        better("test/elbo", CNN | MSE, FNN | MSE),
        better("test/elbo", CNN | BCE, FNN | BCE),
        better("test/ssim", BCE, MSE, claim="BCE reconstructs better"),
    )
    assert [claim["verdict"] for claim in claims] == ["supported", "refuted", "supported"]
    assert [claim["mean"] for claim in claims] == pytest.approx([1.4, -2.4, 0.004])
    assert [claim["claim"] for claim in claims][1:] == [
        "cnn / bce is better than fnn / bce",
        "BCE reconstructs better",
    ]
    for claim in claims:
        assert claim["n"] == 9
        assert claim["p_holm"] == pytest.approx(3 * 2 / 2**9)
        assert claim["family"] == "3 claims of a difference"


def test_lower_is_better_where_the_metric_says_so(known):
    assign(known, "test/mse_px", lambda c, s: 0.02 - 0.01 * (c["model"] == "cnn") + 0.001 * s)
    claims = [better("test/mse_px", CNN, FNN), better("test/mse_px", FNN, CNN)]
    assert verdicts_of(known, *claims) == ["supported", "refuted"]


def test_claim_across_losses_by_a_metric_of_one_loss_is_not_comparable(known):
    across, averaged = claims_of(
        known, better("test/elbo", BCE, MSE), better("test/elbo", CNN, FNN)
    )
    for claim in (across, averaged):
        assert claim["verdict"] == "not comparable"
        assert "different losses; state it once per loss" in claim["why"]
        assert claim["mean"] is None


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        (better("test/log_px", CNN, FNN), "no run has measured test/log_px"),
        (better("cost/seconds_per_epoch", FNN, CNN), "costs are not tested"),
        (better("test/rate", CNN | BCE, FNN | BCE), "does not say which direction is better"),
        (better("test/ssim", {"model": "rnn"}, FNN), "no cell has model: rnn"),
        (better("test/ssim", {"modell": "cnn"}, {"modell": "fnn"}), "no cell has modell: cnn"),
    ],
)
def test_claim_that_these_cells_cannot_settle_is_not_comparable(known, claim, why):
    [judged] = claims_of(known, claim)
    assert judged["verdict"] == "not comparable"
    assert why in judged["why"]


def test_difference_that_is_not_significant_is_inconclusive(known):
    assign(known, "test/psnr", lambda c, s: 20 + (c["model"] == "cnn") * (-1) ** s)
    [claim] = claims_of(known, better("test/psnr", CNN, FNN))
    assert (claim["verdict"], claim["why"]) == ("inconclusive", "no difference shown")
    assert claim["p"] == 1.0


def test_too_few_seeds_are_inconclusive_and_say_so(tmp_path):
    grid = make_results(tmp_path, axes=SMALL, seeds=range(5))
    assign(grid, "test/ssim", ssim)
    [claim] = claims_of(grid, better("test/ssim", CNN, FNN))
    assert claim["verdict"] == "inconclusive"
    assert "5 seeds" in claim["why"]
    assert "p = 0.0625" in claim["why"]
    assert claim["interval"] is None


def test_claims_share_a_family_which_can_put_significance_out_of_reach(tmp_path):
    grid = make_results(tmp_path, axes=SMALL, seeds=range(6))
    assign(grid, "test/ssim", lambda c, s: (c["model"] == "cnn") * (0.01 + s / 1e3))
    claim = better("test/ssim", CNN, FNN)
    assert verdicts_of(grid, claim) == ["supported"]
    assert verdicts_of(grid, claim, better("test/ssim", BCE, MSE)) == ["inconclusive"] * 2


@pytest.mark.parametrize("kind", [better("test/ssim", CNN, FNN), same("test/ssim", CNN, FNN, 1.0)])
def test_one_seed_or_an_incomplete_row_is_inconclusive(tmp_path, kind):
    one = make_results(tmp_path, name="one", axes=SMALL, seeds=[0])
    [claim] = claims_of(one, kind)
    assert (claim["verdict"], claim["why"]) == ("inconclusive", "one seed: no interval, no test")
    half = make_results(tmp_path, name="half", axes=SMALL, seeds=SEEDS)
    fail(run_dirs(half)[-1], "no memory")
    [claim] = claims_of(half, kind)
    assert claim["verdict"] == "inconclusive"
    assert "cnn / mse" in claim["why"]
    assert "(8 of 9 seeds)" in claim["why"]


@pytest.mark.parametrize(
    ("shift", "spread", "verdict"),
    [
        (0.1, 0.1, "supported"),
        (0.45, 0.4, "inconclusive"),
        (-0.9, 0.1, "refuted"),
        (0, 9, "inconclusive"),
    ],
)
def test_equivalence_is_judged_by_its_margin(known, shift, spread, verdict):
    assign(
        known,
        "test/psnr",
        lambda c, s: 20 + (c["model"] == "cnn") * (shift + spread * (s - 4) / 4),
    )
    [claim] = claims_of(known, same("test/psnr", CNN, FNN, 0.5))
    assert claim["verdict"] == verdict
    assert (claim["p_holm"] < 0.05) == (verdict == "supported")
    for block in claim["blocks"]:
        low, high = block["interval"]
        assert (low > -0.5 and high < 0.5) == (verdict == "supported")
        assert (low > 0.5 or high < -0.5) == (verdict == "refuted")
    assert claim["smallest_p_holm"] is None  # of a t test there is none


def blockwise(cnn_adds):
    """PSNR with differences of 0.001 between seeds; the cnn adds what a function of a cell says."""
    return lambda c, s: 20 + 0.001 * s * (c["model"] == "cnn") + cnn_adds(c) * (c["model"] == "cnn")


def test_effect_of_one_loss_alone_depends_and_shows_its_blocks(known):
    assign(known, "test/psnr", blockwise(lambda c: 0.5 if c["loss"] == "bce" else -0.1))
    [claim] = claims_of(known, better("test/psnr", CNN, FNN))
    assert claim["verdict"] == "depends"
    assert [(b["setting"], b["mean"]) for b in claim["blocks"]] == [
        ({"loss": "bce"}, pytest.approx(0.504)),
        ({"loss": "mse"}, pytest.approx(-0.096)),
    ]
    assert claim["interactions"][0]["between"] == {"loss": ["bce", "mse"]}
    text = section(markdown_of(known), "Claims")
    assert "interaction with (bce - mse)" in text


def test_opposite_blocks_are_not_equivalent_though_their_mean_is(known):
    assign(known, "test/psnr", blockwise(lambda c: 0.6 if c["loss"] == "bce" else -0.6))
    [claim] = claims_of(known, same("test/psnr", CNN, FNN, 0.5))
    assert abs(claim["mean"]) < 0.01
    assert claim["verdict"] == "refuted"


def test_inconclusive_claim_says_how_many_seeds_its_difference_needs(known):
    noise = [0.9, -0.7, 0.8, -0.6, 0.7, -0.5, 0.9, -0.8, 0.2]
    assign(known, "test/psnr", lambda c, s: 20 + (c["model"] == "cnn") * noise[s])
    [claim] = claims_of(known, better("test/psnr", CNN, FNN))
    assert claim["verdict"] == "inconclusive"
    assert claim["seeds_needed"] > 9
    assert f"{claim['seeds_needed']} seeds" in section(markdown_of(known), "Claims")


def test_verdict_names_the_budget_the_learning_rate_and_its_tuning(tmp_path):
    grid = make_results(tmp_path, axes=SMALL, seeds=SEEDS)
    for folder in run_dirs(grid):
        edit_record(
            folder,
            lambda r: r["config"]["training"].update(
                learning_rate=0.001 if r["cell"]["model"] == "fnn" else 0.003
            ),
        )
    [judged] = claims_of(grid, better("test/ssim", CNN, FNN))
    assert judged["conditions"] == ["10 epochs", "learning rate 0.001 or 0.003 (not tuned)"]


# -- at matched rate ------------------------------------------------------------------------------

BETAS = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 8.0)


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """Two losses along one curve of SSIM over the rate, at different points of it."""
    axes = {"loss": ["bce", "mse"], "training.beta": list(BETAS)}
    return make_results(tmp_path_factory.mktemp("curves"), axes=axes, seeds=SEEDS)


def rate(cell, seed):
    return (1.2 if cell["loss"] == "bce" else 1.0) * 20 / (1 + cell["training.beta"]) + 0.01 * seed


def over_rate(extra):
    return lambda c, s: 0.5 + 0.02 * rate(c, s) + extra * (c["loss"] == "bce") + 1e-5 * s


def test_difference_at_matched_rate_is_that_of_the_curves_and_not_of_the_points(curves):
    assign(curves, "test/rate", rate)
    assign(curves, "test/ssim", over_rate(0.0))
    plain, matched = claims_of(
        curves,
        better("test/ssim", BCE, MSE),
        better("test/ssim", BCE, MSE, at={"rate": "matched"}),
    )
    assert plain["verdict"] == "supported"
    assert matched["mean"] == pytest.approx(0.0, abs=1e-9)
    assert matched["verdict"] == "inconclusive"
    assign(curves, "test/ssim", over_rate(0.05))
    [matched] = claims_of(curves, better("test/ssim", BCE, MSE, at={"rate": "matched"}))
    assert (matched["verdict"], matched["mean"]) == ("supported", pytest.approx(0.05))
    assert matched["conditions"][-1].startswith("at equal rate, ")
    assert matched["n"] == 9


def test_difference_at_equal_rate_that_hangs_on_one_point_is_inconclusive(curves):
    assign(curves, "test/rate", rate)
    peak = {"loss": "bce", "training.beta": 1.0}
    assign(curves, "test/ssim", lambda c, s: over_rate(0.0)(c, s) + (c == peak) * (1 + s / 100))
    [claim] = claims_of(curves, better("test/ssim", BCE, MSE, at={"rate": "matched"}))
    assert claim["mean"] > 0.01
    assert claim["verdict"] == "inconclusive"
    assert "one point" in claim["why"]


def test_too_few_points_at_equal_rate_are_inconclusive_with_their_number(curves):
    assign(curves, "test/rate", lambda c, s: rate(c, s) + 10 * (c["loss"] == "bce"))
    assign(curves, "test/ssim", over_rate(0.0))
    [claim] = claims_of(curves, better("test/ssim", BCE, MSE, at={"rate": "matched"}))
    assert claim["verdict"] == "inconclusive"
    assert "4 of each arm are needed" in claim["why"]


def test_equal_is_never_concluded_from_a_failed_test_of_difference(known):
    assign(known, "test/psnr", lambda c, s: 20 + 5 * (c["model"] == "cnn") * (-1) ** s)
    claims = [better("test/psnr", CNN, FNN), same("test/psnr", CNN, FNN, 0.5)]
    assert verdicts_of(known, *claims) == ["inconclusive"] * 2


def test_identical_arms_are_equivalent(known):
    assign(known, "test/psnr", lambda c, s: 20 + s)
    [claim] = claims_of(known, same("test/psnr", CNN, FNN, 0.1))
    assert (claim["verdict"], claim["mean"], claim["p"]) == ("supported", 0.0, 0.0)


def test_verdicts_stand_above_the_results_with_their_numbers(known):
    edit_manifest(known, claims=[better("test/ssim", MSE, BCE, claim="*MSE* | reconstructs")])
    text = markdown_of(known)
    assert text.index("## Claims") < text.index("## Results")
    html = MarkdownIt("commonmark").enable("table").render(section(text, "Claims"))
    for part in (
        "<td>*MSE* | reconstructs</td>",
        "<td>mse (σ²=0.5) - bce (relaxed)</td>",
        "-0.0040 (-0.0040 to -0.0040)",
        "0.00391",
        "<strong>refuted</strong> at 10 epochs, rates ",
        "1 claim of a difference",
    ):
        assert part in html


def test_latex_has_a_table_of_the_claims(known):
    edit_manifest(known, claims=[better("test/ssim", BCE, MSE, claim="BCE & more")])
    text = report.render(report.load(known), "latex")
    # the results, the claims, the effects
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    [row] = [
        line
        for line in text.splitlines()
        if line.startswith(r"BCE \& more & SSIM: bce (relaxed) - mse (\ensuremath{\sigma}")
    ]
    assert "supported at 10 epochs" in row
    assert row.count(" & ") == 4


def test_grid_that_claims_nothing_has_no_verdicts(tmp_path):
    grid = make_results(tmp_path, axes=SMALL)
    assert "## Claims" not in markdown_of(grid)
    assert json_of(grid)["claims"] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("claims", [3]),
        ("claims", [{"metric": "test/ssim"}]),
        ("claims", [better("test/ssim", CNN, BCE)]),  # other axes
        ("claims", [better("test/ssim", CNN, CNN)]),  # the same cells
        ("published", [{"source": "a"}]),
    ],
)
def test_damaged_claims_are_an_error_that_names_the_file(tmp_path, key, value):
    grid = make_results(tmp_path, axes=SMALL, seeds=[0])
    edit_manifest(grid, **{key: value})
    with pytest.raises(ResultsError, match=rf"grid\.yaml: {key}: damaged"):
        json_of(grid)


# -- published numbers ----------------------------------------------------------------------------


def published_of(grid, **entry):
    entry = {"source": "a paper", "metric": "test/elbo", "cell": FNN | BCE, **entry}
    edit_manifest(grid, published=[entry])
    [row] = json_of(grid)["published"]
    return row


@pytest.mark.parametrize(
    ("value", "within", "reproduced"),
    [(-96.0, 3.0, "yes"), (-99.9, 1.0, "no"), (-96.6, 0.5, "inconclusive"), (-95.0, "4%", "yes")],
)
def test_ours_is_reproduced_when_its_interval_is_within_the_tolerance(
    known, value, within, reproduced
):
    row = published_of(known, value=value, within=within)  # ours: -100 + mean of 0..8
    assert row["ours"]["mean"] == pytest.approx(-96.0)
    assert row["ours"]["n"] == 9
    assert row["difference"] == pytest.approx(-96.0 - value)
    assert row["reproduced"] == reproduced


def test_constant_that_was_left_out_is_added_to_ours_before_comparing(known):
    row = published_of(known, cell=FNN | MSE, value=-17.0, add=449.0, within="20%")
    assert row["ours"]["mean"] == pytest.approx(-470 + 4 + 449)
    assert row["within"] == pytest.approx(3.4)  # 20 % of the published number, not of the density
    assert row["reproduced"] == "yes"
    shown = section(markdown_of(known), "Published numbers")
    assert "fnn / mse, test/elbo, ours +449.00" in shown
    assert "| -17.00 | -17.00 ±\u00a02.11 (9 seeds) | ±3.4: **yes** (0.00) |" in shown


def test_metric_at_an_epoch_comes_from_the_journals(known):
    row = published_of(known, metric="train/elbo", epoch=3, value=-197.5, within=1.0)
    assert (row["ours"]["mean"], row["ours"]["n"], row["reproduced"]) == (-197.0, 9, "yes")
    row = published_of(known, metric="train/elbo", epoch=99, value=-197.5, within=1.0)
    assert (row["ours"], row["reason"]) == (None, "not measured at epoch 99 in 9 runs")


def test_final_validation_metric_comes_from_what_was_measured(tmp_path):
    grid = make_results(tmp_path, axes=SMALL, seeds=[0])
    for folder in run_dirs(grid):
        edit_record(folder, lambda r: r["measured"].update({"val/elbo": -99.0}))
    row = published_of(grid, metric="val/elbo", value=-99.2, within=0.5)
    assert (row["ours"]["mean"], row["reproduced"]) == (-99.0, None)
    assert "-99.00 (1 seed, no interval) | ±0.5: difference +0.20 |" in markdown_of(grid)


def test_what_is_not_run_or_incomplete_has_no_number(tmp_path):
    grid = make_results(tmp_path, axes=SMALL, seeds=[0, 1])
    first, second = run_dirs(grid)[:2]
    fail(first, "no memory")
    assert "(1 of 2 seeds)" in published_of(grid, value=-1, within=1)["reason"]
    for folder in (first, second):
        (folder / "record.json").unlink()
    row = published_of(grid, value=-1, within=1)
    assert (row["reason"], row["reproduced"]) == ("not yet run", None)
    assert "| not yet run | ±1: — |" in section(markdown_of(grid), "Published numbers")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ({"model": "fnn"}, "names 2 cells of the grid, not one"),
        ({"model": "x"}, "no such cell in this grid"),
    ],
)
def test_cell_that_is_not_one_cell_has_no_number(known, cell, reason):
    assert published_of(known, cell=cell, value=-1, within=1)["reason"] == reason


def test_source_is_a_link_that_cannot_break_out_of_its_table(known):
    published_of(known, value=-1, within=1, source="a | *b*]", url="https://x.org/a_(b)|c")
    html = (
        MarkdownIt("commonmark")
        .enable("table")
        .render(section(markdown_of(known), "Published numbers"))
    )
    assert '<a href="https://x.org/a_%28b%29%7Cc">a | *b*]</a>' in html
    with pytest.raises(ResultsError, match="published: damaged"):
        published_of(known, value=-1, within=1, url="javascript:alert(1)")
