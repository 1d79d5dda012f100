"""A grid's folder as a whole: its reports, and who works on it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vaebench import report
from vaebench.errors import ResultsError, StorageError
from vaebench.figures import FIGURES, to_png
from vaebench.files import clean, write_atomic
from vaebench.plugins import told
from vaebench.schema.manifest import PICTURES, read_manifest
from vaebench.schema.record import OWN_FIGURES
from vaebench.storage import Lease, join, locked, network_file_system


def draw_own_figures(folder: Path) -> list[str]:
    """Draw a grid's figures that plugins have entered; return a warning for each that failed."""
    plots = [(name, plot) for name, plot in FIGURES.items() if plot.of == "grid"]
    warnings = []
    for name, plot in plots:
        records = report.load(folder).records
        try:
            picture = to_png(plot.function(records, title=f"{folder.name}: {plot.title}"))
        except Exception as error:
            warnings.append(f"the figure {name} was not drawn: {told(error)}")
            continue
        write_atomic(folder / "figures" / f"{OWN_FIGURES}{name}.png", picture, folder)
    return warnings


def write_reports(folder: Path) -> report.Analysis:
    """Write the reports of a grid in every format, and the pictures of its cells.

    One process at a time does it, and reads what there is then: the last has all of it.

    Raises:
        StorageError: The disk is full, or cannot be written.
        ResultsError: A report cannot be written for another reason.
    """
    while True:
        with locked(folder, "reports") as lease:
            analysis = _write_reports(folder)
            if lease.is_current():  # else it slept, and has perhaps replaced newer ones
                return analysis


def _write_reports(folder: Path) -> report.Analysis:
    clean(folder, only={*PICTURES, *(format_.file for format_ in report.FORMATS.values())})
    analysis = report.load(folder)
    for name, picture in report.pictures(analysis):
        write_atomic(folder / name, picture)
    for name, format_ in report.FORMATS.items():
        try:
            report.write(analysis, name, folder / format_.file)
        except ResultsError as error:
            cause = error.__cause__
            full = StorageError.of(cause, folder) if isinstance(cause, OSError) else None
            raise full or error from cause
    return analysis


def is_finished(analysis: report.Analysis) -> bool:
    """Whether every run of a grid is complete or has failed."""
    statuses = {record["status"] for record in analysis.records}
    return not (analysis.missing or analysis.damaged or "interrupted" in statuses)


def mend(folder: Path) -> str | None:
    """Set a damaged manifest aside; return a warning if so. With the manifest locked."""
    clean(folder, only={"grid.yaml"})
    path = folder / "grid.yaml"
    try:
        if path.exists():
            read_manifest(folder)
    except ResultsError:
        path.replace(folder / "grid.yaml.damaged")
        return f"{path}: damaged; it is kept as grid.yaml.damaged and written anew"
    return None


def unsafe(folder: Path) -> str | None:
    """A warning about a folder on a network file system; None elsewhere."""
    kind = network_file_system(folder)
    if kind is None:
        return None
    return (
        f"{folder} lies on a network file system ({kind}), where SQLite may lose what several "
        f"machines write: keep MLflow elsewhere, with --tracking-uri"
    )


@contextmanager
def taking_part(
    folder: Path, *, whole: bool = False, tell: Callable[[str], None] = lambda _: None
) -> Iterator[Lease]:
    """Work on a grid, with others or as the only one; see :func:`vaebench.storage.join`."""
    try:
        with join(folder, whole=whole, tell=tell) as member:
            yield member
    except OSError as error:
        unwritable = StorageError.of(error, folder)
        if unwritable is not None:
            raise unwritable from error
        raise ResultsError(f"{folder}: cannot be written: {error.strerror or error}") from error
