"""Comparing arms at equal rate, on curves whose distance is known."""

import numpy as np
import pytest

from vaebench.statistics.matched_rate import at_matched_rate

RATES = (4.0, 7.0, 10.0, 14.0, 19.0, 25.0)
OTHERS = (5.0, 8.0, 11.0, 15.0, 18.0, 21.0)


def arm(curve, rates=RATES, seeds=3, shift=0.0):
    """Points on a curve; every seed has rates of its own."""
    return [
        [(rate + 0.1 * seed, curve(rate + 0.1 * seed) + shift) for seed in range(seeds)]
        for rate in rates
    ]


def line(rate):
    return 0.5 + 0.02 * rate


def test_curves_that_lie_on_one_another_do_not_differ_though_their_points_do():
    matched = at_matched_rate(arm(line), arm(line, rates=OTHERS))
    assert matched.differences == pytest.approx([0.0] * 3, abs=1e-12)
    assert (matched.low, matched.high) == (pytest.approx(5.2), pytest.approx(21.0))


def test_difference_is_the_mean_distance_of_the_curves():
    matched = at_matched_rate(arm(line, shift=0.3), arm(line, rates=OTHERS))
    assert matched.differences == pytest.approx([0.3] * 3)
    assert matched.shift == pytest.approx(0.0, abs=1e-12)
    assert not matched.fragile
    assert matched.points == (4, 4)


def test_mean_distance_weighs_rates_equally_and_not_points():
    # the distance grows as the rate does; most points lie at low rates
    rates = (0.0, 1.0, 2.0, 3.0, 10.0)
    first = [[(r, r), (r, 2 * r)] for r in rates]
    second = [[(r, 0.0), (r, 0.0)] for r in rates]
    assert at_matched_rate(first, second).differences == pytest.approx([5.0, 10.0])


def test_range_is_that_of_all_seeds_and_arms():
    first = [[(r, 1.0), (r + 1, 1.0)] for r in RATES]
    second = [[(r + 2, 0.0), (r - 1, 0.0)] for r in RATES]
    matched = at_matched_rate(first, second)
    assert (matched.low, matched.high) == (6.0, 24.0)


def test_too_few_points_in_the_common_range_are_refused_with_their_number():
    matched = at_matched_rate(arm(line), arm(line, rates=(20.0, 30.0, 40.0, 50.0)))
    assert matched.differences == ()
    assert "0 and 0 points" in matched.fault


def test_arms_without_a_common_rate_are_refused():
    matched = at_matched_rate(arm(line), arm(line, rates=(40.0, 50.0, 60.0, 70.0)))
    assert matched.differences == ()
    assert matched.fault == "the arms have no rates in common"


def test_a_point_that_carries_the_effect_makes_it_fragile():
    bump = arm(line)
    bump[3] = [(rate, value + 1.0) for rate, value in bump[3]]
    matched = at_matched_rate(bump, arm(line))
    assert np.mean(matched.differences) > 0.1
    assert matched.fragile


def test_equal_rates_count_as_one_point():
    collapsed = [[(0.0, 0.2), (0.0, 0.2)], *([(r, r), (r, r)] for r in RATES)]
    again = [[(0.0, 0.2), (0.0, 0.2)], *collapsed]
    assert at_matched_rate(again, collapsed).differences == pytest.approx([0.0, 0.0])
