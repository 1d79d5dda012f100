"""A line of a run's journal: an epoch, with metrics that are numbers."""

from typing import Any

from pydantic_core import from_json

MAX_VALUE = 1e300  # of a metric: neither NaN nor a whole number that is no float


def epoch_of(raw: bytes, epoch: int) -> dict[str, Any] | None:
    """The line of an epoch, with metrics that are numbers or were not measured; None of others."""
    try:
        line = from_json(raw, cache_strings="keys") if raw.endswith(b"\n") else None
    except ValueError:
        return None
    if not isinstance(line, dict) or not isinstance(line.get("metrics"), dict):
        return None
    values = [line.get("epoch"), line.get("time", 0), *line["metrics"].values()]
    return line if line.get("epoch") == epoch and all(map(_is_number, values)) else None


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value is None
    return abs(value) < MAX_VALUE
