"""Runs grouped by cell: what the tables have rows of.

A cell is summarised over its seeds, or not at all: an incomplete row has no mean. Runs of older
data or code than the grid's others are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vaebench.declarations import merged
from vaebench.report.loading import Record, counted
from vaebench.report.ranking import shared_keys
from vaebench.schema.labels import median_seed
from vaebench.schema.manifest import Planned
from vaebench.schema.record import outdated
from vaebench.statistics import Summary, summarise

MIN_RATE = 0.5  # nats per image: below it the posterior has collapsed


@dataclass(frozen=True)
class Cell:
    """One row of the tables: a cell with its runs and, when all are complete, their summaries.

    Attributes:
        cell: Axis to value, in the grid's order.
        seeds: Seeds that the manifest plans.
        records: Records of the complete runs, in the order of the seeds.
        others: Records of the runs that failed or were interrupted.
        values: Metric to a value for each seed, in their order; empty when the row is incomplete.
        summaries: Metric to summary over the seeds; likewise.
        keys: What the complete runs share by each kind of comparability, as
            :func:`vaebench.report.ranking.shared_keys` has it.
        outdated: How many further complete runs there are, of older data or code than the grid's
            others: they are never averaged with them.
        ceilings: Metric to what real images reach: beyond it a row is no better, and never bold.
    """

    cell: dict[str, Any]
    seeds: tuple[int, ...]
    records: tuple[Record, ...]
    others: tuple[Record, ...]
    values: dict[str, tuple[float | None, ...]]
    summaries: dict[str, Summary]
    keys: dict[str, str | None] = field(default_factory=dict)
    outdated: int = 0
    ceilings: dict[str, float] = field(default_factory=dict)

    def key(self, kind: str) -> str | None:
        """What cells share that a metric of this kind compares; None: it compares with none.

        An unknown kind compares within a data set.
        """
        return self.keys.get(kind, self.keys.get("dataset"))

    def of(self, metric: str) -> tuple[float | None, ...]:
        """The values of a metric, one for each seed; None where it was not measured."""
        return self.values.get(metric, (None,) * len(self.seeds))

    def measured(self, metric: str) -> tuple[float, ...]:
        """The values of a metric that were measured, in the order of the seeds."""
        return tuple(value for value in self.of(metric) if value is not None)

    @property
    def complete(self) -> bool:
        """Whether every planned seed has a complete run of the current data and code."""
        return len(self.records) == len(self.seeds)

    @property
    def collapsed(self) -> bool:
        """Whether its codes say nothing of the images: under 0.5 nats, or no active unit."""
        rate, units = (self.summaries.get(f"test/{name}") for name in ("rate", "active_units"))
        low = rate is not None and rate.mean is not None and rate.mean < MIN_RATE
        return low or (units is not None and units.mean == 0)

    @property
    def progress(self) -> str:
        """What an incomplete row shows in place of numbers."""
        older = f", {self.outdated} of older data or code" if self.outdated else ""
        return f"incomplete ({len(self.records)} of {counted(len(self.seeds), 'seed')}{older})"


def cells(
    planned: Sequence[Planned],
    records: Sequence[Record],
    ceilings: Callable[[Record], dict[str, float]] = lambda _: {},
) -> tuple[Cell, ...]:
    """The manifest's cells in its order, each summarised over its seeds.

    Arguments:
        planned: The manifest's runs.
        records: Of those that have one.
        ceilings: What real images of a record's data set reach, by metric.
    """
    by_id, older = {record["run_id"]: record for record in records}, outdated(records)
    groups: dict[str, list[Planned]] = {}
    for run in planned:
        groups.setdefault(repr(run.cell), []).append(run)
    result = []
    for runs in groups.values():
        found = [by_id[run.run_id] for run in runs if run.run_id in by_id]
        current = [r for r in found if r["run_id"] not in older]
        complete = tuple(r for r in current if r["status"] == "complete")
        values: dict[str, tuple[float | None, ...]] = {}
        if len(complete) == len(runs):
            names = dict.fromkeys(name for r in complete for name in r["metrics"])
            values = {name: tuple(r["metrics"].get(name) for r in complete) for name in names}
        result.append(
            Cell(
                cell=runs[0].cell,
                seeds=tuple(run.seed for run in runs),
                records=complete,
                others=tuple(r for r in current if r["status"] != "complete"),
                values=values,
                summaries={name: summarise(numbers) for name, numbers in values.items()},
                keys=shared_keys(complete),
                outdated=len(found) - len(current),
                ceilings=ceilings(complete[0]) if complete else {},
            )
        )
    return tuple(result)


def matching(cells: Sequence[Cell], values: Mapping[str, Any]) -> list[Cell]:
    """The cells that have all of these values of axes."""
    return [
        cell
        for cell in cells
        if all(axis in cell.cell and cell.cell[axis] == value for axis, value in values.items())
    ]


def chosen(cell: Cell) -> tuple[Record, str] | None:
    """The run whose pictures stand for a cell, with the reason; None when none is complete."""
    if not cell.records:
        return None
    index, reason = median_seed(cell.records)
    return cell.records[index], reason


def declarations(records: Sequence[Record]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The metric declarations that the records carry, and the names declared in different ways."""
    return merged(record.get("metric_declarations", {}) for record in records)
