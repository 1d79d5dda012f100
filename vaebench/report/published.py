"""Published numbers beside ours: is what others reported reproduced?

The grid's ``published`` entries name a cell, a metric and a tolerance; ours is the mean over the
cell's seeds. A metric with an epoch is read from the journals, any other from the records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vaebench.errors import ResultsError
from vaebench.report.cells import Cell, matching
from vaebench.report.loading import Record, Report, counted, dig
from vaebench.schema.record import finite
from vaebench.statistics import Summary, summarise
from vaebench.storage import RunStore


@dataclass(frozen=True)
class Published:
    """A published number, and ours.

    Attributes:
        source: Where it was published, in words.
        url: Link to the source.
        cell: Values of axes that choose the cell.
        metric: ``val/elbo``, ``test/elbo``.
        epoch: The epoch of the journal; None for a final metric.
        value: As published, in our sign.
        add: Added to ours before comparing.
        within: The tolerance, in the metric's unit.
        stated: The tolerance as it was stated, ``1%``.
        ours: Over the cell's seeds, with ``add``; None when there is a reason.
        reason: Why there is no number of ours, ``not yet run``.
    """

    source: str
    url: str | None
    cell: dict[str, Any]
    metric: str
    epoch: int | None
    value: float
    add: float
    within: float
    stated: str
    ours: Summary | None
    reason: str | None

    @property
    def difference(self) -> float | None:
        """Ours less what was published; None without ours."""
        return None if self.ours is None or self.ours.mean is None else self.ours.mean - self.value

    @property
    def reproduced(self) -> bool | None:
        """Whether the mean of ours lies within the tolerance; None without ours."""
        return None if self.difference is None else abs(self.difference) <= self.within


def published(report: Report, cells: Sequence[Cell]) -> tuple[Published, ...]:
    """Every published number of the manifest beside ours.

    Raises:
        ResultsError: The manifest's entries are damaged.
    """
    try:
        return tuple(_row(raw, report, cells) for raw in report.manifest.get("published") or [])
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{report.directory / 'grid.yaml'}: published: damaged ({type(error).__name__}: "
            f"{error}); run the grid again to write it anew"
        ) from error


def published_json(rows: Sequence[Published]) -> list[dict[str, Any]]:
    """The rows for programs, in full precision."""
    return [
        {**asdict(row), "difference": row.difference, "reproduced": row.reproduced} for row in rows
    ]


def _row(raw: Mapping[str, Any], report: Report, cells: Sequence[Cell]) -> Published:
    value, add = float(raw["value"]), float(raw.get("add", 0.0))
    cell, metric, epoch = dict(raw["cell"]), str(raw["metric"]), raw.get("epoch")
    ours = _ours(report, cells, cell, metric, epoch)
    return Published(
        source=str(raw["source"]),
        url=raw.get("url"),
        cell=cell,
        metric=metric,
        epoch=epoch,
        value=value,
        add=add,
        within=_tolerance(raw["within"], value),
        stated=str(raw["within"]),
        ours=summarise([v + add for v in ours]) if isinstance(ours, list) else None,
        reason=None if isinstance(ours, list) else ours,
    )


def _tolerance(within: object, value: float) -> float:
    if isinstance(within, str) and within.endswith("%"):
        return float(within[:-1]) / 100 * abs(value)
    return float(str(within))


def _ours(
    report: Report, cells: Sequence[Cell], chosen: Mapping[str, Any], metric: str, epoch: int | None
) -> list[float] | str:
    """One value per seed, or why there is none."""
    found = matching(cells, chosen)
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
    value = record["metrics"].get(metric)
    return finite(dig(record, "measured", metric)) if value is None else finite(value)


def _at_epoch(report: Report, record: Record, metric: str, epoch: int) -> float | None:
    for line in RunStore(report.run_dir(record["run_id"])).journal:
        if line.get("epoch") == epoch:
            return finite(dig(line, "metrics", metric))
    return None
