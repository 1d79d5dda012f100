"""``vaebench ui``: MLflow's page on the results of this machine, on loopback only.

One light worker instead of MLflow's four and its job runners: 0.4 GB instead of 2.2. MLflow's
server has no authentication, so it is never bound to another address.
"""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlencode

from vaebench.errors import TrackingError, VaebenchError
from vaebench.schema.manifest import grid_dirs
from vaebench.text import one_line
from vaebench.tracking.failures import Unreachable, hide
from vaebench.tracking.own_files import require_no_link_below
from vaebench.tracking.replay import Say, fill
from vaebench.tracking.store import MLFLOW_SETTINGS, Window, connect, sqlite_file
from vaebench.tracking.views import Link

HOST = "127.0.0.1"
PORT = 5000
PORTS = 20  # how many are tried, from the wanted one on
MAX_LOG_BYTES = 100_000  # of the end of the server's log
MAX_SHOWN = 300  # characters of it
PATIENCE = 120.0  # seconds until the server must answer: 6 at best, 33 on a cold disk


class Served(NamedTuple):
    """A page that can be opened.

    Attributes:
        address: ``http://127.0.0.1:5000``, or that of the server that was there already.
        links: The saved views, by name of the grid.
        wait: Serves until interrupted; None where another process does.
    """

    address: str
    links: dict[str, list[Link]]
    wait: Callable[[], None] | None


def ui(results_dir: Path, uri: str | None = None, port: int = PORT, say: Say = print) -> None:
    """Serve the MLflow page of a results folder until interrupted.

    What lies in the folder and is not in the store is sent first, so that a folder that came
    without its ``mlflow.db`` can be looked at as well. What is damaged there is left out. A server
    that only the environment names gets nothing.

    Arguments:
        results_dir: The results folder, or the folder of one grid.
        uri: Tracking URI, as for :func:`~vaebench.tracking.connect`. If a server is there already,
            its links are said, and that is all.
        port: On loopback; if it is taken, the next free one.
        say: Is told what is sent and what was left out, the address, and the links of the newest
            grid, line by line.

    Raises:
        TrackingError: There is nothing to show, no free port, or the server does not start, or
            ends.
    """
    say(f"Opening {results_dir} in MLflow, which takes some seconds ...")
    with serve(results_dir, uri, port, say) as served:
        say(f"MLflow: {served.address}{' (Ctrl-C ends it)' if served.wait else ''}")
        written = {f.resolve().name: (f / "grid.yaml").lstat() for f in grid_dirs(results_dir)}
        newest = max(served.links or written, key=lambda grid: written[grid].st_mtime_ns)
        say(f"{newest}:")
        shown = served.links.get(newest, [])
        for link in shown:
            say(f"  {link.title}: {link.url}")
        pages = [f / "report.html" for f in grid_dirs(results_dir) if f.resolve().name == newest]
        for page in filter(Path.is_file, pages):  # which shows these links
            links = [("mlflow", f"{link.title} {link.url}") for link in shown]
            say(f"  without MLflow: {page.resolve().as_uri()}#{urlencode(links)}")
        others = [grid for grid in served.links if grid != newest]
        if others:
            say(f"for links to another grid: vaebench ui GRID; GRID is {', '.join(others)}")
        if served.wait:
            try:
                served.wait()
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
    window = windows[0]  # all of them have one store
    if unasked := uri is None and not window.is_own and sqlite_file(window.uri) is None:
        say(
            f"nothing is sent to {window.address}, which only MLFLOW_TRACKING_URI names: "
            f"`vaebench sync {shlex.quote(str(results_dir))}` fills it"
        )
    links = {} if unasked else _fill_all(windows, say)
    if window.on_server:
        yield Served(window.address, links, None)
        return
    if window.is_own:
        require_no_link_below(window.results / "artifacts")
    free = _free_port(port)
    if free != port:
        say(f"port {port} is taken, using {free}")
    address = f"http://{HOST}:{free}"
    here = {
        grid: [link._replace(url=f"{address}/{link.relative}") for link in listed]
        for grid, listed in links.items()
    }
    with tempfile.TemporaryFile() as log, _start(window, address, log) as server:
        _wait(server, address, log, window)
        # in the end standard input is closed, which ends it
        yield Served(address, here, lambda: _serve(server, address, log, window))


def _fill_all(windows: Sequence[Window], say: Say) -> dict[str, list[Link]]:
    """Fill the store with every grid that is not damaged; return the links of those."""
    links: dict[str, list[Link]] = {}
    problems: list[str] = []
    for window in windows:
        try:
            links[window.grid] = fill(window, say)
        except Unreachable:
            raise
        except (VaebenchError, OSError) as error:
            problems.append(f"{window.grid} is left out: {' '.join(str(error).split())}")
    if not links:
        raise TrackingError("\n".join(["no grid can be shown", *problems]))
    for problem in problems:
        say(problem)
    return links


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
    files = window.results / "artifacts"
    options = ["--host", HOST, "--port", address.rpartition(":")[2], "--workers", "1"]
    environment = {
        **MLFLOW_SETTINGS,
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": window.uri,  # not an option: options are for all to see
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    child = Path(__file__).with_name("server_child.py")
    return subprocess.Popen(
        [sys.executable, "-P", str(child), *options, "--artifacts-destination", str(files)],
        env=environment,
        stdin=subprocess.PIPE,  # closed by our end, expected or not; which ends the server
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
    why = _last_words(log, window)
    raise TrackingError(f"MLflow's server did not start at {address}: {why}")


def _serve(server: "subprocess.Popen[bytes]", address: str, log: IO[bytes], window: Window) -> None:
    """Wait for the server, which ends only if somebody kills it."""
    code = server.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)  # its children, which nobody watches any more
    why = _last_words(log, window)
    raise TrackingError(f"MLflow's server at {address} has ended (exit code {code}): {why}")


def _last_words(log: IO[bytes], window: Window) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - MAX_LOG_BYTES))
    said = log.read().decode(errors="replace").strip().splitlines() or ["it says nothing"]
    return one_line(hide(said[-1], window.uri), MAX_SHOWN)
