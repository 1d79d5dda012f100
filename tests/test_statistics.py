"""Means and intervals over seeds, against published tables and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vaebench.statistics import Summary, summarise

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
