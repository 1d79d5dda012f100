"""The claims of a grid, each with a verdict, the numbers that it rests on, and its conditions.

The verdicts and their tests are those of :mod:`vaebench.statistics.verdicts`; a claim that cannot
be tested, as runs or seeds are missing, is inconclusive with its reason. Not comparable: the claim
sets against each other what the metric does not compare. A metric that compares only within one
loss judges a claim about several losses in none of them: it is to be written once per loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vaebench.report.arms import RATE, arms, named_axes, points
from vaebench.report.cells import Cell, declarations, matching
from vaebench.report.conditions import conditions, rates
from vaebench.report.contrasts import Contrast, fault_of, label, measure, paired
from vaebench.report.loading import Report, counted
from vaebench.report.numbers import p_text
from vaebench.report.tables import ARROWS, Column, axis_text, metric_column
from vaebench.schema.claims import Claim
from vaebench.statistics import difference
from vaebench.statistics.matched_rate import MatchedRate, at_matched_rate
from vaebench.statistics.power import seeds_to_show
from vaebench.statistics.verdicts import (
    DEPENDS,
    INCONCLUSIVE,
    REFUTED,
    SUPPORTED,
    Block,
    Verdict,
    average,
    judge_differences,
    judge_equivalences,
)

__all__ = ["DEPENDS", "INCONCLUSIVE", "NOT_COMPARABLE", "REFUTED", "SUPPORTED", "Judged", "claims"]

NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict.

    Attributes:
        claim: The claim.
        column: Its metric, with its declaration.
        sides: What is subtracted from what: ``cnn - fnn, mse (σ²=0.5)``.
        contrast: First side minus second, seed by seed.
        conditions: Under which the verdict holds: ``5 epochs``, ``learning rate 0.001, not tuned``.
        matched: Of a claim at matched rate, its curves block by block.
        family: Among what its p value is adjusted: ``8 claims of a difference``.
        tests: The tests; None where there are none.
        verdict: One of the five.
        reason: Why, in words; empty where the numbers say it.
    """

    claim: Claim
    column: Column
    sides: str
    contrast: Contrast
    conditions: tuple[str, ...] = ()
    matched: tuple[MatchedRate, ...] = ()
    family: str = ""
    tests: Verdict | None = None
    verdict: str = INCONCLUSIVE
    reason: str = ""

    @property
    def seeds_needed(self) -> int | None:
        """The seeds with which a true difference of this size would be shown at its level.

        With a probability of 80 %, from the spread over these seeds; None of an equivalence, and
        where more than a thousand would be needed.
        """
        known = self.contrast.difference
        if self.tests is None or known is None or self.claim.margin is not None:
            return None
        std = float(np.std(self.contrast.values, ddof=1))
        return seeds_to_show(known.mean, std, self.tests.level) if known.mean else None


@dataclass
class _Draft:
    """A claim with its contrast, until its family is complete."""

    claim: Claim
    column: Column
    contrast: Contrast
    matched: tuple[MatchedRate, ...] = ()
    blocks: tuple[Block, ...] = field(default=())

    @property
    def testable(self) -> bool:
        return bool(self.blocks) and len(self.contrast.values) > 1


def claims(report: Report, cells: Sequence[Cell]) -> tuple[Judged, ...]:
    """Every claim of the manifest, judged by the records.

    Holm's families are all claims of a difference, and all claims of an equivalence.

    Raises:
        ResultsError: The manifest's claims are damaged.
    """
    drafts = [_draft(claim, cells) for claim in report.stated("claims", Claim)]
    tests: dict[int, Verdict] = {}
    families: dict[int, str] = {}
    for about in ("of a difference", "of an equivalence"):
        chosen = {
            i: d
            for i, d in enumerate(drafts)
            if d.testable and (d.claim.margin is None) == (about == "of a difference")
        }
        blocks = [draft.blocks for draft in chosen.values()]
        if about == "of a difference":
            signs = [1 if d.column.direction == "higher" else -1 for d in chosen.values()]
            verdicts = judge_differences(blocks, signs)
        else:
            verdicts = judge_equivalences(blocks, [d.claim.margin or 0 for d in chosen.values()])
        tests.update(zip(chosen, verdicts, strict=True))
        families.update(dict.fromkeys(chosen, f"{counted(len(chosen), 'claim')} {about}"))
    judged = []
    for i, draft in enumerate(drafts):
        verdict, reason = _verdict(draft, tests.get(i))
        judged.append(
            Judged(
                claim=draft.claim,
                column=draft.column,
                sides=label(*(_named(side, cells) for side in draft.claim.sides)),
                contrast=draft.contrast,
                conditions=_conditions(report, draft, cells),
                matched=draft.matched,
                family=families.get(i, ""),
                tests=tests.get(i),
                verdict=verdict,
                reason=reason,
            )
        )
    return tuple(judged)


