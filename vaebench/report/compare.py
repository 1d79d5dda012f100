"""Two result sets cell by cell: is the second better, worse, or is no difference shown?

Runs are paired by seed, since equal seeds have equal initial weights, batches and noise; the test
is the paired sign-flip test, adjusted by Holm over the cells of one metric. Costs are not
compared: they belong to a machine. Sets of two versions of vaebench are compared, too, and every
outcome says so: it is what the change of code has moved.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vaebench.report.analysis import Analysis
from vaebench.report.cells import Cell, declarations
from vaebench.report.conditions import AT_RATE
from vaebench.report.contrasts import Adjusted, adjust
from vaebench.report.loading import Record, counted, differing, dig
from vaebench.report.numbers import p_text
from vaebench.report.ranking import dataset_key
from vaebench.report.tables import ARROWS, Column
from vaebench.schema.record import versions
from vaebench.schema.trial import is_trial
from vaebench.statistics import Difference, difference

BETTER, WORSE = "better", "worse"
NO_DIFFERENCE, NOT_COMPARABLE = "no difference shown", "not comparable"
OUTCOMES = (BETTER, WORSE, NO_DIFFERENCE, NOT_COMPARABLE)
# values of single precision that agree this well differ by rounding: another machine, not a change
ROUNDING = 1e-6


@dataclass(frozen=True)
class Outcome:
    """One cell by one metric: the second set against the first.

    Attributes:
        cell: Axis to value.
        column: The metric, with its declaration.
        outcome: One of :data:`OUTCOMES`.
        reason: Why, in words, where there is more to say than the outcome.
        first: Mean of the first set over the seeds that both have; None where not comparable.
        second: The same of the second.
        seeds: Those seeds.
        difference: Second less first, seed by seed; None where not comparable.
        adjusted: Its p value among the cells of the metric.
        rates: Of SSIM and PSNR, the mean rates of both sets in nats; None beside others.
        moved: What of vaebench has another version in the second set, with both versions; the
            difference is then that of the code. Empty where none has.
    """

    cell: dict[str, Any]
    column: Column
    outcome: str
    reason: str
    first: float | None = None
    second: float | None = None
    seeds: tuple[int, ...] = ()
    difference: Difference | None = None
    adjusted: Adjusted | None = None
    rates: tuple[float, float] | None = None
    moved: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def versions(self) -> str:
        """What has moved, in words; empty where nothing has."""
        return ", ".join(f"{key} {a} → {b}" for key, (a, b) in self.moved.items())


@dataclass(frozen=True)
class Comparison:
    """Two result sets side by side.

    Attributes:
        first: The set that is compared with.
        second: The set that is judged.
        outcomes: Metric by metric, cell by cell.
        settings: Settings that differ: dotted key to both values.
    """

    first: Analysis
    second: Analysis
    outcomes: tuple[Outcome, ...]
    settings: dict[str, tuple[Any, Any]]

    def count(self, outcome: str) -> int:
        """How many cells and metrics have this outcome."""
        return sum(its.outcome == outcome for its in self.outcomes)

    @property
    def regressed(self) -> bool:
        """Whether the second is worse anywhere."""
        return self.count(WORSE) > 0


def compare(first: Analysis, second: Analysis) -> Comparison:
    """Judge ``second`` against ``first`` by every metric of either that has a direction."""
    old, new = first.cells, second.cells
    columns = {c.metric: c for table in (second.table, first.table) for c in table.columns}
    _, clashes = declarations([r for cell in (*old, *new) for r in cell.records])
    outcomes: list[Outcome] = []
    for column in columns.values():
        # of two definitions of a metric neither says which value is better
        clash = column.metric.partition("/")[2] in clashes
        if clash or (column.direction in ARROWS and column.comparable != "machine"):
            outcomes += _by_metric(column, old, new, clash)
    settings = differing(first.manifest.get("settings"), second.manifest.get("settings"))
    return Comparison(first, second, tuple(outcomes), settings)


def _by_metric(
    column: Column, old: Sequence[Cell], new: Sequence[Cell], clash: bool
) -> list[Outcome]:
    """The outcomes of all cells by one metric, adjusted together."""
    partners = {repr(cell.cell): cell for cell in new}
    drafts = [_draft(column, cell, partners.pop(repr(cell.cell), None), clash) for cell in old]
    drafts += [
        Outcome(cell.cell, column, NOT_COMPARABLE, "only in the second")
        for cell in partners.values()
    ]
    tested = [draft.difference for draft in drafts]
    adjusted = adjust(tested, noun="cell", about=f"by {column.metric}")
    return [
        _judged(replace(draft, adjusted=its)) if draft.difference is not None else draft
        for draft, its in zip(drafts, adjusted, strict=True)
    ]


def _draft(column: Column, old: Cell, new: Cell | None, clash: bool) -> Outcome:
    if new is None:
        return Outcome(old.cell, column, NOT_COMPARABLE, "only in the first")
    reason = _obstacle(column, old, new, clash)
    if reason is not None:
        return Outcome(old.cell, column, NOT_COMPARABLE, reason)
    seeds = tuple(seed for seed in old.seeds if seed in new.seeds)
    by_seed = [dict(zip(c.seeds, c.of(column.metric), strict=True)) for c in (old, new)]
    both = [(by_seed[0][seed], by_seed[1][seed]) for seed in seeds]
    pairs = [(a, b) for a, b in both if a is not None and b is not None]
    if len(pairs) < len(seeds):
        return Outcome(old.cell, column, NOT_COMPARABLE, "not measured in every run")
    values = [0.0 if math.isclose(a, b, rel_tol=ROUNDING) else b - a for a, b in pairs]
    return Outcome(
        cell=old.cell,
        column=column,
        outcome=NO_DIFFERENCE,
        reason="" if any(values) else "equal in every seed, up to rounding",
        first=sum(a for a, _ in pairs) / len(pairs),
        second=sum(b for _, b in pairs) / len(pairs),
        seeds=seeds,
        difference=difference(values),
        rates=_rates(column, old, new),
        moved=_moved(old.records[0], new.records[0]),
    )


def _rates(column: Column, old: Cell, new: Cell) -> tuple[float, float] | None:
    """The mean rates beside SSIM and PSNR, which more information makes better."""
    found = [cell.summaries.get("test/rate") for cell in (old, new)]
    known = [its.mean for its in found if its is not None and its.mean is not None]
    return (known[0], known[1]) if column.metric in AT_RATE and len(known) == 2 else None


def _judged(its: Outcome) -> Outcome:
    """The outcome that the tests give."""
    assert its.difference is not None
    assert its.adjusted is not None
    if its.reason:
        return its
    if its.difference.n == 1:
        return replace(its, reason="one seed in common: no test")
    if its.adjusted.out_of_reach:
        least = p_text(its.adjusted.smallest)
        n = counted(its.difference.n, "seed")
        reason = f"significance cannot be reached with {n}: smallest adjusted p {least}"
        return replace(its, reason=reason)
    if not its.adjusted.significant:
        return its
    rises = its.difference.mean > 0
    outcome = BETTER if rises == (its.column.direction == "higher") else WORSE
    return replace(its, outcome=outcome)


def _obstacle(column: Column, old: Cell, new: Cell, clash: bool) -> str | None:
    """Why the two rows of a cell cannot be compared by a metric."""
    for where, cell in (("first", old), ("second", new)):
        if not cell.complete:
            return f"{cell.progress} in the {where}"
    if clash:
        return "the metric is declared differently: another version or definition"
    if not set(old.seeds) & set(new.seeds):
        return "no seed in common"
    records = (*old.records, *new.records)
    if len({is_trial(record.get("config")) for record in records}) > 1:
        return "one of them is a trial"
    for cell in (old, new):
        if len({repr(versions(record)) for record in cell.records}) > 1:
            return "run by several versions of vaebench that give other numbers"
    if "dataset" in _moved(old.records[0], new.records[0]):
        return "another version of the data set"
    if len({_test_images(record) for record in records}) > 1:
        return "other test images"
    keys = {old.key(column.comparable), new.key(column.comparable)}
    if len(keys) > 1 or None in keys:
        return "another likelihood"
    return None


def _moved(old: Record, new: Record) -> dict[str, tuple[Any, Any]]:
    """The versions of the shared code and of components that differ."""
    return differing(versions(old), versions(new))


def _test_images(record: Record) -> str:
    """What the test split is: the data, its digest and size, its binarisation."""
    dataset = dig(record.get("environment"), "dataset")
    return dataset_key(record) + repr([dig(dataset, key) for key in ("digest", "test")])
