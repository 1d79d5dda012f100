"""Arms: cells that differ only in numbers, which move them along a curve over the rate.

Claims at matched rate compare arms, and the figure over the rate has a line for each.
"""

from collections.abc import Collection, Sequence
from typing import Any

from vaebench.report.cells import Cell

RATE = "test/rate"


def named_axes(cells: Sequence[Cell], besides: Collection[str] = ()) -> list[str]:
    """The axes whose values are not all numbers, except ``besides``."""
    return [
        axis
        for axis in cells[0].cell
        if axis not in besides and not all(_is_number(cell.cell.get(axis)) for cell in cells)
    ]


def arms(cells: Sequence[Cell], axes: Sequence[str]) -> dict[str, list[Cell]]:
    """The cells by their values of these axes."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(repr([cell.cell.get(axis) for axis in axes]), []).append(cell)
    return groups


def points(cells: Sequence[Cell], metric: str) -> list[list[tuple[float, float]]]:
    """Rate and metric of each seed, cell by cell; every run must have measured both."""
    return [list(zip(cell.measured(RATE), cell.measured(metric), strict=True)) for cell in cells]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
