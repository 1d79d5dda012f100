"""Tasks as lines of JSON, which is all that parent and workers say to each other."""

import json
from pathlib import Path
from typing import IO, Any

from vaebench.config import make_run
from vaebench.run import Task


def send(stream: IO[bytes], message: dict[str, Any]) -> None:
    """Write a message, whole."""
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def to_message(task: Task) -> dict[str, Any]:
    """A task as plain values."""
    return {
        "config": task.config.to_dict(),
        "cell": task.cell,
        "folder": str(task.folder),
        "device": task.device,
        "data_dir": None if task.data_dir is None else str(task.data_dir),
        "jobs": task.jobs,
        "retries": task.retries,
        "metrics": task.metrics,
        "tune": task.tune,
    }


def from_message(message: dict[str, Any]) -> Task:
    """The task that :func:`to_message` wrote."""
    data_dir = message["data_dir"]
    return Task(
        config=make_run(message["config"]),
        cell=message["cell"],
        folder=Path(message["folder"]),
        device=message["device"],
        data_dir=None if data_dir is None else Path(data_dir),
        jobs=message["jobs"],
        retries=message["retries"],
        metrics=None if message["metrics"] is None else tuple(message["metrics"]),
        tune=message["tune"],
    )
