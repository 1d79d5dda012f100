"""Contrasts of cells: one number per seed, with its interval and test, adjusted for its family.

Effects and claims are both made of these. Nothing is averaged over what is not there: a contrast
of which one cell is incomplete, or compares with no other, has no numbers but a reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from vaebench.report.cells import Cell
from vaebench.report.comparable import cell_key
from vaebench.report.records import counted
from vaebench.schema.labels import cell_label
from vaebench.statistics import LEVEL, Difference, difference, holm


@dataclass(frozen=True)
class Terms:
    """The cells of a contrast: those that are added, and those that are subtracted.

    Attributes:
        plus: Cells of one sign.
        minus: Cells of the other, as many.
        blocks: Pairs of cells (of an interaction: pairs of pairs) that the contrast averages over.
        alone: Cells that have no partner, as the grid leaves it out.
    """

    plus: tuple[Cell, ...]
    minus: tuple[Cell, ...]
    blocks: int
    alone: int = 0


@dataclass(frozen=True)
class Contrast:
    """A contrast by one metric, in the metric's unit.

    Attributes:
        blocks: Pairs of cells, or pairs of pairs, that each value averages over.
        alone: Cells left out, as they have no partner in the grid.
        seeds: Seeds, the same in every cell.
        values: One value per seed; empty when there is a reason.
        difference: Mean, interval and test of the values; None when there is a reason.
        reason: Why there are no values.
        comparable: False when the reason is that the cells do not compare.
    """

    blocks: int
    alone: int = 0
    seeds: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    difference: Difference | None = None
    reason: str | None = None
    comparable: bool = True


@dataclass(frozen=True)
class Adjusted:
    """A p value among those of its family.

    Attributes:
        p: Adjusted by Holm; None when nothing was tested.
        smallest: The smallest that the number of seeds allows, adjusted likewise; None likewise.
        size: Tests of the family.
        noun: What each of them is: ``contrast``.
        about: And by what: ``of test/ssim``.
    """

    p: float | None
    smallest: float | None
    size: int
    noun: str
    about: str

    @property
    def family(self) -> str:
        """``6 contrasts of test/ssim``."""
        return f"{counted(self.size, self.noun)} {self.about}"

    @property
    def significant(self) -> bool:
        """Whether p is below the level."""
        return self.p is not None and self.p < LEVEL

    @property
    def out_of_reach(self) -> bool:
        """Whether no outcome could have been significant, with these seeds and this family."""
        return self.smallest is not None and self.smallest >= LEVEL


def paired(first: Sequence[Cell], second: Sequence[Cell], axes: Sequence[str]) -> Terms:
    """Pairs of cells that agree in all other axes than ``axes``."""
    partners = {_rest(cell, axes): cell for cell in second}
    pairs = [(c, partners[_rest(c, axes)]) for c in first if _rest(c, axes) in partners]
    return Terms(
        plus=tuple(pair[0] for pair in pairs),
        minus=tuple(pair[1] for pair in pairs),
        blocks=len(pairs),
        alone=len(first) + len(second) - 2 * len(pairs),
    )


def measure(terms: Terms, metric: str, kind: str) -> Contrast:
    """The contrast by one metric: seed by seed the mean over its blocks of plus minus minus.

    Arguments:
        terms: The cells.
        metric: A final metric, ``test/ssim``.
        kind: How far it compares, a key of :data:`vaebench.report.comparable.KEYS`.
    """
    cells = (*terms.plus, *terms.minus)

    def without(reason: str, comparable: bool = True) -> Contrast:
        return Contrast(terms.blocks, terms.alone, reason=reason, comparable=comparable)

    if not terms.blocks:
        return without("no cells that differ in nothing else")
    keys = {cell_key(cell, kind) for cell in cells if cell.records}
    if len(keys) > 1 or None in keys:
        what = {"likelihood": "losses", "machine": "machines"}.get(kind, "data sets")
        return without(f"its cells are of different {what}", comparable=False)
    for cell in cells:
        if not cell.complete:
            return without(f"{cell_label(cell.cell)} is {cell.progress}")
    if len({cell.seeds for cell in cells}) > 1:
        return without("its cells have different seeds")
    columns = [[record["metrics"].get(metric) for record in cell.records] for cell in cells]
    gaps = sum(value is None for column in columns for value in column)
    if gaps:
        return without(f"not measured in {counted(gaps, 'run')}")
    half = len(terms.plus)
    # left to right: sum() of Python 3.12 rounds once, and a tie shows another last digit
    values = tuple(
        (reduce(add, by_cell[:half]) - reduce(add, by_cell[half:])) / terms.blocks
        for by_cell in zip(*columns, strict=True)
    )
    return Contrast(
        terms.blocks, terms.alone, cells[0].seeds, values, difference=difference(values)
    )


def adjust_differences(
    found: Sequence[Difference | None], *, noun: str, about: str
) -> list[Adjusted]:
    """:func:`adjust` of paired differences; None where there is none."""
    return adjust(
        [None if d is None else d.p for d in found],
        [None if d is None else d.smallest_p for d in found],
        noun=noun,
        about=about,
    )


def adjust(
    p_values: Sequence[float | None], smallest: Sequence[float | None], noun: str, about: str
) -> list[Adjusted]:
    """Holm over those of a family that were tested.

    Arguments:
        p_values: One per test; None where nothing was tested, which does not count.
        smallest: The smallest p that each test could give.
        noun: What each of them is.
        about: And by what.
    """
    tested = [i for i, p in enumerate(p_values) if p is not None]
    adjusted = dict(zip(tested, holm([p for p in p_values if p is not None]), strict=True))
    size = len(tested)
    return [
        Adjusted(
            p=adjusted.get(i),
            # whichever of them is the smallest is multiplied by the size of the family
            smallest=None if i not in adjusted or least is None else min(1.0, size * least),
            size=size,
            noun=noun,
            about=about,
        )
        for i, least in enumerate(smallest)
    ]


def label(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """``cnn - fnn``, and what both sides share: ``cnn - fnn, bce``."""
    shared = {axis: value for axis, value in first.items() if second.get(axis) == value}
    sides = [{a: v for a, v in side.items() if a not in shared} for side in (first, second)]
    text = " - ".join(map(cell_label, sides))
    return f"{text}, {cell_label(shared)}" if shared else text


def _rest(cell: Cell, axes: Sequence[str]) -> str:
    return repr([(axis, value) for axis, value in cell.cell.items() if axis not in axes])
