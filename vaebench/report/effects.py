"""What each axis of a grid does: factor effects and two-way interactions, by every ranked metric.

A factor effect is the difference between a value of an axis and the axis's baseline, averaged over
the cells that agree in all else. An interaction is a difference of such differences: how much one
effect changes with the value of another axis. Metrics that compare only by base measure get
their effects within each, never across. To change what an axis is compared with, edit
:data:`BASELINES`.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from vaebench.report.cells import Cell, matching
from vaebench.report.conditions import AT_RATE
from vaebench.report.contrasts import (
    Adjusted,
    Contrast,
    Terms,
    adjust,
    label,
    measure,
    paired,
)
from vaebench.report.tables import Column, Table, axis_text
from vaebench.statistics import Difference

# what the other values of an axis are set against; of any other axis, its first value
BASELINES: dict[str, str] = {"model": "fnn", "loss": "mse", "estimator": "kl"}


@dataclass(frozen=True)
class Effect:
    """One effect by one metric.

    Attributes:
        column: The metric, with its declaration.
        name: ``cnn - fnn``, or ``(cnn - fnn) × (bce - mse)``.
        axes: The axis, or the two of an interaction.
        within: Which of the cells compare by the metric, where not all do: ``{"loss": ["bce"]}``.
        where: The same in words: ``bce (relaxed)``.
        contrast: The numbers.
        adjusted: Its p value among the contrasts of the metric.
        rate: The same contrast of the rate, in nats, beside a metric of reconstructions, which more
            information makes better; None beside others, and where it was not measured.
    """

    column: Column
    name: str
    axes: tuple[str, ...]
    within: dict[str, list[Any]]
    where: str
    contrast: Contrast
    adjusted: Adjusted
    rate: float | None = None

    @property
    def kind(self) -> Literal["factor", "interaction"]:
        """A factor effect, or an interaction."""
        return "factor" if len(self.axes) == 1 else "interaction"


class _Draft(NamedTuple):
    """An effect before it is measured."""

    name: str
    axes: tuple[str, ...]
    terms: Terms


_Stratum = tuple[dict[str, list[Any]], str, list[_Draft]]


def effects(table: Table, cells: Sequence[Cell]) -> tuple[Effect, ...]:
    """Every effect by every metric of the main table that says which direction is better.

    Costs are not among them. Holm's family is all contrasts of one metric.
    """
    columns = [c for c in table.columns if c.direction is not None and c.comparable != "machine"]
    strata = {kind: list(_strata(cells, kind)) for kind in {c.comparable for c in columns}}
    return tuple(
        effect for column in columns for effect in _effects_by(column, strata[column.comparable])
    )


def effects_json(found: Sequence[Effect]) -> list[dict[str, Any]]:
    """The effects for programs, in full precision."""
    return [
        {
            "metric": effect.column.metric,
            "contrast": effect.name,
            "kind": effect.kind,
            "axes": list(effect.axes),
            "within": effect.within,
            "rate": effect.rate,
            **contrast_json(effect.contrast),
            "p_holm": effect.adjusted.p,
            "smallest_p_holm": effect.adjusted.smallest,
            "family": effect.adjusted.family,
        }
        for effect in found
    ]


def difference_json(difference: Difference | None) -> dict[str, Any]:
    """Estimate, interval and test of a difference; null where there is none."""
    return vars(difference) if difference else dict.fromkeys(f.name for f in fields(Difference))


def contrast_json(contrast: Contrast) -> dict[str, Any]:
    """The numbers of a contrast: estimate, interval, test; null where there are none."""
    return {
        **difference_json(contrast.difference),
        "pairs": contrast.blocks,
        "unpaired_cells": contrast.alone,
        "seeds": list(contrast.seeds),
        "values": list(contrast.values),
        "reason": contrast.reason,
    }


def _effects_by(column: Column, strata: Sequence[_Stratum]) -> list[Effect]:
    measured = [
        (within, where, draft, measure(draft.terms, column.metric, column.comparable))
        for within, where, drafts in strata
        for draft in drafts
    ]
    known = [contrast.difference for *_, contrast in measured]
    adjusted = adjust(known, noun="contrast", about=f"of {column.metric}")
    return [
        Effect(
            column=column,
            name=draft.name,
            axes=draft.axes,
            within=within,
            where=where,
            contrast=contrast,
            adjusted=its,
            rate=_rate(draft.terms, column),
        )
        for (within, where, draft, contrast), its in zip(measured, adjusted, strict=True)
    ]


def _rate(terms: Terms, column: Column) -> float | None:
    """What becomes of the rate where SSIM or PSNR changes so."""
    if column.metric not in AT_RATE:
        return None
    known = measure(terms, "test/rate", column.comparable).difference
    return None if known is None else known.mean


def _strata(cells: Sequence[Cell], kind: str) -> Iterator[_Stratum]:
    """Per group of cells that a metric compares: what sets it apart, in words too, the effects."""
    axes = [axis for axis in _varying(cells) if axis.partition(".")[0] in ("loss", "dataset")]

    def values(cell: Cell) -> str:
        return repr([cell.cell.get(axis) for axis in axes])

    # a row without a run is where the rows of its loss and data are
    known = {values(cell): key for cell in cells if (key := cell.key(kind)) is not None}
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.key(kind) or known.get(values(cell), values(cell)), []).append(cell)
    for group in groups.values():
        within = {axis: _values(group, axis) for axis in axes if len(groups) > 1}
        texts = (
            dict.fromkeys(axis_text(axis, c) for c in group if axis in c.cell) for axis in within
        )
        where = " / ".join(" or ".join(its) for its in texts)
        yield within, where, [*_factors(group), *_interactions(group)]


def _values(cells: Sequence[Cell], axis: str) -> list[Any]:
    return list({repr(c.cell[axis]): c.cell[axis] for c in cells if axis in c.cell}.values())


def _factors(cells: Sequence[Cell]) -> Iterator[_Draft]:
    for axis, values in _varying(cells).items():
        base = _baseline(axis, values)
        for value in values:
            if value != base:
                first, second = matching(cells, {axis: value}), matching(cells, {axis: base})
                name = label({axis: value}, {axis: base})
                yield _Draft(name, (axis,), paired(first, second, (axis,)))


def _interactions(cells: Sequence[Cell]) -> Iterator[_Draft]:
    """Between axes of two values: more would make many tests that nobody asked for."""
    factors = []
    for axis, values in _varying(cells).items():
        if len(values) == 2:
            low = _baseline(axis, values)
            factors.append((axis, values[1] if low == values[0] else values[0], low))
    for (axis, high, low), (other, up, down) in itertools.combinations(factors, 2):
        at = [
            paired(matching(side, {axis: high}), matching(side, {axis: low}), (axis,))
            for side in (matching(cells, {other: up}), matching(cells, {other: down}))
        ]
        terms = _difference_of_pairs(at[0], at[1], other)
        name = f"({label({axis: high}, {axis: low})}) × ({label({other: up}, {other: down})})"
        if terms.blocks:
            yield _Draft(name, (axis, other), terms)


def _difference_of_pairs(first: Terms, second: Terms, axis: str) -> Terms:
    """Pairs minus pairs: where both pairs of a block are there."""
    upper = paired(first.plus, second.plus, (axis,))
    lower = paired(first.minus, second.minus, (axis,))
    alone = first.alone + second.alone + upper.alone + lower.alone
    return Terms(upper.plus + lower.minus, upper.minus + lower.plus, upper.blocks, alone)


def _varying(cells: Sequence[Cell]) -> dict[str, list[Any]]:
    """The axes along which cells differ, and their values, in the grid's order."""
    axes = dict.fromkeys(axis for cell in cells for axis in cell.cell)
    values = {axis: _values(cells, axis) for axis in axes}
    return {axis: found for axis, found in values.items() if len(found) > 1}


def _baseline(axis: str, values: Sequence[Any]) -> Any:
    usual = BASELINES.get(axis, values[0])
    return usual if usual in values else values[0]
