"""Ray: what a node does and sends, then a cluster of two nodes in this machine, if Ray is there."""

import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import small_runs
from chaos.compare import contents

from vaebench.errors import ClusterError, ConfigError, StorageError
from vaebench.executors import Event, in_this_process, ray_node
from vaebench.executors.messages import to_message
from vaebench.executors.ray_cluster import Cluster, connected
from vaebench.executors.ray_driver import _Doer, _Tasks
from vaebench.executors.ray_node import PREFIX, serve, versions
from vaebench.executors.ray_results import Apart, next_attempt
from vaebench.files import make_folder
from vaebench.grid import Listener, Options, run_grid
from vaebench.run import Task, publish_run
from vaebench.storage import Lease, RunStore, Watch, attempt_at, content_of

UV = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"

# without a cluster


def taken(grid: Path, **overrides: Any) -> tuple[Task, Lease]:
    """A small run that this process has taken."""
    task = small_runs.task(grid, **overrides)
    lease = attempt_at(grid, task.config.run_id, "runs", Watch())
    assert isinstance(lease, Lease)
    make_folder(content_of(lease))
    return replace(task, folder=content_of(lease)), lease


def said_by(task: Task, nonce: str, wanted: dict[str, str] | None = None) -> list[Any]:
    message = to_message(task) | {"attempt": next_attempt(task)}
    return list(serve(message, nonce, wanted or versions()))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    small_runs.without_figures(monkeypatch)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_node_that_sees_the_folder_works_in_it_and_sends_no_file(
    tmp_path: Path, plain: None
) -> None:
    task, lease = taken(tmp_path / "grid")
    said = said_by(task, lease.holder.nonce)
    assert [kind for kind, _ in said] == ["epoch", "epoch", "done"]
    assert RunStore(task.folder).record == said[-1][1]


