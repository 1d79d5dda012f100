"""What the page knows: one JSON object in ``<script id="data">``, the contract with ``js/``.

::

    {"version": 1, "grid", "metrics": {name: METRIC}, "cells": [CELL], "originals": [SPRITE],
     "bits": of a decoder's weight, "limits": [what was left out, in words]}

METRIC is ``{"title", "unit", "direction", "comparable", "decimals", "definition"}``, of final
numbers (``test/elbo``) and of those of the journal (``val/elbo``). A SPRITE is described in
``sprites``. A CELL, in the order of the table, is

- ``label``, ``axes``, ``seeds`` (of complete runs), ``complete``;
- ``groups``: by how far a metric compares (likelihood, dataset, machine), the number of the group
  whose cells it is compared with, or null: with none;
- ``values``: ``{metric: [mean, half width of the 95 % interval or null, n]}``;
- ``curves``: null, or ``{"epochs": [...], "seconds": [...] or null, "metrics": {metric: [median,
  low, high]}}``: over the seeds, low and high being the quartiles of five seeds or more, else the
  lowest and the highest; null for one seed;
- ``run``: null, or the run whose pictures stand for the cell: ``{"id", "seed", "why", "rates",
  "epochs", "original", "reconstruction", "samples", "ranked", "traversals", "values", "codes"}``.
  ``epochs`` are those of the rows of the sprites ``reconstruction`` and ``samples``, the last that
  of the measured weights; ``original`` is a place in ``originals``; ``ranked`` has originals above
  reconstructions: best, median and worst, as many of each. ``traversals`` (a row per dimension, a
  column per value in ``values``) is there where the decoder is none that the page can run.
  ``codes`` is ``{"count", "size", "mean", "mean_scale", "map", "map_scale", "labels"}``: of the
  first test images, (count, size) and (count, 2) whole numbers of 16 bits in base64, times their
  scale.

The decoder of cell i is the text of ``<script id="decoder-i">``, see ``decoders``; its element is
there if it could be kept. Nothing here imports torch: all is read from records, journals and
arrays.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.errors import VaebenchError
from vaebench.report.analysis import Analysis
from vaebench.report.cells import Cell, declarations
from vaebench.report.loading import Record, Report, counted
from vaebench.report.page import decoders
from vaebench.report.page.hints import JOURNAL, definition
from vaebench.report.page.runs import RANKED, ShownRun, short, shorts
from vaebench.report.page.sprites import Pixels, sprite
from vaebench.report.ranking import KEYS
from vaebench.report.tables import Column, metric_column
from vaebench.schema.labels import cell_label
from vaebench.storage import RunStore

VERSION = 1
MAX_PICTURED = 100  # cells with pictures and curves
MAX_IMAGE_BYTES = 2_000_000  # about, of the pictures of all cells
MAX_POINTS = 300  # of a curve
_COUNTS = (32, 24, 16, 8)  # images per epoch
_BYTES = 0.55  # of a pixel in a sprite, in base64


@dataclass
class PageData:
    """The data of the page, and the decoders' texts by the place of their cell."""

    content: dict[str, Any]
    decoders: dict[int, str] = field(default_factory=dict)


def page_data(report: Analysis, columns: Iterable[Column]) -> PageData:
    """Everything that the page's scripts read; ``columns`` are those of its table."""
    found = report.cells
    limits: list[str] = []
    if len(found) > MAX_PICTURED:
        limits.append(
            f"Curves and pictures of the first {MAX_PICTURED} of {len(found):,} cells are shown."
        )
    pictured = found[:MAX_PICTURED]
    curves = [_curves(report, cell) for cell in pictured]
    runs = [ShownRun.of(report, cell) for cell in pictured]
    texts, bits = decoders.embedded(
        [report.run_dir(run.id) / "decoder.safetensors" for run in runs if run]
    )
    by_run = dict(zip([run.id for run in runs if run], texts, strict=True))
    kept = {i: text for i, run in enumerate(runs) if run and (text := by_run[run.id])}
    left_out = sum(
        run is not None and run.has_decoder and i not in kept for i, run in enumerate(runs)
    )
    if left_out:
        limits.append(
            f"The decoders of {counted(left_out, 'cell')} are left out: they are of a kind that "
            "this page cannot run, or it would become too large."
        )
    originals: list[Pixels] = []
    count = _image_count(runs)
    shown = [
        run.describe(originals, count, live=i in kept) if run else None
        for i, run in enumerate(runs)
    ]
    groups = {kind: _groups(found, kind) for kind in KEYS}
    rest = len(found) - len(pictured)
    content = {
        "version": VERSION,
        "grid": report.name,
        "metrics": _metrics(found, columns, curves),
        "cells": [
            {
                "label": cell_label(cell.cell),
                "axes": {axis: str(value) for axis, value in cell.cell.items()},
                "seeds": len(cell.records),
                "complete": cell.complete,
                "groups": {kind: groups[kind][i] for kind in KEYS},
                "values": _values(cell),
                "curves": its_curves,
                "run": run,
            }
            for i, (cell, its_curves, run) in enumerate(
                zip(found, [*curves, *[None] * rest], [*shown, *[None] * rest], strict=True)
            )
        ],
        "originals": [sprite(images[None]) for images in originals],
        "bits": bits,
        "limits": limits,
    }
    return PageData(content, kept)


