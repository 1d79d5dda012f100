"""The main table as LaTeX: a ``tabular`` with booktabs rules, for a document that loads booktabs.

The columns are those of the Markdown report without the pictures; its notes are comments.
"""

from vaebench.report import notes
from vaebench.report.cells import cells
from vaebench.report.records import Report
from vaebench.report.tables import Column, Entry, main_table

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
    "—": "---",
}
_ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$"}


def latex_report(report: Report) -> str:
    """The table between comments that say what it shows and what it needs."""
    found = cells(report)
    table = main_table(found)
    said = [f"{report.name}: {notes.summary(report, found)}", *notes.table_notes(table, found)]
    lines = [r"% Needs \usepackage{booktabs} and UTF-8 input."]
    lines += [f"% {' '.join(text.split())}" for text in said]
    lines += [
        rf"\begin{{tabular}}{{{'l' * len(table.axes)}{'r' * len(table.columns)}}}",
        r"\toprule",
        _row([*map(escape, table.axes), *map(_heading, table.columns)]),
        r"\midrule",
    ]
    for i, (labels, remark) in enumerate(zip(table.labels, table.remarks, strict=True)):
        texts = [_entry(column.entries[i]) for column in table.columns]
        if remark is not None and texts:
            texts = [rf"\multicolumn{{{len(texts)}}}{{l}}{{{escape(remark)}}}"]
        lines.append(_row([*map(escape, labels), *texts]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


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
