"""The formats that programs read: JSON and CSV in full precision, and a data frame.

JSON is the whole report; CSV has one row per cell with four columns per metric. Neither rounds.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vaebench.report.analysis import Analysis
from vaebench.report.budget import Leader
from vaebench.report.claims import Judged
from vaebench.report.devices import by_device
from vaebench.report.effects import contrast_json, effects_json
from vaebench.report.loading import Record
from vaebench.report.pictures import Pictures
from vaebench.report.published import reproductions_json
from vaebench.schema.trial import TEXT, is_trial

if TYPE_CHECKING:
    import pandas as pd


def json_report(analysis: Analysis, _: Pictures) -> Iterator[str]:
    """``{"grid", "manifest", "runs", "cells", "effects", "claims", "published", ...}``, unrounded.

    ``cells`` holds ``{"cell", "n", "metrics": {name: {"mean", "std", "ci95", "n"}}}``; an
    incomplete cell has its number of complete runs as ``n`` and no metrics. What is not finite is
    null. ``budget`` has who leads after so many epochs or seconds. ``references`` holds
    ``{"kind", "label", "values": {name: value}}``. Where the complete runs are of several kinds of
    device, ``devices`` has their ids by kind. A trial says under ``trial`` that it is one. It comes
    in pieces: that of 100,000 runs has 570 MB.
    """
    devices = {
        kind: [record["run_id"] for record in records]
        for kind, records in by_device(analysis.cells).items()
    }
    content = {
        "grid": analysis.name,
        **({"trial": TEXT} if analysis.is_trial else {}),
        "manifest": analysis.manifest,
        "runs": list(analysis.records),
        "cells": [
            {
                "cell": cell.cell,
                "n": len(cell.records),
                "metrics": {name: vars(summary) for name, summary in cell.summaries.items()},
            }
            for cell in analysis.cells
        ],
        "effects": effects_json(analysis.effects),
        "budget": [_leader(its) for its in analysis.budget.leaders],
        "claims": [_claim(judged) for judged in analysis.claims],
        "published": reproductions_json(analysis.reproductions),
        "references": [asdict(row) for row in analysis.references],
        **({"devices": devices} if len(devices) > 1 else {}),
        "missing": [asdict(run) for run in analysis.missing],
        "foreign": list(analysis.foreign),
        "damaged": [{**asdict(found.run), "reason": found.reason} for found in analysis.damaged],
    }
    return _pieces(content)


def _leader(its: Leader) -> dict[str, Any]:
    """Who leads with a budget; ``lead`` is of medians, the contrast that of the seeds."""
    return {
        "among": its.among,
        "spent": its.spent,
        "unit": its.unit,
        "first": its.lead.first.cell,
        "second": its.lead.second.cell,
        "score": its.lead.score,
        "lead": its.lead.by,
        **contrast_json(its.lead.contrast),
        "close": [cell.cell for cell in its.lead.close],
    }


def _claim(judged: Judged) -> dict[str, Any]:
    """A claim; ``p`` and ``p_holm`` are those of the claim's own kind of test."""
    claim, tests = judged.claim, judged.tests
    return {
        "claim": claim.name,
        "metric": claim.metric,
        "kind": "difference" if claim.margin is None else "equivalence",
        "first": claim.sides[0],
        "second": claim.sides[1],
        "margin": claim.margin,
        "at": claim.at.model_dump() if claim.at else None,
        "verdict": judged.verdict,
        "why": judged.reason,
        "conditions": list(judged.conditions),
        **contrast_json(judged.contrast),
        "family": judged.family,
        "p": tests.p if tests else None,
        "p_holm": tests.p_holm if tests else None,
        "p_refuted": tests.p_refuted if tests else None,
        "level": tests.level if tests else None,
        "smallest_p_holm": tests.smallest_p if tests else None,
        "interval": tests.interval if tests else None,
        "blocks": [asdict(block) for block in tests.blocks] if tests else [],
        "interactions": [asdict(its) for its in tests.interactions] if tests else [],
        "matched_rate": [asdict(matched) for matched in judged.matched],
        "seeds_needed": judged.seeds_needed,
    }


def csv_report(analysis: Analysis, _: Pictures) -> str:
    """One row per cell: the axes, ``n``, ``seeds``, then mean, std, ci95 and n of each metric.

    That of a trial has a column ``trial`` beside the axes, where every row says true.
    """
    trial = {"trial": "true"} if analysis.is_trial else {}
    axes = dict.fromkeys(axis for cell in analysis.cells for axis in cell.cell)
    metrics = dict.fromkeys(name for cell in analysis.cells for name in cell.summaries)
    parts = [f"{name}_{part}" for name in metrics for part in ("mean", "std", "ci95", "n")]
    buffer = io.StringIO()
    # every text quoted: the minimum leaves a carriage return bare, which ends a row for readers
    writer = csv.DictWriter(
        buffer,
        [*axes, *trial, "n", "seeds", *parts],
        lineterminator="\n",
        quoting=csv.QUOTE_NONNUMERIC,
    )
    writer.writeheader()
    for cell in analysis.cells:
        counts = {"n": len(cell.records), "seeds": len(cell.seeds)}
        numbers = {
            f"{name}_{part}": value
            for name, summary in cell.summaries.items()
            for part, value in vars(summary).items()
        }
        writer.writerow(cell.cell | trial | counts | numbers)
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
            **({"trial": True} if is_trial(record.get("config")) else {}),
            **record["metrics"],
        }
        for record in records
    ]
    return pd.DataFrame(rows)


def json_lines(content: dict[str, Any]) -> str:
    """JSON with a line per entry of a list; what is not finite is null."""
    return "".join(_pieces(content))


def _pieces(content: dict[str, Any]) -> Iterator[str]:
    """A line per entry: diffs stay readable, and ``indent`` is ten times as slow."""
    before = "{\n"
    for key, value in content.items():
        yield f"{before}{json.dumps(key)}: "
        yield from _encoded(value)
        before = ",\n"
    yield "\n}\n"


def _encoded(value: Any, before: str = "") -> Iterator[str]:
    if not isinstance(value, list) or not value:
        yield before + _one(value)
        return
    before += "[\n"
    for item in value:
        yield from _encoded(item, before)
        before = ",\n"
    yield "\n]"


def _one(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False, default=str)
    except ValueError:  # rare, and walking all records to look for it first would be slow
        return json.dumps(_without_nan(value), allow_nan=False, default=str)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
