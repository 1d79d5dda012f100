"""The formats that programs read: JSON and CSV in full precision, and a data frame.

JSON is the whole report; CSV has one row per cell with four columns per metric. Neither rounds.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vaebench.report.cells import Cell, cells
from vaebench.report.claims import claims, claims_json
from vaebench.report.devices import by_device
from vaebench.report.effects import effects, effects_json
from vaebench.report.loading import Record, Report
from vaebench.report.published import published, published_json

if TYPE_CHECKING:
    import pandas as pd


def json_report(report: Report) -> str:
    """``{"grid", "manifest", "runs", "cells", "effects", "claims", "published", ...}``, unrounded.

    ``cells`` holds ``{"cell", "n", "metrics": {name: {"mean", "std", "ci95", "n"}}}``; an
    incomplete cell has its number of complete runs as ``n`` and no metrics. What is not finite is
    null. Where the complete runs are of several kinds of device, ``devices`` has their ids by kind.
    """
    found = cells(report)
    content = {
        "grid": report.name,
        "manifest": report.manifest,
        "runs": list(report.records),
        "cells": [
            {
                "cell": cell.cell,
                "n": len(cell.records),
                "metrics": {name: asdict(summary) for name, summary in cell.summaries.items()},
            }
            for cell in found
        ],
        "effects": effects_json(effects(found)),
        "claims": claims_json(claims(report, found)),
        "published": published_json(published(report, found)),
        **_devices(found),
        "missing": [asdict(run) for run in report.missing],
        "foreign": list(report.foreign),
        "damaged": [{**asdict(found.run), "reason": found.reason} for found in report.damaged],
    }
    return json_lines(content)


def _devices(found: Sequence[Cell]) -> dict[str, Any]:
    kinds = by_device(found)
    ids = {kind: [record["run_id"] for record in records] for kind, records in kinds.items()}
    return {"devices": ids} if len(ids) > 1 else {}


def csv_report(report: Report) -> str:
    """One row per cell: the axes, ``n``, ``seeds``, then mean, std, ci95 and n of each metric."""
    found = cells(report)
    axes = dict.fromkeys(axis for cell in found for axis in cell.cell)
    metrics = dict.fromkeys(name for cell in found for name in cell.summaries)
    fields = ("mean", "std", "ci95", "n")
    buffer = io.StringIO()
    # every text quoted: the minimum leaves a carriage return bare, which ends a row for readers
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(
        [*axes, "n", "seeds", *(f"{name}_{part}" for name in metrics for part in fields)]
    )
    for cell in found:
        row = [cell.cell.get(axis, "") for axis in axes]
        row += [len(cell.records), len(cell.seeds)]
        for name in metrics:
            summary = cell.summaries.get(name)
            row += ["" if summary is None else getattr(summary, part) for part in fields]
        writer.writerow(row)
    return buffer.getvalue()


def to_frame(records: Iterable[Record]) -> "pd.DataFrame":
    """One row per run: its id, the axes of its cell, seed, status, and a column per metric."""
    import pandas as pd

    rows = [
        {
            "run_id": record["run_id"],
            **record["cell"],
            "seed": record["seed"],
            "status": record["status"],
            **record["metrics"],
        }
        for record in records
    ]
    return pd.DataFrame(rows)


def json_lines(content: dict[str, Any]) -> str:
    """JSON with a line per entry of a list; what is not finite is null."""
    try:
        return _lines(content)
    except ValueError:  # rare, and walking 10,000 records to look for it first would be slow
        return _lines(_without_nan(content))


def _lines(content: dict[str, Any]) -> str:
    """A line per entry: diffs stay readable, and ``indent`` is ten times as slow."""

    def encoded(value: Any) -> str:
        if isinstance(value, list) and value:
            return "[\n" + ",\n".join(encoded(item) for item in value) + "\n]"
        return json.dumps(value, allow_nan=False, default=str)

    entries = (f"{json.dumps(key)}: {encoded(value)}" for key, value in content.items())
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
