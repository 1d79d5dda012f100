"""MLflow for a team: the recipe's own server, before Debian's PostgreSQL, both on loopback.

The command, the environment and the settings of ``mlflow server`` are read from the recipe's
``compose.yaml``; only addresses and folders are replaced.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import records
import yaml
from mlflow_servers import MLFLOWS_OWN, PATIENCE, expected, of_runs, points, statuses

from vaebench.errors import TrackingError
from vaebench.tracking import connect, sync_all
from vaebench.tracking.replay import sync

RECIPE = Path(__file__).parents[1] / "experiments" / "cluster" / "mlflow"
USER = "postgres"  # PostgreSQL refuses to be root's
ADMIN, PASSWORD = "password1234admin", "password1234"
TWO_CELLS = {"model": ["fnn", "cnn"]}
pytestmark = [pytest.mark.slow, *MLFLOWS_OWN]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def programs() -> Path:
    """The folder of ``initdb`` and ``pg_ctl``, which Debian keeps out of the search path."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return folders[-1]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A PostgreSQL with the recipe's databases; gives its URI up to the database's name."""
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install 'vaebench[postgres]'")
    binaries = programs()
    user = USER if os.geteuid() == 0 else None  # PostgreSQL does not run as root
    # not below pytest's folder, which only its owner may enter
    with tempfile.TemporaryDirectory(prefix="vaebench-postgres-") as name:
        data, port = Path(name) / "data", free_port()
        if user:
            shutil.chown(name, USER)

        def do(program: str, *arguments: str) -> None:
            where = binaries / program  # what is for everybody, Debian has in /usr/bin
            command = [str(where) if where.exists() else program, *arguments]
            log = Path(name) / "said"
            with log.open("a") as said:  # no pipe: the server would keep it open
                done = subprocess.run(
                    command, cwd="/", stdout=said, stderr=said, user=user, group=user, check=False
                )
            assert done.returncode == 0, log.read_text()

        do("initdb", "-D", str(data), "-U", "mlflow", "-A", "trust", "--no-sync")
        where = f"-h 127.0.0.1 -p {port} -k {name}"
        do("pg_ctl", "-D", str(data), "-w", "-t", str(int(PATIENCE)), "-o", where, "start")
        try:
            here = ["-h", "127.0.0.1", "-p", str(port), "-U", "mlflow"]
            do("createdb", *here, "mlflow")
            shutil.copyfile(RECIPE / "databases.sql", Path(name) / "databases.sql")
            do("psql", *here, "-d", "mlflow", "-f", f"{name}/databases.sql")
            yield f"mlflow@127.0.0.1:{port}"
        finally:
            do("pg_ctl", "-D", str(data), "-m", "immediate", "stop")


class TeamServer:
    """The service ``mlflow`` of the recipe, on a port of its own."""

    def __init__(self, folder: Path, postgres: str) -> None:
        recipe = yaml.safe_load((RECIPE / "compose.yaml").read_text())
        service = recipe["services"]["mlflow"]
        self.folder, self.port = folder, free_port()
        self.database = f"postgresql://{postgres}/mlflow"
        self._values = {
            "POSTGRES_PASSWORD": "any",
            "MLFLOW_ADMIN_PASSWORD": ADMIN,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret",
            "MLFLOW_ALLOWED_HOSTS": f"127.0.0.1:{self.port}",
        }
        self._other = {
            "mlflow:any@postgres": postgres,
            "0.0.0.0": "127.0.0.1",
            "--port 5000": f"--port {self.port}",
            "--workers 4": "--workers 2",
            "--artifacts-destination /artifacts": f"--artifacts-destination {folder}/artifacts",
            "/etc/mlflow/auth.ini": f"{folder}/auth.ini",
        }
        self.command = shlex.split(self._filled(service["command"]))
        given = {k: self._filled(str(v)) for k, v in service["environment"].items()}
        mine = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        self.environment = mine | given
        (folder / "auth.ini").write_text(self._filled(recipe["configs"]["auth"]["content"]))
        self._process: subprocess.Popen[bytes] | None = None

    def _filled(self, text: str) -> str:
        """What compose makes of a text, for this machine."""
        text = re.sub(r"\$\{(\w+)[^}]*\}", lambda found: self._values[found[1]], text)
        for old, new in self._other.items():
            text = text.replace(old, new)
        return text

    def uri(self, user: str = "ada", password: str = PASSWORD) -> str:
        return f"http://{user}:{password}@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self.command[0] == "mlflow"
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                env=self.environment, stdout=log, stderr=log, start_new_session=True,
                cwd=self.folder,
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return
            time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text()[-3000:])

    def kill(self) -> None:
        """Kill it and all its children, as when the machine goes away."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def add(self, name: str) -> None:
        """Enter a person, as the page does."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/2.0/mlflow/users/create",
            json.dumps({"username": name, "password": PASSWORD}).encode(),
            {
                "Content-Type": "application/json",
                "Authorization": f"Basic {b64encode(f'admin:{ADMIN}'.encode()).decode()}",
            },
        )
        urllib.request.urlopen(request, timeout=PATIENCE).close()


