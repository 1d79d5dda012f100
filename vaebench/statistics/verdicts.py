"""Verdicts on claims: what the differences of every block and seed allow to say.

A block is one setting of the axes that a claim says nothing of; its differences are paired by seed.
A claim of a difference is about the average over its blocks, all of equal weight, and stands only
where the blocks agree with it. A claim of an equivalence is about every block (an
intersection-union test). Families are adjusted by Holm. The interval beside a verdict inverts its
test at the level at which Holm tested it, so that the two always agree.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.statistics import (
    LEVEL,
    equivalence,
    holm,
    holm_levels,
    p_beyond,
    sign_flip,
    sign_flip_interval,
    smallest_p,
    student_interval,
)

SUPPORTED, REFUTED, DEPENDS, INCONCLUSIVE = "supported", "refuted", "depends", "inconclusive"
Interval = tuple[float, float]


@dataclass(frozen=True)
class Block:
    """The differences of one setting of the axes that a claim averages over.

    Attributes:
        setting: Axis to value; empty where there is one block.
        differences: First side minus second, one finite value per seed, in the metric's unit.
    """

    setting: dict[str, Any]
    differences: tuple[float, ...]


@dataclass(frozen=True)
class BlockTest:
    """One block by itself.

    Attributes:
        setting: Axis to value.
        mean: Of its differences.
        p: Of the claim's kind of test, unadjusted.
        interval: The same test inverted at the claim's level; None where it is unbounded.
    """

    setting: dict[str, Any]
    mean: float
    p: float
    interval: Interval | None


@dataclass(frozen=True)
class Interaction:
    """How a difference changes between values of the axes that a claim averages over.

    Attributes:
        between: Per axis the two values that are set against each other.
        mean: The difference of differences.
        p: Of its sign-flip test, unadjusted: it can only weaken a verdict.
    """

    between: dict[str, tuple[Any, Any]]
    mean: float
    p: float


@dataclass(frozen=True)
class Verdict:
    """What may be said of one claim of a family.

    Attributes:
        verdict: One of the four.
        mean: The average over blocks, of equal weight.
        p: Unadjusted: of the average, or the largest of the blocks' two one-sided tests.
        p_holm: Adjusted for the family.
        level: At which Holm tested it.
        smallest_p: The smallest adjusted p that this many seeds can give; None of an equivalence.
        interval: Of the average, agreeing with a verdict on a difference; None where unbounded,
            and of an equivalence, whose intervals are the blocks'.
        blocks: Every block by itself.
        interactions: Every interaction that could be tested; none of an equivalence.
        p_refuted: Of an equivalence: that some block lies beyond the margin, adjusted for blocks,
            sides and family.
    """

    verdict: str
    mean: float
    p: float
    p_holm: float
    level: float
    smallest_p: float | None
    interval: Interval | None
    blocks: tuple[BlockTest, ...]
    interactions: tuple[Interaction, ...] = ()
    p_refuted: float | None = None

    @property
    def interacting(self) -> tuple[Interaction, ...]:
        """The interactions that are significant by themselves."""
        return tuple(i for i in self.interactions if i.p < LEVEL)

    @property
    def out_of_reach(self) -> bool:
        """Whether no outcome could have been significant with these seeds and this family."""
        return (
            self.verdict == INCONCLUSIVE
            and self.smallest_p is not None
            and self.smallest_p >= LEVEL
        )


def judge_differences(claims: Sequence[Sequence[Block]], signs: Sequence[int]) -> list[Verdict]:
    """A verdict for each claim of a family of differences.

    Supported: the average is significant at its Holm level, every block's estimate has the claimed
    sign and, where an interaction is significant, so is every block by itself at that level.
    Refuted: the same with the other sign. Depends: the average or an interaction is significant,
    but the blocks do not agree in that sense. Else inconclusive.

    Arguments:
        claims: Of each claim its blocks, with the same number of seeds, at least two.
        signs: Of each claim the sign that it claims, 1 or -1.

    References:
        Holm (1979); Berger (1982), https://doi.org/10.1080/00401706.1982.10487790 (intersection-
        union tests).
    """
    averages = [average(blocks) for blocks in claims]
    p_values = [sign_flip(values) for values in averages]
    verdicts = []
    for i, (blocks, sign, level, p_holm) in enumerate(
        zip(claims, signs, holm_levels(p_values), holm(p_values), strict=True)
    ):
        tests = tuple(_of_difference(block, level) for block in blocks)
        found = tuple(interactions(blocks)) if len(blocks) > 1 else ()
        mean = float(np.mean(averages[i]))
        significant, interacts = p_holm < LEVEL, any(k.p < LEVEL for k in found)
        agree = all(t.mean * mean > 0 for t in tests) and (
            not interacts or all(t.p < level for t in tests)
        )
        if significant and agree:
            verdict = SUPPORTED if mean * sign > 0 else REFUTED
        else:
            verdict = DEPENDS if significant or interacts else INCONCLUSIVE
        verdicts.append(
            Verdict(
                verdict=verdict,
                mean=mean,
                p=p_values[i],
                p_holm=p_holm,
                level=level,
                smallest_p=min(1.0, len(claims) * smallest_p(len(averages[i]))),
                interval=sign_flip_interval(averages[i], level),
                blocks=tests,
                interactions=found,
            )
        )
    return verdicts


def judge_equivalences(
    claims: Sequence[Sequence[Block]], margins: Sequence[float]
) -> list[Verdict]:
    """A verdict for each claim of a family of equivalences.

    Supported: every block lies within the margin, by two one-sided t tests at the claim's Holm
    level. Refuted: some block lies beyond it, by one-sided t tests, Bonferroni over blocks and
    sides, Holm over the claims. Else inconclusive.

    Arguments:
        claims: Of each claim its blocks, with at least two seeds.
        margins: Of each claim the largest difference that counts as none, in the metric's unit.
    """
    within = [
        [equivalence(block.differences, margin).p for block in blocks]
        for blocks, margin in zip(claims, margins, strict=True)
    ]
    beyond = [
        min(1.0, 2 * len(blocks) * min(p_beyond(block.differences, margin) for block in blocks))
        for blocks, margin in zip(claims, margins, strict=True)
    ]
    p_values = [max(ps) for ps in within]
    adjusted, levels = holm(p_values), holm_levels(p_values)
    refuted, refuting = holm(beyond), holm_levels(beyond)
    verdicts = []
    for i, blocks in enumerate(claims):
        verdict, confidence = INCONCLUSIVE, 1 - 2 * levels[i]
        if adjusted[i] < LEVEL:
            verdict = SUPPORTED
        elif refuted[i] < LEVEL:
            verdict, confidence = REFUTED, 1 - refuting[i] / len(blocks)
        tests = tuple(
            BlockTest(
                block.setting,
                float(np.mean(block.differences)),
                p,
                student_interval(block.differences, confidence),
            )
            for block, p in zip(blocks, within[i], strict=True)
        )
        verdicts.append(
            Verdict(
                verdict=verdict,
                mean=float(np.mean(average(blocks))),
                p=p_values[i],
                p_holm=adjusted[i],
                level=levels[i],
                smallest_p=None,
                interval=None,
                blocks=tests,
                p_refuted=refuted[i],
            )
        )
    return verdicts


def average(blocks: Sequence[Block]) -> tuple[float, ...]:
    """Seed by seed the mean over blocks."""
    return tuple(float(v) for v in np.mean([block.differences for block in blocks], axis=0))


def interactions(blocks: Sequence[Block]) -> list[Interaction]:
    """Every interaction of a difference with the axes of its blocks: all pairs of values.

    With one axis and with several, averaged over the others, where all its corners are there.
    """
    values: dict[str, dict[Any, None]] = {}
    for block in blocks:
        for axis, value in block.setting.items():
            values.setdefault(axis, {})[value] = None
    varying = [axis for axis, its in values.items() if len(its) > 1]
    found = []
    for size in range(1, len(varying) + 1):
        for axes in itertools.combinations(varying, size):
            pairs = (itertools.combinations(values[axis], 2) for axis in axes)
            for between in itertools.product(*pairs):
                contrast = _interaction(blocks, dict(zip(axes, between, strict=True)))
                if contrast is not None:
                    found.append(contrast)
    return found


def _interaction(
    blocks: Sequence[Block], between: dict[str, tuple[Any, Any]]
) -> Interaction | None:
    groups: dict[str, list[NDArray[np.float64]]] = {}
    for block in blocks:
        if all(block.setting[axis] in pair for axis, pair in between.items()):
            rest = repr([(a, v) for a, v in block.setting.items() if a not in between])
            lower = sum(block.setting[axis] == pair[1] for axis, pair in between.items())
            groups.setdefault(rest, []).append((-1) ** lower * np.asarray(block.differences))
    whole = [np.sum(k, axis=0) for k in groups.values() if len(k) == 2 ** len(between)]
    if not whole:
        return None
    contrast = np.mean(whole, axis=0).tolist()
    return Interaction(between, float(np.mean(contrast)), sign_flip(contrast))


def _of_difference(block: Block, level: float) -> BlockTest:
    return BlockTest(
        block.setting,
        float(np.mean(block.differences)),
        sign_flip(block.differences),
        sign_flip_interval(block.differences, level),
    )
