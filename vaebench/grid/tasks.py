"""What is handed out: the tasks of a plan, and what is said of them before they begin."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from vaebench import datasets
from vaebench.config import DatasetChoice
from vaebench.grid.groups import PART
from vaebench.grid.listener import Listener
from vaebench.grid.options import Options
from vaebench.grid.planning import Planned
from vaebench.grid.shards import cost
from vaebench.run import Task
from vaebench.schema.labels import run_label


def training_images(
    todo: Sequence[Planned], options: Options, known: Container[DatasetChoice] = ()
) -> dict[DatasetChoice, int]:
    """The number of training images of each data set of a plan that is not known.

    Downloads what is missing, once, and finds what is wrong, before any run is touched.
    """
    wanted = {entry.run.config.dataset for entry in todo if entry.action != "skip"}
    return {
        choice: len(datasets.load(data_dir=options.data_dir, **choice.arguments).train.x)
        for choice in wanted
        if choice not in known
    }


def make_tasks(
    chosen: Sequence[Planned], folder: Path, options: Options, device: str, jobs: int
) -> list[tuple[Planned, Task]]:
    """The tasks of planned runs, the longest first: no worker begins it when others are done."""
    tasks = [
        Task(
            entry.run.config,
            entry.run.cell,
            folder / entry.run.run_id,
            device,
            options.data_dir,
            jobs,
            tune=folder.name == PART,
            keep_checkpoints=options.keep_checkpoints,
        )
        for entry in chosen
    ]
    return sorted(zip(chosen, tasks, strict=True), key=lambda pair: -cost(pair[0].run))


def warn(
    chosen: Sequence[Planned], images: Mapping[DatasetChoice, int], listener: Listener
) -> None:
    """Say what is done again because it is damaged, and which batches cannot be filled."""
    for run, _, why in (entry for entry in chosen if entry.is_damaged):
        label = run_label(run.cell, run.config.seed)
        listener.warning(f"{label} ({run.run_id}): {why}; it is done again")
    configs = [entry.run.config for entry in chosen]
    batches = dict.fromkeys((config.dataset, config.training.batch_size) for config in configs)
    for dataset, size in batches:
        if size > images[dataset]:
            listener.warning(
                f"training.batch_size is {size}, but {dataset.name} has only {images[dataset]} "
                f"training images: every epoch is one step; lower it for more steps"
            )
