"""The report as Markdown that code hosts render: tables, pictures, what failed, how it was run.

Sections are functions from the report to lines; :func:`markdown_report` lists them in order. To
add one, write such a function and put it there.
"""

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from vaebench.report import notes
from vaebench.report.analysis import Analysis
from vaebench.report.budget_section import budget_section
from vaebench.report.cells import Cell
from vaebench.report.claims_section import claims_section
from vaebench.report.loading import Report
from vaebench.report.markup import (
    bullets,
    document,
    escape,
    folded,
    grid_lines,
    section,
    table_lines,
)
from vaebench.report.numbers import NOTHING
from vaebench.report.pictures import Pictures, is_picture, last_tile, own_pictures
from vaebench.report.sections import effects_section, published_section
from vaebench.report.tables import (
    MAIN_COLUMNS,
    Column,
    Table,
    cost_table,
    gap_table,
    run_table,
)
from vaebench.report.tuning import tuning_section
from vaebench.schema.labels import run_label
from vaebench.schema.manifest import BUDGET, COMPARISON, OVER_RATE
from vaebench.schema.trial import TEXT

WIDTH = 140  # pixels of a tile


def markdown_report(analysis: Analysis, pictures: Pictures) -> str:
    """The whole report; ``pictures`` makes the links and remembers which copies they need."""
    return document(
        [
            _head(analysis),
            claims_section(analysis.claims),
            _results(analysis, pictures),
            _comparison(analysis, pictures),
            _own_figures(analysis, pictures),
            _over_rate(analysis, pictures),
            _budget(analysis, pictures),
            effects_section(analysis.effects, analysis.cells),
            published_section(analysis.reproductions),
            _costs(analysis.cells),
            _gap(analysis.cells),
            tuning_section(analysis),
            _runs(analysis.cells),
            _unfinished(analysis),
            _settings(analysis),
            _notes(analysis),
            _environment(analysis),
        ]
    )


def _head(analysis: Analysis) -> list[str]:
    lines = [f"# {escape(analysis.name)}", ""]
    lines += [f"**{TEXT}.**", ""] if analysis.is_trial else []
    if analysis.manifest.get("question"):
        lines += [f"**Question.** {escape(analysis.manifest['question'])}", ""]
    return [*lines, escape(notes.summary(analysis))]


def _results(analysis: Analysis, pictures: Pictures) -> list[str]:
    table, cells = analysis.table, analysis.cells
    first = _only(table, lambda column: column.metric in MAIN_COLUMNS)
    rest = _only(table, lambda column: column.metric not in MAIN_COLUMNS)
    tiles = [
        [_tile(analysis, cell, kind, pictures) for kind in ("reconstruction", "samples")]
        for cell in cells
    ]
    said = notes.table_notes(analysis)
    if any(picture != NOTHING for row in tiles for picture in row):
        said.append(notes.picture_note(cells))
    return section(
        "Results on the test images",
        # two lines in a row that is high anyway: the pictures need the width
        table_lines(first, ("Reconstruction", "Generation"), tiles, between="<br>"),
        table_lines(rest) if rest.columns else [],
        bullets(said),
    )


def _tile(report: Report, cell: Cell, kind: str, pictures: Pictures) -> str:
    tile = last_tile(report, cell, kind)
    if tile is None:
        return NOTHING
    path, epoch = tile
    run_id = path.parent.parent.name
    seed = next(record["seed"] for record in cell.records if record["run_id"] == run_id)
    what = {"reconstruction": "test images and reconstructions", "samples": "samples"}[kind]
    alt = html.escape(" ".join(f"{what} of {run_label(cell.cell, seed)}, epoch {epoch}".split()))
    # as attribute the text meets no Markdown, but the table would still split at a bar
    alt = alt.replace("|", "&#124;").replace("`", "&#96;").replace("\\", "&#92;")
    link = pictures.link(path, f"{run_id}-{path.name}")
    return f'<img src="{link}" width="{WIDTH}" alt="{alt}">'


