"""Two arms compared at equal rate: curves of a metric over the rate, seed by seed.

A change of beta, of sigma2 or of the loss moves a model along its rate-distortion curve, so that a
difference of reconstructions at different rates is mostly one of rates. Here each arm has several
points per seed; a monotone cubic runs through them, and the difference is the mean distance of the
two curves over the rates that all curves cover.

References:
    Alemi et al. (2018), "Fixing a Broken ELBO", https://arxiv.org/abs/1711.00464
    Fritsch and Carlson (1980), https://doi.org/10.1137/0717021 (the monotone interpolation)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.interpolate import PchipInterpolator

MIN_POINTS = 4  # of each arm and seed within the common range
MAX_SHIFT = 0.5  # of the effect, that leaving out one point may move it

# per point, per seed: the rate in nats and the metric in its unit
Arm = Sequence[Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class MatchedRate:
    """A difference at equal rate.

    Attributes:
        differences: First arm minus second, one per seed, in the metric's unit; empty with a fault.
        low: Lower end of the rates compared, in nats.
        high: Upper end.
        points: Points of each arm within them, of the seed that has the fewest.
        shift: How far leaving out one point moves the mean difference, at most; None with a fault.
        fault: Why there is no number; None where there is one.
    """

    differences: tuple[float, ...]
    low: float
    high: float
    points: tuple[int, int]
    shift: float | None = None
    fault: str | None = None

    @property
    def fragile(self) -> bool:
        """Whether one point carries more than half of the effect: no verdict rests on that."""
        mean = abs(float(np.mean(self.differences))) if self.differences else 0.0
        return self.shift is not None and self.shift > MAX_SHIFT * mean


def at_matched_rate(first: Arm, second: Arm) -> MatchedRate:
    """Compare two arms over the range of rates that all seeds of both cover.

    Arguments:
        first: Its points; each has one pair of rate and metric for every seed.
        second: Likewise, with the same seeds.
    """
    low, high = common_rates((first, second))
    points = (_within(first, low, high), _within(second, low, high))
    if not low < high:
        fault = "the arms have no rates in common"
        return MatchedRate((), low, high, (0, 0), fault=fault)
    if min(points) < MIN_POINTS:
        fault = (
            f"{points[0]} and {points[1]} points lie within the common rates, "
            f"{low:.1f} to {high:.1f} nats: {MIN_POINTS} of each arm are needed"
        )
        return MatchedRate((), low, high, points, fault=fault)
    differences = _differences(first, second, low, high)
    mean = np.mean(differences)
    shifts = []
    for arms in _with_one_left_out(first, second):
        bounds = common_rates(arms)
        if bounds[0] < bounds[1]:
            shifts.append(abs(float(np.mean(_differences(*arms, *bounds)) - mean)))
    return MatchedRate(tuple(differences), low, high, points, shift=max(shifts))


def common_rates(arms: Sequence[Arm]) -> tuple[float, float]:
    """The lowest and the highest rate, in nats, that all seeds of all arms cover.

    Where the first is not below the second, there is no such range.
    """
    rates = [np.array([[rate for rate, _ in point] for point in arm]) for arm in arms]
    low = max(float(r.min(axis=0).max()) for r in rates)
    return low, min(float(r.max(axis=0).min()) for r in rates)


def _within(arm: Arm, low: float, high: float) -> int:
    rates = np.array([[rate for rate, _ in point] for point in arm])
    return int(np.sum((rates >= low) & (rates <= high), axis=0).min())


def _differences(first: Arm, second: Arm, low: float, high: float) -> list[float]:
    means = [
        [_mean_over(points, low, high) for points in zip(*arm, strict=True)]
        for arm in (first, second)
    ]
    return [a - b for a, b in zip(*means, strict=True)]


def _mean_over(points: Sequence[tuple[float, float]], low: float, high: float) -> float:
    """The mean height of one seed's curve between two rates."""
    return float(curve(points).integrate(low, high)) / (high - low)


def curve(points: Sequence[tuple[float, float]]) -> "PchipInterpolator":
    """The monotone cubic through one seed's points of rate and metric, of two rates at least.

    Equal rates count as one point, of their mean.
    """
    from scipy.interpolate import PchipInterpolator

    heights: dict[float, list[float]] = {}
    for rate, value in sorted(points):
        heights.setdefault(rate, []).append(value)
    return PchipInterpolator(list(heights), [float(np.mean(v)) for v in heights.values()])


def _with_one_left_out(first: Arm, second: Arm) -> list[tuple[Arm, Arm]]:
    return [([*first[:i], *first[i + 1 :]], second) for i in range(len(first))] + [
        (first, [*second[:i], *second[i + 1 :]]) for i in range(len(second))
    ]
