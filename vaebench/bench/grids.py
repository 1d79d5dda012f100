"""``vaebench run-grid`` as a whole: more workers, more runs, and the same trainings by pythae."""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from vaebench.bench.commands import seconds, vaebench
from vaebench.bench.contenders import Work
from vaebench.bench.measured import Measurement, ratio
from vaebench.bench.settings import Grid
from vaebench.bench.steps import Outcome, Say
from vaebench.config import Run, make_grid, read_yaml
from vaebench.executors import default_jobs
from vaebench.report import load

PYTHAE = "pythae, one after the other"


def measure_grid(benchmark: Grid, where: Path, data_dir: Path | None, say: Say) -> Outcome:
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
    for turn in range(benchmark.repeats):
        for count, jobs in kinds if turn % 2 == 0 else reversed(kinds):
            name = f"run-grid, {len(runs[count])} runs, jobs {jobs}"
            say(f"turn {turn + 1} of {benchmark.repeats}: {name}")
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as results:
                arguments = ["--results", results, "--jobs", str(jobs), "--seeds", str(count)]
                arguments += ["--device", "cpu"]
                arguments += [f"--set={key}={value}" for key, value in overrides.items()]
                arguments += [] if data_dir is None else ["--data-dir", str(data_dir)]
                wall = seconds(vaebench("run-grid", str(file), *arguments))
                workers = min(len(runs[count]), default_jobs("cpu") if jobs == "auto" else jobs)
                overheads.setdefault(name, []).append(_overhead(Path(results), wall, workers))
            took.setdefault(name, []).append(wall)
        if benchmark.pythae:
            say(f"turn {turn + 1} of {benchmark.repeats}: {PYTHAE}")
            took.setdefault(PYTHAE, []).append(_pythae(runs[benchmark.seeds[0]], data_dir))
    measured = {name: Measurement(name, "s", values) for name, values in took.items()}
    ratios = []
    for name, each in measured.items():
        alone = measured.get(name.replace("jobs auto", "jobs 1"))
        if "jobs auto" in name:
            others = [alone, measured.get(PYTHAE)]
            ratios += [ratio(each, other) for other in others if other]
    remarks = [
        f"{name}: start-up, waiting, tracking, journal, checkpoints, final evaluation, figures and "
        f"report take {median(values):.1%} of the workers' training and "
        f"validation on top"
        for name, values in overheads.items()
    ]
    return Outcome(list(measured.values()), ratios, remarks)


def _overhead(results: Path, wall: float, workers: int) -> float:
    """What the workers' time was besides training and validation, as a part of these."""
    (grid,) = results.glob("*/grid.yaml")
    worked = 0.0
    for record in load(grid.parent).records:
        journal = grid.parent / "runs" / record["run_id"] / "journal.jsonl"
        for line in journal.read_text(encoding="utf-8").splitlines():
            metrics = json.loads(line)["metrics"]
            worked += metrics["train/seconds"] + metrics.get("val/seconds", 0.0)
    return wall * workers / worked - 1


def _pythae(runs: Sequence[Run], data_dir: Path | None) -> float:
    """Wall time of all trainings of a grid by pythae with its defaults, in a process of its own."""
    folder = None if data_dir is None else str(data_dir)
    works = [Work("pythae", run.config.to_dict(), folder) for run in runs]
    command = [sys.executable, "-P", "-m", "vaebench.bench.grids"]
    # as its user would call it: as many threads as there are cores
    return seconds(command, given=b"".join(work.to_line() for work in works))


def main() -> None:
    """Train every work of standard input with pythae, from beginning to end."""
    from vaebench.bench.peers import pythae_training

    for line in sys.stdin.buffer.read().splitlines():
        work = Work(**json.loads(line))
        pythae_training(work, work.splits.validation.x, work.run.training.epochs)


if __name__ == "__main__":
    main()
