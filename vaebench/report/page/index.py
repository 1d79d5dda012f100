"""``index.html``: the grids of a results folder, each with its question and what came out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from vaebench.errors import VaebenchError
from vaebench.files import write_atomic
from vaebench.report.analysis import load
from vaebench.report.page import answers, finished, html_report, render
from vaebench.report.page.bundle import asset

NAME = "report.html"  # of a grid's page


@dataclass(frozen=True)
class Entry:
    """A grid in the index; ``problem`` says why there is nothing else to say."""

    name: str
    link: str = ""
    question: str = ""
    verdicts: Sequence[str] = ()
    runs: str = ""
    date: str = ""
    problem: str = ""


def index_page(folders: Sequence[Path], output: Path) -> str:
    """The page over grids, to be written to ``output``; writes the pages of those without one."""
    entries = [_entry(folder, output) for folder in folders]
    return render("index.html", scripts=[], styles=[asset("page.css")], grids=entries)


def _entry(folder: Path, output: Path) -> Entry:
    try:
        report = load(folder)
    except VaebenchError as error:
        return Entry(folder.name, problem=str(error))
    page = folder / NAME
    if not page.is_file():
        write_atomic(page, html_report(report))
    said = [text for text in [answers.in_short(report.claims)] if text]
    held = [row.reproduced for row in report.reproductions if row.reproduced is not None]
    if held:
        said.append(f"{held.count('yes')} of {len(held)} published numbers reproduced")
    leaders = answers.leaders(report.table, report.cells)
    done = sum(len(cell.records) for cell in report.cells)
    return Entry(
        name=report.name,
        link=quote(Path(os.path.relpath(page, output.parent)).as_posix()),
        question=str(report.manifest.get("question") or ""),
        verdicts=said or [f"{a.what}: {a.metric}, {a.word}" for a in leaders[:2]],
        runs=f"{done:,} of {len(report.planned):,} runs complete",
        date=finished(report),
    )
