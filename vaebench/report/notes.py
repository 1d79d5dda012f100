"""What a report says in words: the summary of what was run, and the notes under its tables.

Plain text, escaped by whoever writes it out. Only what the records show is said; to add a note,
append it in :func:`table_notes` under the condition that makes it true.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from vaebench.report.analysis import Analysis
from vaebench.report.cells import MIN_RATE, Cell, chosen, declarations
from vaebench.report.devices import device_kind, device_notes
from vaebench.report.loading import Record, Report, counted, dig, flat, in_words, listed, setting
from vaebench.report.numbers import gray_or_colour, pixels_in_words
from vaebench.report.ranking import base_measure_key, machine_key
from vaebench.report.references import reference_notes
from vaebench.report.tables import Table
from vaebench.report.tuning import settings_with_tuned, tuned_phrase
from vaebench.schema.labels import cell_label
from vaebench.schema.manifest import Planned
from vaebench.schema.record import is_relaxed, optimises_elbo, outdated

UNFINISHED = ("Cell", "Seed", "Status", "Reason", "Run")
GAP = (
    "Training images: a fixed part of the training split, in evaluation mode. The gap is training "
    "minus test, seed by seed, then averaged; a large gap is overfitting."
)
_OUTDATED = "of older data or code than others, so left out"


def summary(analysis: Analysis) -> str:
    """One paragraph: data, size of the grid, training, machine."""
    done = [record for cell in analysis.cells for record in cell.records]
    seeds = list(dict.fromkeys(run.seed for run in analysis.planned))
    epochs = [] if analysis.is_trial else _settings(analysis, "training", "epochs")
    training = [
        text
        for text in (
            _phrase("{} epochs", epochs),
            _phrase("batch size {}", _settings(analysis, "training", "batch_size")),
            _phrase("latent size {}", _settings(analysis, "model", "latent_dim")),
            tuned_phrase(analysis.manifest),
        )
        if text
    ]
    text = (
        f"{counted(len(analysis.cells), 'cell')} with {counted(len(seeds), 'seed')} each "
        f"({listed(seeds)}) on {_dataset(analysis)}. "
    )
    if training:
        text += f"{', '.join(training)}. "
    text += f"{len(done):,} of {counted(len(analysis.planned), 'run')} complete."
    places = list(dict.fromkeys(machine(record) for record in done))
    if len(places) == 1:
        text += f" All ran on {places[0]}."
    elif places:
        text += f" They ran on {len(places)} kinds of machine or load: {'; '.join(places)}."
    return text


def machine(record: Record) -> str:
    """Where a run ran, and how many ran beside it."""
    environment = record.get("environment", {})
    parts = [
        device_kind(record),
        _number(environment.get("cores"), "core"),
        str(environment.get("platform") or ""),
        _number(environment.get("threads"), "thread") + " per run",
        _number(environment.get("jobs"), "run") + " at a time",
    ]
    return ", ".join(part for part in parts if part and part[0] != " ")


def table_notes(analysis: Analysis) -> list[str]:
    """What a reader must know to read the main table."""
    table, cells = analysis.table, analysis.cells
    records = [record for cell in cells for record in cell.records]
    if not records:
        return ["No run is complete: there is nothing to compare yet."]
    notes = [_interval(cells)]
    units: dict[str, list[str]] = {}
    for column in table.columns:
        if column.unit:
            units.setdefault(column.unit, []).append(column.title)
    if units:
        named = (
            f"{listed(titles)} in {'nats per image' if unit == 'nats' else unit}"
            for unit, titles in units.items()
        )
        notes.append(f"{'; '.join(named)}.")
    if any(entry.best for column in table.columns for entry in column.entries):
        notes.append(
            "↑ higher is better, ↓ lower is better. Bold: the best of the rows that a column may "
            "compare, and every row that is not significantly worse (paired sign-flip test, Holm)."
        )
    elif any(len(cell.seeds) > 1 for cell in cells):
        notes.append("↑ higher is better, ↓ lower is better. Too few seeds to mark any row.")
    collapsed = [cell_label(cell.cell) for cell in cells if cell.collapsed]
    if collapsed:
        notes.append(
            f"Collapsed (a rate below {MIN_RATE} nats, or no active unit), so never bold: "
            f"{listed(collapsed)}."
        )
    if any(not optimises_elbo(record) for record in records):
        notes.append(
            "Rows trained by an importance-weighted bound (iwae, dreg) are ranked by log p(x), "
            "not by the ELBO, which they do not maximise."
        )
    notes += _likelihoods(table, records)
    notes += device_notes(cells)
    _, clashes = declarations(records)
    if clashes:
        notes.append(f"Not ranked, since the runs declare them differently: {listed(clashes)}.")
    if kept := len(analysis.manifest.get("superseded", [])):
        notes.append(
            f"{counted(kept, 'run')} of older versions of vaebench kept: `vaebench compare` with "
            "this grid alone says what has moved since."
        )
    notes += reference_notes(table.references)
    _, fault = analysis.reference_rows
    notes += [] if fault is None else [f"No reference rows: {fault}."]
    incomplete = sum(not cell.complete for cell in cells)
    if incomplete:
        notes.append(f"{counted(incomplete, 'row')} incomplete: no mean is shown for such a row.")
    return notes


def picture_note(cells: Sequence[Cell]) -> str:
    """What the pictures of the main table show, and which runs they come from."""
    text = (
        "Pictures, of the weights that were measured: reconstruction = rows of test images, each "
        "above the decoder's mean at their posterior mean; generation = decoder means of draws "
        "from the prior."
    )
    choices = [chosen(cell) for cell in cells if len(cell.seeds) > 1]
    reasons = list(dict.fromkeys(choice[1] for choice in choices if choice))
    return f"{text} Shown: {listed(reasons)} of each cell." if reasons else text


def cost_notes(cells: Sequence[Cell]) -> list[str]:
    """Where the costs were measured, and whether they compare."""
    records = [record for cell in cells for record in cell.records]
    if len(machines(cells)) > 1:
        return [
            "Machine, device, threads or number of runs at a time differ between runs (see the "
            "environment): these costs are not comparable."
        ]
    more = "What else ran there moves costs as well, so none is marked as best."
    return [f"Measured on {machine(record)}. {more}" for record in records[:1]]


def machines(cells: Sequence[Cell]) -> set[str]:
    """The different machines and loads that the runs met, by key."""
    return {machine_key(record) for cell in cells for record in cell.records}


def load_of(cell: Cell) -> list[str]:
    """How many of a cell's runs ran at a time, and where; several when they differ."""
    environments = [record.get("environment", {}) for record in cell.records]
    return [
        listed(_distinct(e.get("jobs") for e in environments)) or "—",
        listed(_distinct(e.get("device_name") or e.get("device") for e in environments)) or "—",
    ]


