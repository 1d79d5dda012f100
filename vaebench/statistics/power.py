"""How many seeds a verdict needs: before training at all, and after it for a given difference."""

import itertools
import math

from vaebench.statistics import LEVEL, smallest_p


def seeds_to_decide(claims: int) -> int:
    """The fewest seeds with which every claim of a family of differences can be significant."""
    return next(n for n in itertools.count(2) if claims * smallest_p(n) < LEVEL)


def seeds_to_show(size: float, std: float, level: float = LEVEL, power: float = 0.8) -> int | None:
    """How many seeds show a true difference of this size in four of five repetitions.

    Arguments:
        size: The true difference, in the metric's unit.
        std: The standard deviation of the differences over seeds, in the same unit.
        level: Of the two-sided test.
        power: The share of repetitions in which it is significant.

    Returns:
        None where more than a thousand would be needed.
    """
    from scipy.special import nctdtr, stdtrit

    for n in range(2, 1001):
        if smallest_p(n) >= level:
            continue
        critical = stdtrit(n - 1, 1 - level / 2)
        if std == 0 or 1 - nctdtr(n - 1, abs(size) / std * math.sqrt(n), critical) >= power:
            return n
    return None
