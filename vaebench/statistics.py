"""What several seeds say together: means, paired differences, tests, equivalence.

Plain functions on plain numbers: no records, no files, no torch. scipy.stats and statsmodels load
only where something is tested. To add a statistic, write a function from values to a number or a
frozen record here; :mod:`vaebench.report` decides what to show.
"""

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
LEVEL = 0.05  # of every test, after the adjustment for its family
DRAWS = 100_000  # random sign patterns, where there are more than that in all
_AT_ONCE = 1_000  # sign patterns, which bounds the memory of a test


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
    half_width = _quantile(n - 1, 0.5 + CONFIDENCE / 2) * std / math.sqrt(n)
    return Summary(mean=mean, std=std, ci95=half_width, n=n)


@dataclass(frozen=True)
class Difference:
    """A paired difference over seeds, in the metric's own unit.

    Attributes:
        n: Seeds, one difference each.
        mean: The mean of the differences.
        ci95: Half width of its 95 % Student-t interval; None for one seed.
        effect_size: Cohen's d_z, the mean over the standard deviation of the differences: how many
            seed-to-seed spreads the difference measures. It says how reliably the sign repeats,
            not whether the difference matters, and runs some 10 % high at nine seeds. None where
            there is no spread.
        p: The p value of :func:`sign_flip`; None for one seed.
        smallest_p: The smallest that n seeds can reach; None for one seed.
    """

    n: int
    mean: float
    ci95: float | None
    effect_size: float | None
    p: float | None
    smallest_p: float | None


def difference(values: Sequence[float]) -> Difference:
    """Estimate and test a paired difference from one finite value per seed.

    Raises:
        ValueError: There is no value, or one is not finite.

    References:
        d_z: Lakens (2013), https://doi.org/10.3389/fpsyg.2013.00863
    """
    summary = summarise(values)
    if summary.mean is None:
        raise ValueError("a difference needs one finite value per seed")
    return Difference(
        n=summary.n,
        mean=summary.mean,
        ci95=summary.ci95,
        effect_size=summary.mean / summary.std if summary.std and _spread(values) else None,
        p=sign_flip(values) if summary.n > 1 else None,
        smallest_p=smallest_p(summary.n) if summary.n > 1 else None,
    )


def sign_flip(values: Sequence[float]) -> float:
    r"""Two-sided paired permutation test of a mean of zero.

    Were there no difference, each seed's difference could as well have had the other sign: p is
    the share of the :math:`2^n` sign patterns whose mean is at least as far out, twice that of
    the smaller tail. Exact where there are at most :data:`DRAWS` patterns (n up to 16), else from
    that many seeded draws.

    Arguments:
        values: One difference per seed.

    References:
        Fisher (1935), "The Design of Experiments", section 21.
    """
    from scipy.stats import permutation_test

    def mean(x: NDArray[np.float64], axis: int) -> Any:
        return np.mean(x, axis=axis)

    result = permutation_test(
        (np.asarray(values, dtype=np.float64),),
        mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=DRAWS,
        batch=_AT_ONCE,
        alternative="two-sided",
        random_state=np.random.default_rng(0),
    )
    return float(result.pvalue)


def smallest_p(n: int) -> float:
    """The smallest p that :func:`sign_flip` can give with ``n`` seeds: 2 / 2^n while exact."""
    return max(2.0 ** (1 - n), 2 / (DRAWS + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for all tests of a family: any wrong rejection at most at the level.

    References:
        Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    if not p_values:
        return []
    from statsmodels.stats.multitest import multipletests

    gc.freeze()  # it collects garbage, half a second each time beside ten thousand records
    try:
        return [float(p) for p in multipletests(p_values, method="holm")[1]]
    finally:
        gc.unfreeze()


@dataclass(frozen=True)
class Equivalence:
    """Whether a mean lies within a margin of zero.

    Attributes:
        p: The larger p value of the two one-sided tests.
        ci90: Half width of the 90 % Student-t interval: it lies within the margin exactly when
            p is below 0.05.
    """

    p: float
    ci90: float

    @property
    def smallest_p(self) -> None:
        """A t test has no smallest p."""
        return None


def equivalence(values: Sequence[float], margin: float) -> Equivalence:
    r"""Two one-sided t tests of :math:`|\mu| \ge m` from one difference per seed.

    .. math:: p = P(T_{n-1} \ge (m - |\bar x|) \sqrt n / s)

    Without any spread p is its limit: 0 when the mean is within the margin, else 1.

    Arguments:
        values: One difference per seed, at least two.
        margin: m, the largest difference that counts as none, in the metric's unit.

    Raises:
        ValueError: There are fewer than two finite values.

    References:
        Schuirmann (1987), https://doi.org/10.1007/BF01068419
    """
    from scipy.special import stdtr

    summary = summarise(values)
    if summary.mean is None or summary.std is None:
        raise ValueError("equivalence needs at least two finite values")
    room = margin - abs(summary.mean)
    if not _spread(values):
        return Equivalence(p=0.0 if room > 0 else 1.0, ci90=0.0)
    degrees, error = summary.n - 1, summary.std / math.sqrt(summary.n)
    return Equivalence(
        p=float(stdtr(degrees, -room / error)), ci90=_quantile(degrees, 0.95) * error
    )


def _spread(values: Sequence[float]) -> bool:
    """Whether values differ by more than the rounding of their own mean."""
    return max(values) - min(values) > 1e-12 * max(map(abs, values))


@cache
def _quantile(degrees: int, probability: float) -> float:
    # scipy.special alone loads in a fraction of the time that scipy.stats takes.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))
