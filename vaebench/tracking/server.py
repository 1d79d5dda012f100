"""``vaebench ui``: MLflow's page on the results of this machine, on loopback only.

One light worker instead of MLflow's four and its job runners: 0.4 GB instead of 2.2. MLflow's
server has no authentication, so it is never bound to another address.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from vaebench.errors import ResultsError, TrackingError
from vaebench.schema.labels import run_label
from vaebench.schema.manifest import grid_dirs
from vaebench.storage import RunStore
from vaebench.tracking import payload
from vaebench.tracking.failures import Unreachable, hide
from vaebench.tracking.orphans import untrained
from vaebench.tracking.publisher import DAMAGE, Publisher
from vaebench.tracking.replay import said
from vaebench.tracking.store import MLFLOW_SETTINGS, Window, connect
from vaebench.tracking.views import Link

HOST = "127.0.0.1"
PORT = 5000
PORTS = 20  # how many are tried, from the wanted one on
PATIENCE = 120.0  # seconds until the server must answer: 6 at best, 33 on a cold disk

Say = Callable[[str], None]


class Served(NamedTuple):
    """A page that can be opened.

    Attributes:
        address: ``http://127.0.0.1:5000``, or that of the server that was there already.
        ours: Whether this process serves it.
        links: The saved views, by name of the grid.
    """

    address: str
    ours: bool
    links: dict[str, list[Link]]


def ui(results_dir: Path, uri: str | None = None, port: int = PORT, say: Say = print) -> None:
    """Serve the MLflow page of a results folder until interrupted.

    What lies in the folder and is not in the store is sent first, so that a folder that came
    without its ``mlflow.db`` can be looked at as well. What is damaged there is left out.

    Arguments:
        results_dir: The results folder, or the folder of one grid.
        uri: Tracking URI, as for :func:`~vaebench.tracking.connect`. If a server is there already,
            its links are said, and that is all.
        port: On loopback; if it is taken, the next free one.
        say: Is told what is sent and what was left out, the address, and the links of the newest
            grid, line by line.

    Raises:
        TrackingError: There is nothing to show, no free port, or the server does not start.
    """
    say(f"Opening {results_dir} in MLflow, which takes some seconds ...")
    with serve(results_dir, uri, port, say) as served:
        say(f"MLflow: {served.address}{' (Ctrl-C ends it)' if served.ours else ''}")
        written = {f.resolve().name: (f / "grid.yaml").stat() for f in grid_dirs(results_dir)}
        newest = max(served.links, key=lambda grid: written[grid].st_mtime_ns)
        say(f"{newest}:")
        for link in served.links[newest]:
            say(f"  {link.title}: {link.url}")
        others = [grid for grid in served.links if grid != newest]
        if others:
            say(f"for links to another grid: vaebench ui GRID; GRID is {', '.join(others)}")
        if served.ours:
            try:
                threading.Event().wait()
            except KeyboardInterrupt as interrupt:
                if type(interrupt) is not KeyboardInterrupt:
                    raise  # SIGTERM is not how a person ends it


@contextlib.contextmanager
def serve(
    results_dir: Path, uri: str | None = None, port: int = PORT, say: Say = print
) -> Iterator[Served]:
    """The page of a results folder, for as long as the context lasts; see :func:`ui`."""
    folders = grid_dirs(results_dir)
    if not folders:
        raise TrackingError(f"{results_dir} holds no grid to show; make one with vaebench run-grid")
    windows = [connect(folder.resolve().parent, folder.resolve().name, uri) for folder in folders]
    links = _fill_all(windows, say)
    window = windows[0]  # all of them have one store
    if window.on_server:
        yield Served(window.address, False, links)
        return
    free = _free_port(port)
    if free != port:
        say(f"port {port} is taken, using {free}")
    address = f"http://{HOST}:{free}"
    here = {
        grid: [Link(link.title, f"{address}/{link.relative}", link.relative) for link in listed]
        for grid, listed in links.items()
    }
    with tempfile.TemporaryFile() as log:
        server = _start(window, address, log)
        try:
            _wait(server, address, log, window)
            yield Served(address, True, here)
        finally:
            _stop(server)


def _fill_all(windows: Sequence[Window], say: Say) -> dict[str, list[Link]]:
    """Fill the store with every grid that is not damaged; return the links of those."""
    links: dict[str, list[Link]] = {}
    problems: list[str] = []
    for window in windows:
        with _leaving_out(window.grid, problems.append):
            links[window.grid] = _fill(window, say)
    if not links:
        raise TrackingError("\n".join(["no grid can be shown", *problems]))
    for problem in problems:
        say(problem)
    return links


def _fill(window: Window, say: Say) -> list[Link]:
    """Send the runs that have ended and are not in the store; others may still be training."""
    with untrained(window.folder) as ended:
        grid = Publisher(window, watches=not ended)
        missing = []
        unsent = [run_id for run_id in grid.unsent() if _has_ended(grid.runs[run_id].store)]
        if unsent:
            runs = "1 run" if len(unsent) == 1 else f"{len(unsent)} runs"
            say(f"{window.grid}: sending {runs} to MLflow ...")
        for run_id in unsent:
            run = grid.runs[run_id]
            with _leaving_out(f"{window.grid}: {run_label(run.cell, run.seed)} ({run_id})", say):
                _require_whole(run.store)
                grid.run(run_id, ended=ended)
                missing.append(run_id)
        for label in grid.cells if missing else ():
            with _leaving_out(f"{window.grid}: {label}", say):
                grid.cell(label, ended=ended)
                if grid.finished():
                    grid.model(label)
        grid.send_views()
        return grid.links()


def _has_ended(store: RunStore) -> bool:
    """Whether a run has a record, be it damaged."""
    return (store.path / "record.json").exists()


def _require_whole(store: RunStore) -> None:
    """Make sure that all of a run which has a record can be read.

    Raises:
        ResultsError: Something of it is damaged.
    """
    record = payload.finished_record(store, store.journal)
    if store.config is None:
        raise ResultsError(f"{store.path / 'config.yaml'}: damaged")
    store.whole_journal(record.get("epochs", 0) if record else 0)


@contextlib.contextmanager
def _leaving_out(what: str, say: Say) -> Iterator[None]:
    """Go on without what is damaged, and say so in one line; not if MLflow is out of reach."""
    try:
        yield
    except Unreachable:
        raise
    except DAMAGE as error:
        say(f"{what} is left out: {' '.join(said(error).split())}")


def _free_port(wanted: int) -> int:
    for port in range(wanted, min(wanted + PORTS, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise TrackingError(
        f"ports {wanted} to {wanted + PORTS - 1} are all taken; choose another --port"
    )


def _start(window: Window, address: str, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    files = (
        Path(tempfile.gettempdir()) if window.artifacts is None else window.results / "artifacts"
    )
    options = ["--host", HOST, "--port", address.rpartition(":")[2], "--workers", "1"]
    environment = {
        **MLFLOW_SETTINGS,
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": window.uri,  # not an option: options are for all to see
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    guard = Path(__file__).with_name("server_child.py")
    return subprocess.Popen(
        [sys.executable, "-P", str(guard), *options, "--artifacts-destination", str(files)],
        env=environment,
        stdin=subprocess.PIPE,  # closed by our end, expected or not; the guard then ends the server
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _wait(server: "subprocess.Popen[bytes]", address: str, log: IO[bytes], window: Window) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), direct.open(f"{address}/health", timeout=5):
            return
        time.sleep(0.2)
    log.seek(0)
    said = log.read().decode(errors="replace").strip().splitlines() or ["it says nothing"]
    why = hide(said[-1], window.uri)
    raise TrackingError(f"MLflow's server did not start at {address}: {why}")


def _stop(server: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(timeout=5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)  # its children as well
    server.wait()
    if server.stdin:
        server.stdin.close()
