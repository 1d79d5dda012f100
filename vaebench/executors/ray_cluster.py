"""The Ray cluster that this process is connected to: its nodes, what they have, whether it lives.

The head may die. Ray's library would end this process a minute later, without a word of ours; so a
thread of its own listens for the head, and nothing else here waits for it.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vaebench.errors import ClusterError, ConfigError
from vaebench.text import one_line

LOOK = 1.0  # seconds between two looks at the cluster
SILENCE = 20.0  # seconds after which a head is given up; Ray ends this process after 60
MAX_SAID = 300  # characters of what Ray says of an error
_TOKEN = "RAY_AUTH_MODE=token and its ~/.ray/auth_token belong on every node and here"


class Cluster:
    """The cluster that this process is connected to.

    Attributes:
        nodes: Host names of the nodes that live, by their ids.
        able: Ids of those with a CPU: a head may have none.
        left_out: Ids of nodes that get no run.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}
        self.able: set[str] = set()
        self.left_out: set[str] = set()
        self._resources: dict[str, float] = {}
        self._heard = time.monotonic()
        self._ended = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._listen, name="ray", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        import ray

        alive = [node for node in ray.nodes() if node["Alive"]]
        self.nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in alive}
        self.able = {node["NodeID"] for node in alive if node["Resources"].get("CPU", 0.0) >= 1}
        names = ("CPU", "GPU")
        self._resources = {n: sum(node["Resources"].get(n, 0.0) for node in alive) for n in names}
        self._heard = time.monotonic()

    def _listen(self) -> None:
        while not self._ended.wait(LOOK):
            with suppress(Exception):
                self._look()

    @property
    def is_heard(self) -> bool:
        """Whether the head has answered a short while ago."""
        return time.monotonic() - self._heard < SILENCE

    def require_head(self) -> None:
        """Make sure that the head answers.

        Raises:
            ClusterError: It has not, for too long.
        """
        if not self.is_heard:
            raise ClusterError(
                "Ray: the head of the cluster does not answer any more; start a cluster, and run "
                "the same command: what is done stays, what was under way goes on"
            )

    def device(self, name: str) -> str:
        """The device of the nodes; ``auto``: CUDA if one of them has a GPU.

        Raises:
            ConfigError: There is no such device in the cluster.
        """
        if name == "auto":
            return "cuda" if self._resources["GPU"] else "cpu"
        if name not in ("cpu", "cuda"):
            raise ConfigError(f"device: --executor ray knows auto, cpu and cuda, not {name!r}")
        if name == "cuda" and not self._resources["GPU"]:
            raise ConfigError("device: no node of the Ray cluster has a GPU; use --device cpu")
        return name

    def room(self, device: str, each: int) -> int:
        """How many runs the cluster takes at a time, at least 1."""
        cpus, gpus = self._resources["CPU"], self._resources["GPU"]
        return max(1, int(min(cpus, gpus * each) if device == "cuda" else cpus))

    def close(self) -> None:
        """Stop to listen."""
        self._ended.set()


@contextmanager
def connected() -> Iterator[Cluster]:
    """Use the cluster of ``RAY_ADDRESS``, or the one of this machine, or what is connected already.

    Raises:
        ConfigError: Ray is not installed.
        ClusterError: There is no cluster, or it refuses this process.
    """
    # a driver below `uv run` would have an environment made on every node
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"--executor ray: {error}; install it: pip install 'vaebench[ray]'"
        ) from error
    is_ours = not ray.is_initialized()
    try:
        if is_ours:
            ray.init(
                address="auto", log_to_driver=False, logging_level="ERROR", configure_logging=False
            )
        cluster = Cluster()
    except Exception as error:
        raise ClusterError(_unreachable(error)) from error
    try:
        yield cluster
    finally:
        cluster.close()
        if is_ours and cluster.is_heard:
            ray.shutdown()


def _unreachable(error: Exception) -> str:
    said = one_line(error, MAX_SAID)
    if isinstance(error, ConnectionError):
        return f"Ray: {said.rstrip('.')}. Start one with `ray start --head`; if it runs, {_TOKEN}"
    if "uthenticat" in said or "oken" in said:
        return f"Ray: {said}; {_TOKEN}"
    return f"Ray: {type(error).__name__}: {said}"
