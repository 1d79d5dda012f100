"""``report.html``: one file with everything, which opens offline and sends no request.

- ``data`` is what the scripts read, and its contract; ``sprites`` and ``decoders`` pack what it
  has of pictures and weights; ``answers`` says in words what came out; ``hints`` what numbers are.
- ``page.html`` is the template, ``page.css`` the style, ``js`` the modules, which ``bundle`` joins;
  ``vendor`` holds what others wrote.
- ``index`` is the page over several grids.

To add a section: a place in the template, and a module under ``js`` that ``main.js`` starts.
"""

import json
import re
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vaebench.files import read_picture
from vaebench.report import notes
from vaebench.report.analysis import Analysis
from vaebench.report.cells import Cell
from vaebench.report.claims_section import (
    BLOCK_HEADINGS,
    CLAIM_HEADINGS,
    block_texts,
    claim_notes,
    claim_texts,
)
from vaebench.report.loading import Report
from vaebench.report.page import answers
from vaebench.report.page.bundle import HERE, asset, policy, script
from vaebench.report.page.data import page_data
from vaebench.report.page.hints import hint
from vaebench.report.pictures import own_pictures
from vaebench.report.references import CEILINGS
from vaebench.report.sections import EFFECT_HEADINGS, effect_texts
from vaebench.report.tables import Table, cost_table, gap_table, run_table
from vaebench.report.tuning import tuning_table
from vaebench.schema.labels import cell_label
from vaebench.schema.trial import TEXT

SHOWN = {f"test/{name}" for name in ("elbo", "log_px", "rate", "psnr", "ssim")} | {
    "cost/seconds_per_epoch"
}
MAX_EFFECTS = 60  # that are shown beside the verdicts
MAX_FIGURE_BYTES = 2_000_000  # of all figures that plugins have drawn
MAX_ROWS = 300  # of the tables run by run, and of runs that are not complete


def html_report(report: Analysis) -> str:
    """The page of a grid."""
    found, main, costs = report.cells, report.table, cost_table(report.cells)
    columns = [*main.columns, *costs.columns]
    tune = report.manifest.get("tune") or {}
    data = page_data(report, columns)
    return render(
        "page.html",
        scripts=[asset("vendor/uPlot.iife.min.js"), script()],
        styles=[asset("vendor/uPlot.min.css") + asset("page.css")],
        data=_embedded(data.content),
        decoders=data.decoders,
        report=report,
        summary=notes.summary(report),
        trial=f"{TEXT}.",
        claims=answers.of_claims(report.claims),
        leaders=answers.leaders(main, found),
        effects=answers.of_effects(report.effects, report.claims),
        in_short=answers.in_short(report.claims),
        max_effects=MAX_EFFECTS,
        claim_rows=[claim_texts(judged) for judged in report.claims],
        claim_headings=CLAIM_HEADINGS,
        block_rows=[row for judged in report.claims for row in block_texts(judged)],
        block_headings=BLOCK_HEADINGS,
        claim_notes=claim_notes(report.claims) if report.claims else [],
        published=[answers.of_published(row) for row in report.reproductions],
        labels=[cell_label(cell.cell) for cell in found],
        columns=columns,
        remarks=main.remarks,
        references=list(replace(main, columns=tuple(columns)).reference_rows),
        shown=_shown(main, costs),
        table_notes=notes.table_notes(report),
        cost_notes=notes.cost_notes(found) if costs.columns else [],
        gap=gap_table(found),
        figures=_own_figures(report),
        runs=_run_rows(found),
        tuning=tuning_table(tune, report.manifest.get("tuned", [])),
        unfinished=notes.unfinished_rows(report),
        unfinished_headings=notes.UNFINISHED,
        settings=notes.settings_text(report),
        gap_note=notes.GAP,
        effect_headings=EFFECT_HEADINGS,
        effect_rows=[effect_texts(effect) for effect in report.effects[:MAX_ROWS]],
        record_notes=notes.record_notes(report),
        environment=notes.environment_rows(report.records),
        repeat=_repeat(report, found),
        citation=_citation(report),
        date=finished(report),
        hint=hint,
        width=answers.WIDTH,
        max_rows=MAX_ROWS,
    )


def render(template: str, *, scripts: list[str], styles: list[str], **values: Any) -> str:
    """A template with its scripts and styles, every other text escaped.

    Raises:
        ValueError: A script or a style would end its element.
    """
    if any(re.search("</(script|style)", text, re.IGNORECASE) for text in (*scripts, *styles)):
        raise ValueError("a script or style of the page would end its element")
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        scripts=[Markup(text) for text in scripts],
        styles=[Markup(text) for text in styles],
        policy=policy(scripts, styles),
        **values,
    )


def _embedded(content: dict[str, Any]) -> Markup:
    """JSON that cannot end the element it stands in, nor open another."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _shown(main: Table, costs: Table) -> set[str]:
    """The columns that are shown at first."""
    present = {column.metric for column in (*main.columns, *costs.columns)}
    # a row of real images has nothing else to say
    judged = set(CEILINGS) if any(its.kind == "real" for its in main.references) else set()
    return (present & (SHOWN | judged)) or present


def _own_figures(report: Analysis) -> list[tuple[str, str]]:
    """Titles and addresses (data:) of the figures of plugins; empty where the page has no room."""
    shown, left = [], MAX_FIGURE_BYTES
    for path, title, _ in own_pictures(report):
        picture = read_picture(path, report.directory) or b""
        left -= len(picture)
        address = f"data:image/png;base64,{b64encode(picture).decode()}" if left >= 0 else ""
        shown.append((title, address))
    return shown


def _run_rows(found: tuple[Cell, ...]) -> Table | None:
    return run_table(found) if sum(len(cell.records) for cell in found) <= MAX_ROWS else None


def _repeat(report: Report, found: tuple[Cell, ...]) -> str:
    """The commands that repeat the grid, and one run of it."""
    records = [record for cell in found for record in cell.records]
    git = [r.get("environment", {}).get("git") or {} for r in records]
    commits = list(dict.fromkeys(str(entry["commit"]) for entry in git if entry.get("commit")))
    lines = [f"git checkout {commits[0]}" for _ in commits[:1] if len(commits) == 1]
    lines.append(f"vaebench run-grid results/{report.name}/grid.yaml --results again")
    if records:
        lines += [
            "# one run, number by number:",
            f"vaebench repeat results/{report.name}/runs/{records[0]['run_id']}",
        ]
    return "\n".join(lines)


def _citation(report: Report) -> str:
    versions = dict.fromkeys(str(r.get("environment", {}).get("vaebench")) for r in report.records)
    year = finished(report)[:4] or str(datetime.now(UTC).year)
    return (
        "@software{vaebench,\n"
        "  title = {vaebench: a benchmark harness for variational autoencoders},\n"
        "  author = {{The vaebench developers}},\n"
        f"  version = {{{', '.join(versions)}}},\n"
        f"  year = {{{year}}},\n"
        f"  note = {{grid {report.name}}}\n"
        "}"
    )


def finished(report: Report) -> str:
    """When the last run ended; empty where none has."""
    last = max((int(r["finished"]) for r in report.records), default=0)
    return datetime.fromtimestamp(last / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC") if last else ""
