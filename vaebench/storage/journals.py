"""Journals: one line of JSON per epoch, read up to the first line that is torn or damaged."""

import json
from pathlib import Path
from typing import Any

from vaebench.errors import ResultsError
from vaebench.files import MAX_LINE_BYTES

MAX_VALUE = 1e300  # neither NaN nor a whole number that is no float


def read_journal(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Read the epochs from 1 on that lie whole in a journal, and the number of bytes they take.

    Raises:
        ResultsError: It cannot be read.
    """
    lines: list[dict[str, Any]] = []
    size = 0
    if not path.exists():
        return lines, size
    if not path.is_file():
        raise ResultsError(f"{path}: damaged: not a file")
    try:
        with path.open("rb") as file:
            while raw := file.readline(MAX_LINE_BYTES):
                line = _parsed(raw)
                if line is None or not _is_epoch(line, len(lines) + 1):
                    break
                lines.append(line)
                size += len(raw)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror or error}") from error
    return lines, size


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw) if raw.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _is_epoch(line: dict[str, Any], epoch: int) -> bool:
    """Whether a line is that of an epoch, with metrics that are numbers or were not measured."""
    metrics = line.get("metrics")
    return (
        isinstance(metrics, dict)
        and _is_number(line.get("epoch"))
        and line["epoch"] == epoch
        and all(_is_number(value) for value in [line.get("time", 0), *metrics.values()])
    )


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value is None
    return abs(value) < MAX_VALUE
