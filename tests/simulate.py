"""``make simulate``: how often verdicts are wrong, and how often they are found, where the truth is
known.

Each scenario draws families of claims from a known truth, nine seeds a block, and counts those that
have a verdict of some kind. An error counts once a family, however many claims are wrong in it
(family-wise), and must stay below 5 % and two standard errors; power counts claims. The tests run
the same scenarios. To add one, name it in :data:`SCENARIOS`.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vaebench.statistics import LEVEL
from vaebench.statistics.verdicts import (
    REFUTED,
    SUPPORTED,
    Block,
    Verdict,
    judge_differences,
    judge_equivalences,
)

SEEDS = 9
MARGIN = 0.5
MIN_POWER = 0.9


@dataclass(frozen=True)
class Scenario:
    """A truth, and what is counted.

    Attributes:
        truth: In words.
        means: Of the differences, a tuple of blocks for each claim of the family.
        spreads: Their standard deviations over seeds, by block.
        counted: Verdicts that are counted.
        equivalences: Whether the claims are equivalences within 0.5, or differences above 0.
        power: Whether the verdicts are right, so that they should be many.
        families: How many are drawn.
    """

    truth: str
    means: tuple[tuple[float, ...], ...]
    spreads: tuple[float, ...]
    counted: tuple[str, ...]
    equivalences: bool = False
    power: bool = False
    families: int = 1500

    @property
    def bound(self) -> float:
        """The most that errors may be, or the least of power."""
        error = 2 * np.sqrt(LEVEL * (1 - LEVEL) / self.families)
        return MIN_POWER if self.power else LEVEL + float(error)

    def rate(self, seed: int = 11) -> float:
        """The share of families (of claims, for power) that have a counted verdict."""
        rng = np.random.default_rng(seed)
        found: list[bool] = []
        for _ in range(self.families):
            verdicts = self._judged(rng)
            hits = [verdict.verdict in self.counted for verdict in verdicts]
            found += hits if self.power else [any(hits)]
        return float(np.mean(found))

    def holds(self, rate: float) -> bool:
        """Whether a rate is as it should be."""
        return rate > self.bound if self.power else rate <= self.bound

    def _judged(self, rng: np.random.Generator) -> Sequence[Verdict]:
        family = [
            [
                Block({"model": i}, tuple(rng.normal(mean, spread, SEEDS)))
                for i, (mean, spread) in enumerate(zip(claim, self.spreads, strict=True))
            ]
            for claim in self.means
        ]
        if self.equivalences:
            return judge_equivalences(family, [MARGIN] * len(family))
        return judge_differences(family, [1] * len(family))


DECIDED = (SUPPORTED, REFUTED)
NONE, EDGE = ((0.0, 0.0),) * 8, ((MARGIN, 0.0),) * 8
SCENARIOS = (
    Scenario("8 claims, no difference, equal blocks", NONE, (1, 1), DECIDED),
    Scenario("8 claims, no difference, blocks of spread 1 and 5", NONE, (1, 5), DECIDED),
    Scenario("interaction: 3 in one block, 0 in the other", ((3, 0),), (1, 1), (SUPPORTED,)),
    Scenario("interaction: 3 in one block, -1 in the other", ((3, -1),), (1, 1), (SUPPORTED,)),
    Scenario("interaction: 3 in one block, -3 in the other", ((3, -3),), (1, 1), DECIDED),
    *(
        Scenario(
            f"8 equivalences at the margin, {blocks}, {verdict}", EDGE, spreads, (verdict,), True
        )
        for blocks, spreads in (("equal blocks", (0.3, 0.3)), ("unequal blocks", (0.3, 1.0)))
        for verdict in DECIDED
    ),
    Scenario(
        "power: 8 claims, 1.5 spreads",
        ((1.5, 1.5),) * 8,
        (1, 1),
        (SUPPORTED,),
        power=True,
        families=300,
    ),
    Scenario(
        "power: 2 equivalences, spread half of the margin",
        ((0.0, 0.0),) * 2,
        (0.25, 0.25),
        (SUPPORTED,),
        equivalences=True,
        power=True,
        families=300,
    ),
    Scenario(
        "power: 2 equivalences refuted, a block twice the margin away",
        ((2 * MARGIN, 0.0),) * 2,
        (0.25, 0.25),
        (REFUTED,),
        equivalences=True,
        power=True,
        families=300,
    ),
)


def main(say: Callable[[str], object] = print) -> int:
    """Print every rate beside its bound; return 1 if one is not kept, else 0."""
    wrong = 0
    say(f"{SEEDS} seeds a block; errors by family, power by claim")
    for each in SCENARIOS:
        rate = each.rate()
        sign, good = (">" if each.power else "<="), each.holds(rate)
        wrong += not good
        verdict = "" if good else "  NOT KEPT"
        say(f"{each.truth:62} {rate:6.1%} {sign:>2} {each.bound:.1%}{verdict}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
