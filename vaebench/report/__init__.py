"""Results in, tables and status out. Reads ``results/`` only: neither torch nor mlflow is imported.

- ``records`` reads a grid's folder, ``cells`` groups its runs by cell and summarises them.
- ``comparable`` says which rows may be ranked; ``tables`` is the one table model, with rounding.
- ``notes`` says in words what a reader must know; ``pictures`` finds, links and copies pictures.
- ``effects`` and ``claims`` (from ``contrasts``) and ``published`` are what the numbers show;
  ``effect_tables`` and ``evidence`` put them in words.
- ``comparing`` sets two grids against each other, ``compare_text`` prints that.
- ``tuning`` is the table of what was tuned before the runs.
- ``markdown`` (from the pieces in ``markup``), ``latex`` and ``plain`` (JSON, CSV, data frame)
  write it out; ``status`` counts.

To add a format: a function from :class:`Report` to text in a module of its own, and an entry in
:data:`FORMATS`.
"""

from collections.abc import Callable
from pathlib import Path

from vaebench.errors import ResultsError
from vaebench.files import write_atomic
from vaebench.report.cells import Cell, cells
from vaebench.report.compare import Comparison, compare, comparison_json
from vaebench.report.compare_text import comparison_text
from vaebench.report.data_formats import csv_report, json_report, to_frame
from vaebench.report.latex import latex_report
from vaebench.report.loading import Report, load
from vaebench.report.markdown import markdown_report
from vaebench.report.pictures import Pictures, comparison_picture, write_copies
from vaebench.report.status import GridStatus, status, status_json, status_text
from vaebench.report.tuning import tuning_text

__all__ = [
    "FORMATS",
    "Cell",
    "Comparison",
    "GridStatus",
    "Report",
    "cells",
    "compare",
    "comparison_json",
    "comparison_picture",
    "comparison_text",
    "load",
    "render",
    "status",
    "status_json",
    "status_text",
    "to_frame",
    "tuning_text",
    "write",
]

FORMATS: dict[str, Callable[[Report, Pictures], str]] = {
    "md": markdown_report,
    "csv": lambda report, _: csv_report(report),
    "json": lambda report, _: json_report(report),
    "latex": lambda report, _: latex_report(report),
}


def render(report: Report, format: str, output: Path | str | None = None) -> str:  # noqa: A002
    """The report as text. Writes nothing: :func:`write` also makes the copies that links need.

    Arguments:
        report: What :func:`load` returned.
        format: A key of :data:`FORMATS`.
        output: The file the text is meant for; pictures are linked relative to its folder, or to
            the current one when None.

    Raises:
        ResultsError: There is no such format.
    """
    return _render(report, format, Pictures(_path(output)))


def write(directory: Path | str, format: str, output: Path | str) -> Path:  # noqa: A002
    """Load ``directory``, write its report to ``output``, and copy the pictures it links to.

    Returns:
        The path of the report.

    Raises:
        ResultsError: The grid cannot be read, the format is unknown, or ``output`` cannot be
            written.
    """
    output = Path(output)
    if output.is_dir():
        raise ResultsError(f"{output}: is a folder; name a file in it, e.g. {output / 'report.md'}")
    if output.exists() and not output.is_file():
        raise ResultsError(f"{output}: is no file; leave --output out for the terminal")
    pictures = Pictures(output)
    text = _render(load(directory), format, pictures)
    try:
        write_copies(pictures)
        write_atomic(output.resolve(), text)  # a link stays one
    except OSError as error:
        where = error.filename or output
        raise ResultsError(f"{where}: cannot be written: {error.strerror}") from error
    return output


def _render(report: Report, format: str, pictures: Pictures) -> str:  # noqa: A002
    if format not in FORMATS:
        raise ResultsError(f"no report format {format!r}; choose from {', '.join(FORMATS)}")
    text = FORMATS[format](report, pictures)
    # a record may hold half a surrogate pair, which no file can
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _path(output: Path | str | None) -> Path | None:
    return None if output is None else Path(output)
