"""Who leads at which budget: validation scores after so many epochs, and after so many seconds.

Only bounds of one base measure are set against each other. Seconds are epochs times what an epoch
of the cell takes: on a CPU the CPU time of its training steps, which other load on the machine
hardly moves, elsewhere the time on the clock; validation is left out of both.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vaebench.report.cells import Cell
from vaebench.report.journals import journals, series
from vaebench.report.leads import Lead, leads
from vaebench.report.loading import Report, dig, setting
from vaebench.report.strata import strata
from vaebench.report.tables import sets_apart
from vaebench.schema.record import optimises_elbo

VALIDATED = "val/elbo"
MAX_CELLS = 100  # that are shown
MIN_APART = 10.0  # nats between cells of different panels
EPOCHS = "epochs"
# the unit of what was spent, and the cost of an epoch in it
CPU = ("CPU seconds", "cost/cpu_seconds_per_epoch")
WALL = ("seconds", "cost/seconds_per_epoch")


@dataclass(frozen=True)
class Scores:
    """The validation ELBO of a cell, epoch by epoch.

    Attributes:
        cell: The cell.
        values: In nats per image, a row for each seed that has a journal, (S, E).
        seconds: What an epoch takes, median over the seeds; None where that does not compare.
        stops: Whether its runs stop early: such a run keeps the score that it ended with.
    """

    cell: Cell
    values: NDArray[np.float64]
    seconds: float | None
    stops: bool

    @property
    def middle(self) -> NDArray[np.float64]:
        """The median over the seeds, (E,); NaN where one of them was not measured."""
        return np.asarray(np.median(self.values, axis=0))

    def after(self, epochs: int) -> Cell:
        """The cell with what it had reached by then as its only values; none if seeds lack it."""
        column = self.values[:, min(epochs, self.values.shape[1]) - 1]
        whole = self.cell.complete and len(column) == len(self.cell.seeds)
        known = whole and bool(np.isfinite(column).all())
        values: dict[str, tuple[float | None, ...]] = {}
        if known:
            values[VALIDATED] = tuple(map(float, column))
        return replace(self.cell, values=values, summaries={})


@dataclass(frozen=True)
class Leader:
    """Who leads with one budget.

    Attributes:
        among: What sets the cells apart that compare, in words; empty where these are all cells.
        spent: The budget.
        unit: Its unit: :data:`EPOCHS`, or that of ``Budget.clock``.
        lead: The best two by the median over seeds, and their difference.
    """

    among: str
    spent: float
    unit: str
    lead: Lead


@dataclass(frozen=True)
class Budget:
    """The scores of a grid over what was spent.

    Attributes:
        groups: Scores by what sets their cells apart from the others, in words. The cells of a
            group compare; some that compare are of two groups, see :func:`budget`.
        clock: What seconds are; None where they do not compare.
        apart: Names of groups that compare with one another, the highest last.
    """

    groups: dict[str, tuple[Scores, ...]]
    clock: str | None
    apart: tuple[tuple[str, ...], ...] = ()

    @property
    def units(self) -> tuple[str, ...]:
        """In what budgets are counted."""
        return (EPOCHS,) if self.clock is None else (EPOCHS, self.clock)

    @cached_property
    def leaders(self) -> tuple[Leader, ...]:
        """Who leads in each group after 1, 2, 5, ... epochs, and seconds.

        A row needs every cell: seconds begin where each has trained for an epoch, and both end
        where the first cell has no more to show (one that stops early keeps its last score). Cells
        whose estimator optimises another bound are not ranked.
        """
        return tuple(
            Leader(name, spent, unit, lead)
            for name, group in self.groups.items()
            for ranked in [[its for its in group if all(map(optimises_elbo, its.cell.records))]]
            for unit in self.units
            for spent in _budgets(ranked, unit)
            for lead in _leads(ranked, spent, unit)
        )


def budget(report: Report, cells: Sequence[Cell]) -> Budget:
    """The validation scores of the cells whose journals have at least two epochs of them.

    Cells that compare form a group. Where some of them stay further from the others than any of
    them moves (and than 10 nats), at every epoch, they form a group of their own: on one axis
    nothing else would show, and who leads between the groups is plain.
    """
    groups: dict[str, tuple[Scores, ...]] = {}
    apart = []
    known = {name: _scores(report, its) for name, its in strata(cells[:MAX_CELLS]).items()}
    clock = _clock([its.cell for group in known.values() for its in group])
    for stratum, found in known.items():
        group = [replace(its, seconds=_seconds(its.cell, clock)) for its in found]
        parts = {sets_apart([its.cell for its in part], cells): part for part in _far_apart(group)}
        if len(parts) > 1 and "" not in parts:  # whatever has no name of its own stays together
            groups |= {name: tuple(part) for name, part in parts.items()}
            apart.append(tuple(parts))
        elif group:
            groups[stratum] = tuple(group)
    return Budget(groups, clock[0] if clock else None, tuple(apart))


def _scores(report: Report, cells: Iterable[Cell]) -> list[Scores]:
    shown = []
    for cell in cells:
        found = [journal for journal in journals(report, cell) if journal]
        stops = any(setting(r, "training", "early_stopping") is not None for r in cell.records)
        length = (max if stops else min)(map(len, found), default=0)
        scores = Scores(cell, series(found, VALIDATED, length), None, stops)
        if length > 1 and np.isfinite(scores.middle).any():
            shown.append(scores)
    return shown


def _clock(cells: Sequence[Cell]) -> tuple[str, str] | None:
    """The unit and the metric of a budget in time; None where costs do not compare."""
    keys = {cell.key("machine") for cell in cells}
    if len(keys) != 1 or None in keys:
        return None
    device = dig(cells[0].records[0], "environment", "device")
    clock = CPU if device == "cpu" else WALL
    spent = [record["metrics"].get(clock[1]) for cell in cells for record in cell.records]
    return clock if all(spent) else None


def _seconds(cell: Cell, clock: tuple[str, str] | None) -> float | None:
    if clock is None:
        return None
    return float(np.median([record["metrics"][clock[1]] for record in cell.records]))


def _far_apart(group: Sequence[Scores]) -> list[list[Scores]]:
    """Parts of cells that compare, from the lowest to the highest; mostly one."""
    ranges = [(float(np.nanmin(its.middle)), float(np.nanmax(its.middle)), its) for its in group]
    reach = max([MIN_APART, *(high - low for low, high, _ in ranges)])
    parts: list[list[Scores]] = []
    top = -math.inf
    for low, high, its in sorted(ranges, key=lambda entry: entry[0]):
        if low - top > reach:
            parts.append([])
        parts[-1].append(its)
        top = max(top, high)
    return [[its for its in group if any(its is one for one in part)] for part in parts]


def _budgets(group: Sequence[Scores], unit: str) -> Iterator[float]:
    """1, 2, 5, 10, ... from what every cell needs for an epoch to where the first of them ends."""
    if not group:
        return
    costs = [1.0 if unit == EPOCHS else its.seconds or math.inf for its in group]
    ends = [cost * its.values.shape[1] for cost, its in zip(costs, group, strict=True)]
    going = [end for end, its in zip(ends, group, strict=True) if not its.stops]
    first, last = max(costs), min(going) if going else max(ends)
    decades = range(math.floor(math.log10(first)), math.ceil(math.log10(last)) + 1)
    steps = (step * 10.0**decade for decade in decades for step in (1, 2, 5))
    yield from (spent for spent in steps if first <= spent < last / 1.25)  # not 20 and 21
    if last >= first:
        yield last


def _leads(group: Iterable[Scores], spent: float, unit: str) -> list[Lead]:
    cells = []
    for its in group:
        cost = 1.0 if unit == EPOCHS else its.seconds or math.inf
        # a whole number of epochs may come out a rounding below itself
        cells.append(its.after(math.floor(spent / cost + 1e-9)))
    return leads(cells, VALIDATED, "likelihood", "higher", _median)


def _median(cell: Cell) -> float | None:
    values = cell.measured(VALIDATED)
    return float(np.median(values)) if values else None
