"""One start of the command, in a session of its own, and what became of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.shots import PAUSE, Shot

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).parent / "site"
HANGS = 900.0  # seconds after which a start is taken for hung
LINGERS = 10.0  # seconds, less those without a processor, in which an orphan must be gone
EXPECTED = {"SIGKILL": -signal.SIGKILL, "SIGINT": 130, "SIGTERM": 143}

GRID: dict[str, Any] = {
    "name": "chaos",
    "dataset": {"name": "digits", "train": 64, "validation": 32},
    "seeds": 1,
    "axes": {"model": ["fnn", "cnn"]},
    "evaluate": "best",
    "model": {
        "latent_dim": 2,
        "fnn": {"hidden": [8]},
        "cnn": {"channels": [4], "strides": [2], "hidden": []},
    },
    "training": {"epochs": 4, "batch_size": 24},
}
SHARDED = GRID | {"axes": {"model": ["fnn", "cnn"], "loss": ["bce", "mse"]}}  # two runs a shard


class Workplace:
    """Where a trial happens.

    Attributes:
        folder: Holds everything, and is thrown away.
        project: A copy of the package: it may be edited while this runs.
        grid: The grid's file.
        data: The data directory, which keeps the classifier of the digits.
        usual: Seconds that the undisturbed grid took.
    """

    def __init__(self, folder: Path, grid: dict[str, Any] = GRID) -> None:
        self.folder = folder
        self.usual = 0.0
        self.project = folder / "project"
        self.grid = folder / "grid.yaml"
        self.data = folder / "data"
        shutil.copytree(ROOT / "vaebench", self.project / "vaebench")
        self.grid.write_text(json.dumps(grid))  # which is YAML


@dataclass(frozen=True)
class Start:
    """What became of one start.

    Attributes:
        code: Its exit code; minus the signal's number if one killed it.
        said: What it printed.
        fired: The shots that fell, in their order.
        ended: Seconds from the last shot at the parent to its end; None without one.
        problems: What must not be: a process that hangs or is left behind, a traceback.
    """

    code: int
    said: str
    fired: list[Shot]
    ended: float | None
    problems: list[str]

    @property
    def wrong_exit(self) -> list[str]:
        """What is wrong with the exit code, given the shots that fell; empty if nothing is."""
        ending = [EXPECTED[shot.signal] for shot in self.fired if shot.victim != "worker"]
        fine = ending or ([1] if self.fired else [])
        if self.code in (0, *fine):
            return []
        return [f"exit code {self.code}, not {fine or 0}: {self.said[-400:]}"]


RUNNING: set["subprocess.Popen[bytes]"] = set()


def stop_all() -> None:
    """Kill what has been started and not ended."""
    for process in list(RUNNING):
        process.kill()


def start(
    place: Workplace,
    results: Path,
    shots: Sequence[Shot] = (),
    prefix: Sequence[str] = (),
    options: Sequence[str] = (),
) -> Start:
    """Start the command, wait for its end, and look for what it left running.

    Arguments:
        place: Where everything lies.
        results: The results folder.
        shots: What may hit it.
        prefix: Of the command line, such as ``prlimit``.
        options: Further ones of ``run-grid``.
    """
    folder = place.folder / f"start-{time.time_ns()}"
    folder.mkdir()
    armed = [{**shot.to_dict(), "pause": PAUSE} for shot in shots]
    (folder / "shots.json").write_text(json.dumps(armed))
    command = [*prefix, sys.executable, "-P", "-m", "vaebench", "run-grid", str(place.grid)]
    command += ["--jobs", "2", "--device", "cpu", "--results", str(results), *options]
    with (folder / "said").open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=_environment(place, folder),
            start_new_session=True,
        )
        RUNNING.add(process)
        try:
            code: int | None = process.wait(HANGS)
        except subprocess.TimeoutExpired:
            code = None
        ended = time.time()
        RUNNING.discard(process)
        left = _left_behind(process.pid)
        process.wait()
    said = (folder / "said").read_text(errors="replace")
    notes = _notes(folder)
    known = {shot.number: shot for shot in shots}
    fired = [known[note["number"]] for note in notes]
    at_parent = [n["time"] for n in notes if known[n["number"]].victim != "worker"]
    problems = _problems(code, said, left)
    shutil.rmtree(folder)
    took = ended - at_parent[-1] if at_parent else None
    return Start(-signal.SIGKILL if code is None else code, said, fired, took, problems)


def _environment(place: Workplace, folder: Path) -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return mine | {
        "PYTHONPATH": f"{SITE}{os.pathsep}{place.project}",
        "CHAOS_FOLDER": str(folder),
        "VAEBENCH_DATA": str(place.data),
        "OMP_NUM_THREADS": "1",
        "DO_NOT_TRACK": "1",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def _notes(folder: Path) -> list[dict[str, Any]]:
    path = folder / "fired"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _problems(code: int | None, said: str, left: list[str]) -> list[str]:
    found = []
    if code is None:
        found.append(f"still ran after {HANGS:.0f} s")
    if left:
        found.append(f"left behind: {'; '.join(left)}")
    if "Traceback" in said:
        found.append(f"a traceback: {said[said.index('Traceback') :][-600:]}")
    return found


def _left_behind(leader: int) -> list[str]:
    """Processes of a session whose leader has ended, which they must notice; they are killed.

    One that waits for a processor, as on a machine that is busy with other things, cannot notice
    anything: that time does not count.
    """
    began, before = time.monotonic(), dict[int, float]()
    while left := _session(leader):
        took = time.monotonic() - began
        waited = {pid: (now := _waited(pid)) - before.setdefault(pid, now) for pid in left}
        if max(took - waited[pid] for pid in left) > LINGERS:
            break
        time.sleep(0.02)
    told = [f"{pid}, {_command(pid)}, {took:.0f} s" for pid in left]
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return told


def _waited(pid: int) -> float:
    """Seconds for which a process, its first thread, has waited for a processor."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, LookupError):  # it has ended, or this kernel does not count it
        return 0.0


def _command(pid: int) -> str:
    """The end of a process's command line."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return "which has ended"
    return " ".join(words)[-80:].strip()


def _session(leader: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(session) == leader and state != "Z":
            found.append(int(folder.name))
    return found
