"""The claims of a grid, each with a verdict and the numbers that it rests on.

supported, refuted
    A difference: the adjusted exact p is below 0.05, and the sign is the claimed one, or the other.
    An equivalence: both one-sided tests reject a difference beyond the margin (adjusted p below
    0.05), or the 90 % interval lies wholly beyond it.
inconclusive
    Neither, or there are too few seeds, or too few of the runs are done, to tell.
not comparable
    The claim sets against each other what the metric does not compare.

A metric that compares only within one loss judges a claim about several losses in none of them:
such a claim is to be written once per loss. To add a kind of claim: its place in :func:`claims`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaebench.report.cells import Cell, declarations, matching
from vaebench.report.contrasts import (
    Adjusted,
    Contrast,
    adjust,
    label,
    measure,
    paired,
)
from vaebench.report.effects import contrast_json
from vaebench.report.loading import Report
from vaebench.report.numbers import p_text, signed
from vaebench.report.tables import ARROWS, Column, axis_text, metric_column
from vaebench.schema.claims import Claim
from vaebench.statistics import Equivalence, equivalence

SUPPORTED, REFUTED = "supported", "refuted"
INCONCLUSIVE, NOT_COMPARABLE = "inconclusive", "not comparable"


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict.

    Attributes:
        claim: The claim.
        column: Its metric, with its declaration.
        sides: What is subtracted from what: ``cnn - fnn, mse (σ²=0.5)``.
        contrast: First side minus second, seed by seed.
        equivalence: The test of a claim that has a margin and numbers.
        adjusted: Its p value among the claims of its kind.
        verdict: One of the four.
        reason: Why, in words.
    """

    claim: Claim
    column: Column
    sides: str
    contrast: Contrast
    equivalence: Equivalence | None
    adjusted: Adjusted
    verdict: str
    reason: str


def claims(report: Report, cells: Sequence[Cell]) -> tuple[Judged, ...]:
    """Every claim of the manifest, judged by the records.

    Holm's families are all claims of a difference, and all claims of an equivalence.

    Raises:
        ResultsError: The manifest's claims are damaged.
    """
    stated = report.stated("claims", Claim)
    columns = [metric_column(cells, claim.metric) for claim in stated]
    contrasts = [_contrast(c, k, cells) for c, k in zip(stated, columns, strict=True)]
    equal = [_equivalence(c, k) for c, k in zip(stated, contrasts, strict=True)]
    differ = [
        k.difference if c.margin is None else None for c, k in zip(stated, contrasts, strict=True)
    ]
    differing = adjust(differ, noun="claim", about="of a difference")
    equals = adjust(equal, noun="claim", about="of an equivalence")
    judged = []
    for i, claim in enumerate(stated):
        its = differing[i] if claim.margin is None else equals[i]
        verdict, reason = _verdict(claim, columns[i], contrasts[i], equal[i], its)
        sides = label(*(_named(side, cells) for side in claim.sides))
        judged.append(
            Judged(claim, columns[i], sides, contrasts[i], equal[i], its, verdict, reason)
        )
    return tuple(judged)


def claims_json(found: Sequence[Judged]) -> list[dict[str, Any]]:
    """The claims for programs, in full precision; ``p`` is that of the claim's own kind of test."""
    return [
        {
            "claim": judged.claim.name,
            "metric": judged.claim.metric,
            "kind": "difference" if judged.claim.margin is None else "equivalence",
            "first": judged.claim.sides[0],
            "second": judged.claim.sides[1],
            "margin": judged.claim.margin,
            "verdict": judged.verdict,
            "why": judged.reason,
            **contrast_json(judged.contrast, judged.adjusted),
            **_equivalence_json(judged),
        }
        for judged in found
    ]


def _equivalence_json(judged: Judged) -> dict[str, Any]:
    if judged.claim.margin is None:
        return {}
    known = judged.equivalence
    return {
        "p": known.p if known else None,
        "ci90": known.ci90 if known else None,
        "smallest_p": None,
    }


def _contrast(claim: Claim, column: Column, cells: Sequence[Cell]) -> Contrast:
    """First side minus second over the pairs of cells that agree in all else."""
    fault = _fault(claim, column, cells)
    if fault is not None:
        return Contrast(0, reason=fault, comparable=False)
    first, second = (matching(cells, side) for side in claim.sides)
    return measure(paired(first, second, tuple(claim.sides[0])), claim.metric, column.comparable)


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


def _equivalence(claim: Claim, contrast: Contrast) -> Equivalence | None:
    if claim.margin is None or len(contrast.values) < 2:
        return None
    return equivalence(contrast.values, claim.margin)


def _verdict(
    claim: Claim,
    column: Column,
    contrast: Contrast,
    equal: Equivalence | None,
    adjusted: Adjusted,
) -> tuple[str, str]:
    if contrast.difference is None:
        reason = contrast.reason or ""
        if contrast.comparable:
            return INCONCLUSIVE, reason
        hint = "; state it once per loss" if "different losses" in reason else ""
        return NOT_COMPARABLE, reason + hint
    if contrast.difference.n == 1:
        return INCONCLUSIVE, "one seed: no interval, no test"
    if equal is not None and claim.margin is not None:
        return _of_equivalence(contrast.difference.mean, equal, claim.margin, adjusted, column)
    if adjusted.out_of_reach:
        n, least = contrast.difference.n, p_text(adjusted.smallest)
        return (
            INCONCLUSIVE,
            f"significance cannot be reached with {n} seeds: smallest adjusted p {least}",
        )
    if not adjusted.significant:
        return INCONCLUSIVE, "no difference shown"
    if (contrast.difference.mean > 0) == (column.direction == "higher"):
        return SUPPORTED, "significant, in the claimed direction"
    return REFUTED, "significant, in the opposite direction"


def _of_equivalence(
    mean: float, equal: Equivalence, margin: float, adjusted: Adjusted, column: Column
) -> tuple[str, str]:
    low, high = (signed(mean + side * equal.ci90, column.decimals) for side in (-1, 1))
    reason = f"90 % interval {low} to {high}, margin {margin:g}"
    if adjusted.significant:
        return SUPPORTED, reason
    return REFUTED if abs(mean) - equal.ci90 > margin else INCONCLUSIVE, reason
