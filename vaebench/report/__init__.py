"""Results in, tables and status out. Reads ``results/`` only: neither torch nor mlflow is imported.

- ``loading`` reads a grid's folder, ``cells`` groups its runs by cell and summarises them.
- ``ranking`` says which rows may be ranked; ``tables`` is the one table model, with ``numbers`` for
  the rounding.
- ``references`` are the rows below the table: real images, the exact linear optimum, no training.
- ``effects`` and ``claims`` (from ``contrasts``), ``published`` and ``budget`` (from ``journals``)
  are what the numbers show.
- ``analysis`` computes all of that once; every format takes it.
- ``notes`` says in words what a reader must know; ``pictures`` finds, links and copies pictures.
- ``markdown`` (from the pieces in ``sections`` and ``markup``), ``latex`` and ``data_formats``
  (JSON, CSV, data frame) write it out; ``page`` does so as one HTML file with all pictures.
- ``rate_curves`` draws the ``arms`` of claims at matched rate over the rate; ``paper`` draws the
  figures of a grid for papers.
- ``tuning`` is the table of what was tuned before the runs.
- ``compare`` sets two grids against each other, ``compare_formats`` writes that out; ``status``
  counts runs.

To add a format: a function from :class:`Analysis` to text in a module of its own, and an entry in
:data:`FORMATS`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vaebench.errors import ResultsError
from vaebench.files import write_atomic
from vaebench.report.analysis import Analysis, load
from vaebench.report.cells import Cell
from vaebench.report.compare import Comparison, compare
from vaebench.report.compare_formats import comparison_json, comparison_text
from vaebench.report.data_formats import csv_report, json_report, to_frame
from vaebench.report.latex import latex_report
from vaebench.report.markdown import markdown_report
from vaebench.report.pictures import Pictures, comparison_picture, pictures, write_copies
from vaebench.report.status import GridStatus, status, status_json, status_text
from vaebench.report.tuning import tuning_text
from vaebench.schema.manifest import grid_dirs
from vaebench.text import lines

__all__ = [
    "FORMATS",
    "Analysis",
    "Cell",
    "Comparison",
    "Format",
    "GridStatus",
    "compare",
    "comparison_json",
    "comparison_picture",
    "comparison_text",
    "load",
    "pictures",
    "pieces",
    "render",
    "status",
    "status_json",
    "status_text",
    "to_frame",
    "tuning_text",
    "write",
    "write_html",
]


def html_report(analysis: Analysis, _: Pictures) -> str:
    """The page, which holds its pictures itself."""
    from vaebench.report import page  # jinja2, numpy and Pillow, which other formats do not need

    return page.html_report(analysis)


class Format(NamedTuple):
    """A format of reports.

    Attributes:
        file: The name of such a report in its grid's folder.
        text: From an analysis, and where links to pictures come from, to the report, whole or in
            pieces.
    """

    file: str
    text: Callable[[Analysis, Pictures], str | Iterable[str]]


FORMATS: dict[str, Format] = {
    "md": Format("report.md", markdown_report),
    "csv": Format("report.csv", csv_report),
    "json": Format("report.json", json_report),
    "latex": Format("report.tex", latex_report),
    "html": Format("report.html", html_report),
}


def render(analysis: Analysis, format: str, output: Path | str | None = None) -> str:  # noqa: A002
    """The report as text. Writes nothing: :func:`write` also makes the copies that links need.

    Arguments:
        analysis: What :func:`load` returned.
        format: A key of :data:`FORMATS`.
        output: The file the text is meant for; pictures are linked relative to its folder, or to
            the current one when None.

    Raises:
        ResultsError: There is no such format.
    """
    return "".join(_pieces(analysis, format, Pictures(Path(output) if output else None)))


def pieces(analysis: Analysis, format: str) -> Iterator[str]:  # noqa: A002
    """The report piece by piece, as it is printed: a large one is never there as a whole.

    Raises:
        ResultsError: There is no such format.
    """
    return _pieces(analysis, format, Pictures(None))


def write(analysis: Analysis, format: str, output: Path | str) -> None:  # noqa: A002
    """Write the report to ``output``, and copy the pictures it links to.

    Raises:
        ResultsError: The format is unknown, or ``output`` cannot be written.
    """
    output = Path(output)
    if output.is_dir():
        raise ResultsError(f"{output}: is a folder; name a file in it, e.g. {output / 'report.md'}")
    if output.exists() and not output.is_file():
        raise ResultsError(f"{output}: is no file; leave --output out for the terminal")
    pictures = Pictures(output)
    text = _pieces(analysis, format, pictures)
    try:
        write_copies(pictures)
        # a link stays one, but for those in the grid's folder: who made them is not known
        own = output.parent.resolve().is_relative_to(analysis.directory.resolve())
        write_atomic(output if own else output.resolve(), text)
    except OSError as error:
        where = error.filename or output
        raise ResultsError(f"{where}: cannot be written: {error.strerror}") from error


def write_html(
    directory: Path | str, output: Path | None = None, columns: Sequence[str] | None = None
) -> Path:
    """Write the page of a grid, or the page over several grids, and return its path.

    Arguments:
        directory: A grid's folder, or a results folder.
        output: Where; ``report.html`` or ``index.html`` in the folder when None.
        columns: As for :func:`load`; of a grid's page.

    Raises:
        ResultsError: There is no grid, or ``output`` cannot be written.
    """
    folders = grid_dirs(Path(directory))
    if len(folders) > 1:
        from vaebench.report.page.index import index_page  # as above

        output = output or Path(directory) / "index.html"
        write_atomic(output, index_page(folders, output))
        return output
    analysis = load(directory, columns)
    output = output or analysis.directory / FORMATS["html"].file
    write(analysis, "html", output)
    return output


def _pieces(analysis: Analysis, format: str, pictures: Pictures) -> Iterator[str]:  # noqa: A002
    if format not in FORMATS:
        raise ResultsError(f"no report format {format!r}; choose from {', '.join(FORMATS)}")
    text = FORMATS[format].text(analysis, pictures)
    return map(lines, [text] if isinstance(text, str) else text)
