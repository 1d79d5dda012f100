"""What seeds say together, against published tables, enumeration, scipy and simulation."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from vaebench.statistics import (
    Difference,
    Equivalence,
    Summary,
    difference,
    equivalence,
    holm,
    sign_flip,
    smallest_p,
    summarise,
)

NUMBERS = st.floats(-1e6, 1e6)


def test_mean_spread_and_interval_of_three_known_values():
    # mean 2, s = 1, t(0.975, 2 degrees) = 4.302653 from the published table
    summary = summarise([1.0, 2.0, 3.0])
    assert (summary.mean, summary.std, summary.n) == (2.0, 1.0, 3)
    assert summary.ci95 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


@pytest.mark.parametrize(("n", "t"), [(2, 12.7062), (5, 2.7764), (10, 2.2622), (121, 1.9799)])
def test_half_width_uses_the_tabulated_student_quantile(n, t):
    values = [float(i % 2) for i in range(n)]
    summary = summarise(values)
    assert summary.ci95 * math.sqrt(n) / summary.std == pytest.approx(t, rel=1e-4)


def test_one_value_has_a_mean_but_neither_spread_nor_interval():
    assert summarise([-101.5]) == Summary(mean=-101.5, std=None, ci95=None, n=1)


def test_no_values_have_no_mean():
    assert summarise([]) == Summary(mean=None, std=None, ci95=None, n=0)


@pytest.mark.parametrize("gap", [None, math.nan, math.inf, -math.inf])
def test_missing_value_is_counted_and_never_averaged_away(gap):
    assert summarise([1.0, gap, 3.0]) == Summary(mean=None, std=None, ci95=None, n=2)


def test_equal_values_have_an_interval_of_width_zero():
    assert summarise([8.0, 8.0, 8.0]) == Summary(mean=8.0, std=0.0, ci95=0.0, n=3)


@given(st.lists(NUMBERS, min_size=2, max_size=30))
def test_interval_agrees_with_scipy(values):
    summary = summarise(values)
    error = stats.sem(values)
    if error < 1e-9:  # scipy's interval of equal values is NaN
        assert summary.ci95 == pytest.approx(0.0, abs=1e-7)
        return
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error)
    assert summary.mean == pytest.approx((low + high) / 2, rel=1e-9, abs=1e-6)
    assert summary.ci95 == pytest.approx((high - low) / 2, rel=1e-6)


@given(st.lists(NUMBERS, min_size=2, max_size=10), NUMBERS)
def test_shifting_all_values_moves_the_mean_alone(values, shift):
    before, after = summarise(values), summarise([value + shift for value in values])
    assert after.mean == pytest.approx(before.mean + shift, abs=1e-6)
    assert after.ci95 == pytest.approx(before.ci95, rel=1e-6, abs=1e-5)


# -- paired differences ---------------------------------------------------------------------------


def enumerated(values):
    """The two-sided sign-flip test by brute force, in exact arithmetic."""
    values = [Fraction(value) for value in values]
    sums = [
        sum(s * v for s, v in zip(signs, values, strict=True))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    above = sum(s >= sum(values) for s in sums)
    below = sum(s <= sum(values) for s in sums)
    return min(1.0, 2 * min(above, below) / len(sums))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=8))
def test_sign_flip_test_agrees_with_enumeration_ties_included(values):
    assert sign_flip(values) == pytest.approx(enumerated(values), rel=1e-12)


def test_sign_flip_test_of_known_differences():
    # the sums of +-1 +-2 +-4 are -7, -5, ..., 7, each once: p = twice the rank from above, of 8
    assert sign_flip([1, 2, 4]) == 2 / 8
    assert sign_flip([-1, 2, 4]) == 4 / 8
    assert sign_flip([0, 0, 0]) == 1.0


@pytest.mark.parametrize(("n", "p"), [(2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125), (9, 2 / 512)])
def test_differences_of_one_sign_reach_the_smallest_p(n, p):
    assert smallest_p(n) == p
    assert sign_flip([1.0 + i for i in range(n)]) == p


def test_sign_flip_test_is_exact_up_to_sixteen_seeds():
    assert sign_flip(range(1, 17)) == smallest_p(16) == 2 / 2**16


def test_sign_flip_test_of_many_seeds_is_drawn_reproducibly_near_the_exact_value():
    values = [0.9, -0.4, 0.3, 1.1, -0.8, 0.5, 0.2, -0.1, 0.7] * 2
    signs = np.array(list(itertools.product((1, -1), repeat=18)))
    sums = signs @ np.array(values)
    exact = 2 * np.mean(sums >= sum(values) - 1e-9)
    drawn = sign_flip(values)
    assert drawn == pytest.approx(exact, abs=4 * 2 * math.sqrt(exact / 2 / 100_000))
    assert drawn != exact
    assert sign_flip(values) == drawn
    assert smallest_p(18) == 2 / 100_001


def test_difference_of_four_seeds_worked_by_hand():
    # mean 2.5, s = sqrt(5/3), t(0.975, 3 degrees) = 3.182446, p = 2 / 2^4
    found = difference([1.0, 2.0, 3.0, 4.0])
    assert (found.n, found.mean, found.p, found.smallest_p) == (4, 2.5, 0.125, 0.125)
    assert found.effect_size == pytest.approx(2.5 / math.sqrt(5 / 3))
    assert found.ci95 == pytest.approx(3.182446 * math.sqrt(5 / 3) / 2, rel=1e-6)


def test_one_seed_has_a_difference_but_neither_interval_nor_test():
    assert difference([0.3]) == Difference(1, 0.3, None, None, None, None)


def test_differences_without_spread_have_no_effect_size():
    assert difference([0.1 + 0.2, 0.3, 0.3]).effect_size is None  # 0.1 + 0.2 is not quite 0.3


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_difference_needs_finite_values(values):
    with pytest.raises(ValueError, match="finite"):
        difference(values)


def test_under_no_difference_the_test_rejects_and_the_interval_misses_as_often_as_they_say():
    draws = np.random.default_rng(1).normal(size=(600, 7))
    found = [difference(values) for values in draws]
    # 7 seeds: 2 x 3 of 128 patterns are below 0.05, p = 0.046875
    assert np.mean([d.p < 0.05 for d in found]) == pytest.approx(6 / 128, abs=4 * 0.0086)
    assert np.mean([abs(d.mean) > d.ci95 for d in found]) == pytest.approx(0.05, abs=4 * 0.0089)


# -- families -------------------------------------------------------------------------------------


def test_holm_worked_by_hand():
    # sorted: 0.01 x 3, 0.03 x 2, then 0.04 x 1 raised to the one before it
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def stepped_down(p_values):
    """Holm by its definition: the smallest level at which each test is rejected."""
    adjusted, floor = {}, 0.0
    for left, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        floor = max(floor, min(1.0, (len(p_values) - left) * p_values[i]))
        adjusted[i] = floor
    return [adjusted[i] for i in range(len(p_values))]


@pytest.mark.parametrize("size", [2, 6, 11])
def test_holm_agrees_with_its_definition_whatever_the_order(size):
    p_values = np.random.default_rng(size).permutation(np.geomspace(1e-3, 0.9, size)).tolist()
    assert holm(p_values) == pytest.approx(stepped_down(p_values), rel=1e-12)


# -- equivalence ----------------------------------------------------------------------------------


def test_equivalence_worked_by_hand():
    # mean 0.05, s = 0.1290994, standard error 0.0645497: t = 0.45 / 0.0645497 = 6.9714, 3 degrees
    found = equivalence([0.1, -0.1, 0.2, 0.0], 0.5)
    assert found.p == pytest.approx(0.00303, abs=2e-5)
    assert found.ci90 == pytest.approx(2.353363 * 0.0645497, rel=1e-5)


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=12), st.floats(0.01, 3))
def test_equivalence_agrees_with_two_one_sided_tests_and_with_the_interval(values, margin):
    assume(np.std(values) > 1e-3)
    found = equivalence(values, margin)
    low = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    high = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert found.p == pytest.approx(max(low, high), rel=1e-9, abs=1e-12)
    reach = abs(np.mean(values)) + found.ci90
    assume(abs(reach - margin) > 1e-9)
    assert (found.p < 0.05) == (reach < margin)


@pytest.mark.parametrize(("values", "p"), [([0.2] * 3, 0.0), ([0.7] * 3, 1.0), ([0.5] * 3, 1.0)])
def test_equivalence_without_spread_is_decided_by_the_mean(values, p):
    assert equivalence(values, 0.5) == Equivalence(p=p, ci90=0.0)


@pytest.mark.parametrize("values", [[0.1], [0.1, math.nan]])
def test_equivalence_needs_two_finite_values(values):
    with pytest.raises(ValueError, match="two finite"):
        equivalence(values, 0.5)


def test_at_the_margin_equivalence_is_concluded_in_five_percent_of_cases():
    draws = np.random.default_rng(3).normal(loc=1.0, scale=0.2, size=(2000, 9))
    wrong = np.mean([equivalence(values, 1.0).p < 0.05 for values in draws])
    assert wrong == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 2000))
