"""A line of a run's journal: an epoch, with metrics that are numbers."""

import json
from typing import Any

MAX_VALUE = 1e300  # of a metric: neither NaN nor a whole number that is no float


def epoch_of(raw: bytes, epoch: int) -> dict[str, Any] | None:
    """The line of an epoch, with metrics that are numbers or were not measured; None of others."""
    try:
        line = json.loads(raw) if raw.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not isinstance(line.get("metrics"), dict):
        return None
    values = [line.get("epoch"), line.get("time", 0), *line["metrics"].values()]
    return line if line.get("epoch") == epoch and all(map(_is_number, values)) else None


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value is None
    return abs(value) < MAX_VALUE
