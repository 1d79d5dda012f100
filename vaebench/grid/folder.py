"""A grid's folder as a whole: its reports, and its lock."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaebench import report
from vaebench.errors import ResultsError, StorageError
from vaebench.figures import FIGURES, to_png
from vaebench.files import clean, write_atomic
from vaebench.plugins import told
from vaebench.schema.manifest import read_manifest
from vaebench.schema.record import OWN_FIGURES
from vaebench.storage import hold, network_file_system


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
    """Write the reports of a grid in every format, and the picture that compares its cells.

    Raises:
        StorageError: The disk is full, or cannot be written.
        ResultsError: A report cannot be written for another reason.
    """
    analysis = report.load(folder)
    picture = report.comparison_picture(analysis)
    if picture is not None:
        write_atomic(folder / "comparison.png", picture)
    for name, format_ in report.FORMATS.items():
        try:
            report.write(analysis, name, folder / format_.file)
        except ResultsError as error:
            cause = error.__cause__
            full = StorageError.of(cause, folder) if isinstance(cause, OSError) else None
            raise full or error from cause
    return analysis


def mend(folder: Path) -> str | None:
    """Remove what killed writers left, set a damaged manifest aside; return a warning if so."""
    clean(folder)
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
        f"{folder} lies on a network file system ({kind}): locks and SQLite may fail there "
        f"silently. Run each grid from one machine at a time; --tracking-uri keeps MLflow elsewhere"
    )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a grid's folder against other processes; see :func:`vaebench.storage.hold`."""
    try:
        with hold(folder):
            yield
    except OSError as error:
        unwritable = StorageError.of(error, folder)
        if unwritable is not None:
            raise unwritable from error
        raise ResultsError(f"{folder}: cannot be written: {error.strerror or error}") from error
