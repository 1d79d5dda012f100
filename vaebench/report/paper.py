"""Figures of a grid for papers: PDF beside PNG, without titles, which a caption says better.

``learning-curves`` has the cells with the bands of their seeds, ``budget`` who leads at which
budget, ``rate`` the scores over the rate where numbers move it, ``comparison`` the cells on the
same test images, and ``<cell>-<figure>`` what the run shows that stands for a cell.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaebench.errors import ResultsError, VaebenchError
from vaebench.files import write_atomic
from vaebench.report.analysis import Analysis
from vaebench.report.budget import VALIDATED
from vaebench.report.cells import chosen
from vaebench.report.journals import journals, series
from vaebench.report.loading import setting
from vaebench.report.pictures import budget_figure, cell_images
from vaebench.report.rate_curves import rate_figure
from vaebench.report.strata import strata
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
    if budget := budget_figure(analysis):
        yield "budget", budget
    if over_rate := rate_figure(analysis):
        yield "rate", over_rate
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
    for stratum, cells in strata(analysis.cells).items():
        for cell in cells:
            found = journals(analysis, cell)
            length = min(map(len, found), default=0)
            validated = any(VALIDATED in line["metrics"] for its in found[:1] for line in its)
            split = "val" if validated else "train"
            for name, title in _CURVES.items():
                values = series(found, f"{split}/{name}", length)
                if not np.isfinite(values).any():
                    continue
                said = {"val": "validation", "train": "training"}[split]
                heading = f"{said} {title}{f', {stratum}' if stratum else ''}, nats per image"
                curve = CellCurve(cell_label(cell.cell), np.arange(1, length + 1), values)
                panels.setdefault(heading, []).append(curve)
    return panels
