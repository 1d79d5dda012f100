"""The main table and the claims as LaTeX, for a document that loads booktabs: a ``tabular`` each.

The columns are those of the Markdown report without the pictures; its notes are comments.
"""

from collections.abc import Iterable, Sequence

from vaebench.report import notes
from vaebench.report.analysis import Analysis
from vaebench.report.claims import Judged
from vaebench.report.loading import Report
from vaebench.report.pictures import Pictures
from vaebench.report.sections import CLAIM_HEADINGS, claim_notes, claim_texts
from vaebench.report.tables import Column, Entry
from vaebench.report.tuning import tuning_table

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "σ": r"\ensuremath{\sigma}",
    "²": r"\textsuperscript{2}",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "—": "---",
}
_ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$"}


def latex_report(analysis: Analysis, _: Pictures) -> str:
    """The tables between comments that say what they show and what they need."""
    table = analysis.table
    said = [f"{analysis.name}: {notes.summary(analysis)}", *notes.table_notes(analysis)]
    rows = []
    for labels, entries, remark in table.rows:
        texts = [_entry(entry) for entry in entries]
        if remark is not None and texts:
            texts = [rf"\multicolumn{{{len(texts)}}}{{l}}{{{escape(remark)}}}"]
        rows.append([*map(escape, labels), *texts])
    headings = [*map(escape, table.axes), *map(_heading, table.columns)]
    lines = [
        r"% Needs \usepackage{booktabs} and UTF-8 input.",
        *map(_comment, said),
        *_tabular("l" * len(table.axes) + "r" * len(table.columns), headings, rows),
        *_claims(analysis.claims),
        *_tuning(analysis),
    ]
    return "\n".join(lines) + "\n"


def _claims(found: Sequence[Judged]) -> list[str]:
    if not found:
        return []
    rows = [[escape(text) for text in claim_texts(judged)] for judged in found]
    return [
        "",
        *map(_comment, claim_notes(found)),
        *_tabular("lllrrrrl", [escape(heading) for heading in CLAIM_HEADINGS], rows),
    ]


def _tuning(report: Report) -> list[str]:
    table = tuning_table(report.manifest.get("tune", {}), report.manifest.get("tuned", []))
    if not table.rows:
        return []
    rows = [
        [rf"\textbf{{{escape(t)}}}" if i == pick else escape(t) for i, t in enumerate(row)]
        for row, pick in zip(table.rows, table.picks, strict=True)
    ]
    return [
        "",
        *map(_comment, table.notes),
        *_tabular("l" * len(table.headings), [escape(text) for text in table.headings], rows),
    ]


def _tabular(alignment: str, headings: list[str], rows: Iterable[list[str]]) -> list[str]:
    return [
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _row(headings),
        r"\midrule",
        *map(_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _comment(text: str) -> str:
    return f"% {' '.join(text.split())}"


def escape(text: object) -> str:
    """Any text as one line of LaTeX that shows it literally."""
    line = " ".join(str(text).split())
    return "".join(_ESCAPES.get(c, c) for c in line if c.isprintable())


def _heading(column: Column) -> str:
    return escape(column.title) + _ARROWS.get(column.direction or "", "")


def _entry(entry: Entry) -> str:
    if entry.mean is None:
        return "---"
    text = entry.mean if entry.half_width is None else rf"{entry.mean} \pm {entry.half_width}"
    text = text.replace(",", "{,}")  # a plain comma would get the space of an enumeration
    return rf"$\mathbf{{{text}}}$" if entry.best else f"${text}$"


def _row(texts: list[str]) -> str:
    return " & ".join(texts) + r" \\"
