"""The harness at scale: many records, honest in shape, and commands that read them."""

import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vaebench.bench.commands import own_environment, seconds, vaebench
from vaebench.bench.measured import Measurement
from vaebench.bench.settings import Records
from vaebench.bench.steps import Outcome, Say
from vaebench.config import AXES, Run, make_grid
from vaebench.errors import VaebenchError
from vaebench.grid.manifest import make_manifest
from vaebench.storage import dump_json, dump_yaml, run_store

EPOCHS = 50  # of every record
SEEDS = 10  # of every cell
GRID: dict[str, Any] = {
    "name": "scale",
    "dataset": {"name": "digits", "train": 64, "validation": 64},
    "model": {"latent_dim": 2, "fnn": {"hidden": [8]}, "cnn": {"channels": [2], "strides": [2]}},
    "training": {"epochs": 1, "batch_size": 64},
}


def measure_records(benchmark: Records, say: Say) -> Outcome:
    """Time the commands that read records, and what a run costs besides its training."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        say("training eight small runs as templates")
        small = _file(root, {"seeds": 1})
        seconds(vaebench("run-grid", str(small), "--results", str(root / "small")))
        say(f"writing {benchmark.records:,} records")
        file = multiply(root, benchmark.records)
        measured = _commands(benchmark, root / "large", file, say)
        costs, remarks = _overhead(benchmark, root, say)
    return Outcome([*measured, *costs], [], remarks)


def _file(root: Path, more: dict[str, Any]) -> Path:
    file = root / f"scale-{len(more)}.yaml"
    file.write_text(dump_yaml(GRID | more), encoding="utf-8")
    return file


def multiply(root: Path, records: int) -> Path:
    """Make a grid of finished runs below ``root/large`` from the eight below ``root/small``.

    A search over latent dimensions and learning rates, ten seeds a cell. Each run has its own run
    id, configuration, journal of 50 epochs and record, with numbers that vary as seeds make them
    vary; the tensors and arrays are those of the template.

    Returns:
        The grid's file.
    """
    settings = max(1, records // (8 * SEEDS))
    dimensions = math.gcd(settings, 5)
    axes = {
        **AXES,
        "model.latent_dim": list(range(2, 2 + dimensions)),
        "training.learning_rate": [0.001 * (1 + n) for n in range(settings // dimensions)],
    }
    more = {"seeds": SEEDS, "axes": axes}
    file = _file(root, more)
    grid = make_grid(GRID | more)
    runs = grid.runs()
    templates = {
        json.dumps(run.cell): run_store(root / "small" / "scale", run.run_id)
        for run in make_grid(GRID | {"seeds": 1}).runs()
    }
    draw = random.Random(0)
    folder = root / "large" / "scale"
    for run in runs:
        template = templates[json.dumps({axis: run.cell[axis] for axis in AXES})]
        _copy(run, template.path, run_store(folder, run.run_id).path, draw)
    (folder / "grid.yaml").write_text(dump_yaml(make_manifest(grid, runs)), encoding="utf-8")
    return file


def _copy(run: Run, template: Path, folder: Path, draw: random.Random) -> None:
    folder.mkdir(parents=True)
    config = run.config.to_dict()
    record = json.loads((template / "record.json").read_text(encoding="utf-8"))
    line = json.loads((template / "journal.jsonl").read_text(encoding="utf-8").splitlines()[0])
    metrics = {name: value * draw.gauss(1, 0.01) for name, value in record["metrics"].items()}
    own = {"run_id": run.run_id, "seed": run.config.seed, "config": config, "cell": run.cell}
    lines = [json.dumps(line | {"epoch": epoch}) + "\n" for epoch in range(1, EPOCHS + 1)]
    (folder / "config.yaml").write_text(dump_yaml(config), encoding="utf-8")
    (folder / "journal.jsonl").write_text("".join(lines), encoding="utf-8")
    content = dump_json(record | own | {"metrics": metrics})
    (folder / "record.json").write_text(content, encoding="utf-8")
    for name in ("weights.pt", "arrays.npz"):
        os.link(template / name, folder / name)


def _commands(benchmark: Records, results: Path, file: Path, say: Say) -> list[Measurement]:
    grid = results / "scale"
    commands = {
        "status": ["status", str(results)],
        "report as JSON": ["report", str(grid), "--format", "json"],
        "report as CSV": ["report", str(grid), "--format", "csv"],
        "run-grid --dry-run": ["run-grid", str(file), "--results", str(results), "--dry-run"],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(benchmark.repeats):
        for name, arguments in commands.items():
            say(f"turn {turn + 1} of {benchmark.repeats}: {name}")
            took[name].append(seconds(vaebench(*arguments)))
    return [
        Measurement(f"{name}, {benchmark.records:,} records", "s", values)
        for name, values in took.items()
    ]


def _overhead(benchmark: Records, root: Path, say: Say) -> tuple[list[Measurement], list[str]]:
    """Time grids of runs that are not trained, of two sizes: the difference has no start-up."""
    few = max(8, benchmark.runs // 4 // 8 * 8)
    many = few + max(8, benchmark.runs // 8 * 8)
    took: dict[int, list[dict[str, float]]] = {few: [], many: []}
    for turn in range(benchmark.repeats):
        for count, all_of_them in took.items():
            say(f"turn {turn + 1} of {benchmark.repeats}: {count} runs without training")
            all_of_them.append(_untrained(root, count))
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
    remarks = [f"the parent keeps {kept * 1024:.0f} kB for each further run"]
    return [cost, *peaks], remarks


def _untrained(root: Path, count: int) -> dict[str, float]:
    folder = root / "untrained"
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "vaebench.bench.untrained", str(count), str(root)],
        capture_output=True,
        text=True,
        env=own_environment(),
    )
    if done.returncode:
        raise VaebenchError(f"{count} runs without training: {done.stderr.strip()[-300:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured
