"""Pieces of Markdown: any text shown literally, tables, lists.

Written for code hosts (GitHub-flavoured Markdown) and tested with a parser of it. Every text that
comes from a file passes through :func:`escape`.
"""

import re
from collections.abc import Iterable, Sequence

from vaebench.report.numbers import NOTHING
from vaebench.report.tables import Entry, Table
from vaebench.text import one_line

# What starts markup inside a line, and what starts a list or a quotation at its beginning. An
# underscore between letters starts nothing, and escaping it would make latent_dim hard to read.
_SPECIAL = re.compile(r"([\\`*\[\]<>|~$&#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_LEADING = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[-+=]))(.)")
Row = Sequence[str]


def escape(text: object) -> str:
    """Any text as one line of Markdown that shows it literally, also inside a table."""
    return _LEADING.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", one_line(text)))


def entry_text(entry: Entry, between: str = " ") -> str:
    """``mean ± half width``, bold when best; a line may break before ±, never after it."""
    if entry.mean is None:
        return NOTHING
    width = "" if entry.half_width is None else f"{between}±\u00a0{entry.half_width}"
    return f"**{entry.mean}{width}**" if entry.best else f"{entry.mean}{width}"


def table_lines(
    table: Table,
    further: Sequence[str] = (),
    cells_of: Sequence[Sequence[str]] = (),
    between: str = " ",
) -> list[str]:
    """A table of numbers, with further columns of ready Markdown on the right."""
    headings = [escape(axis) for axis in table.axes]
    numbers = range(len(headings), len(headings) + len(table.columns))
    headings += [escape(column.heading) for column in table.columns]
    rows: list[Row] = []
    for i, (labels, entries, remark) in enumerate(table.rows):
        texts = [entry_text(entry, between) for entry in entries]
        if remark is not None and texts:
            texts[0] = escape(remark)
        row = [escape(text) for text in labels] + texts
        rows.append([*row, *cells_of[i]] if cells_of else row)
    for label, values in table.reference_rows:
        empty = [""] * (len(table.axes) - 1)
        texts = [NOTHING if value is None else value for value in values]
        rows.append([f"*{escape(label)}*", *empty, *texts, *([""] * len(further))])
    return grid_lines([*headings, *further], rows, right=numbers)


def grid_lines(headings: Row, rows: Iterable[Row], right: Iterable[int] = ()) -> list[str]:
    """A table of ready Markdown; the columns ``right`` are aligned there."""
    aligned = set(right)
    rule = ["---:" if i in aligned else "---" for i in range(len(headings))]
    return [f"| {' | '.join(row)} |" for row in (headings, rule, *rows)]


def section(title: str, *blocks: Sequence[str]) -> list[str]:
    """A heading and blocks of lines below it, the empty ones left out."""
    return [f"## {title}", *(line for block in blocks if block for line in ("", *block))]


def folded(summary: str, lines: Iterable[str]) -> list[str]:
    """Lines that a reader unfolds."""
    return [f"<details><summary>{summary}</summary>", "", *lines, "", "</details>"]


def document(sections: Iterable[Sequence[str]]) -> str:
    """Sections as one text, the empty ones left out."""
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def bullets(texts: Iterable[str]) -> list[str]:
    """A list of plain texts."""
    return [f"- {escape(text)}" for text in texts]