def _comparison(report: Report, pictures: Pictures) -> list[str]:
    alt = f"All cells of {report.name}: test images, reconstructions and samples"
    return _picture(report, pictures, COMPARISON, alt)


def _budget(report: Analysis, pictures: Pictures) -> list[str]:
    alt = f"Validation ELBO of the cells of {report.name} over epochs and seconds"
    return budget_section(report.budget, _picture(report, pictures, BUDGET, alt))


def _over_rate(report: Report, pictures: Pictures) -> list[str]:
    alt = f"Distortion, SSIM, PSNR and Fréchet distance of {report.name} over the rate"
    return _picture(report, pictures, OVER_RATE, alt)


def _picture(report: Report, pictures: Pictures, name: str, alt: str) -> list[str]:
    """A picture of the grid's, if it was drawn."""
    path = report.directory / name
    if not is_picture(path, report.directory):
        return []
    return [f"![{escape(alt)}]({pictures.link(path, name)})"]


def _own_figures(report: Analysis, pictures: Pictures) -> list[str]:
    """Pictures that plugins have drawn: of the grid, and of the run that stands for each cell."""
    shown = []
    for path, title, name in own_pictures(report):
        shown += [f"![{escape(title)}]({pictures.link(path, name)})", ""]
    return section("Further figures", shown[:-1]) if shown else []


def _costs(found: Sequence[Cell]) -> list[str]:
    table = cost_table(found)
    if not table.columns:
        return []
    loads = [[escape(text) for text in notes.load_of(cell)] for cell in found]
    further = ("Runs at a time", "Device") if len(notes.machines(found)) > 1 else ()
    lines = table_lines(_with_units(table), further, loads if further else ())
    return section("Cost", lines, bullets(notes.cost_notes(found)))


def _gap(found: Sequence[Cell]) -> list[str]:
    table = gap_table(found)
    if table is None:
        return []
    return section("Gap between training and test images", table_lines(table), bullets([notes.GAP]))


def _runs(found: Sequence[Cell]) -> list[str]:
    table = run_table(found)
    if table is None:
        return []
    return section("Seed by seed", folded("every run", table_lines(table)))


def _unfinished(report: Report) -> list[str]:
    rows = [[escape(text) for text in row] for row in notes.unfinished_rows(report)]
    foreign = ", ".join(escape(name) for name in report.foreign)
    what_else = f"Folders under `runs/` that the grid does not list, not counted: {foreign}."
    stray = [what_else] if foreign else []
    if not rows:
        return stray
    what_to_do = (
        "`vaebench run-grid GRID.yaml`, with the file and options of this grid, runs what is "
        "missing or has failed and takes up what was interrupted; with `--rerun failed` only "
        "what has failed."
    )
    table = grid_lines(notes.UNFINISHED, rows)
    return section("Runs that are not complete", table, [what_to_do], stray)


def _settings(report: Report) -> list[str]:
    text = notes.settings_text(report)
    if not text:
        return []
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    block = [f"{fence}yaml", text, fence]
    return section("Settings", folded("the grid and the settings that its runs share", block))


def _notes(report: Report) -> list[str]:
    said = notes.record_notes(report)
    return section("Notes of the runs", bullets(said)) if said else []


def _environment(report: Report) -> list[str]:
    rows = notes.environment_rows(report.records)
    if not rows:
        return []
    table = grid_lines(["What", "Value"], [[escape(k), escape(v)] for k, v in rows])
    return section("Environment", folded("machine, versions, data", table))


def _only(table: Table, wanted: Callable[[Column], bool]) -> Table:
    return replace(table, columns=tuple(filter(wanted, table.columns)))


def _with_units(table: Table) -> Table:
    """Units in the headings, unless the title names them."""
    columns = []
    for column in table.columns:
        said = column.unit.partition("/")[0] in column.title.lower()  # "Seconds per epoch" in s
        title = column.title if said else f"{column.title} ({column.unit})"
        columns.append(replace(column, title=title))
    return replace(table, columns=tuple(columns))
