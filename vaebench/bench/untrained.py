"""``python -m vaebench.bench.untrained RUNS FOLDER``: a grid of runs without their training.

All that the harness does for a run is done (plan, lock, journal, record, MLflow, report); what a
run computes is taken from a template. Prints its seconds and its peak of memory as JSON.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vaebench.bench.records import EPOCHS, GRID
from vaebench.config import make_grid
from vaebench.environment import peak_memory
from vaebench.executors import Event, Hear
from vaebench.grid import Options, run_grid
from vaebench.run import Task
from vaebench.storage import RunStore, dump_json, dump_yaml, run_store, write_atomic


def main() -> None:
    """Do it, and tell what it took."""
    count, root = int(sys.argv[1]), Path(sys.argv[2])
    templates = {
        tuple(run.cell.items()): run_store(root / "small" / "scale", run.run_id)
        for run in make_grid(GRID | {"seeds": 1}).runs()
    }

    def without_training(tasks: Sequence[Task], hear: Hear) -> None:
        for task in tasks:
            template, store = templates[tuple(task.cell.items())], RunStore(task.folder)
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
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - began, "peak_mb": peak()}))


if __name__ == "__main__":
    main()