def _values(cell: Cell) -> dict[str, list[float | None]]:
    return {
        name: [short(s.mean), None if s.ci95 is None else short(s.ci95), s.n]
        for name, s in cell.summaries.items()
        if s.mean is not None
    }


def _groups(found: Sequence[Cell], kind: str) -> list[int | None]:
    """The number of each cell's group, in the order of their first cells."""
    keys = [cell.key(kind) for cell in found]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(k for k in keys if k is not None))}
    return [None if key is None else numbers[key] for key in keys]


def _metrics(
    found: Sequence[Cell], columns: Iterable[Column], curves: Iterable[Any]
) -> dict[str, dict[str, Any]]:
    declared, _ = declarations([record for cell in found for record in cell.records])
    measured = dict.fromkeys(name for cell in found for name in cell.summaries)
    known = {column.metric: column for column in columns}
    metrics = {}
    for name in dict.fromkeys([*known, *measured]):
        column = known.get(name) or metric_column(found, name)
        metrics[name] = {
            "title": column.title,
            "unit": column.unit,
            "direction": column.direction,
            "comparable": column.comparable,
            "decimals": column.decimals,
            "definition": definition(name),
        }
    for name in dict.fromkeys(n for its in curves if its for n in its["metrics"]):
        base = name.partition("/")[2]
        title, unit, comparable = JOURNAL.get(base, (base.replace("_", " "), "", "dataset"))
        entry = declared.get(base, {})
        metrics.setdefault(
            name,
            {
                "title": str(entry.get("title") or title),
                "unit": str(entry.get("unit") or unit),
                "direction": entry.get("direction"),
                "comparable": str(entry.get("comparable") or comparable),
                "decimals": 4,
                "definition": definition(name),
            },
        )
    return metrics


def _curves(report: Report, cell: Cell) -> dict[str, Any] | None:
    journals = [_journal(report, record) for record in cell.records]
    length = min((len(journal) for journal in journals), default=0)
    if not length:
        return None
    places = np.unique(np.linspace(0, length - 1, min(length, MAX_POINTS)).round().astype(int))
    names = dict.fromkeys(name for line in journals[0] for name in line["metrics"])
    by_name = {
        name: np.array(
            [
                [np.nan if (v := line["metrics"].get(name)) is None else v for line in j[:length]]
                for j in journals
            ],
            float,
        )
        for name in names
    }
    timed = [by_name[k] for k in ("train/seconds", "val/seconds") if k in by_name]
    spent = sum(timed, np.full((1, length), 0.0))
    seconds = np.median(np.nancumsum(spent, axis=1), axis=0)
    return {
        "epochs": [int(journals[0][i]["epoch"]) for i in places],
        "seconds": shorts(seconds[places]) if timed else None,
        "metrics": {
            name: _band(values[:, places])
            for name, values in by_name.items()
            if np.isfinite(values).any()
        },
    }


def _band(values: NDArray[Any]) -> list[list[float | None] | None]:
    """Median, low and high over the seeds (S, E)."""
    if len(values) == 1:
        return [shorts(values[0]), None, None]
    low, middle, high = (0.25, 0.5, 0.75) if len(values) >= 5 else (0.0, 0.5, 1.0)
    rows = np.quantile(values, [middle, low, high], axis=0)  # NaN where one of them is
    return [shorts(row) for row in rows]


def _journal(report: Report, record: Record) -> list[dict[str, Any]]:
    try:
        return RunStore(report.run_dir(record["run_id"])).journal
    except VaebenchError:
        return []


def _image_count(runs: Sequence[ShownRun | None]) -> int:
    """Images per epoch that there is room for; 0: for none."""
    pixels = sum(
        (2 * len(run.epochs) + 6 * RANKED / 8) * math.prod(run.shape)
        for run in runs
        if run and run.shape
    )
    fitting = [n for n in _COUNTS if n * pixels * _BYTES <= MAX_IMAGE_BYTES]
    return fitting[0] if fitting else _COUNTS[-1]