@pytest.fixture(scope="module")
def team(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    """The server, with Ada and Bob entered."""
    pytest.importorskip("flask_wtf", reason="mlflow's passwords: pip install 'mlflow[auth]'")
    server = TeamServer(tmp_path_factory.mktemp("team"), postgres)
    try:
        server.start()
        for name in ("ada", "bob"):
            server.add(name)
        yield server
    finally:
        server.kill()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy is not a server that is away."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 4 * PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_hundred_runs_through_a_server_that_is_killed_in_the_middle(
    team: TeamServer, tmp_path: Path
) -> None:
    """Whoever sends them is told, and the same command goes on; every point is there once."""
    grid = records.make_results(tmp_path, name="large", axes=TWO_CELLS, seeds=range(100))
    told: list[str] = []
    failed: list[str] = []

    def send() -> None:
        try:
            sync_all(grid, team.uri(), told.append)
        except TrackingError as error:
            failed.append(str(error))

    sender = threading.Thread(target=send)
    sender.start()
    wait_until(lambda: len({point[0] for point in points(team.database, "large")}) > 40)
    team.kill()
    sender.join(PATIENCE)
    assert not sender.is_alive()
    assert 0 < len(points(team.database, "large")) < sum(expected(grid).values())
    [reason] = failed
    assert "large: " in reason
    assert PASSWORD not in reason
    assert not told
    team.start()
    began, before = time.monotonic(), len(points(team.database, "large"))
    send()
    assert failed[1:] == []
    assert told == [f"large: 200 runs are shown: http://***@127.0.0.1:{team.port}"]
    found = points(team.database, "large")
    print(f"{(len(found) - before) / (time.monotonic() - began):.0f} points a second")
    assert of_runs(found) == expected(grid)
    assert {n for _, n in found.items()} == {1}
    assert statuses(team.database, "large") == {
        ("grid", "FINISHED"): 1, ("cell", "FINISHED"): 2, ("run", "FINISHED"): 200
    }  # fmt: skip


def test_several_who_send_one_grid_and_another_person_with_one_of_its_name(
    team: TeamServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaebench.tracking.payload._user", lambda: "ada")
    hers = records.make_results(tmp_path / "ada", name="both", axes=TWO_CELLS, seeds=range(6))
    his = records.make_results(tmp_path / "bob", name="both", axes=TWO_CELLS, seeds=(90, 91))
    command = [sys.executable, "-m", "vaebench", "sync", str(his)]
    bob = subprocess.Popen(
        [*command, "--tracking-uri", team.uri("bob")],
        env=os.environ | {"LOGNAME": "bob"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    with ThreadPoolExecutor(3) as pool:
        window = connect(hers.parent, hers.name, team.uri())
        outcomes = [future.result() for future in [pool.submit(sync, window) for _ in range(3)]]
    said = bob.communicate(timeout=PATIENCE)[0].decode()
    assert bob.returncode == 0, said
    assert {(outcome.sent, outcome.unsent, outcome.problem) for outcome in outcomes} == {
        (12, 0, None)
    }
    found = points(team.database, "both")
    assert of_runs(found) == expected(hers) + expected(his)
    roles: Counter[str] = Counter()
    for (role, status), n in statuses(team.database, "both").items():
        assert status == "FINISHED"
        roles[role] += n
    assert roles == {"grid": 2, "cell": 4, "run": 16}
    users = people(team, "both")
    assert users == {"ada": 15, "bob": 7}


def people(team: TeamServer, experiment: str) -> dict[str, Any]:
    """How many runs each person has in an experiment."""
    import psycopg

    asked = """
        SELECT t.value, count(*) FROM runs r JOIN tags t USING (run_uuid)
        JOIN experiments e ON e.experiment_id = r.experiment_id
        WHERE t.key = 'mlflow.user' AND e.name = %s GROUP BY 1
    """
    with psycopg.connect(team.database) as server:
        return dict(server.execute(asked, (experiment,)).fetchall())


def test_wrong_password_is_told_in_one_line_that_does_not_hold_it(
    team: TeamServer, tmp_path: Path
) -> None:
    grid = records.make_results(tmp_path, name="refused", axes=TWO_CELLS, seeds=(0,))
    with pytest.raises(TrackingError, match="refuses the credentials") as caught:
        sync_all(grid, team.uri(password="wrongwrong12"), pytest.fail)
    assert "wrongwrong12" not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
