"""Tasks as lines of JSON, which is all that parent and workers say to each other."""

import json
from collections.abc import Sequence
from typing import IO, Any

from pydantic import TypeAdapter

from vaebench.config import RunConfig, make_run
from vaebench.errors import ConfigError
from vaebench.plugins import load_as_there, name_all
from vaebench.run import Task

_TASK = TypeAdapter(Task)


def send(stream: IO[bytes], message: object) -> None:
    """Write a message, whole."""
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def to_message(task: Task) -> dict[str, Any]:
    """A task as plain values, with the plugins that are to be loaded first."""
    message: dict[str, Any] = _TASK.dump_python(task, mode="json", exclude={"config"})
    return {**message, "config": task.config.to_dict(), "plugins": name_all()}


def require_loadable(configs: Sequence[RunConfig]) -> None:
    """Make sure that another process can load what runs are trained with.

    Raises:
        ConfigError: A component was entered here by hand; the remedy is in the message.
    """
    for config in configs:
        for plugin, provides in config.plugins.items():
            if not plugin.is_named:
                raise ConfigError(
                    f"{provides[0]}: was entered by {plugin}, which workers do not load; name its "
                    f"file in plugins (`plugins: [{plugin.path or 'my_vae.py'}]`, or --plugin)"
                )


def from_message(message: dict[str, Any]) -> Task:
    """The task that :func:`to_message` wrote.

    Raises:
        ConfigError: A plugin cannot be loaded here, or has changed.
    """
    load_as_there(message.pop("plugins"))
    return _TASK.validate_python({**message, "config": make_run(message["config"])})
