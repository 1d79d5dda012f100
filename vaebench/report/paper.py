"""Figures of a grid for papers: PDF beside PNG, without titles, which a caption says better.

``learning-curves`` has the cells with the bands of their seeds, ``comparison`` the cells on the
same test images, and ``<cell>-<figure>`` what the run shows that stands for a cell.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaebench.errors import ResultsError, VaebenchError
from vaebench.files import write_atomic
from vaebench.report.analysis import Analysis
from vaebench.report.cells import Cell, chosen
from vaebench.report.loading import dig, setting
from vaebench.report.pictures import cell_images
from vaebench.report.tables import sets_apart
from vaebench.schema.labels import cell_label, run_label
from vaebench.storage import RunStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vaebench.figures import CellCurve

FOLDER = "paper"
MAX_CELLS = 100  # whose own figures are drawn
_CURVES = {"elbo": "ELBO", "rate": "rate", "distortion": "distortion"}


def write_figures(
    analysis: Analysis, output: Path | None, say: Callable[[str], object]
) -> list[Path]:
    """Draw every figure of a grid into a folder, as PDF and as PNG.

    Arguments:
        analysis: The grid.
        output: The folder; ``paper`` in the grid's when None.
        say: Told of what cannot be drawn, and why.

    Returns:
        The PDF files.

    Raises:
        ResultsError: There is nothing to draw, it is a trial, or the folder cannot be written.
    """
    if analysis.is_trial:
        raise ResultsError(f"{analysis.directory}: is a trial, which has no figures for a paper")
    from vaebench.figures import to_pdf, to_png, untitled  # matplotlib is slow to import

    folder = analysis.directory / FOLDER if output is None else output
    written = []
    with untitled():
        for name, figure in _figures(analysis, say):
            try:
                write_atomic(folder / f"{name}.png", to_png(figure))
                write_atomic(folder / f"{name}.pdf", to_pdf(figure))
            except OSError as error:
                where = error.filename or folder
                raise ResultsError(f"{where}: cannot be written: {error.strerror}") from error
            written.append(folder / f"{name}.pdf")
    if not written:
        raise ResultsError(f"{analysis.directory}: no run has anything to draw")
    return written


def _figures(analysis: Analysis, say: Callable[[str], object]) -> Iterator[tuple[str, "Figure"]]:
    from vaebench import figures

    panels = _panels(analysis)
    if panels:
        yield "learning-curves", figures.learning_curves(panels, title=analysis.name)
    if rows := cell_images(analysis):
        yield "comparison", figures.comparison(rows, title=analysis.name)
    for cell in analysis.cells[:MAX_CELLS]:
        choice = chosen(cell)
        if choice is None:
            continue
        record, label = choice[0], cell_label(cell.cell)
        store = RunStore(analysis.run_dir(record["run_id"]))
        try:
            arrays, name = store.arrays(), re.sub(r"[^\w.=-]+", "-", label)
            if arrays is None:
                say(f"{label}: no arrays (published runs have none): its own figures are left out")
                continue
            estimator = str(setting(record, "estimator", "name"))
            title = run_label(cell.cell, record["seed"])
            drawn = figures.run_figures(arrays, store.journal, title, estimator)
            yield from ((f"{name}-{what}", figure) for what, figure in drawn)
        except (VaebenchError, KeyError, ValueError) as error:
            say(f"{label}: left out: {error}")


def _panels(analysis: Analysis) -> dict[str, list["CellCurve"]]:
    """Validation curves of the cells that have them, bounds only beside those they compare with."""
    from vaebench.figures import CellCurve

    panels: dict[str, list[CellCurve]] = {}
    groups: dict[str | None, list[Cell]] = {}
    for cell in analysis.cells:
        groups.setdefault(cell.key("likelihood"), []).append(cell)
    for cell in analysis.cells:
        journals = _journals(analysis, cell)
        length = min(map(len, journals), default=0)
        if not length:
            continue
        split = "val" if any("val/elbo" in line["metrics"] for line in journals[0]) else "train"
        for name, title in _CURVES.items():
            values = np.array(
                [
                    [_number(line["metrics"].get(f"{split}/{name}")) for line in journal[:length]]
                    for journal in journals
                ]
            )
            if not np.isfinite(values).any():
                continue
            said = {"val": "validation", "train": "training"}[split]
            stratum = sets_apart(groups[cell.key("likelihood")], analysis.cells)
            heading = f"{said} {title}{f', {stratum}' if stratum else ''}, nats per image"
            epochs = np.array([int(line["epoch"]) for line in journals[0][:length]])
            panels.setdefault(heading, []).append(CellCurve(cell_label(cell.cell), epochs, values))
    return panels


def _journals(analysis: Analysis, cell: Cell) -> list[list[dict[str, Any]]]:
    found = []
    for record in cell.records:
        try:
            journal = RunStore(analysis.run_dir(record["run_id"])).journal
        except VaebenchError:
            continue
        if all(isinstance(dig(line, "metrics"), dict) and "epoch" in line for line in journal):
            found.append(journal)
    return found


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else np.nan
