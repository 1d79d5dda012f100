"""What each axis of a grid does: factor effects and two-way interactions, by every ranked metric.

A factor effect is the difference between a value of an axis and the axis's baseline, averaged over
the cells that agree in all else. An interaction is a difference of such differences: how much one
effect changes with the value of another axis. Metrics that compare only within one likelihood get
their effects within each, never across. To change what an axis is compared with, edit
:data:`BASELINES`.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vaebench.report.cells import Cell, matching
from vaebench.report.contrasts import (
    Adjusted,
    Contrast,
    Terms,
    adjust_differences,
    label,
    measure,
    paired,
)
from vaebench.report.ranking import separates
from vaebench.report.tables import Column, Table

# what the other values of an axis are set against; of any other axis, its first value
BASELINES: dict[str, str] = {"model": "fnn", "loss": "mse", "estimator": "kl"}


@dataclass(frozen=True)
class Effect:
    """One effect by one metric.

    Attributes:
        column: The metric, with its declaration.
        name: ``cnn - fnn``, or ``(cnn - fnn) × (bce - mse)``.
        kind: A factor effect, or an interaction.
        axes: The axis, or the two of an interaction.
        within: What all cells share by which the metric does not compare: ``{"loss": "bce"}``.
        stratum: A cell that has it.
        contrast: The numbers.
        adjusted: Its p value among the contrasts of the metric.
    """

    column: Column
    name: str
    kind: Literal["factor", "interaction"]
    axes: tuple[str, ...]
    within: dict[str, Any]
    stratum: Cell
    contrast: Contrast
    adjusted: Adjusted


@dataclass(frozen=True)
class _Draft:
    name: str
    kind: Literal["factor", "interaction"]
    axes: tuple[str, ...]
    terms: Terms


def effects(table: Table, cells: Sequence[Cell]) -> tuple[Effect, ...]:
    """Every effect by every metric of the main table that says which direction is better.

    Costs are not among them. Holm's family is all contrasts of one metric.
    """
    return tuple(
        effect
        for column in table.columns
        if column.direction is not None and column.comparable != "machine"
        for effect in _effects_by(column, cells)
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
            **contrast_json(effect.contrast),
            "p_holm": effect.adjusted.p,
            "smallest_p_holm": effect.adjusted.smallest,
            "family": effect.adjusted.family,
        }
        for effect in found
    ]


def contrast_json(contrast: Contrast) -> dict[str, Any]:
    """The numbers of a contrast: estimate, interval, test; null where there are none."""
    known = contrast.difference
    numbers = dict.fromkeys(("n", "mean", "ci95", "effect_size", "p", "smallest_p"))
    return {
        **(asdict(known) if known is not None else numbers),
        "pairs": contrast.blocks,
        "unpaired_cells": contrast.alone,
        "seeds": list(contrast.seeds),
        "values": list(contrast.values),
        "reason": contrast.reason,
    }


def _effects_by(column: Column, cells: Sequence[Cell]) -> list[Effect]:
    found = [
        (within, stratum[0], draft, measure(draft.terms, column.metric, column.comparable))
        for within, stratum in _strata(cells, column.comparable)
        for draft in (*_factors(stratum), *_interactions(stratum))
    ]
    known = [contrast.difference for _, _, _, contrast in found]
    adjusted = adjust_differences(known, noun="contrast", about=f"of {column.metric}")
    return [
        Effect(column, draft.name, draft.kind, draft.axes, within, first, contrast, its)
        for (within, first, draft, contrast), its in zip(found, adjusted, strict=True)
    ]


def _strata(cells: Sequence[Cell], kind: str) -> Iterator[tuple[dict[str, Any], list[Cell]]]:
    """Cells that a metric compares, group by group, with what they share and others lack."""
    axes = [a for a in _varying(cells) if separates(a, kind)]
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(repr([cell.cell.get(axis) for axis in axes]), []).append(cell)
    for group in groups.values():
        yield {axis: group[0].cell.get(axis) for axis in axes}, group


def _factors(cells: Sequence[Cell]) -> Iterator[_Draft]:
    for axis, values in _varying(cells).items():
        base = _baseline(axis, values)
        for value in values:
            if value != base:
                first, second = matching(cells, {axis: value}), matching(cells, {axis: base})
                terms = paired(first, second, (axis,))
                name = label({axis: value}, {axis: base})
                yield _Draft(name, "factor", (axis,), terms)


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
        yield _Draft(name, "interaction", (axis, other), terms)


def _difference_of_pairs(first: Terms, second: Terms, axis: str) -> Terms:
    """Pairs minus pairs: where both pairs of a block are there."""
    upper = paired(first.plus, second.plus, (axis,))
    lower = paired(first.minus, second.minus, (axis,))
    alone = first.alone + second.alone + upper.alone + lower.alone
    return Terms(
        plus=upper.plus + lower.minus,
        minus=upper.minus + lower.plus,
        blocks=upper.blocks,
        alone=alone,
    )


def _varying(cells: Sequence[Cell]) -> dict[str, list[Any]]:
    """The axes along which cells differ, and their values, in the grid's order."""
    axes = dict.fromkeys(axis for cell in cells for axis in cell.cell)
    values = {
        axis: list({repr(c.cell[axis]): c.cell[axis] for c in cells if axis in c.cell}.values())
        for axis in axes
    }
    return {axis: found for axis, found in values.items() if len(found) > 1}


def _baseline(axis: str, values: Sequence[Any]) -> Any:
    usual = BASELINES.get(axis, values[0])
    return usual if usual in values else values[0]
