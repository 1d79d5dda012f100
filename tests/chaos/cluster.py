"""``make cluster``: 16 runs on two nodes that are killed and filled up; exit 1 if any is lost.

Twice: the node sees the results folder, and it does not, and sends what it does. Meanwhile a
worker, the node, MLflow's server, the driver and the head are killed, and the node's disk is
filled. At the end all is as it is without any of it, bit for bit.
"""

import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from chaos import launch
from chaos.compare import contents, differences, faults_of_mlflow
from chaos.disks import CannotTry, disk, fill
from chaos.grids import Tally, undisturbed
from chaos.launch import GRID, Start, Workplace, start, stop_all
from chaos.nodes import ADDRESS, HEAD, MLFLOW_PORT, PORT, Cluster, inside, two_machines
from chaos.published import watched

AXES = {"loss": ["bce", "mse"], "estimator": ["sgvb", "kl"], "model.latent_dim": [2, 3]}
SIXTEEN = GRID | {"axes": {"model": ["fnn", "cnn"], **AXES}}
DISK = 100_000_000  # bytes of the node's own disk
SMALL = 40_000  # bytes, in which no run fits
MAX_STARTS = 6  # of the driver
URI = f"http://127.0.0.1:{MLFLOW_PORT}"


@dataclass(frozen=True)
class Act:
    """Something that is done to a grid when so many runs are published.

    Attributes:
        exit: The exit code of the driver, if that ends by it.
    """

    runs: int
    what: str
    do: Callable[[], object]
    exit: int | None = None


def killing(cluster: Cluster) -> list[Act]:
    """One after the other, all that can be killed, and what comes back by itself."""
    return [
        Act(1, "worker killed", cluster.kill_worker),
        Act(2, "MLflow's server killed", cluster.kill_mlflow),
        Act(3, "MLflow's server started", cluster.start_mlflow),
        Act(4, "node killed", cluster.kill_node),
        Act(4, "node started", cluster.start_node),
        Act(6, "driver killed", kill_driver, exit=-signal.SIGKILL),
        Act(8, "head killed", cluster.kill_head, exit=1),
    ]


def kill_driver() -> None:
    """Kill the command."""
    for process in list(launch.RUNNING):
        process.kill()


def under_acts(
    place: Workplace,
    name: str,
    make: Callable[[Cluster], list[Act]],
    expected: dict[str, Any],
    tally: Tally,
    *,
    shared: bool,
) -> None:
    """Do the grid on a cluster, act on it, and compare."""
    results, began = place.folder / name, time.monotonic()
    with disk(place.folder / f"disk-{name}", DISK) as own:
        cluster = Cluster(place, results, own, shared=shared)
        acts, done = make(cluster), list[Act]()
        try:
            with watched(results / "chaos") as watch:
                if shared:
                    cluster.start()
                    stranger(place, cluster, tally)
                problems = _until_finished(place, cluster, acts, done)
            problems += watch.problems
            problems += [f"left behind: {path}" for path in own.glob("vaebench-*")]
        finally:
            cluster.end()
    tally.twice += len(watch.problems)
    if not problems:
        problems = [*differences(results / "chaos", expected), *faults_of_mlflow(results)]
        problems += [
            f"left behind: {path}"
            for path in (results / "chaos").glob(".work/runs/*/*")
            if path.suffix
            != ".tmp"  # of one that was killed as it gave back a lease, see `compare`
        ]
    problems += [f"{act.what}: it never came to that" for act in acts if act not in done]
    for act in done:
        tally.fault(f"{name}: {act.what}", [])
    tally.fault(f"{name}: the end", problems)
    took = time.monotonic() - began
    tally.say(f"  {name}: {took:.0f} s, {'; '.join(problems) or 'the same, every point once'}")


def _until_finished(
    place: Workplace, cluster: Cluster, acts: Sequence[Act], done: list[Act]
) -> list[str]:
    """Start the driver, and what it needs, until the grid is finished; what was wrong."""
    for _ in range(MAX_STARTS):
        cluster.start()
        before = len(done)
        ended = _start(place, cluster, acts, done)
        click.echo(f"    exit {ended.code} after {', '.join(a.what for a in done[before:])}")
        exits = [act.exit for act in done[before:] if act.exit is not None]
        fine = exits[0] if exits else 0
        if ended.problems or ended.code != fine:
            return [*ended.problems, f"exit code {ended.code}, not {fine}: {ended.said[-600:]}"]
        if not exits:
            return []
    return [f"not finished after {MAX_STARTS} starts"]


