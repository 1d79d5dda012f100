"""The harness at scale: many records, honest in shape, and the commands that read them.

``python -m experiments.benchmarks.scale RUNS FOLDER`` does a grid of runs without their training:
all that the harness does for a run (plan, lock, journal, record, MLflow, report), while what a run
computes is taken from a template. It prints its seconds and its peak of memory as JSON.
"""

import json
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.benchmarks.commands import run, say
from experiments.benchmarks.measured import Measurement, Outcome
from experiments.benchmarks.settings import Records
from vaebench.config import AXES, Run, make_grid
from vaebench.environment import peak_memory
from vaebench.executors import Event, Hear
from vaebench.files import dump_json, dump_yaml, write_atomic
from vaebench.grid import Options, run_grid
from vaebench.grid.manifest import make_manifest
from vaebench.run import Task
from vaebench.storage import RunStore, run_store

EPOCHS = 50  # of every record
SEEDS = 10  # of every cell
GRID: dict[str, Any] = {
    "name": "scale",
    "dataset": {"name": "digits", "train": 64, "validation": 64},
    "model": {"latent_dim": 2, "fnn": {"hidden": [8]}, "cnn": {"channels": [2], "strides": [2]}},
    "training": {"epochs": 1, "batch_size": 64},
}
SMALL = GRID | {"seeds": 1}  # eight runs, the templates


