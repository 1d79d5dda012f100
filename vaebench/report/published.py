"""Published numbers beside ours: is what others reported reproduced?

The grid's ``published`` entries name a cell, a metric and a tolerance; ours are the values of the
cell's seeds. A metric with an epoch is read from the journals, any other from the records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vaebench.report.cells import Cell, matching
from vaebench.report.loading import Record, Report, counted, dig
from vaebench.schema.claims import Published
from vaebench.schema.record import finite
from vaebench.statistics import LEVEL, Summary, equivalence, p_beyond, summarise
from vaebench.storage import RunStore

MIN_SEEDS = 3  # of a verdict on a published number


@dataclass(frozen=True)
class Reproduction:
    """A published number, and ours.

    Attributes:
        published: What was published, and how near ours has to come.
        ours: Over the cell's seeds, with what is to be added; None when there is a reason.
        values: The same, one for each seed.
        reason: Why there is no number of ours, ``not yet run``.
    """

    published: Published
    ours: Summary | None
    values: tuple[float, ...]
    reason: str | None

    @property
    def within(self) -> float:
        """The tolerance, in the metric's unit."""
        within = self.published.within
        if isinstance(within, float):
            return within
        return float(within.removesuffix("%")) / 100 * abs(self.published.value)

    @property
    def difference(self) -> float | None:
        """Ours less what was published; None without ours."""
        if self.ours is None or self.ours.mean is None:
            return None
        return self.ours.mean - self.published.value

    @property
    def reproduced(self) -> str | None:
        """``yes``, ``no`` or ``inconclusive``; None without ours and with fewer than three seeds.

        Yes: the difference lies within the tolerance by two one-sided t tests. No: it lies beyond
        it, by a one-sided t test at half the level on either side.
        """
        if self.difference is None or len(self.values) < MIN_SEEDS:
            return None
        differences = [value - self.published.value for value in self.values]
        if equivalence(differences, self.within).p < LEVEL:
            return "yes"
        return "no" if 2 * p_beyond(differences, self.within) < LEVEL else "inconclusive"


def reproductions(report: Report, cells: Sequence[Cell]) -> tuple[Reproduction, ...]:
    """Every published number of the manifest beside ours.

    Raises:
        ResultsError: The manifest's entries are damaged.
    """
    stated = report.stated("published", Published)
    return tuple(_reproduction(each, report, cells) for each in stated)


def reproductions_json(rows: Sequence[Reproduction]) -> list[dict[str, Any]]:
    """The rows for programs, in full precision."""
    return [
        {
            **row.published.model_dump(),
            "within": row.within,
            "stated": str(row.published.within),
            "ours": row.ours and vars(row.ours),
            "reason": row.reason,
            "difference": row.difference,
            "reproduced": row.reproduced,
        }
        for row in rows
    ]


def _reproduction(published: Published, report: Report, cells: Sequence[Cell]) -> Reproduction:
    ours = _ours(published, report, cells)
    if isinstance(ours, str):
        return Reproduction(published, None, (), ours)
    values = tuple(value + published.add for value in ours)
    return Reproduction(published, summarise(values), values, None)


def _ours(published: Published, report: Report, cells: Sequence[Cell]) -> list[float] | str:
    """One value per seed, or why there is none."""
    metric, epoch = published.metric, published.epoch
    found = matching(cells, published.cell)
    if not found:
        return "no such cell in this grid"
    if len(found) > 1:
        return f"names {len(found)} cells of the grid, not one"
    cell = found[0]
    if not cell.records:
        return "failed" if cell.others else "not yet run"
    if not cell.complete:
        return cell.progress
    values = [
        _final(record, metric) if epoch is None else _at_epoch(report, record, metric, epoch)
        for record in cell.records
    ]
    known = [value for value in values if value is not None]
    if len(known) == len(values):
        return known
    when = "" if epoch is None else f" at epoch {epoch}"
    return f"not measured{when} in {counted(len(values) - len(known), 'run')}"


def _final(record: Record, metric: str) -> float | None:
    """What was measured at the end, on the test split or on validation."""
    value: float | None = record["metrics"].get(metric)
    return finite(dig(record, "measured", metric)) if value is None else value


def _at_epoch(report: Report, record: Record, metric: str, epoch: int) -> float | None:
    for line in RunStore(report.run_dir(record["run_id"])).journal:
        if line.get("epoch") == epoch:
            return finite(dig(line, "metrics", metric))
    return None
