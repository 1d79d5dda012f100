"""From planned runs to tasks, in the order in which they are handed out."""

from collections.abc import Sequence
from pathlib import Path

from vaebench.grid.planning import Options, Planned
from vaebench.run import Task, model_cost
from vaebench.schema.labels import cell_label
from vaebench.storage import run_store


def make_tasks(
    chosen: Sequence[Planned],
    folder: Path,
    options: Options,
    device: str,
    jobs: int,
    *,
    part: str = "runs",
) -> list[Task]:
    """The tasks of planned runs, the longest first; what an earlier attempt left is set aside.

    Arguments:
        chosen: Planned runs, none of which is to be skipped.
        folder: The grid's folder.
        options: Where the data lie.
        device: Where they run.
        jobs: Runs at a time, for their records.
        part: ``tuning`` for tuning runs.
    """
    tasks = []
    for entry in chosen:
        store = run_store(folder, entry.run.run_id, part)
        if entry.action == "rerun":
            store.set_aside()
        tasks.append(
            Task(
                config=entry.run.config,
                cell=entry.run.cell,
                folder=store.path,
                device=device,
                data_dir=options.data_dir,
                jobs=jobs,
                tune=part != "runs",
            )
        )
    return _longest_first(tasks)


def _longest_first(tasks: Sequence[Task]) -> list[Task]:
    """So that no worker begins the longest run when the others are done."""
    lengths: dict[str, int] = {}  # the seeds of a cell take equally long
    for task in tasks:
        cell = cell_label(task.cell)
        if cell not in lengths:
            lengths[cell] = model_cost(task.config)[1] * task.config.training.epochs
    return sorted(tasks, key=lambda task: lengths[cell_label(task.cell)], reverse=True)
