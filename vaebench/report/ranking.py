"""Which rows may be compared by a metric, and which of them are bold.

A metric declares how far it compares: within one ``likelihood``, one ``dataset`` or one
``machine``. A row belongs to the group of its key, and only rows of one group are ever ranked or
set against each other. To add a kind of comparability, write its key and name it in :data:`KEYS`.
"""

import json
from collections.abc import Callable, Sequence

import numpy as np

from vaebench.report.loading import Record, setting
from vaebench.schema.record import is_relaxed, support
from vaebench.statistics import LEVEL, holm, sign_flip, smallest_p

DIRECTIONS = ("higher", "lower")
Values = Sequence[float]


def bold_rows(
    values: Sequence[Values | None],
    keys: Sequence[str | None],
    direction: object,
) -> set[int]:
    """Of the rows that compare, the best and all that are not significantly worse than it.

    Each is tested against the best by the paired sign-flip test, adjusted by Holm. No row is bold
    where the seeds cannot reach significance, and where there is no rival.

    Arguments:
        values: Of each row one value per seed; None for a row that is never bold.
        keys: What rows that compare share; None where a row compares with no other.
        direction: ``higher``, ``lower``, or anything else for neither.
    """
    if direction not in DIRECTIONS:
        return set()
    groups: dict[str | None, list[int]] = {}
    for i, key in enumerate(keys):
        if values[i] is not None and key is not None:
            groups.setdefault(key, []).append(i)
    bold: set[int] = set()
    for rows in groups.values():
        group = {i: values[i] or () for i in rows}
        n = len(group[rows[0]])
        if len(rows) < 2 or any(len(its) != n for its in group.values()):
            continue
        if n < 2 or (len(rows) - 1) * smallest_p(n) >= LEVEL:
            continue
        means = {i: float(np.mean(its)) for i, its in group.items()}
        best = max(rows, key=lambda i: means[i] if direction == "higher" else -means[i])
        rivals = [i for i in rows if i != best]
        differences = [np.subtract(group[best], group[i]).tolist() for i in rivals]
        p_values = holm([sign_flip(d) if any(d) else 1.0 for d in differences])
        bold |= {best} | {i for i, p in zip(rivals, p_values, strict=True) if p >= LEVEL}
    return bold


def base_measure_key(record: Record) -> str:
    """What two comparable bounds share: the base measure of their densities, and the data.

    Normalised densities of the same gray pixels compare whatever their loss is called, and so do
    probabilities of the same binary pixels; a relaxed likelihood compares with itself alone.
    """
    if is_relaxed(record):
        measure = json.dumps(setting(record, "loss"), sort_keys=True)
    else:
        measure = "probability" if support(record) == "binary" else "density"
    return measure + dataset_key(record) + repr(setting(record, "dataset", "dequantize") or "none")


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


KEYS: dict[str, Callable[[Record], str]] = {
    "likelihood": base_measure_key,
    "dataset": dataset_key,
    "machine": machine_key,
}
