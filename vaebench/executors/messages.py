"""Tasks as lines of JSON, which is all that parent and workers say to each other."""

import json
from typing import IO, Any

from pydantic import TypeAdapter

from vaebench.config import make_run
from vaebench.run import Task

_TASK = TypeAdapter(Task)


def send(stream: IO[bytes], message: object) -> None:
    """Write a message, whole."""
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def to_message(task: Task) -> dict[str, Any]:
    """A task as plain values."""
    message: dict[str, Any] = _TASK.dump_python(task, mode="json", exclude={"config"})
    return {**message, "config": task.config.to_dict()}


def from_message(message: dict[str, Any]) -> Task:
    """The task that :func:`to_message` wrote."""
    return _TASK.validate_python({**message, "config": make_run(message["config"])})