def stranger(place: Workplace, cluster: Cluster, tally: Tally) -> None:
    """Start the driver with another token than the cluster's: one message, and nothing done."""
    mine = os.environ["RAY_AUTH_TOKEN"]
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(16)
    try:
        ended = start(place, cluster.results, prefix=inside(HEAD), options=["--executor", "ray"])
    finally:
        os.environ["RAY_AUTH_TOKEN"] = mine
    last = ended.said.strip().splitlines()[-1:]
    fine = ended.code == 1 and last and last[0].startswith("Error: Ray:") and "token" in last[0]
    wrong = [] if fine else [f"exit code {ended.code}: {ended.said[-600:]}"]
    tally.fault("a driver with another token", [*ended.problems, *wrong])
    tally.say(f"  a driver with another token: {'; '.join(wrong) or last[0]}")


def _start(place: Workplace, cluster: Cluster, acts: Sequence[Act], done: list[Act]) -> Start:
    ended = threading.Event()
    failures: list[Exception] = []
    runs = cluster.results / "chaos" / "runs"

    def act() -> None:
        for each in acts[len(done) :]:
            while len(list(runs.glob("*/record.json"))) < each.runs:
                cluster.drivers = {process.pid for process in launch.RUNNING}
                if ended.wait(0.05):
                    return
            cluster.drivers = {process.pid for process in launch.RUNNING}
            try:
                each.do()
            except Exception as error:
                failures.append(error)
                stop_all()
                return
            done.append(each)
            if each.exit is not None:
                return

    thread = threading.Thread(target=act)
    thread.start()
    try:
        options = ["--executor", "ray", "--tracking-uri", URI, "--retries", "2"]
        return start(place, cluster.results, prefix=inside(HEAD), options=options)
    finally:
        ended.set()
        thread.join()
        if failures:
            raise failures[0]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", type=click.Choice(["shared", "apart"]), help="One of the two.")
@click.option("--keep", type=click.Path(path_type=Path), help="A new folder to work in, and leave.")
def main(only: str | None, keep: Path | None) -> None:
    """Kill and fill up what does a grid on two nodes; exit 1 if anything is lost."""
    try:
        import ray  # noqa: F401
    except ImportError:
        click.echo("cluster: not tried: Ray is not installed: pip install 'vaebench[ray]'")
        return
    tally, began = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        if keep:
            keep.mkdir(parents=True)
        try:
            with two_machines():
                _all(Workplace((keep or Path(folder)).resolve(), SIXTEEN), only, tally)
        except CannotTry as error:
            click.echo(f"cluster: not tried: {error}")
            return
        finally:
            stop_all()
    for what in tally.lost:
        click.echo(f"LOST {what}")
    faults = sum(tally.tried.values())
    click.echo(
        f"cluster: {faults} things tried in {time.monotonic() - began:.0f} s, "
        f"{len(tally.lost)} lost, {tally.twice} runs published twice"
    )
    sys.exit(bool(tally.lost))


def _all(place: Workplace, only: str | None, tally: Tally) -> None:
    os.environ.update(
        RAY_ADDRESS=f"{ADDRESS[HEAD]}:{PORT}",  # there may be other clusters on this machine
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(16),
        RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
        RAY_worker_niceness="0",  # of 15, a busy machine leaves them nothing
        RAY_worker_register_timeout_seconds="300",
        MLFLOW_DISABLE_TELEMETRY="true",
    )
    expected = contents(undisturbed(place, tally) / "chaos")
    tally.say(f"  undisturbed: {len(expected)} runs, {place.usual:.0f} s")
    if only in (None, "shared"):
        under_acts(place, "shared", killing, expected, tally, shared=True)
    if only in (None, "apart"):
        under_acts(place, "apart", filling, expected, tally, shared=False)


def filling(cluster: Cluster) -> list[Act]:
    """A disk of the node that is full, and free again; then a node, and the driver."""
    full = [Path()]

    def take() -> None:
        system = os.statvfs(cluster.disk)  # a little less than is free: others write meanwhile
        full[0] = fill(cluster.disk, max(0, system.f_bavail * system.f_frsize - SMALL))

    return [
        Act(2, "disk filled", take),
        Act(5, "disk freed", lambda: full[0].unlink()),
        Act(6, "driver killed", kill_driver, exit=-signal.SIGKILL),
        Act(9, "node killed", cluster.kill_node),
        Act(9, "node started", cluster.start_node),
    ]


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(prog_name="cluster")
