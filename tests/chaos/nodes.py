"""Two machines on this one: network namespaces, the head of a Ray cluster in one, a node in one.

They share the disks of this machine, unless the node's view of a folder is covered.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from chaos.disks import CannotTry, call
from chaos.launch import Workplace

HEAD, NODE = (f"vaebench-{what}-{os.getpid()}" for what in ("head", "node"))
ADDRESS = {HEAD: "10.77.13.1", NODE: "10.77.13.2"}
PORT, MLFLOW_PORT = 6380, 5000
PATIENCE = 300.0  # seconds that something may take to start, on a busy machine


def inside(machine: str) -> list[str]:
    """The beginning of a command line that runs on a machine."""
    return ["ip", "netns", "exec", machine]


@contextmanager
def two_machines() -> Iterator[None]:
    """Two namespaces with a cable between them; at the end all that runs in them is killed.

    Raises:
        CannotTry: This process may not make them.
    """
    try:
        for machine in (HEAD, NODE):
            call("ip", "netns", "add", machine)
        cable = ["ip", "link", "add", "vb0", "netns", HEAD, "type", "veth"]
        call(*cable, "peer", "name", "vb0", "netns", NODE)
        for machine, address in ADDRESS.items():
            here = ["ip", "-n", machine]
            call(*here, "addr", "add", f"{address}/24", "dev", "vb0")
            for device in ("vb0", "lo"):
                call(*here, "link", "set", device, "up")
        yield
    finally:
        for machine in (HEAD, NODE):
            kill(machine)
            with suppress(CannotTry):
                call("ip", "netns", "delete", machine)


def pids(machine: str) -> list[int]:
    """What runs on a machine."""
    said = subprocess.run(["ip", "netns", "pids", machine], capture_output=True, check=False)
    return [int(pid) for pid in said.stdout.split()]


def kill(machine: str, spared: Sequence[int] = ()) -> None:
    """Kill all that runs on a machine, but sessions that are spared, and wait until it is gone."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        left = [pid for pid in pids(machine) if _session(pid) not in spared]
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    raise RuntimeError(f"{machine}: {left} cannot be killed")


def _session(pid: int) -> int:
    with suppress(ProcessLookupError):
        return os.getsid(pid)
    return 0


def workers(machine: str) -> list[int]:
    """Processes of Ray that do a run now; Ray names them after it."""
    found = []
    for pid in pids(machine):
        with suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
            if title.startswith(b"ray::") and title[5:17].strip(b"0123456789abcdef") == b"":
                found.append(pid)
    return found


class Cluster:
    """Ray on the two machines, and MLflow's server on the head's.

    Arguments:
        place: Where everything lies; Ray's processes use the copy of the package there.
        results: The results folder.
        disk: Where the node keeps files of its own.
        shared: Whether the node sees the results folder.
    """

    def __init__(self, place: Workplace, results: Path, disk: Path, *, shared: bool) -> None:
        self.place, self.results, self.disk, self.shared = place, results, disk, shared
        self.mlflow: subprocess.Popen[bytes] | None = None
        self.drivers: set[int] = set()
        self.log = (place.folder / "cluster.log").open("ab")
        results.mkdir()

    @property
    def spared(self) -> list[int]:
        """Sessions on the head's machine that are none of Ray's."""
        return [*self.drivers, *([self.mlflow.pid] if self.mlflow else [])]

    def start(self) -> None:
        """Start what is not there: the head, the node, MLflow's server."""
        if not [pid for pid in pids(HEAD) if _session(pid) not in self.spared]:
            kill(NODE)  # what is left of a cluster whose head has gone
            self._ray(HEAD, "--head", f"--port={PORT}", "--include-dashboard=false")
        if not pids(NODE):
            self.start_node()
        if self.mlflow is None:
            self.start_mlflow()

    def start_node(self) -> None:
        """Start the node."""
        self._ray(NODE, f"--address={ADDRESS[HEAD]}:{PORT}")

    def _ray(self, machine: str, *options: str) -> None:
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats"]
        resources = ["--num-cpus=1", "--num-gpus=0", "--object-store-memory=100000000"]
        command = [*ray, f"--node-ip-address={ADDRESS[machine]}", *resources, *options]
        if machine == NODE and not self.shared:
            cover = f"mount -t tmpfs tmpfs '{self.results}' && exec \"$@\""
            command = ["unshare", "--mount", "sh", "-c", cover, "sh", *command]
        mine = {"TMPDIR": str(self.disk)} if machine == NODE else {}
        self._call(machine, command, mine)

    def _call(self, machine: str, command: Sequence[str], mine: dict[str, str]) -> None:
        environment = os.environ | {"PYTHONPATH": str(self.place.project)} | mine
        environment.pop("RAY_ADDRESS", None)
        done = subprocess.run(
            [*inside(machine), *command], env=environment, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, timeout=PATIENCE, check=False,
        )  # fmt: skip
        if done.returncode:
            said = Path(self.log.name).read_text(errors="replace")
            raise RuntimeError(f"{machine}: {' '.join(command)}: {said[-2000:]}")

    def start_mlflow(self) -> None:
        """Start MLflow's server, with the results' own store, and wait until it answers."""
        store = ["--backend-store-uri", f"sqlite:///{self.results / 'mlflow.db'}"]
        files = ["--artifacts-destination", str(self.results / "artifacts")]
        where = ["--host", "127.0.0.1", "--port", str(MLFLOW_PORT), "--workers", "1"]
        self.mlflow = subprocess.Popen(
            [*inside(HEAD), sys.executable, "-m", "mlflow", "server", *store, *files, *where],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )  # fmt: skip
        knock = [*inside(HEAD), "bash", "-c", f": < /dev/tcp/127.0.0.1/{MLFLOW_PORT}"]
        until = time.monotonic() + PATIENCE
        while subprocess.run(knock, capture_output=True, check=False).returncode:
            if time.monotonic() > until or self.mlflow.poll() is not None:
                raise RuntimeError(Path(self.log.name).read_text(errors="replace")[-2000:])
            time.sleep(0.2)

    def kill_mlflow(self) -> None:
        """Kill MLflow's server and its children."""
        if self.mlflow is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.mlflow.pid, signal.SIGKILL)
            self.mlflow.wait()
            self.mlflow = None

    def kill_head(self) -> None:
        """Kill what is Ray's on the head's machine."""
        kill(HEAD, self.spared)

    def kill_node(self) -> None:
        """Kill all that runs on the node's machine."""
        kill(NODE)

    def kill_worker(self) -> None:
        """Kill a process that does a run on the node."""
        until = time.monotonic() + PATIENCE
        while not (found := workers(NODE) or workers(HEAD)):
            if time.monotonic() > until:
                raise RuntimeError("no run is under way")
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.kill(found[0], signal.SIGKILL)

    def end(self) -> None:
        """Kill all of it."""
        self.kill_mlflow()
        kill(HEAD)
        kill(NODE)
        self.log.close()