def _draft(claim: Claim, cells: Sequence[Cell]) -> _Draft:
    column = metric_column(cells, claim.metric)
    fault = _fault(claim, column, cells)
    if fault is not None:
        return _Draft(claim, column, Contrast(0, reason=fault, comparable=False))
    first, second = (matching(cells, side) for side in claim.sides)
    if claim.at is not None:
        return _at_matched_rate(claim, column, first, second)
    terms = paired(first, second, tuple(claim.sides[0]))
    contrast = measure(terms, claim.metric, column.comparable)
    return _Draft(claim, column, contrast, blocks=contrast.by_block)


def _at_matched_rate(
    claim: Claim, column: Column, first: Sequence[Cell], second: Sequence[Cell]
) -> _Draft:
    """Curves over the axes of numbers, in blocks of all other axes that the claim does not name."""
    cells = (*first, *second)
    fault = fault_of(cells, column.comparable, (claim.metric, RATE))
    if fault is not None:
        return _Draft(claim, column, fault)
    axes = named_axes(cells, besides=claim.sides[0])
    sides = arms(first, axes), arms(second, axes)
    shared = [key for key in sides[0] if key in sides[1]]
    matched = tuple(
        at_matched_rate(*(points(side[key], claim.metric) for side in sides)) for key in shared
    )
    faults = [m.fault for m in matched if m.fault is not None]
    if faults or not matched:
        reason = faults[0] if faults else "no cells that differ in nothing else"
        return _Draft(claim, column, Contrast(len(matched), reason=reason), matched)
    blocks = tuple(
        Block({axis: sides[0][key][0].cell.get(axis) for axis in axes}, m.differences)
        for key, m in zip(shared, matched, strict=True)
    )
    values = average(blocks)
    contrast = Contrast(
        len(blocks), 0, cells[0].seeds, values, blocks, difference=difference(values)
    )
    return _Draft(claim, column, contrast, matched, blocks)


def _fault(claim: Claim, column: Column, cells: Sequence[Cell]) -> str | None:
    """Why a claim cannot be judged by these cells, whatever their numbers are."""
    records = [record for cell in cells for record in cell.records]
    for side in claim.sides:
        if not matching(cells, side):
            named = ", ".join(f"{axis}: {value}" for axis, value in side.items())
            return f"no cell has {named}"
    if records and not any(claim.metric in record["metrics"] for record in records):
        return f"no run has measured {claim.metric}"
    if column.metric.partition("/")[2] in declarations(records)[1]:
        return "the runs declare the metric differently"
    if column.comparable == "machine":
        return "costs are not tested"
    if records and claim.margin is None and column.direction not in ARROWS:
        return "the metric does not say which direction is better"
    return None


def _named(side: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, str]:
    """A side with what must not be forgotten about its loss: the variance of mse."""
    found = matching(cells, side)
    return {axis: axis_text(axis, found[0]) if found else str(v) for axis, v in side.items()}


def _conditions(report: Report, draft: _Draft, cells: Sequence[Cell]) -> tuple[str, ...]:
    if not draft.testable:
        return ()
    first, second = (matching(cells, side) for side in draft.claim.sides)
    said = conditions(report, [*first, *second])
    if draft.matched:
        low, high = min(m.low for m in draft.matched), max(m.high for m in draft.matched)
        return (*said, f"at equal rate, {low:.1f} to {high:.1f} nats")
    if "loss" in draft.claim.sides[0] and draft.column.comparable == "dataset":
        return (*said, *rates(first, second))
    return said


def _verdict(draft: _Draft, tests: Verdict | None) -> tuple[str, str]:
    contrast = draft.contrast
    if contrast.difference is None:
        reason = contrast.reason or ""
        if contrast.comparable:
            return INCONCLUSIVE, reason
        hint = "; state it once per loss" if "different losses" in reason else ""
        return NOT_COMPARABLE, reason + hint
    if tests is None:
        return INCONCLUSIVE, "one seed: no interval, no test"
    if any(m.fragile for m in draft.matched):
        return INCONCLUSIVE, "one point of a curve carries more than half of the difference"
    if tests.out_of_reach:
        n, least = contrast.difference.n, p_text(tests.smallest_p or 0.0)
        return (
            INCONCLUSIVE,
            f"significance cannot be reached with {n} seeds: smallest adjusted p {least}",
        )
    if draft.claim.margin is not None:
        return tests.verdict, f"margin {draft.claim.margin:g}"
    reasons = {INCONCLUSIVE: "no difference shown", DEPENDS: "the blocks do not agree"}
    return tests.verdict, reasons.get(tests.verdict, "")
