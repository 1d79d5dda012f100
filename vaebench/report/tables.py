"""The one table model behind every format: which columns, which numbers, which are best.

Markdown, LaTeX and the tests read the same :class:`Table`; a number is rounded in ``numbers`` and
nowhere else. Titles, directions and comparability come from the declarations that the records
carry, so a new ``test/...`` metric becomes a column by itself. To place it, see
:mod:`vaebench.declarations`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vaebench.declarations import COSTS, in_order
from vaebench.report.cells import Cell, declarations
from vaebench.report.loading import setting
from vaebench.report.numbers import decimals_of, rounded
from vaebench.report.ranking import bold_rows
from vaebench.report.references import Reference
from vaebench.schema.labels import cell_label
from vaebench.schema.record import is_relaxed, optimises_elbo
from vaebench.statistics import Summary, summarise

ARROWS = {"higher": "↑", "lower": "↓"}
# Beside the pictures and in LaTeX: more columns would push the pictures out of the page of a code
# host, which is 830 to 1,012 pixels wide, and the table out of an article's text.
MAIN_COLUMNS = ("test/elbo", "test/rate", "test/ssim", "test/psnr")
AXIS_TITLES = {"model": "Model", "loss": "Loss", "estimator": "Estimator"}


@dataclass(frozen=True)
class Entry:
    """One place of a table: rounded mean and half width of its interval, and whether it is best."""

    mean: str | None = None
    half_width: str | None = None
    best: bool = False


@dataclass(frozen=True)
class Column:
    """A column of numbers: one entry per row, and what its declaration says."""

    metric: str
    title: str
    unit: str
    direction: str | None
    comparable: str
    decimals: int
    entries: tuple[Entry, ...]

    @property
    def heading(self) -> str:
        """The title with the arrow of the better direction."""
        return f"{self.title} {ARROWS.get(self.direction or '', '')}".rstrip()


@dataclass(frozen=True)
class Table:
    """Rows of cells: the texts of the axes, then columns of numbers; reference rows below."""

    axes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    columns: tuple[Column, ...]
    remarks: tuple[str | None, ...]
    references: tuple[Reference, ...] = ()

    @property
    def rows(self) -> Iterator[tuple[tuple[str, ...], list[Entry], str | None]]:
        """The rows: texts of the axes, numbers, and what an incomplete row says instead."""
        for i, labels in enumerate(self.labels):
            yield labels, [column.entries[i] for column in self.columns], self.remarks[i]

    @property
    def reference_rows(self) -> Iterator[tuple[str, list[str | None]]]:
        """What stands below the rows, unranked: a label, and rounded numbers by column."""
        for reference in self.references:
            values = [reference.values.get(column.metric) for column in self.columns]
            if any(value is not None for value in values):
                yield (
                    reference.label,
                    [
                        None if value is None else rounded(value, column.decimals)
                        for value, column in zip(values, self.columns, strict=True)
                    ],
                )


def main_table(
    cells: Sequence[Cell],
    columns: Sequence[str] | None = None,
    references: Sequence[Reference] = (),
    *,
    ranked: bool = True,
) -> Table:
    """What was measured on the test split, one row per cell.

    Arguments:
        cells: The rows.
        columns: Metrics, without ``test/``; None for all that were measured.
        references: What stands below the rows.
        ranked: Whether rows are marked in bold.
    """
    names = measured(cells) if columns is None else columns
    table = _table(cells, [f"test/{name}" for name in names], ranked=ranked)
    return replace(table, references=tuple(references))


def measured(cells: Sequence[Cell]) -> list[str]:
    """The metrics of the test split that any run has measured, in their order."""
    return in_order(
        name.removeprefix("test/")
        for cell in cells
        for record in cell.records
        for name in record["metrics"]
        if name.startswith("test/")
    )


def cost_table(cells: Sequence[Cell]) -> Table:
    """What the runs cost, one row per cell."""
    measured = {
        name.removeprefix("cost/")
        for cell in cells
        for record in cell.records
        for name in record["metrics"]
        if name.startswith("cost/")
    }
    return _table(cells, [f"cost/{name}" for name in in_order(sorted(measured), COSTS)])


def gap_table(cells: Sequence[Cell]) -> Table | None:
    """ELBO on the fixed part of the training split, on test, and their difference seed by seed.

    None when no complete row has both.
    """
    gaps = [_gap(cell) for cell in cells]
    if all(gap is None or gap.mean is None for gap in gaps):
        return None
    table = _table(cells, ("train_eval/elbo", "test/elbo"), ranked=False)
    train, test = table.columns
    declaration = {"title": "Gap", "unit": test.unit, "comparable": test.comparable}
    columns = (
        replace(train, title=f"{test.title}, training images"),
        replace(test, title=f"{test.title}, test images"),
        _column("gap", gaps, declaration),
    )
    return replace(table, columns=columns)


def metric_column(cells: Sequence[Cell], metric: str) -> Column:
    """One metric of the cells, with what its declaration says."""
    return _table(cells, [metric]).columns[0]


def run_table(cells: Sequence[Cell]) -> Table | None:
    """The main table's metrics run by run; None when no cell has more than one seed.

    Nothing is marked: a single run is no better than another by luck of its seed.
    """
    if all(len(cell.seeds) == 1 for cell in cells):
        return None
    runs = [
        Cell(
            cell=cell.cell,
            seeds=(record["seed"],),
            records=(record,),
            others=(),
            values={},
            summaries={name: summarise([value]) for name, value in record["metrics"].items()},
        )
        for cell in cells
        for record in cell.records
    ]
    return replace(
        main_table(runs, ranked=False),
        axes=("Cell", "Seed"),  # the cell in one column leaves room for the numbers
        labels=tuple((cell_label(run.cell), str(run.seeds[0])) for run in runs),
    )


def axis_title(axis: str) -> str:
    """``Model`` for ``model``, ``latent_dim`` for ``model.latent_dim``."""
    return AXIS_TITLES.get(axis, axis.rpartition(".")[2])


def axis_text(axis: str, cell: Cell) -> str:
    """The value of an axis, with what must not be forgotten about a loss beside it."""
    text = str(cell.cell[axis])
    if axis != "loss" or not cell.records + cell.others:
        return text
    record = (cell.records + cell.others)[0]
    if is_relaxed(record):
        return f"{text} (relaxed)"
    sigma2 = setting(record, "loss", text, "sigma2")
    if sigma2 is None:
        return text
    return f"{text} (σ² {sigma2})" if isinstance(sigma2, str) else f"{text} (σ²={sigma2})"


def sets_apart(group: Sequence[Cell], cells: Sequence[Cell]) -> str:
    """The values of axes that only the cells of a group have: ``mse (σ²=0.5) or gaussian``."""
    mine = set(map(id, group))
    others = [cell for cell in cells if id(cell) not in mine]
    said = []
    for axis in group[0].cell:
        here = {repr(cell.cell.get(axis)) for cell in group}
        if here.isdisjoint(repr(cell.cell.get(axis)) for cell in others) and others:
            said.append(" or ".join(dict.fromkeys(axis_text(axis, cell) for cell in group)))
    return " / ".join(said)


def _table(cells: Sequence[Cell], metrics: Iterable[str], *, ranked: bool = True) -> Table:
    declared, _ = declarations([record for cell in cells for record in cell.records])
    axes = tuple(dict.fromkeys(axis for cell in cells for axis in cell.cell))
    return Table(
        axes=tuple(axis_title(axis) for axis in axes),
        labels=tuple(
            tuple(axis_text(axis, cell) if axis in cell.cell else "" for axis in axes)
            for cell in cells
        ),
        columns=tuple(
            _column(
                metric,
                [cell.summaries.get(metric) for cell in cells],
                declared.get(metric.partition("/")[2], {}),
                cells if ranked else (),
            )
            for metric in metrics
        ),
        remarks=tuple(None if cell.complete else cell.progress for cell in cells),
    )


def _column(
    metric: str,
    summaries: Sequence[Summary | None],
    declaration: Mapping[str, Any],
    ranked: Sequence[Cell] = (),
) -> Column:
    """A column of these numbers; its best are marked where the cells that they are of are given."""
    unit, direction = str(declaration.get("unit") or ""), str(declaration.get("direction"))
    comparable = str(declaration.get("comparable") or "dataset")
    means = (s.mean for s in summaries if s is not None and s.mean is not None)
    decimals = decimals_of(means, unit)
    # parameters, say, are the same for every seed
    varies = any(summary.std for summary in summaries if summary is not None)
    entries = []
    for summary in summaries:
        if summary is None or summary.mean is None:
            entries.append(Entry())
            continue
        width = rounded(summary.ci95, decimals) if varies and summary.ci95 is not None else None
        entries.append(Entry(mean=rounded(summary.mean, decimals), half_width=width))
    if comparable == "machine":
        ranked = ()  # what else the machine did moves a cost as well, and no test knows of that
    bold = bold_rows(
        [_ranked_values(cell, metric) for cell in ranked],
        [cell.key(comparable) for cell in ranked],
        direction,
    )
    return Column(
        metric=metric,
        title=str(declaration.get("title") or metric.partition("/")[2]),
        unit=unit,
        direction=direction if direction in ARROWS else None,
        comparable=comparable,
        decimals=decimals,
        entries=tuple(replace(entry, best=i in bold) for i, entry in enumerate(entries)),
    )


def _ranked_values(cell: Cell, metric: str) -> tuple[float, ...] | None:
    """A cell's values for ranking, seed by seed; None for a row that is not ranked by a metric."""
    values = cell.measured(metric)
    if not cell.complete or len(values) < len(cell.seeds):
        return None
    if metric.startswith("test/") and cell.collapsed:
        return None
    if metric == "test/elbo" and not all(map(optimises_elbo, cell.records)):
        return None
    if metric in cell.ceilings and sum(values) / len(values) > cell.ceilings[metric]:
        return None  # more than real images reach is no merit
    return values


def _gap(cell: Cell) -> Summary | None:
    if not cell.complete:
        return None
    pairs = zip(cell.of("train_eval/elbo"), cell.of("test/elbo"), strict=True)
    return summarise([None if a is None or b is None else a - b for a, b in pairs])
