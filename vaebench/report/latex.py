"""The main table, claims, effects and tuning as LaTeX, for a document that loads booktabs.

Each is a ``tabular`` that fits the text of an A4 article. The main table has the columns that
stand beside the pictures in Markdown, unless others are chosen; its notes are comments.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vaebench.report import notes
from vaebench.report.analysis import Analysis
from vaebench.report.claims import Judged
from vaebench.report.claims_section import claim_notes, claim_texts
from vaebench.report.effects import Effect
from vaebench.report.loading import Report
from vaebench.report.numbers import p_value
from vaebench.report.pictures import Pictures
from vaebench.report.sections import estimate, rate_text
from vaebench.report.tables import MAIN_COLUMNS, Column, Entry
from vaebench.report.tuning import tuning_table
from vaebench.schema.trial import MARK, TEXT

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
    columns = table.columns
    if analysis.columns is None:
        columns = tuple(column for column in columns if column.metric in MAIN_COLUMNS)
    trial = analysis.is_trial
    said = [f"{TEXT}."] if trial else []
    said += [f"{analysis.name}: {notes.summary(analysis)}", *notes.table_notes(analysis)]
    rows = []
    for i, (labels, remark) in enumerate(zip(table.labels, table.remarks, strict=True)):
        texts = [_entry(column.entries[i]) for column in columns]
        if remark is not None and texts:
            texts = [rf"\multicolumn{{{len(texts)}}}{{l}}{{{escape(remark)}}}"]
        rows.append([*map(escape, labels), *texts])
    below = [
        [rf"\textit{{{escape(label)}}}", *[""] * (len(table.axes) - 1), *map(_plain, values)]
        for label, values in replace(table, columns=columns).reference_rows
    ]
    headings = [*map(escape, table.axes), *map(_heading, columns)]
    lines = [
        r"% Needs \usepackage{booktabs} and UTF-8 input.",
        *map(_comment, said),
        *([rf"\textbf{{{MARK}.}}", ""] if trial else []),
        *_tabular("l" * len(table.axes) + "r" * len(columns), headings, rows, below),
        *_claims(analysis.claims),
        *_effects(analysis.effects),
        *_tuning(analysis),
    ]
    return "\n".join(lines) + "\n"


def _claims(found: Sequence[Judged]) -> list[str]:
    if not found:
        return []
    rows = []
    for judged in found:
        claim, metric, sides, difference, p, seeds, verdict = map(escape, claim_texts(judged))
        rows.append([claim, f"{metric}: {sides}", difference, f"{p} ({seeds})", verdict])
    headings = ["Claim", "Contrast", "Difference", "$p$ (seeds)", "Verdict"]
    widths = "".join(rf"p{{{width}mm}}" for width in (25, 25, 22, 13, 26))
    return ["", *map(_comment, claim_notes(found)), *_tabular(widths, headings, rows)]


def _effects(found: Sequence[Effect]) -> list[str]:
    shown = [effect for effect in found if effect.column.metric in MAIN_COLUMNS]
    if not shown:
        return []
    rows = []
    for effect in shown:
        title = f"{effect.column.title}, {effect.where}" if effect.where else effect.column.title
        p = p_value(effect.adjusted.p)
        numbers = (estimate(effect.contrast, effect.column.decimals), rate_text(effect), p)
        rows.append([escape(text) for text in (title, effect.name, *numbers)])
    headings = ["Metric", "Effect", "Difference", "Rate (nats)", "$p$ (Holm)"]
    return ["", *_tabular("p{28mm}p{34mm}rrr", headings, rows)]


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


def _tabular(
    alignment: str,
    headings: list[str],
    rows: Iterable[list[str]],
    below: Sequence[list[str]] = (),
) -> list[str]:
    return [
        r"{\scriptsize\setlength{\tabcolsep}{2pt}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _row(headings),
        r"\midrule",
        *map(_row, rows),
        *([r"\midrule", *map(_row, below)] if below else []),
        r"\bottomrule",
        r"\end{tabular}}",
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
    # a plain comma would get the space of an enumeration
    mean, width = ((t or "").replace(",", "{,}") for t in (entry.mean, entry.half_width))
    text = rf"{mean}{{\scriptstyle\pm{width}}}" if width else mean
    return rf"$\mathbf{{{text}}}$" if entry.best else f"${text}$"


def _plain(number: str | None) -> str:
    return "---" if number is None else f"${number.replace(',', '{,}')}$"


def _row(texts: list[str]) -> str:
    return " & ".join(texts) + r" \\"
