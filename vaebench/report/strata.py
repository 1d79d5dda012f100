"""Cells by the base measure of their bounds: what may share a panel, and what it is called."""

from collections.abc import Sequence

from vaebench.report.cells import Cell
from vaebench.report.tables import axis_text, sets_apart


def strata(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells that have runs, by what sets those apart whose bounds compare, in words.

    The name is empty where these are all cells. No two groups have one name.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.records:
            key = cell.key("likelihood")
            groups.setdefault(f"alone {cell.cell}" if key is None else key, []).append(cell)
    named: dict[str, list[Cell]] = {}
    for group in groups.values():
        name = sets_apart(group, cells) or (_shared(group) if len(groups) > 1 else "")
        named[f"{name} ({len(named) + 1})".lstrip() if name in named else name] = group
    return named


def _shared(group: Sequence[Cell]) -> str:
    """The values of axes that all cells of a group have: ``mnist / bce (relaxed)``."""
    texts = [{axis_text(axis, cell) for cell in group} for axis in group[0].cell]
    return " / ".join(its.pop() for its in texts if len(its) == 1)
