"""Verdicts on claims: worked examples, agreement of intervals with verdicts, error rates."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulate import SCENARIOS, main

from vaebench.statistics import LEVEL, sign_flip_interval, student_p
from vaebench.statistics.power import seeds_to_decide, seeds_to_show
from vaebench.statistics.verdicts import (
    DEPENDS,
    INCONCLUSIVE,
    REFUTED,
    SUPPORTED,
    Block,
    interactions,
    judge_differences,
    judge_equivalences,
)

UP = tuple(1.0 + 0.1 * i for i in range(9))
DOWN = tuple(-v for v in UP)
NOISE = (0.3, -0.2, 0.1, -0.4, 0.25, -0.15, 0.05, -0.1, 0.2)


def blocks(*differences):
    return [Block({"model": i}, tuple(values)) for i, values in enumerate(differences)]


def difference(*differences, sign=1):
    return judge_differences([blocks(*differences)], [sign])[0]


def equivalence(*differences, margin=0.5):
    return judge_equivalences([blocks(*differences)], [margin])[0]


def around(mean, spread=0.1, n=9):
    values = np.linspace(-1, 1, n)
    return tuple(mean + spread * values / values.std(ddof=1))


# -- differences ----------------------------------------------------------------------------------


def test_blocks_that_agree_support_a_claim_and_the_mirror_image_refutes_it():
    assert difference(UP, UP).verdict == SUPPORTED
    assert difference(UP, UP, sign=-1).verdict == REFUTED
    assert difference(DOWN, DOWN).verdict == REFUTED
    assert difference(DOWN, DOWN, sign=-1).verdict == SUPPORTED


def test_an_effect_of_one_block_alone_depends_on_the_block():
    verdict = difference(UP, NOISE)
    assert verdict.p_holm < LEVEL  # the average alone would have supported it
    assert verdict.verdict == DEPENDS
    assert [b.mean for b in verdict.blocks] == [np.mean(UP), np.mean(NOISE)]
    assert [b.p < LEVEL for b in verdict.blocks] == [True, False]


def test_effects_that_cancel_depend_though_their_average_is_none():
    verdict = difference(UP, tuple(v - 0.01 for v in DOWN))
    assert abs(verdict.mean) < 0.01
    assert verdict.verdict == DEPENDS


def test_an_average_against_one_block_depends_even_without_a_significant_interaction():
    wide = tuple(10 * v for v in NOISE)
    against = tuple(-abs(np.mean(wide)) - 0.01 + v - np.mean(wide) for v in wide)
    verdict = difference(tuple(8 + v for v in NOISE), UP, against)
    assert verdict.blocks[2].mean < 0 < verdict.mean
    assert verdict.verdict in (DEPENDS, INCONCLUSIVE)


def test_blocks_of_different_size_support_a_claim_where_each_is_significant():
    verdict = difference(UP, tuple(10 * v for v in UP))
    assert verdict.interacting  # the sizes differ, the signs do not
    assert verdict.verdict == SUPPORTED


def test_no_difference_shown_is_inconclusive_with_an_interval_around_zero():
    verdict = difference(NOISE, NOISE[::-1])
    assert verdict.verdict == INCONCLUSIVE
    low, high = verdict.interval
    assert low < 0 < high


def test_blocks_weigh_equally():
    assert difference(UP, DOWN, DOWN).mean == pytest.approx(np.mean(DOWN) / 3)


def test_too_few_seeds_are_said_and_have_no_interval():
    verdict = judge_differences([blocks(UP[:4]), blocks(UP[:4])], [1, 1])[0]
    assert verdict.verdict == INCONCLUSIVE
    assert verdict.out_of_reach
    assert verdict.interval is None
    assert verdict.blocks[0].interval is None


def test_twelve_claims_are_decidable_with_nine_seeds_and_thirteen_are_not():
    assert [judge_differences([blocks(UP)] * m, [1] * m)[0].verdict for m in (12, 13)] == [
        SUPPORTED,
        INCONCLUSIVE,
    ]
    assert [seeds_to_decide(m) for m in (1, 8, 12, 13)] == [6, 9, 9, 10]


@given(st.lists(st.lists(st.integers(-20, 30), min_size=9, max_size=9), min_size=1, max_size=6))
def test_intervals_agree_with_verdicts(claims):
    verdicts = judge_differences([blocks(values) for values in claims], [1] * len(claims))
    for verdict in verdicts:
        decided = verdict.verdict != INCONCLUSIVE
        assert decided == (verdict.p_holm < LEVEL)
        if verdict.interval is None:
            assert not decided
        else:
            low, high = verdict.interval
            assert decided == (low > 0 or high < 0)


def test_intervals_of_blocks_are_at_the_level_of_their_claim():
    family = [blocks(NOISE, UP), *[blocks(NOISE)] * 7]
    verdict = judge_differences(family, [1] * 8)[0]
    assert verdict.level == LEVEL / 8
    assert verdict.blocks[0].interval == sign_flip_interval(NOISE, LEVEL / 8)
    assert verdict.blocks[0].interval != sign_flip_interval(NOISE, LEVEL)


# -- interactions ---------------------------------------------------------------------------------


def test_an_axis_of_three_values_has_three_interactions():
    three = [Block({"beta": b}, UP if b == 4 else NOISE) for b in (1, 2, 4)]
    assert [i.between["beta"] for i in interactions(three)] == [(1, 2), (1, 4), (2, 4)]
    assert [i.p < LEVEL for i in interactions(three)] == [False, True, True]


def test_two_axes_have_interactions_of_both_orders():
    four = [
        Block({"model": m, "beta": b}, tuple(v + (m == "cnn") * (b == 2) for v in NOISE))
        for m, b in itertools.product(("fnn", "cnn"), (1, 2))
    ]
    means = {tuple(i.between): i.mean for i in interactions(four)}
    assert means == {
        ("model",): pytest.approx(-0.5),
        ("beta",): pytest.approx(-0.5),
        ("model", "beta"): pytest.approx(1.0),
    }


def test_interactions_need_all_their_corners():
    three = [Block({"model": m, "beta": b}, UP) for m, b in (("fnn", 1), ("fnn", 2), ("cnn", 1))]
    assert [tuple(i.between) for i in interactions(three)] == [("model",), ("beta",)]


# -- equivalences ---------------------------------------------------------------------------------


def test_blocks_within_the_margin_are_equivalent():
    verdict = equivalence(around(0.1), around(-0.1))
    assert verdict.verdict == SUPPORTED
    assert all(-0.5 < low < high < 0.5 for low, high in (b.interval for b in verdict.blocks))


def test_the_mean_of_two_opposite_blocks_is_no_equivalence():
    verdict = equivalence(around(0.44, 0.3), around(-0.33, 0.3))
    assert abs(verdict.mean) < 0.06
    assert verdict.verdict == INCONCLUSIVE


def test_one_block_beyond_the_margin_refutes_an_equivalence():
    verdict = equivalence(around(0.0), around(-0.8))
    assert verdict.verdict == REFUTED
    low, high = verdict.blocks[1].interval
    assert low < high < -0.5


def test_a_block_at_the_margin_is_inconclusive():
    assert equivalence(around(0.0), around(0.52)).verdict == INCONCLUSIVE


def test_refutation_is_adjusted_for_the_family():
    edge = around(0.58, 0.1)
    alone = judge_equivalences([blocks(edge)], [0.5])[0]
    among = judge_equivalences([blocks(edge)] + [blocks(around(0.5))] * 7, [0.5] * 8)[0]
    assert (alone.verdict, among.verdict) == (REFUTED, INCONCLUSIVE)
    assert among.p_refuted == pytest.approx(min(1.0, 8 * alone.p_refuted))


def test_refutation_is_adjusted_for_blocks_and_sides():
    alone, among = equivalence(around(0.6)), equivalence(around(0.6), *[around(0.0)] * 3)
    assert alone.p_refuted == pytest.approx(2 * student_p([v - 0.5 for v in around(0.6)]))
    assert among.p_refuted == pytest.approx(4 * alone.p_refuted)


# -- how many seeds -------------------------------------------------------------------------------


def test_seeds_to_show_a_difference_against_tables_of_power():
    # Cohen (1988): a paired t test at 5 % with power 0.8 needs 34 pairs at d = 0.5, 15 at 0.8
    assert seeds_to_show(0.5, 1.0) == 34
    assert seeds_to_show(-0.8, 1.0) == 15
    assert seeds_to_show(1e-4, 1.0) is None
    assert seeds_to_show(1.0, 0.0) == 6  # as few as the sign-flip test needs at all


# -- error rates, by simulation -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.truth)
def test_error_rates_and_power_where_the_truth_is_known(scenario):
    assert scenario.holds(scenario.rate())


def test_a_rate_that_is_not_kept_is_said_and_fails(monkeypatch):
    anything = replace(SCENARIOS[0], truth="never wrong", families=20, counted=(INCONCLUSIVE,))
    monkeypatch.setattr("simulate.SCENARIOS", (anything,))
    said = []
    assert main(said.append) == 1
    assert said[-1].startswith("never wrong")
    assert said[-1].endswith("NOT KEPT")
