"""Where MLflow keeps its things: which URI, which experiment, how to open it.

``connect`` decides without importing mlflow; ``open_store`` does the slow part.
"""

import os
import re
import shlex
import sqlite3
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vaebench.errors import TrackingError
from vaebench.files import lock
from vaebench.tracking.failures import explained, hide, quiet
from vaebench.tracking.own_files import require_own_files

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Read by mlflow from the environment only. The user's own values win.
MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # also what DO_NOT_TRACK=1 asks for; mlflow knows "true"
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the default waits 246 s at each call
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # a server may ask for an hour
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
LOCK = 120.0  # seconds that another process may take to make a store
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")


@dataclass(frozen=True)
class Window:
    """Where a grid is shown. Make it with :func:`connect`.

    Attributes:
        results: The results folder, absolute.
        grid: The grid's name, which is also its folder's.
        uri: MLflow's tracking URI. It may hold a password: show ``address`` instead.
        experiment: Name of the MLflow experiment.
        artifacts: Where a new experiment keeps its files, a ``file:`` URI; None: the server knows.
    """

    results: Path
    grid: str
    uri: str
    experiment: str
    artifacts: str | None

    @property
    def folder(self) -> Path:
        """The grid's folder."""
        return self.results / self.grid

    @property
    def command(self) -> str:
        """The command that sends what is missing; a password has to be filled in."""
        given = self.uri not in (default_uri(self.results), os.environ.get("MLFLOW_TRACKING_URI"))
        where = f" --tracking-uri {shlex.quote(self.address)}" if given else ""
        folder, here = self.folder, Path.cwd()
        typed = folder.relative_to(here) if folder.is_relative_to(here) else folder
        return f"vaebench sync {shlex.quote(str(typed))}{where}"

    @property
    def on_server(self) -> bool:
        """Whether a server keeps the store, so that it has a page already."""
        return self.uri.partition("://")[0] in SERVERS

    @property
    def is_own(self) -> bool:
        """Whether the store is that of the results folder: who made it is then not known."""
        return self.uri == default_uri(self.results)

    @property
    def address(self) -> str:
        """The tracking URI without user name and password."""
        return hide(self.uri, self.uri)


def connect(
    results_dir: Path,
    grid_name: str,
    uri: str | None = None,
    grid_file_uri: str | None = None,
) -> Window:
    """Decide where a grid is shown; neither imports mlflow nor opens anything.

    Arguments:
        results_dir: The results folder; need not exist yet.
        grid_name: The grid's name. The experiment is named after it, or after
            ``MLFLOW_EXPERIMENT_NAME``.
        uri: What the user asked for on the command line.
        grid_file_uri: What the grid's file asks for.

    Returns:
        The first of: ``uri``, ``MLFLOW_TRACKING_URI``, ``grid_file_uri``, ``mlflow.db`` in the
        results folder.

    Raises:
        TrackingError: MLflow has no store of that kind.
    """
    results = results_dir.resolve()
    if re.search(r"[?#]|%[0-9A-Fa-f]{2}", str(results)):  # a URI has no room for these
        raise TrackingError(
            f"{results}: MLflow cannot keep its store in a folder with ?, # or % in its name; "
            f"choose another --results"
        )
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or grid_file_uri or default_uri(results)
    _check(chosen)
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or grid_name
    database = sqlite_file(chosen)
    artifacts = None
    if _scheme(chosen) in DATABASES:
        # MLflow would take the working directory of whoever happens to create the experiment.
        parent = database.parent if database else results
        artifacts = (parent / "artifacts" / re.sub(r"[^\w.-]+", "-", experiment)).as_uri()
    return Window(results, grid_name, chosen, experiment, artifacts)


def default_uri(results: Path) -> str:
    """The store of a results folder of which nothing else was said."""
    return f"sqlite:///{results.resolve() / 'mlflow.db'}"


def sqlite_file(uri: str) -> Path | None:
    """The file behind a ``sqlite:`` URI; None for other URIs and for ``:memory:``."""
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    # not Path.resolve, which raises where links go in circles
    return Path(os.path.realpath(match[1])) if match and match[1] != ":memory:" else None


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].partition("+")[0].lower() if ":" in uri else uri


def _drivers(uri: str) -> tuple[str, ...]:
    """Modules one of which a PostgreSQL URI needs: the one that it names, or SQLAlchemy's own."""
    named = uri.partition(":")[0].partition("+")[2]
    return (named,) if named else ("psycopg", "psycopg2")


def _check(uri: str) -> None:
    """Raise a TrackingError for what no MLflow store answers to."""
    scheme, shown = _scheme(uri), f"tracking URI {hide(uri, uri)!r}"
    if scheme in SERVERS and not urlsplit(uri).hostname:
        raise TrackingError(f"{shown} names no host; try {scheme}://HOST:PORT")
    if scheme == "postgresql" and not any(map(find_spec, _drivers(uri))):
        raise TrackingError(
            f"{shown}: the driver of PostgreSQL is not installed: pip install 'vaebench[postgres]'"
        )
    known = (*DATABASES, *SERVERS, "databricks", "databricks-uc", "uc")
    if scheme in known or scheme in entry_points(group="mlflow.tracking_store").names:
        return
    if scheme != "file" and "://" in uri:
        raise TrackingError(
            f"{shown}: MLflow has no store {scheme!r}; "
            f"choose from {', '.join((*DATABASES, *SERVERS))}"
        )
    if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("1", "true"):
        raise TrackingError(
            f"{shown} is a plain folder, which MLflow no longer takes;\n"
            "use sqlite:///PATH/mlflow.db (mlflow migrate-filestore moves old runs there)"
        )


def prepare_mlflow() -> None:
    """Import mlflow (seconds), without telemetry, long waits and chatter.

    The environment variables are set only where the user has not: mlflow offers no other way.
    """
    for name, value in MLFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401  (slow)

    quiet()


def open_store(window: Window) -> tuple["MlflowClient", str]:
    """Open the store, made if it is a new SQLite file, and the experiment, created if need be.

    Returns:
        The client, and the experiment's id.

    Raises:
        TrackingError: What is wrong and what to do.
    """
    with explained(window.uri):
        if window.is_own:
            require_own_files(window.results / "mlflow.db", window.experiment)
        prepare_mlflow()
        client = open_client(window.uri)
        return client, _experiment(client, window)


def open_client(uri: str) -> "MlflowClient":
    """A client of ``uri`` alone; a new SQLite file is made by one process while others wait."""
    from mlflow import MlflowClient

    database = sqlite_file(uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
        with lock(Path(f"{database}.lock"), LOCK):
            if not database.exists():
                _make(database)
    return MlflowClient(tracking_uri=uri)


def _make(database: Path) -> None:
    """Make a SQLite store whole or not at all: MLflow cannot mend one that was left half made."""
    from mlflow import MlflowClient

    half_made = database.with_name(f".{database.name}.new")
    half_made.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{half_made}")
    connection = sqlite3.connect(half_made)
    connection.execute("PRAGMA journal_mode=WAL")  # kept by the file: readers need not wait
    connection.close()
    half_made.replace(database)


def _experiment(client: "MlflowClient", window: Window) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(window.experiment)
    if found is None:
        try:
            return str(client.create_experiment(window.experiment, window.artifacts))
        except MlflowException:
            found = client.get_experiment_by_name(window.experiment)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"experiment {window.experiment!r} was deleted in MLflow; bring it back with "
            f"'mlflow experiments restore -x {found.experiment_id}', or choose another --name"
        )
    return str(found.experiment_id)
