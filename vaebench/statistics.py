"""What several seeds of one cell say together: mean, spread, interval.

A plain function on plain numbers: no records, no files, no torch. To add a statistic, write a
function from values to a frozen record here; :mod:`vaebench.report` decides what to show.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """One metric over the seeds of one cell, in the metric's own unit.

    Attributes:
        mean: Arithmetic mean; None when a value is missing.
        std: Sample standard deviation (ddof = 1); None when it does not exist.
        ci95: Half width of the 95 % Student-t interval of the mean; None when it does not exist.
        n: How many values there were.
    """

    mean: float | None
    std: float | None
    ci95: float | None
    n: int


def summarise(values: Sequence[float | None]) -> Summary:
    r"""Mean, sample standard deviation and 95 % interval of one value per seed.

    .. math:: \bar x \pm t_{0.975,\,n-1} \, s / \sqrt n

    A value that is None, NaN or infinite was not measured. It is never left out in silence: the
    summary then has no mean, and ``n`` says how many values there are. One value has a mean but
    neither spread nor interval.

    Arguments:
        values: One value per seed.

    References:
        Student (1908), "The probable error of a mean". With fewer than ten seeds the bootstrap
        covers too little, the t interval does not.
    """
    measured = [float(v) for v in values if v is not None and math.isfinite(v)]
    n = len(measured)
    if n == 0 or n < len(values):
        return Summary(mean=None, std=None, ci95=None, n=n)
    mean = float(np.mean(measured))
    if n == 1:
        return Summary(mean=mean, std=None, ci95=None, n=1)
    std = float(np.std(measured, ddof=1))
    return Summary(mean=mean, std=std, ci95=_quantile(n - 1) * std / math.sqrt(n), n=n)


@cache
def _quantile(degrees: int) -> float:
    # scipy.special alone loads in a fraction of the time that scipy.stats takes.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + CONFIDENCE / 2))
