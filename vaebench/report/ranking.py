"""Which rows may be compared by a metric, and which of them are best.

A metric declares how far it compares: within one ``likelihood``, one ``dataset`` or one
``machine``. A row belongs to the group of its key, and only rows of one group are ever ranked or
set against each other. To add a kind of comparability, write its key and name it in :data:`KEYS`.
"""

from collections.abc import Callable, Sequence

from vaebench.report.loading import Record, setting
from vaebench.schema.labels import likelihood_label

PICK: dict[object, Callable[[list[float]], float]] = {"higher": max, "lower": min}


def best_rows(
    means: Sequence[float | None],
    shown: Sequence[str | None],
    keys: Sequence[str | None],
    direction: object,
    *,
    one_group: bool,
) -> set[int]:
    """Rows with the best mean of a metric among those they compare with.

    Equal as shown is equally best. A row without a mean is never best, nor is one with no rival.

    Arguments:
        means: Of the rows.
        shown: The means as the table shows them; None where there is none.
        keys: What rows that compare share; None where a row compares with no other.
        direction: ``higher``, ``lower``, or anything else for neither.
        one_group: Rank only where all rows compare, as costs of one machine under one load do.
    """
    if direction not in PICK:
        return set()
    groups: dict[str | None, list[int]] = {}
    for i, key in enumerate(keys):
        if shown[i] is not None:
            groups.setdefault(key, []).append(i)
    if one_group and len(groups) > 1:
        return set()
    groups.pop(None, None)
    best: set[int] = set()
    for rows in groups.values():
        group = [means[i] or 0.0 for i in rows]
        winner = rows[group.index(PICK[direction](group))]
        best |= {i for i in rows if shown[i] == shown[winner] and len(rows) > 1}
    return best


def likelihood_key(record: Record) -> str:
    """What two comparable ELBOs share: loss with its options, data set, what pixels became."""
    return likelihood_label(record.get("config", {})) + dataset_key(record)


def dataset_key(record: Record) -> str:
    """What two comparable image metrics share: the test images, which binarisation changes."""
    return repr((setting(record, "dataset", "name"), setting(record, "dataset", "binarize")))


def machine_key(record: Record) -> str:
    """What two comparable costs share: the machine, the device, threads and jobs."""
    environment = record.get("environment", {})
    names = ("platform", "cpu", "cpu_kind", "cores", "device", "device_name", "threads", "jobs")
    return repr([environment.get(name) for name in names])


def shared_keys(records: Sequence[Record]) -> dict[str, str | None]:
    """The keys that all of these records share, by kind; None where they do not share one."""
    found = {kind: {key_of(record) for record in records} for kind, key_of in KEYS.items()}
    return {kind: keys.pop() if len(keys) == 1 else None for kind, keys in found.items()}


def separates(axis: str, kind: str) -> bool:
    """Whether values of an axis are never set against each other by a metric of this kind."""
    if kind == "likelihood" and (axis.partition(".")[0] == "loss" or axis == "dataset.dequantize"):
        return True
    return axis in ("dataset", "dataset.name", "dataset.binarize")


KEYS: dict[str, Callable[[Record], str]] = {
    "likelihood": likelihood_key,
    "dataset": dataset_key,
    "machine": machine_key,
}