def test_node_that_does_not_see_the_folder_sends_what_would_lie_there(
    tmp_path: Path, plain: None, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive travels in pieces, and leaves nothing on the node."""
    monkeypatch.setattr(ray_node, "PIECE", 1000)
    here, lease = taken(tmp_path / "here")
    in_this_process([here], lambda _: None)
    task, lease = taken(tmp_path / "grid")
    said = said_by(task, "of another folder")
    kinds = [kind for kind, _ in said]
    assert kinds[:3] == ["apart", "epoch", "epoch"]
    assert kinds.count("piece") > 1
    assert list(scratch.iterdir()) == []
    assert list(task.folder.iterdir()) == []
    apart = Apart(task)
    for kind, data in said[1:]:
        apart.hear(kind, data)
    expected = {path.name for path in here.folder.iterdir()} - {"checkpoint.pt", "best.pt"}
    assert {path.name for path in task.folder.iterdir()} == expected
    record = RunStore(task.folder).record
    assert record == said[-1][1]
    assert record is not None
    assert small_runs.results(record) == small_runs.results(RunStore(here.folder).record or {})
    assert [path.name for path in lease.folder.iterdir() if path != task.folder] == ["lease.json"]
    publish_run(task)
    assert (tmp_path / "grid" / "runs" / task.key / "weights.pt").exists()


def test_run_that_was_begun_elsewhere_is_another_attempt(
    tmp_path: Path, plain: None, scratch: Path
) -> None:
    task, _ = taken(tmp_path / "grid")
    first = Apart(task)
    for kind, data in said_by(task, "x")[1:2]:  # then its node is lost
        first.hear(kind, data)
    assert len(RunStore(task.folder).journal) == 1
    assert next_attempt(task) == 2
    said = said_by(task, "x")
    second = Apart(task)
    for kind, data in said[1:]:
        second.hear(kind, data)
    assert said[-1][1]["attempt"] == RunStore(task.folder).attempt == 2
    assert len(RunStore(task.folder).journal) == 2
    assert len(RunStore(task.folder / "attempts" / "1").journal) == 1


@pytest.mark.parametrize("key", ["vaebench", "torch", "numbers"])
def test_node_with_other_software_does_nothing_and_says_what_differs(
    tmp_path: Path, key: str
) -> None:
    task, lease = taken(tmp_path / "grid")
    (said,) = said_by(task, lease.holder.nonce, versions() | {key: "0.0"})
    assert said == ("refused", {"reason": f"{key} {versions()[key]}, not 0.0"})


def test_version_of_vaebench_is_that_of_its_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = versions()["vaebench"]
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr("vaebench.__file__", str(tmp_path / "__init__.py"))
    assert versions()["vaebench"] != before


def test_node_with_another_plugin_refuses_the_run(tmp_path: Path) -> None:
    task, lease = taken(tmp_path / "grid")
    message = to_message(task) | {"attempt": 1}
    message["plugins"] = [
        {"name": "vae.py", "path": str(tmp_path / "vae.py"), "root": None, "digest": "0"}
    ]
    ((kind, data),) = serve(message, lease.holder.nonce, versions())
    assert kind == "refused"
    assert "vae.py" in data["reason"]


def test_node_whose_disk_is_full_refuses_a_run_that_it_would_send(
    tmp_path: Path, plain: None, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("scratch: cannot be written: No space left on device")

    monkeypatch.setattr("vaebench.executors.ray_node.do", full)
    task, lease = taken(tmp_path / "grid")
    assert [kind for kind, _ in said_by(task, "x")] == ["apart", "refused"]
    assert [kind for kind, _ in said_by(task, lease.holder.nonce)] == ["unwritable"]


def test_scratch_of_a_process_that_was_killed_is_removed(
    tmp_path: Path, plain: None, scratch: Path
) -> None:
    gone = scratch / f"{PREFIX}{os.getuid()}-4194304-x"  # above any process id
    mine = scratch / f"{PREFIX}{os.getuid()}-{os.getpid()}-x"
    for folder in (gone, mine):
        folder.mkdir()
    said_by(taken(tmp_path / "grid")[0], "x")
    assert list(scratch.iterdir()) == [mine]


def test_archive_of_a_node_that_holds_another_name_is_refused(tmp_path: Path, plain: None) -> None:
    import zipfile

    from vaebench.errors import ResultsError

    task, lease = taken(tmp_path / "grid")
    apart = Apart(task)
    with zipfile.ZipFile(lease.folder / "received.zip", "w") as archive:
        archive.writestr("grid/../../evil", b"x")
    with pytest.raises(ResultsError, match="which no grid has"):
        apart.hear("done", {})


def test_without_ray_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    grid = {**small_runs.settings(), "name": "grid", "axes": {"model": ["fnn"]}}
    with pytest.raises(ConfigError, match=r"pip install 'vaebench\[ray\]'"):
        run_grid(grid, Options(results=tmp_path, executor="ray"), Listener())
    assert list(tmp_path.iterdir()) == []


# with a pretended Ray


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ConnectionError("Could not find any running Ray instance."),
            r"\. Start one with .*; if it runs, .*auth_token belong",
        ),
        (
            RuntimeError("Authentication failed: no token"),
            "; RAY_AUTH_MODE=token and its ~/.ray/auth_token belong",
        ),
        (OSError("no route"), "^Ray: OSError: no route$"),
    ],
)
def test_cluster_that_is_not_there_or_refuses_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def init(**_: Any) -> None:
        raise error

    pretended = SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setitem(sys.modules, "ray", pretended)
    monkeypatch.setenv(UV, "1")
    monkeypatch.delenv(UV)
    with pytest.raises(ClusterError, match=said) as caught, connected():
        pass
    assert "\n" not in str(caught.value)
    assert os.environ[UV] == "0"  # below `uv run`, Ray would make an environment on every node


def pretended_cluster(monkeypatch: pytest.MonkeyPatch, *resources: dict[str, float]) -> Cluster:
    nodes = [
        {"Alive": True, "NodeID": str(n), "NodeManagerHostname": f"host{n}", "Resources": each}
        for n, each in enumerate(resources)
    ]
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: nodes))
    cluster = Cluster()
    cluster.close()
    return cluster


def test_cluster_takes_as_many_runs_as_it_has_cpus_and_shares_of_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = pretended_cluster(monkeypatch, {"CPU": 0}, {"CPU": 8, "GPU": 2}, {"CPU": 4})
    assert cluster.able == {"1", "2"}
    assert (cluster.device("auto"), cluster.device("cpu")) == ("cuda", "cpu")
    assert cluster.room("cpu", 1) == 12
    assert [cluster.room("cuda", each) for each in (1, 3, 9)] == [2, 6, 12]
    without = pretended_cluster(monkeypatch, {"CPU": 1})
    assert without.device("auto") == "cpu"
    with pytest.raises(ConfigError, match="no node of the Ray cluster has a GPU; use --device cpu"):
        without.device("cuda")


@pytest.mark.parametrize(
    ("device", "alone", "share"), [("cpu", False, 0.0), ("cuda", False, 0.25), ("cuda", True, 1.0)]
)
def test_run_is_given_a_share_of_a_gpu_or_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, share: float, *, alone: bool
) -> None:
    given: list[dict[str, Any]] = []
    started = SimpleNamespace(remote=lambda *_: object())
    program = SimpleNamespace(options=lambda **options: given.append(options) or started)
    cluster = pretended_cluster(monkeypatch, {"CPU": 8, "GPU": 2})
    monkeypatch.setattr("ray.remote", lambda **_: lambda _: program, raising=False)
    cluster.left_out = {"7", "3"}
    doer = _Doer(_Tasks(cluster, each=4))
    doer.alone = alone
    doer.give(replace(taken(tmp_path / "grid")[0], device=device), 60.0)
    assert given[0]["num_gpus"] == share
    assert given[0]["label_selector"] == {"ray.io/node-id": "!in(3,7)"}


# two nodes of a cluster, in this machine

REASON = "Ray is not installed: pip install 'vaebench[ray]'"
needs_ray = pytest.mark.filterwarnings("ignore")


class Told(Listener):
    """Keeps what happens, and may act on an event."""

    def __init__(self, act: Callable[[Event], None] = lambda _: None) -> None:
        self.events: list[Event] = []
        self.warnings: list[str] = []
        self.act = act

    def event(self, event: Event) -> None:
        self.events.append(event)
        self.act(event)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head that takes no runs, and as many nodes of one CPU as a test adds."""
    pytest.importorskip("ray", reason=REASON)
    with pytest.MonkeyPatch.context() as patch:
        here = Path(__file__).parents[1]
        patch.setenv("PYTHONPATH", f"{here}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        patch.setenv("RAY_worker_register_timeout_seconds", "300")  # on a machine that is busy
        patch.setenv("RAY_worker_niceness", "0")  # of 15, a busy machine leaves them nothing
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setattr("ray._private.services.get_node", patient_get_node())
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": 0})
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        made.shutdown()


def patient_get_node() -> Callable[..., Any]:
    """Ray gives a node half a minute to start, which is too little where ten tests run at once."""
    from ray._private import services

    real = services.get_node

    def get_node(*args: Any) -> Any:
        deadline = time.monotonic() + 300
        while True:
            try:
                return real(*args)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise

    return get_node


NODE = {"object_store_memory": 100_000_000, "include_dashboard": False}


@pytest.fixture
def ports_of_ray() -> Iterator[None]:
    """Ray draws the numbers of its ports from ``random``; what we draw is as it was."""
    before = random.getstate()
    yield
    random.setstate(before)


@pytest.fixture
def nodes(ports_of_ray: None, cluster: Any) -> Iterator[Callable[..., Any]]:
    """Adds nodes for a test."""
    added: list[Any] = []

    def add(**options: Any) -> Any:
        added.append(cluster.add_node(**(NODE | {"num_cpus": 1} | options)))
        return added[-1]

    yield add
    import ray

    ray.shutdown()  # where a test ended before vaebench did
    for node in added:
        if node in cluster.list_all_nodes():
            cluster.remove_node(node)


def grid_of(folder: Path, epochs: int = 3, **options: Any) -> tuple[dict[str, Any], Options]:
    raw = small_runs.settings(training__epochs=epochs)
    axes = {"model": ["fnn"], "loss": ["bce", "mse"]}
    grid = {**raw, "name": "grid", "seeds": 2, "axes": axes}
    return grid, Options(results=folder, device="cpu", executor="ray", **options)


@pytest.fixture
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaebench.grid.Writer", small_runs.NoWriter)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same grid, done in this process."""
    grid, options = grid_of(tmp_path_factory.mktemp("here"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vaebench.grid.Writer", small_runs.NoWriter)
        small = replace(options, executor="local")
        return contents(run_grid(grid, small, Listener(), in_this_process).folder)


@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize("shared", [True, False])
def test_two_nodes_give_the_numbers_of_this_process_and_tell_epochs_as_they_happen(
    nodes: Callable[..., Any],
    undisturbed: dict[str, Any],
    tmp_path: Path,
    no_mlflow: None,
    monkeypatch: pytest.MonkeyPatch,
    *,
    shared: bool,
) -> None:
    if not shared:
        monkeypatch.setattr("vaebench.executors.ray_driver._nonce", lambda task: "elsewhere")
    nodes(), nodes()
    lines: list[int] = []

    def look(event: Event) -> None:
        if event.kind == "epoch":  # what is told lies in the journal already
            lines.append(len(RunStore(event.task.folder).journal) - event.data["epoch"])

    told = Told(look)
    results = run_grid(*grid_of(tmp_path), told)
    assert contents(results.folder) == undisturbed
    assert len(lines) == 12
    assert min(lines) >= 0
    for run_id in undisturbed:
        of_run = [(e.kind, e.data.get("epoch")) for e in told.events if e.task.key == run_id]
        assert of_run == [
            ("started", None), ("epoch", 1), ("epoch", 2), ("epoch", 3), ("done", None)
        ]  # fmt: skip
    assert bool(told.warnings) != shared
    assert not (results.folder / ".work" / "runs").exists()
    environment = results.records[0]["environment"]
    assert (environment["threads"], environment["jobs"]) == (1, 1)


@pytest.mark.slow
@needs_ray
def test_run_of_a_node_that_is_lost_goes_on_elsewhere_in_another_attempt(
    cluster: Any,
    nodes: Callable[..., Any],
    undisturbed: dict[str, Any],
    tmp_path: Path,
    no_mlflow: None,
) -> None:
    """Nothing was asked to be retried: a node that goes is no fault of a run."""
    first, lost = nodes(), list[Event]()

    def lose(event: Event) -> None:
        if event.kind == "epoch" and not lost:
            lost.append(event)
            nodes()
            cluster.remove_node(first, allow_graceful=False)

    told = Told(lose)
    results = run_grid(*grid_of(tmp_path), told)
    assert contents(results.folder) == undisturbed
    (text,) = told.warnings
    assert "its node was lost" in text
    assert sum(record.get("retries", 0) for record in results.records) == 1
    assert not (results.folder / ".work" / "runs").exists()


@pytest.mark.slow
@needs_ray
def test_process_that_is_killed_fails_its_run_unless_retries_are_wanted(
    cluster: Any,
    nodes: Callable[..., Any],
    undisturbed: dict[str, Any],
    tmp_path: Path,
    no_mlflow: None,
) -> None:
    nodes()
    killed: list[str] = []

    def kill(event: Event) -> None:
        if event.kind == "epoch" and not killed:
            killed.append(event.task.key)
            (pid,) = worker_pids(cluster)
            os.kill(pid, signal.SIGKILL)

    told = Told(kill)
    results = run_grid(*grid_of(tmp_path, retries=1), told)
    assert contents(results.folder) == undisturbed
    [text] = told.warnings
    assert "its process was killed or crashed" in text


def worker_pids(cluster: Any) -> list[int]:
    """Processes of a cluster that do a run now; there may be other clusters on this machine."""
    raylets = {
        each.process.pid
        for node in cluster.list_all_nodes()
        for each in node.all_processes["raylet"]
    }
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent in raylets and re.match(rb"ray::[0-9a-f]{12}\b", title):  # named after its run
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@needs_ray
def test_node_with_other_software_is_left_out_by_name_and_alone_it_ends_the_grid(
    nodes: Callable[..., Any], tmp_path: Path, no_mlflow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes()
    other = {**versions(), "torch": "1.0"}
    monkeypatch.setattr("vaebench.executors.ray_driver.versions", lambda: other)
    with pytest.raises(ClusterError, match=r"no node is left: .*: torch .*, not 1\.0"):
        run_grid(*grid_of(tmp_path), Told())


@pytest.mark.slow
@needs_ray
def test_run_that_takes_too_long_is_ended(
    cluster: Any, nodes: Callable[..., Any], tmp_path: Path, no_mlflow: None
) -> None:
    nodes()
    results = run_grid(*grid_of(tmp_path, epochs=100_000, timeout=3.0, fail_fast=True), Told())
    reasons = [record["reason"] for record in results.records if record["status"] == "failed"]
    assert len(reasons) == 1
    assert "timed out after 3 s" in reasons[0]
    deadline = time.monotonic() + 20
    while worker_pids(cluster) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert worker_pids(cluster) == []


@pytest.mark.slow
@needs_ray
def test_head_that_is_silent_is_told_before_ray_ends_this_process(
    nodes: Callable[..., Any], tmp_path: Path, no_mlflow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes()
    monkeypatch.setattr("vaebench.executors.ray_cluster.SILENCE", 3.0)
    silent = threading.Event()

    def silence(event: Event) -> None:
        if event.kind == "epoch" and not silent.is_set():
            silent.set()
            monkeypatch.setattr("ray.nodes", lambda: 1 / 0)

    grid, options = grid_of(tmp_path, epochs=100_000)
    with pytest.raises(ClusterError, match="the head of the cluster does not answer"):
        run_grid(grid, options, Told(silence))
    records = list((tmp_path / "grid" / "runs").glob("*/record.json"))
    assert len(records) == 1
    assert RunStore(records[0].parent).record["status"] == "interrupted"  # type: ignore[index]
