"""MLflow servers to break: one in this process that fails on demand, one that is a real process.

``Faulty`` is MLflow's own application on a loopback port; its ``fault`` happens to the requests
that it ``hits``. ``RealServer`` is ``mlflow server``, to be started, stopped and started again.
``points`` reads what a SQLite file or a PostgreSQL URI holds, ``expected`` what it must hold of a
grid's folder.
``MLFLOWS_OWN`` are the warnings to ignore where MLflow works.
"""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vaebench.schema.manifest import read_manifest
from vaebench.storage import run_store
from vaebench.tracking import Window, server

PATIENCE = 240.0  # seconds until a real server must answer, on a busy machine
REASONS = {401: "UNAUTHORIZED", 403: "FORBIDDEN", 429: "TOO MANY", 500: "ERROR", 503: "AWAY"}

# of MLflow, Alembic and SQLAlchemy, which leave connections to the garbage collector
MLFLOWS_OWN = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(mlflow|alembic|sqlalchemy)"),
    pytest.mark.filterwarnings("ignore:.*type hint:UserWarning"),
]

Points = Counter[tuple[str, str, int, int, float]]


class Faulty:
    """MLflow's server in this process.

    Attributes:
        fault: What happens to a request: a status code; ``"hang"``, no answer for as long as the
            server lives; ``"slow"``, half a second more; ``"drop"``, the connection breaks at once;
            ``"lost"``, it is done, but the connection breaks before the answer; None, nothing.
        hits: Whether the fault happens to a request, given its method and path.
        seen: Method and path of every request.
    """

    def __init__(self) -> None:
        self.fault: int | str | None = None
        self.hits: Callable[[str, str], bool] = lambda _method, _path: True
        self.seen: list[tuple[str, str]] = []
        self._ended = threading.Event()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, or not."""
        from mlflow.server import app

        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.seen.append((method, path))
        fault = self.fault if self.hits(method, path) else None
        if fault in ("hang", "slow"):
            self._ended.wait(None if fault == "hang" else 0.5)
        if fault in ("hang", "drop"):
            raise ConnectionAbortedError
        if isinstance(fault, int):
            start(f"{fault} {REASONS[fault]}", [("Retry-After", "3600")])
            return [f"not for {environ.get('HTTP_AUTHORIZATION', 'nobody')}".encode()]
        answer: Iterable[bytes] = app.wsgi_app(environ, start)
        if fault == "lost":
            raise ConnectionAbortedError
        return answer

    @contextlib.contextmanager
    def serving(self, database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        """Serve a SQLite store for as long as the context lasts; gives the address."""
        from mlflow.server import handlers
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Handler(WSGIRequestHandler):
            def log(self, *_: Any) -> None:
                """Say nothing."""

            def connection_dropped(self, *_: Any) -> None:
                self.close_connection = True

        # which every search looks for: slow to find missing, and with warnings
        monkeypatch.setitem(sys.modules, "mlflow.server.auth", None)
        files = database.parent / "files"
        store = handlers._tracking_store_registry.get_store(
            f"sqlite:///{database}", "mlflow-artifacts:/"
        )
        monkeypatch.setattr(handlers, "_tracking_store", store)
        monkeypatch.setattr(handlers, "_artifact_repo", None)
        monkeypatch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
        monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(files))
        http = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Handler)
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            self._ended.set()
            http.shutdown()
            http.server_close()
            thread.join()


class RealServer:
    """``mlflow server`` on a port of its own, with a SQLite store; ends with this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "mlflow.db"
        with socket.socket() as probe:
            probe.bind((server.HOST, 0))
            self.address = f"http://{server.HOST}:{probe.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it has been started, and not stopped."""
        return self._process is not None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        window = Window(self.folder, "", f"sqlite:///{self.database}", "", "artifacts")
        with (
            (self.folder / "server.log").open("a+b") as log,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(server, "PATIENCE", PATIENCE)
            self._process = server._start(window, self.address, log)
            server._wait(self._process, self.address, log, window)

    def stop(self) -> None:
        """Kill it and all its children, as when the machine goes away."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None


def points(database: Path | str, grid: str) -> Points:
    """Every row of every metric of a grid's runs: (run or cell, metric, step, time, value)."""
    shown = """
        SELECT coalesce(id.value || '/' || attempt.value, 'cell ' || cell.value),
               m.key, m.step, m.timestamp, m.value
        FROM metrics m JOIN runs r ON r.run_uuid = m.run_uuid AND r.lifecycle_stage = 'active'
        JOIN tags grid ON grid.run_uuid = r.run_uuid AND grid.key = 'vaebench.grid'
        LEFT JOIN tags id ON id.run_uuid = r.run_uuid AND id.key = 'vaebench.run_id'
        LEFT JOIN tags attempt ON attempt.run_uuid = r.run_uuid AND attempt.key = 'vaebench.attempt'
        LEFT JOIN tags cell ON cell.run_uuid = r.run_uuid AND cell.key = 'vaebench.cell'
        WHERE grid.value = ?
    """
    return Counter(map(tuple, _query(database, shown, grid)))


def statuses(database: Path | str, grid: str) -> Counter[tuple[str, str]]:
    """How many runs of a grid have which role and status."""
    wanted = """
        SELECT role.value, r.status FROM runs r
        JOIN tags grid ON grid.run_uuid = r.run_uuid AND grid.key = 'vaebench.grid'
        JOIN tags role ON role.run_uuid = r.run_uuid AND role.key = 'vaebench.role'
        WHERE grid.value = ? AND r.lifecycle_stage = 'active'
    """
    return Counter(map(tuple, _query(database, wanted, grid)))


def expected(folder: Path) -> Points:
    """What the store must hold of the runs of a grid, each point once; cells apart."""
    found: Points = Counter()
    for entry in read_manifest(folder)["runs"]:
        store = run_store(folder, entry["run_id"])
        run = f"{store.run_id}/{store.attempt}"
        for line in store.journal:
            for key, value in line["metrics"].items():
                found[run, key, line["epoch"], line["time"], value] += 1
        record = store.record or {"metrics": {}}
        for key, value in record["metrics"].items():
            if value is not None and not key.startswith(("train/", "val/")):
                found[run, key, 0, record["finished"], value] += 1
    return found


def of_runs(found: Points) -> Points:
    """Without the means of cells."""
    return Counter({point: n for point, n in found.items() if not point[0].startswith("cell ")})


def _query(database: Path | str, text: str, *values: str) -> list[tuple[Any, ...]]:
    if isinstance(database, str):
        import psycopg

        with psycopg.connect(database) as server:
            return server.execute(text.replace("?", "%s"), values).fetchall()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute(text, values).fetchall()
