"""Which rows may be compared by a metric, and which of them are best.

A metric declares how far it compares: within one ``likelihood``, one ``dataset`` or one
``machine``. A row belongs to the group of its key, and only rows of one group are ever ranked or
set against each other. To add a kind of comparability, write its key and name it in :data:`KEYS`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from vaebench.report.cells import Cell
from vaebench.report.records import Record, setting

PICK: dict[object, Callable[[list[float]], float]] = {"higher": max, "lower": min}


def best_rows(
    cells: Sequence[Cell], shown: Sequence[str | None], metric: str, direction: object, kind: str
) -> set[int]:
    """Rows with the best mean of a metric among those they compare with.

    Equal as shown is equally best. A row without a mean is never best, nor is one with no rival;
    costs are not ranked at all unless all of them come from one machine under one load.

    Arguments:
        cells: The rows.
        shown: Their means as the table shows them; None where there is none.
        metric: Whose means.
        direction: ``higher``, ``lower``, or anything else for neither.
        kind: A key of :data:`KEYS`; an unknown one compares within a data set.
    """
    if direction not in PICK:
        return set()
    groups: dict[str | None, list[int]] = {}
    for i, cell in enumerate(cells):
        if shown[i] is not None:
            groups.setdefault(cell_key(cell, kind), []).append(i)
    if kind == "machine" and len(groups) > 1:
        return set()
    groups.pop(None, None)
    best: set[int] = set()
    for rows in groups.values():
        means = [cells[i].summaries[metric].mean or 0.0 for i in rows]
        winner = rows[means.index(PICK[direction](means))]
        best |= {i for i in rows if shown[i] == shown[winner] and len(rows) > 1}
    return best


def likelihood_key(record: Record) -> str:
    """What two comparable ELBOs share: loss with its options, data set, what pixels became."""
    dequantize = setting(record, "dataset", "dequantize") or "none"
    return repr(_ordered(setting(record, "loss"))) + dataset_key(record) + repr(dequantize)


def dataset_key(record: Record) -> str:
    """What two comparable image metrics share: the test images, which binarisation changes."""
    return repr((setting(record, "dataset", "name"), setting(record, "dataset", "binarize")))


def machine_key(record: Record) -> str:
    """What two comparable costs share: the machine, the device, threads and jobs."""
    environment = record.get("environment", {})
    names = ("platform", "cpu", "cpu_kind", "cores", "device", "device_name", "threads", "jobs")
    return repr([environment.get(name) for name in names])


def cell_key(cell: Cell, kind: str) -> str | None:
    """The key that all runs of a cell share; None when they do not, and it compares with none."""
    if kind not in cell.keys:
        keys = {KEYS.get(kind, dataset_key)(record) for record in cell.records}
        cell.keys[kind] = keys.pop() if len(keys) == 1 else None
    return cell.keys[kind]


def separates(axis: str, kind: str) -> bool:
    """Whether values of an axis are never set against each other by a metric of this kind."""
    if kind == "likelihood" and (axis.partition(".")[0] == "loss" or axis == "dataset.dequantize"):
        return True
    return axis in ("dataset", "dataset.name", "dataset.binarize")


def _ordered(value: Any) -> Any:
    """A nested mapping in one order, so that equal settings have equal texts."""
    if isinstance(value, dict):
        return sorted((str(key), repr(_ordered(item))) for key, item in value.items())
    return value


KEYS: dict[str, Callable[[Record], str]] = {
    "likelihood": likelihood_key,
    "dataset": dataset_key,
    "machine": machine_key,
}
