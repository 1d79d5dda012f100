"""Contrasts of cells: one number per seed, with its interval and test, adjusted for its family.

Effects and claims are both made of these. Nothing is averaged over what is not there: a contrast
of which one cell is incomplete, or compares with no other, has no numbers but a reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

from vaebench.report.cells import Cell
from vaebench.report.loading import counted
from vaebench.schema.labels import cell_label
from vaebench.statistics import LEVEL, Difference, difference, holm
from vaebench.statistics.verdicts import Block


@dataclass(frozen=True)
class Terms:
    """The cells of a contrast: those that are added, and those that are subtracted.

    Attributes:
        plus: Cells of one sign.
        minus: Cells of the other, as many.
        blocks: Pairs of cells (of an interaction: pairs of pairs) that the contrast averages over.
        alone: Cells that have no partner, as the grid leaves it out.
        settings: Of each pair of cells the values of the axes that both share.
    """

    plus: tuple[Cell, ...]
    minus: tuple[Cell, ...]
    blocks: int
    alone: int = 0
    settings: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Contrast:
    """A contrast by one metric, in the metric's unit.

    Attributes:
        blocks: Pairs of cells, or pairs of pairs, that each value averages over.
        alone: Cells left out, as they have no partner in the grid.
        seeds: Seeds, the same in every cell.
        values: One value per seed; empty when there is a reason.
        by_block: The values of every pair of cells, before they are averaged.
        difference: Mean, interval and test of the values; None when there is a reason.
        reason: Why there are no values.
        comparable: False when the reason is that the cells do not compare.
    """

    blocks: int
    alone: int = 0
    seeds: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    by_block: tuple[Block, ...] = ()
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
        settings=tuple({a: v for a, v in c.cell.items() if a not in axes} for c, _ in pairs),
    )


def measure(terms: Terms, metric: str, kind: str) -> Contrast:
    """The contrast by one metric: seed by seed the mean over its blocks of plus minus minus.

    Arguments:
        terms: The cells.
        metric: A final metric, ``test/ssim``.
        kind: How far it compares, a key of :data:`vaebench.report.ranking.KEYS`.
    """
    cells = (*terms.plus, *terms.minus)
    if not terms.blocks:
        reason = "no cells that differ in nothing else"
        return Contrast(terms.blocks, terms.alone, reason=reason)
    fault = fault_of(cells, kind, (metric,))
    if fault is not None:
        return replace(fault, blocks=terms.blocks, alone=terms.alone)
    columns = [cell.measured(metric) for cell in cells]
    half = len(terms.plus)
    # left to right: sum() of Python 3.12 rounds once, and a tie shows another last digit
    values = tuple(
        (reduce(add, by_cell[:half]) - reduce(add, by_cell[half:])) / terms.blocks
        for by_cell in zip(*columns, strict=True)
    )
    by_block = tuple(
        Block(its, tuple(a - b for a, b in zip(columns[i], columns[half + i], strict=True)))
        for i, its in enumerate(terms.settings)
    )
    return Contrast(
        terms.blocks,
        terms.alone,
        cells[0].seeds,
        values,
        by_block,
        difference=difference(values),
    )


def fault_of(cells: Sequence[Cell], kind: str, metrics: Sequence[str]) -> Contrast | None:
    """A contrast without numbers, with the reason why these cells have none; None if they have.

    Arguments:
        cells: All cells that enter.
        kind: How far the metric compares, a key of :data:`vaebench.report.ranking.KEYS`.
        metrics: Final metrics that each of their runs must have.
    """
    keys = {cell.key(kind) for cell in cells if cell.records}
    if len(keys) > 1 or None in keys:
        what = {"likelihood": "losses", "machine": "machines"}.get(kind, "data sets")
        return Contrast(0, reason=f"its cells are of different {what}", comparable=False)
    for cell in cells:
        if not cell.complete:
            return Contrast(0, reason=f"{cell_label(cell.cell)} is {cell.progress}")
    if len({cell.seeds for cell in cells}) > 1:
        return Contrast(0, reason="its cells have different seeds")
    by_run = (run for cell in cells for run in zip(*map(cell.of, metrics), strict=True))
    gaps = sum(None in run for run in by_run)
    return Contrast(0, reason=f"not measured in {counted(gaps, 'run')}") if gaps else None


def adjust(tests: Sequence[Difference | None], *, noun: str, about: str) -> list[Adjusted]:
    """Holm over the tests of a family.

    Arguments:
        tests: None where nothing could be tested, which does not count.
        noun: What each of them is.
        about: And by what.
    """
    # the difference of one seed has no p
    tested = [i for i, test in enumerate(tests) if test is not None and test.p is not None]
    known = holm([test.p for test in tests if test is not None and test.p is not None])
    adjusted = dict(zip(tested, known, strict=True))
    size = len(tested)
    family = []
    for i, test in enumerate(tests):
        least = test.smallest_p if test is not None and i in adjusted else None
        # whichever of them is the smallest is multiplied by the size of the family
        smallest = None if least is None else min(1.0, size * least)
        family.append(Adjusted(adjusted.get(i), smallest, size, noun, about))
    return family


def label(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """``cnn - fnn``, and what both sides share: ``cnn - fnn, bce``."""
    shared = {axis: value for axis, value in first.items() if second.get(axis) == value}
    sides = [{a: v for a, v in side.items() if a not in shared} for side in (first, second)]
    text = " - ".join(map(cell_label, sides))
    return f"{text}, {cell_label(shared)}" if shared else text


def _rest(cell: Cell, axes: Sequence[str]) -> str:
    return repr([(axis, value) for axis, value in cell.cell.items() if axis not in axes])