def measure_records(benchmark: Records) -> Outcome:
    """Time the commands that read records, and what a run costs besides its training."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        say("training eight small runs as templates")
        (root / "small.yaml").write_text(dump_yaml(SMALL), encoding="utf-8")
        results = str(root / "small")
        run("vaebench", "run-grid", str(root / "small.yaml"), "--results", results)
        say(f"writing {benchmark.records:,} records")
        _multiply(root, benchmark.records)
        measured = _commands(benchmark, root)
        costs, remarks = _overhead(benchmark, root)
    return Outcome([*measured, *costs], [], remarks)


def _templates(root: Path) -> dict[str, RunStore]:
    """The trained runs, by their cells as JSON."""
    runs = make_grid(SMALL).runs()
    return {json.dumps(r.cell): run_store(root / "small" / "scale", r.run_id) for r in runs}


def _multiply(root: Path, records: int) -> None:
    """Make ``root/large.yaml`` and its finished runs below ``root/large`` from the templates.

    A search over latent dimensions and learning rates, ten seeds a cell. Each run has its own run
    id, configuration, journal of 50 epochs and record, with numbers that vary as seeds make them
    vary; the tensors and arrays are those of the template.
    """
    settings = max(1, records // (8 * SEEDS))
    dimensions = math.gcd(settings, 5)
    axes = {
        **AXES,
        "model.latent_dim": list(range(2, 2 + dimensions)),
        "training.learning_rate": [0.001 * (1 + n) for n in range(settings // dimensions)],
    }
    content = GRID | {"seeds": SEEDS, "axes": axes}
    (root / "large.yaml").write_text(dump_yaml(content), encoding="utf-8")
    grid = make_grid(content)
    runs = grid.runs()
    templates = _templates(root)
    draw = random.Random(0)
    folder = root / "large" / "scale"
    for each in runs:
        template = templates[json.dumps({axis: each.cell[axis] for axis in AXES})]
        _copy(each, template.path, run_store(folder, each.run_id).path, draw)
    (folder / "grid.yaml").write_text(dump_yaml(make_manifest(grid, runs)), encoding="utf-8")


def _copy(each: Run, template: Path, folder: Path, draw: random.Random) -> None:
    folder.mkdir(parents=True)
    config = each.config.to_dict()
    record = json.loads((template / "record.json").read_text(encoding="utf-8"))
    line = json.loads((template / "journal.jsonl").read_text(encoding="utf-8").splitlines()[0])
    metrics = {name: value * draw.gauss(1, 0.01) for name, value in record["metrics"].items()}
    own = {"run_id": each.run_id, "seed": each.config.seed, "config": config, "cell": each.cell}
    lines = [json.dumps(line | {"epoch": epoch}) + "\n" for epoch in range(1, EPOCHS + 1)]
    (folder / "config.yaml").write_text(dump_yaml(config), encoding="utf-8")
    (folder / "journal.jsonl").write_text("".join(lines), encoding="utf-8")
    content = dump_json(record | own | {"metrics": metrics})
    (folder / "record.json").write_text(content, encoding="utf-8")
    for name in ("weights.pt", "arrays.npz"):
        os.link(template / name, folder / name)


def _commands(benchmark: Records, root: Path) -> list[Measurement]:
    results, grid = str(root / "large"), str(root / "large" / "scale")
    file = str(root / "large.yaml")
    commands = {
        "status": ["status", results],
        "report as JSON": ["report", grid, "--format", "json"],
        "report as CSV": ["report", grid, "--format", "csv"],
        "run-grid --dry-run": ["run-grid", file, "--results", results, "--dry-run"],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(benchmark.repeats):
        for name, arguments in commands.items():
            say(f"turn {turn + 1} of {benchmark.repeats}: {name}")
            took[name].append(run("vaebench", *arguments)[0])
    return [
        Measurement(f"{name}, {benchmark.records:,} records", "s", values)
        for name, values in took.items()
    ]


def _overhead(benchmark: Records, root: Path) -> tuple[list[Measurement], list[str]]:
    """Time grids of runs that are not trained, of two sizes: the difference has no start-up."""
    few = max(8, benchmark.runs // 4 // 8 * 8)
    many = few + max(8, benchmark.runs // 8 * 8)
    took: dict[int, list[dict[str, float]]] = {few: [], many: []}
    for turn in range(benchmark.repeats):
        for count, done in took.items():
            say(f"turn {turn + 1} of {benchmark.repeats}: {count} runs without training")
            shutil.rmtree(root / "untrained", ignore_errors=True)
            _, output = run("experiments.benchmarks.scale", str(count), str(root))
            done.append(json.loads(output.splitlines()[-1]))
    costs = [
        (b["seconds"] - a["seconds"]) / (many - few)
        for a, b in zip(took[few], took[many], strict=True)
    ]
    name = f"a run of {EPOCHS} epochs besides training, evaluation, images and models"
    cost = Measurement(name, "s/run", costs)
    if took[few][0]["peak_mb"] is None:
        return [cost], []
    peaks = [
        Measurement(f"peak of memory, {count} runs", "MB", [each["peak_mb"] for each in done])
        for count, done in took.items()
    ]
    kept = (peaks[1].median - peaks[0].median) / (many - few)
    return [cost, *peaks], [f"the parent keeps {kept * 1024:.0f} kB for each further run"]


def main() -> None:
    """Run a grid without training, and print its seconds and its peak of memory."""
    count, root = int(sys.argv[1]), Path(sys.argv[2])
    templates = _templates(root)

    def without_training(tasks: Iterable[Task], hear: Hear) -> None:
        for task in tasks:
            template, store = templates[json.dumps(task.cell)], RunStore(task.folder)
            hear(Event("started", task, {}))
            config = task.config.to_dict()
            write_atomic(store.path / "config.yaml", dump_yaml(config))
            (line,) = template.journal
            for epoch in range(1, EPOCHS + 1):
                store.append(line | {"epoch": epoch})
                hear(Event("epoch", task, line | {"epoch": epoch}))
            own = {"run_id": task.key, "seed": task.config.seed, "config": config}
            record = (template.record or {}) | own
            write_atomic(store.path / "record.json", dump_json(record))
            hear(Event("done", task, record))

    peak, began = peak_memory("cpu"), time.perf_counter()
    grid = make_grid(GRID | {"seeds": count // 8})
    results = run_grid(grid, Options(results=root / "untrained"), executor=without_training)
    if results.tracking.unsent:
        sys.exit(f"{results.tracking.unsent} runs did not reach MLflow: {results.tracking.problem}")
    print(json.dumps({"seconds": time.perf_counter() - began, "peak_mb": peak()}))


if __name__ == "__main__":
    main()