def record_notes(report: Report) -> list[str]:
    """The notes that the runs made, each once, with their number where not all made it."""
    counts: Counter[str] = Counter()
    for record in report.records:
        notes = record.get("notes")
        counts.update(dict.fromkeys(map(str, notes), 1) if isinstance(notes, list) else {})
    total = len(report.records)
    return [
        note if n == total else f"{note} ({n} of {counted(total, 'run')})"
        for note, n in counts.items()
    ]


def unfinished_rows(report: Report) -> list[tuple[str, ...]]:
    """The runs that are not complete, as texts under :data:`UNFINISHED`."""
    rows = [
        (Planned(r["run_id"], r["cell"], r["seed"]), r["status"], r.get("reason"))
        for r in report.records
        if r["status"] != "complete"
    ]
    states = outdated(report.records)
    rows += [
        (Planned(r["run_id"], r["cell"], r["seed"]), state, _OUTDATED)
        for r in report.records
        if (state := states.get(r["run_id"])) is not None
    ]
    rows += [(found.run, "damaged", found.reason) for found in report.damaged]
    rows += [(run, "missing", "no record: not run, or still running") for run in report.missing]
    return [
        (cell_label(run.cell), str(run.seed), status, str(why or "no reason given"), run.run_id)
        for run, status, why in rows
    ]


