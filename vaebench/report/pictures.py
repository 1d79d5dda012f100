"""Pictures of a report: which file stands for a cell, how it is linked, what must be copied.

:class:`Pictures` turns paths into links and remembers the copies they need; :func:`write_copies`
makes them. :func:`comparison_picture` draws all cells on the same images.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from vaebench.errors import ResultsError, VaebenchError
from vaebench.files import names_in, read_picture, write_atomic
from vaebench.report.analysis import Analysis
from vaebench.report.cells import Cell, chosen
from vaebench.report.loading import Report, dig
from vaebench.report.rate_curves import rate_figure
from vaebench.schema.labels import cell_label, run_label
from vaebench.schema.manifest import BUDGET, COMPARISON, OVER_RATE
from vaebench.schema.record import OWN_FIGURES
from vaebench.storage import RunStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vaebench.figures import CellImages


_OWN = re.compile(rf"{OWN_FIGURES}[A-Za-z0-9_-]{{1,64}}\.png")
_TILE = re.compile(r"(?P<kind>[a-z]+)-(?P<epoch>\d+)\.png")


@dataclass
class Pictures:
    """Links to pictures from a document at ``output``, or from the current folder without it.

    A picture beneath the document's folder is linked where it lies. Any other is linked as a copy
    in ``<name of the document>_files`` beside the document, so that the folder can be moved.

    Attributes:
        output: The document, or None when it has no file.
        copies: Source to target of the copies that the links so far need.
    """

    output: Path | None
    copies: dict[Path, Path] = field(default_factory=dict)

    def link(self, picture: Path, name: str) -> str:
        """The relative, quoted address of ``picture``; ``name`` is that of its copy, if any."""
        picture = picture.parent.resolve() / picture.name
        folder = (self.output.parent if self.output else Path()).resolve()
        if self.output is not None and not picture.is_relative_to(folder):
            target = folder / f"{self.output.stem}_files" / name
            self.copies[picture] = target
            picture = target
        return quote(Path(os.path.relpath(picture, folder)).as_posix())


def write_copies(pictures: Pictures) -> None:
    """Copy what the links need.

    Raises:
        ResultsError: One is no picture any more.
    """
    for source, target in pictures.copies.items():
        write_atomic(target, read_picture(source) or b"", target.parents[1])


def last_tile(report: Report, cell: Cell, kind: str) -> tuple[Path, int] | None:
    """The tile ``kind`` (reconstruction, samples) of the measured weights of a cell's run."""
    choice = chosen(cell)
    if choice is None:
        return None
    folder = report.run_dir(choice[0]["run_id"]) / "images"
    measured = dig(choice[0], "measured", "epoch")
    try:
        names = names_in(folder, report.directory)
    except ResultsError:
        return None
    matches = [match for name in names if (match := _TILE.fullmatch(name))]
    tiles = [(int(match["epoch"]), folder / match[0]) for match in matches if match["kind"] == kind]
    if not tiles:
        return None
    epoch, path = max(tiles, key=lambda tile: (tile[0] == measured, tile[0]))
    return (path, epoch) if is_picture(path, report.directory) else None


def is_picture(path: Path, within: Path) -> bool:
    """Whether a file is a picture that may be shown: nothing else is linked or copied."""
    try:
        return read_picture(path, within) is not None
    except ResultsError:
        return False


def pictures(analysis: Analysis) -> Iterator[tuple[str, bytes]]:
    """The pictures of a grid, as PNG, by their names in its folder: what there is to draw."""
    from vaebench.figures import to_png  # matplotlib is slow to import, and tables need none of it

    if comparison := comparison_picture(analysis):
        yield COMPARISON, comparison
    if budget := budget_figure(analysis):
        yield BUDGET, to_png(budget)
    if over_rate := rate_figure(analysis):
        yield OVER_RATE, to_png(over_rate)


def comparison_picture(analysis: Analysis) -> bytes | None:
    """All cells on the same test images, as PNG; None when no run has its arrays."""
    from vaebench import figures

    rows = cell_images(analysis)
    return figures.to_png(figures.comparison(rows, title=analysis.name)) if rows else None


def budget_figure(analysis: Analysis) -> "Figure | None":
    """Validation scores over what was spent; None when no journal has two epochs of them."""
    from vaebench import figures

    its = analysis.budget
    panels = {
        f"validation ELBO{name and f', {name}'}, nats per image": [
            figures.CellCurve(
                label=cell_label(scores.cell.cell),
                epochs=np.arange(1, scores.values.shape[1] + 1),
                values=scores.values,
                seconds=scores.seconds,
            )
            for scores in group
        ]
        for name, group in its.groups.items()
    }
    if not panels:
        return None
    return figures.budget_curves(panels, title=analysis.name, clock=its.clock or "")


def cell_images(analysis: Analysis) -> list["CellImages"]:
    """What the cells make of the same test images; none when no run has its arrays.

    Each cell is shown by the run whose pictures stand for it in the table. Cells of other test
    images than the first one's (another data set or binarisation) are left out, and so are runs
    whose arrays cannot be read.
    """
    from vaebench.figures import CellImages

    rows: list[CellImages] = []
    for i, cell in enumerate(analysis.cells):
        choice = chosen(cell)
        arrays = None if choice is None else _arrays(analysis.run_dir(choice[0]["run_id"]))
        if arrays is None or (rows and not np.array_equal(arrays[0], rows[0].originals)):
            continue
        metrics = ", ".join(
            f"{column.title} {column.entries[i].mean}"
            for column in analysis.table.columns
            if column.metric in ("test/ssim", "test/psnr") and column.entries[i].mean
        )
        rows.append(CellImages(cell_label(cell.cell), metrics, *arrays))
    return rows


def _arrays(run: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    try:
        arrays = RunStore(run).arrays() or {}
        originals, *others = (arrays[k] for k in ("originals", "reconstructions", "samples"))
    except (VaebenchError, KeyError):
        return None
    same = others[0].shape == originals.shape and others[1].shape[1:] == originals.shape[1:]
    images = originals.ndim == 4 and originals.shape[1] in (1, 3) and originals.size > 0
    whole = same and images and all(array.dtype.kind == "f" for array in (originals, *others))
    return (originals, others[0], others[1]) if whole else None


def own_pictures(analysis: Analysis) -> list[tuple[Path, str, str]]:
    """Pictures that plugins have drawn: the files, titles, and names for copies.

    Of the grid, and of the run that stands for each of its cells.
    """
    found = []
    folder = analysis.directory / "figures"
    try:
        names = names_in(folder, analysis.directory)
    except ResultsError:
        names = []
    for name in names:
        words = name.removeprefix(OWN_FIGURES).removesuffix(".png").replace("_", " ")
        found.append((folder / name, f"{analysis.name}: {words}", name))
    for record, _ in filter(None, map(chosen, analysis.cells)):
        drawn = record.get("figures")
        below = analysis.run_dir(record["run_id"]) / "figures"
        for figure, title in drawn.items() if isinstance(drawn, dict) else ():
            label = run_label(record["cell"], record["seed"])
            name = f"{OWN_FIGURES}{figure}.png"
            found.append((below / name, f"{label}: {title}", f"{record['run_id']}-{name}"))
    return [
        (path, title, name)
        for path, title, name in found
        if _OWN.fullmatch(path.name) and is_picture(path, analysis.directory)
    ]
