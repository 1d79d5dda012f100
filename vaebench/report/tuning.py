"""The tuning of a grid: every value's score, and what was picked, group by group.

One table as plain texts, which Markdown, LaTeX and the terminal show; JSON has the manifest's own.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vaebench.report.loading import Report, listed
from vaebench.report.markup import bullets, escape, grid_lines, section
from vaebench.report.numbers import NOTHING, rounded
from vaebench.schema.labels import cell_label

DECIMALS = 2  # of nats


class TuningTable(NamedTuple):
    """Plain texts.

    Attributes:
        headings: The headings of the columns: the group, a column for each value, epochs, seeds.
        rows: One for each group.
        picks: The column of each row's pick.
        notes: What a reader must know.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    picks: tuple[int, ...]
    notes: tuple[str, ...]


def tuning_table(tune: Mapping[str, Any], tuned: Sequence[Mapping[str, Any]]) -> TuningTable:
    """The table of ``tune`` and ``tuned`` of a manifest; no rows where nothing is tuned."""
    tried = [entry["value"] for group in tuned for entry in group["values"]]
    values = list({repr(value): value for value in [*tune.get("values", []), *tried]}.values())
    rows, picks = [], []
    for group in tuned:
        by_value = [(entry["value"], _score(entry)) for entry in group["values"]]
        scores = [next((s for v, s in by_value if v == value), NOTHING) for value in values]
        seeds = ", ".join(map(str, group["seeds"]))
        rows.append((_label(group), *scores, str(group["epochs"]), seeds))
        picks.append(1 + values.index(group["pick"]))
    return TuningTable(
        headings=("Group", *map(str, values), "Epochs", "Seeds"),
        rows=tuple(rows),
        picks=tuple(picks),
        notes=tuple(_notes(tune, tuned)) if tuned else (),
    )


def tuning_section(report: Report) -> list[str]:
    """The table as a Markdown section; nothing where nothing is tuned."""
    tune = report.manifest.get("tune") or {}
    table = tuning_table(tune, report.manifest.get("tuned", []))
    if not table.rows:
        return []
    rows = [
        [escape(row[0]), *(f"**{t}**" if i == pick else t for i, t in enumerate(row[1:], 1))]
        for row, pick in zip(table.rows, table.picks, strict=True)
    ]
    headings = [escape(text) for text in table.headings]
    lines = grid_lines(headings, rows, right=range(1, len(headings) - 1))
    return section(f"Tuning of {escape(tune['key'])}", lines, bullets(table.notes))


def tuning_text(tune: Mapping[str, Any], tuned: Sequence[Mapping[str, Any]]) -> str:
    """The table for a terminal, the picks marked by a star."""
    table = tuning_table(tune, tuned)
    rows = [table.headings] + [
        tuple(f"{text} *" if i == pick else text for i, text in enumerate(row))
        for row, pick in zip(table.rows, table.picks, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)) for row in rows]
    said = f"{tune['key']}, {_per(tune)} (* = picked; validation bound in nats):"
    return "\n".join([said, *(line.rstrip() for line in lines)])


def tuned_phrase(manifest: Mapping[str, Any]) -> str:
    """``training.learning_rate tuned per model and loss``; nothing where nothing is tuned."""
    tune = manifest.get("tune")
    return f"{tune['key']} {_per(tune)}" if tune else ""


def settings_with_tuned(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The shared settings, in which the key that is tuned says so instead of a value."""
    settings: dict[str, Any] = copy.deepcopy(manifest.get("settings") or {})
    tune = manifest.get("tune")
    if not settings or not tune:
        return settings
    *path, last = tune["key"].split(".")
    section = settings
    for part in path:
        below = section.get(part)
        section[part] = below if isinstance(below, dict) else {}
        section = section[part]
    section[last] = _per(tune)
    return settings


def _per(tune: Mapping[str, Any]) -> str:
    axes = [axis.rpartition(".")[2] for axis in tune["per"]]
    return f"tuned per {listed(axes)}" if axes else "tuned for all cells together"


def _label(group: Mapping[str, Any]) -> str:
    return cell_label(group["group"]) if group["group"] else "all cells"


def _score(entry: Mapping[str, Any]) -> str:
    """The mean over seeds and their range, or how many of them failed."""
    scores = [score for score in entry["scores"] if score is not None]
    if entry["mean"] is None:
        return f"failed ({len(entry['failed'])} of {len(entry['scores'])})"
    mean = rounded(entry["mean"], DECIMALS)
    if len(scores) == 1:
        return mean
    return f"{mean} ({rounded(min(scores), DECIMALS)} to {rounded(max(scores), DECIMALS)})"


def _notes(tune: Mapping[str, Any], tuned: Sequence[Mapping[str, Any]]) -> list[str]:
    trained = "; ".join(
        f"{_label(group)}: {cell_label(group['cell'])}"
        for group in tuned
        if group["cell"] != group["group"]
    )
    notes = [
        f"{tune['key']}, {_per(tune)}. Score: the bound that the cell trains (its estimator, "
        "samples and beta) in nats per image of the validation split after the last epoch, mean "
        "over seeds that the runs of the grid do not use, and its range; higher is better. Bold: "
        "picked, the first of equals."
    ]
    if trained:
        notes.append(f"One cell was trained for each group. {trained}.")
    if any(entry["failed"] for group in tuned for entry in group["values"]):
        notes.append("Failed: a tuning run diverged or failed; such a value is never picked.")
    edges = [f"{_label(group)} ({group['pick']})" for group in tuned if group["edge"]]
    if edges:
        notes.append(
            "The pick is the lowest or the highest value tried, so that a better one may lie "
            f"beyond; widen values: {', '.join(edges)}."
        )
    return notes