def settings_text(report: Report) -> str:
    """The grid and the settings that its runs share, as YAML; empty where there are none."""
    settings = settings_with_tuned(report.manifest)
    shown = {key: report.manifest.get(key) for key in ("axes", "seeds", "numbers_version")}
    text = yaml.safe_dump({**shown, "settings": settings}, sort_keys=False, allow_unicode=True)
    return text.rstrip("\n") if settings else ""


def environment_rows(records: Iterable[Record]) -> list[tuple[str, str]]:
    """What ran where, flat; values that differ between runs are listed with their numbers."""
    values: dict[str, Counter[str]] = {}
    for record in records:
        around = {key: record[key] for key in ("versions",) if key in record}
        for key, value in flat({**around, **record.get("environment", {})}).items():
            values.setdefault(key, Counter())[in_words(value)] += 1
    told = {
        key: [f"{value} ({counted(n, 'run')})" for value, n in seen.items()]
        for key, seen in values.items()
        if len(seen) > 1
    }
    return [(key, "; ".join(told.get(key, seen))) for key, seen in values.items()]


def _interval(cells: Sequence[Cell]) -> str:
    counts = sorted({len(cell.seeds) for cell in cells if cell.complete})
    if counts and counts[-1] > 1:
        ns = listed(counts, last="or")
        return (
            f"Numbers are means ± the half width of their 95 % Student-t interval over seeds, "
            f"n = {ns}." + (" A row of one seed has no interval." if counts[0] == 1 else "")
        )
    return "One seed per cell: no interval." if counts else "No row is complete."


def _likelihoods(table: Table, records: Sequence[Record]) -> list[str]:
    """What the losses are, and that they are not ranked against each other."""
    notes = []
    titles = [column.title for column in table.columns if column.comparable == "likelihood"]
    pixels = gray_or_colour(records)
    if titles and len({base_measure_key(record) for record in records}) > 1:
        notes.append(
            f"{listed(titles)} are comparable only by base measure, on the same data: densities of "
            f"{pixels} pixels (mse, gaussian, cb) with one another, probabilities of binarised "
            "pixels with one another, a relaxed loss with itself alone. Other rows are not "
            "comparable there and are never ranked against each other."
        )
    relaxed = _distinct(setting(r, "loss", "name") for r in records if is_relaxed(r))
    if relaxed:
        notes.append(
            f"{listed(relaxed)} on {pixels} pixels is the relaxed Bernoulli: not a normalised "
            "density, so its ELBO bounds no likelihood."
        )
    sigmas = _distinct(dig(setting(record, "loss"), "mse", "sigma2") for record in records)
    if sigmas:
        notes.append(
            f"mse is the Gaussian with fixed variance σ² = {listed(sigmas, last='or')}, constant "
            "included; σ² sets the balance of rate and distortion, and what is said of mse holds "
            "at that value."
        )
    return notes


def _dataset(report: Report) -> str:
    names = _settings(report, "dataset", "name")
    text = listed(names) if names else "an unknown data set"
    facts = []
    for split in ("train", "validation", "test"):
        sizes = _distinct(dig(r, "environment", "dataset", split) for r in report.records)
        if len(sizes) == 1 and isinstance(sizes[0], int):
            facts.append(f"{sizes[0]:,} {split}")
    details = [f"{listed(facts)} images"] if facts else []
    if "test" in _settings(report, "dataset", "validation"):
        details.append("the test images serve as validation split")
    binarize = _settings(report, "dataset", "binarize")
    if len(binarize) == 1:
        details.append(pixels_in_words(binarize[0], report.records))
    if _settings(report, "dataset", "dequantize") == ["uniform"]:
        details.append("dequantised")
    return f"{text} ({'; '.join(details)})" if details else text


def _settings(report: Report, *path: str) -> list[Any]:
    """The distinct values of a setting over the runs, or the manifest's when there is no record."""
    values = _distinct(setting(record, *path) for record in report.records)
    return values or _distinct([dig(report.manifest.get("settings"), *path)])


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({repr(value): value for value in values if value is not None}.values())


def _number(value: Any, noun: str) -> str:
    return counted(value, noun) if isinstance(value, int) else ""


def _phrase(template: str, values: Sequence[Any]) -> str:
    return template.format(listed(values, last="or")) if values else ""
