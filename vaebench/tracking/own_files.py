"""The store of a results folder keeps its files in that folder, whoever made it.

``mlflow.db`` travels with a results folder. What it says of where files lie decides where MLflow
writes them, so it is read here before MLflow opens it.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vaebench.errors import ResultsError, TrackingError
from vaebench.files import require_no_link, require_single
from vaebench.text import one_line

MAX_SHOWN = 200  # characters of a location
# where MLflow writes down places of files; {experiment} is where new runs would write theirs
QUERIES = (
    "SELECT artifact_location FROM experiments WHERE name = :experiment",
    "SELECT DISTINCT artifact_uri FROM runs",
    "SELECT DISTINCT artifact_location FROM logged_models",
    "SELECT DISTINCT source FROM model_versions",
    "SELECT DISTINCT storage_location FROM model_versions",
    "SELECT DISTINCT value FROM trace_tags WHERE key = 'mlflow.artifactLocation'",
)
NO_PLACES = ("models:", "runs:")  # they name what is in the store itself


def require_own_files(database: Path, experiment: str) -> None:
    """Make sure that a SQLite store keeps its files beside itself.

    Arguments:
        database: ``mlflow.db`` in a results folder; need not be there.
        experiment: The experiment that runs are added to.

    Raises:
        TrackingError: It keeps some elsewhere, or it is a link or has other names.
    """
    try:
        for path in (database, *(Path(f"{database}{end}") for end in ("-wal", "-shm"))):
            require_no_link(path, database.parent)
            require_single(path)
    except ResultsError as error:
        raise TrackingError(str(error)) from error
    if os.path.lexists(f"{database}-journal"):
        # vaebench makes none; SQLite would delete a file that it may name
        raise TrackingError(
            f"{database}-journal: left by another program; delete it and mlflow.db, and the same "
            f"command fills a new one from the results"
        )
    if not database.exists():
        return
    for location in _locations(database, experiment):
        if not _is_inside(location, database.parent):
            raise TrackingError(
                f"{database} keeps files at {one_line(location, MAX_SHOWN)}: it was moved here, or "
                f"somebody else made it;\n"
                f"delete mlflow.db, and the same command fills a new one from the results"
            )


def _locations(database: Path, experiment: str) -> Iterator[str]:
    """Where a store says that files lie."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        for query in QUERIES:
            try:
                rows = connection.execute(query, {"experiment": experiment}).fetchall()
            except sqlite3.OperationalError as error:
                if "no such" in str(error):  # a table or column of another version of MLflow
                    continue
                raise TrackingError(f"{database}: cannot be read: {error}") from error
            except sqlite3.DatabaseError:  # it is none, which MLflow explains
                return
            yield from (str(value) for (value,) in rows if value is not None)


def _is_inside(location: str, folder: Path) -> bool:
    """Whether a location is that of something in the store, or of files below its folder."""
    if location.startswith(NO_PLACES):
        return True
    parts = urlsplit(location)
    if parts.query or parts.fragment:
        return False
    path = unquote(parts.path)
    if parts.scheme == "mlflow-artifacts" and not parts.netloc:  # where `vaebench ui` keeps them
        return ".." not in path.split("/")
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return False
    return Path(os.path.normpath(path)).is_relative_to(folder)


def require_own_targets(location: str, names: Iterable[str], folder: Path) -> None:
    """Make sure that files can be written to a location below ``folder`` through no link.

    Raises:
        TrackingError: One of them is a link, lies behind one, or has other names.
    """
    place = Path(unquote(urlsplit(location).path))
    try:
        for path in (place / name for name in names):
            require_no_link(path, folder)
            require_single(path)
    except ResultsError as error:
        raise TrackingError(str(error)) from error


def require_no_link_below(folder: Path) -> None:
    """Make sure that no link lies below a folder whose files MLflow is to show.

    Raises:
        TrackingError: One does.
    """
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_symlink():
                raise TrackingError(f"{path}: a link, which MLflow would follow; delete it")
