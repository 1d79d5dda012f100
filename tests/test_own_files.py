"""A store of a stranger: what it says of where files lie is not believed."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from vaebench.errors import TrackingError
from vaebench.tracking.own_files import (
    require_no_link_below,
    require_own_files,
    require_own_targets,
)

TABLES = {
    "experiments": ("name", "artifact_location"),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
    "trace_tags": ("key", "value"),
}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A store as MLflow makes it, as far as places of files go."""
    path = tmp_path / "results" / "mlflow.db"
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        for table, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
    connection.close()
    inside = (path.parent / "artifacts" / "g").as_uri()
    add(path, "experiments", "Default", str(tmp_path / "mlruns" / "0"))  # MLflow's own, unused
    add(path, "experiments", "g", inside)
    add(path, "runs", f"{inside}/1/artifacts")
    add(path, "logged_models", f"{inside}/models/m-1/artifacts")
    add(path, "model_versions", "models:/m-1", f"{inside}/models/m-1/artifacts")
    add(path, "trace_tags", "mlflow.artifactLocation", f"{inside}/traces/1")
    add(path, "trace_tags", "other", "file:///elsewhere")
    add(path, "experiments", "sent to the page of vaebench ui", "mlflow-artifacts:/2")
    add(path, "runs", "mlflow-artifacts:/2/1/artifacts")
    return path


def add(path: Path, table: str, *values: str | None) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
    connection.close()


def test_a_store_of_ones_own_is_used(database: Path) -> None:
    require_own_files(database, "g")
    require_own_files(database.with_name("none.db"), "g")


ELSEWHERE = [
    "file:///elsewhere/a",
    "/elsewhere/a",
    "relative/a",
    "s3://bucket/a",
    "http://host/a",
    "mlflow-artifacts://host/a",
    "mlflow-artifacts:/a/%2e%2e/b",
    "file://host/{results}/artifacts",
    "file://{results}/../a",
    "file://{results}/%2e%2e/a",
    "file://{results}?a=/../../elsewhere",
    "{results}-other/a",
    "",
]


@pytest.mark.parametrize("location", ELSEWHERE)
@pytest.mark.parametrize("table", TABLES)
def test_a_store_that_keeps_files_elsewhere_is_refused(
    database: Path, table: str, location: str
) -> None:
    location = location.format(results=database.parent)
    rows: dict[str, tuple[str | None, ...]] = {
        "experiments": ("h", location),
        "runs": (location,),
        "logged_models": (location,),
        "model_versions": (None, location),
        "trace_tags": ("mlflow.artifactLocation", location),
    }
    add(database, table, *rows[table])
    with pytest.raises(TrackingError, match=r"keeps files at .*\n.*delete mlflow\.db"):
        require_own_files(database, "h")


@pytest.mark.parametrize("name", ["mlflow.db", "mlflow.db-wal", "mlflow.db-shm"])
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_store_that_is_a_link_is_refused(
    database: Path, name: str, link: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"")
    path = database.with_name(name)
    if path.exists():
        path.replace(target)
    link(path, target)
    with pytest.raises(TrackingError, match=r"a link|other names"):
        require_own_files(database, "g")


def test_a_rollback_journal_is_refused(database: Path) -> None:
    database.with_name("mlflow.db-journal").symlink_to("nothing")
    with pytest.raises(TrackingError, match=r"mlflow\.db-journal: left by another program"):
        require_own_files(database, "g")


def test_what_is_no_database_is_for_mlflow_to_explain(database: Path) -> None:
    database.write_bytes(b"x" * 5000)
    require_own_files(database, "g")


def test_a_store_that_cannot_be_looked_at_is_not_used(database: Path) -> None:
    with sqlite3.connect(database) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackingError, match="cannot be read: database is locked"):
            require_own_files(database, "g")
        holder.rollback()
    holder.close()


def test_files_are_not_written_through_links(database: Path, tmp_path: Path) -> None:
    results, outside = database.parent, tmp_path / "outside"
    outside.mkdir()
    place = results / "artifacts" / "g" / "1" / "artifacts"
    place.mkdir(parents=True)
    require_own_targets(place.as_uri(), ["run/a", "run/b"], results)
    (outside / "b").write_text("")
    os.link(outside / "b", place / "b")
    (place / "run").symlink_to(outside)
    for name in ("run/a", "b"):
        with pytest.raises(TrackingError, match=r"a link|other names"):
            require_own_targets(place.as_uri(), [name], results)
    with pytest.raises(TrackingError, match=r"artifacts/run: a link, which MLflow would follow"):
        require_no_link_below(results / "artifacts")
    (place / "run").unlink()
    require_no_link_below(results / "artifacts")
    require_no_link_below(results / "nothing")
