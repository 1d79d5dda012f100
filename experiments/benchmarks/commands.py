"""Whole commands, timed as their user waits for them: ``run-grid``, and pythae's trainings."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from experiments.benchmarks.measured import Measurement, Outcome, ratio
from experiments.benchmarks.settings import Grid
from experiments.benchmarks.work import Work
from vaebench.config import Run, make_grid, read_yaml
from vaebench.errors import VaebenchError
from vaebench.executors import default_jobs

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
PYTHAE = "pythae, one after the other"


def say(line: str) -> None:
    """Tell the user what is measured next."""
    print(line, file=sys.stderr, flush=True)


def python(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module; a file of the working directory is never imported."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment that imports from this checkout, without the user's MLflow."""
    kept = {name: text for name, text in base.items() if not name.startswith("MLFLOW_")}
    path = os.pathsep.join(filter(None, (str(ROOT), base.get("PYTHONPATH"))))
    return kept | {"PYTHONPATH": path}


def run(module: str, *arguments: str, given: bytes = b"") -> tuple[float, bytes]:
    """Run a module to its end; return the seconds that it took and its standard output.

    Raises:
        VaebenchError: It failed; its last line is in the message.
    """
    began = time.perf_counter()
    done = subprocess.run(
        python(module, *arguments), input=given, capture_output=True, env=environment()
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "no output"
        command = " ".join((module, *arguments[:2]))
        raise VaebenchError(f"{command}: exit code {done.returncode}: {last}")
    return seconds, done.stdout


def measure_grid(benchmark: Grid, where: Path) -> Outcome:
    """Time the grid with every number of jobs and of seeds, in turns."""
    file = where / benchmark.grid
    overrides = {} if benchmark.epochs is None else {"training.epochs": benchmark.epochs}
    content = read_yaml(file)
    runs = {
        count: make_grid(content, overrides | {"seeds": count}, source=str(file)).runs()
        for count in benchmark.seeds
    }
    kinds = [(count, jobs) for count in benchmark.seeds for jobs in benchmark.jobs]
    took: dict[str, list[float]] = {}
    overheads: dict[str, list[float]] = {}
    spent: dict[str, list[float]] = {}  # CPU seconds
    beyond: dict[str, list[float]] = {}  # of them, besides training and validation
    for turn in range(benchmark.repeats):
        for count, jobs in kinds if turn % 2 == 0 else reversed(kinds):
            name = f"run-grid, {len(runs[count])} runs, jobs {jobs}"
            say(f"turn {turn + 1} of {benchmark.repeats}: {name}")
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as results:
                options = ["--results", results, "--jobs", str(jobs), "--seeds", str(count)]
                options += [f"--set={key}={value}" for key, value in overrides.items()]
                before = children_cpu_seconds()
                wall, _ = run("vaebench", "run-grid", str(file), "--device", "cpu", *options)
                spent.setdefault(name, []).append(children_cpu_seconds() - before)
                beyond.setdefault(name, []).append(spent[name][-1] - _trained(Path(results)))
                workers = min(len(runs[count]), default_jobs("cpu") if jobs == "auto" else jobs)
                overheads.setdefault(name, []).append(_overhead(Path(results), wall, workers))
            took.setdefault(name, []).append(wall)
        if benchmark.pythae:
            say(f"turn {turn + 1} of {benchmark.repeats}: {PYTHAE}")
            took.setdefault(PYTHAE, []).append(_pythae(runs[benchmark.seeds[0]]))
    measured = {name: Measurement(name, "s", values) for name, values in took.items()}
    ratios = []
    for name, each in measured.items():
        if "jobs auto" in name:
            alone = measured.get(name.replace("jobs auto", "jobs 1"))
            ratios += [ratio(each, other) for other in (alone, measured.get(PYTHAE)) if other]
    remarks = [
        f"{name}: start-up, waiting, tracking, journal, checkpoints, final evaluation, figures and "
        f"report take {median(values):.1%} of the workers' training and validation on top"
        for name, values in overheads.items()
    ] + [
        f"{name}: {median(values):.1f} s of CPU time, {median(beyond[name]):.1f} s of it besides "
        f"training and validation"
        for name, values in spent.items()
    ]
    return Outcome(list(measured.values()), ratios, remarks)


def _overhead(results: Path, wall: float, workers: int) -> float:
    """The workers' time besides training and validation, as a part of these."""
    worked = 0.0
    for journal in results.glob("*/runs/*/journal.jsonl"):
        for line in journal.read_text(encoding="utf-8").splitlines():
            metrics = json.loads(line)["metrics"]
            worked += metrics["train/seconds"] + metrics.get("val/seconds", 0.0)
    return wall * workers / worked - 1


def _trained(results: Path) -> float:
    """CPU seconds of training and validation."""
    lines = [
        json.loads(line)["metrics"]
        for journal in results.glob("*/runs/*/journal.jsonl")
        for line in journal.read_text(encoding="utf-8").splitlines()
    ]
    keys = ("train/cpu_seconds", "val/cpu_seconds")
    return float(sum(metrics.get(key, 0.0) for metrics in lines for key in keys))


def children_cpu_seconds() -> float:
    """CPU seconds of the processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _pythae(runs: Sequence[Run]) -> float:
    """Wall time of all trainings of a grid by pythae with its defaults, in a process of its own.

    As its user would call it: with as many threads as there are cores.
    """
    works = [Work("pythae", each.config.to_dict()).to_line() for each in runs]
    return run("experiments.benchmarks.peers", given=b"".join(works))[0]
