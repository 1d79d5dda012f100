"""``--shard``: which part of a grid this process does."""

import os
import re
from collections.abc import Mapping

from vaebench.errors import ConfigError

MAX_SHARDS = 100_000


def shard(text: str | None, environ: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """K and N of ``K/N``; those of an array's task for ``auto``, or ``auto/N``.

    ``auto`` reads SLURM_ARRAY_TASK_ID, with _COUNT or _MIN and _MAX, and _STEP; or
    JOB_COMPLETION_INDEX of an Indexed Job of Kubernetes, which does not say N.

    Raises:
        ConfigError: It is none of these, or the environment has no task.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(auto|[0-9]{1,6})(?:/([0-9]{1,6}))?", text)
    if found is None or (found[1] != "auto" and found[2] is None):
        raise ConfigError(f"--shard: {text!r} is neither K/N, such as 1/4, nor auto or auto/N")
    if found[1] == "auto":
        number, count = _task(environ, int(found[2]) if found[2] else None)
    else:
        number, count = int(found[1]), int(found[2])
    if not 1 <= number <= count <= MAX_SHARDS:
        raise ConfigError(f"--shard {text}: {number}/{count} is no part from 1/{count} on")
    return number, count


def _task(environ: Mapping[str, str], count: int | None) -> tuple[int, int]:
    """Number and count of the array task that this is."""
    if "SLURM_ARRAY_TASK_ID" in environ:
        task, first, step = (
            _whole(environ, f"SLURM_ARRAY_TASK_{name}", default)
            for name, default in (("ID", None), ("MIN", 1), ("STEP", 1))
        )
        if count is None and "SLURM_ARRAY_TASK_COUNT" in environ:
            count = _whole(environ, "SLURM_ARRAY_TASK_COUNT")
        if count is None:
            last = _whole(environ, "SLURM_ARRAY_TASK_MAX")
            count = (last - first) // max(1, step) + 1
        return (task - first) // max(1, step) + 1, count
    if "JOB_COMPLETION_INDEX" in environ:
        if count is None:
            raise ConfigError(
                "--shard auto: JOB_COMPLETION_INDEX does not say of how many; use auto/N with the "
                "job's completions"
            )
        return _whole(environ, "JOB_COMPLETION_INDEX") + 1, count
    raise ConfigError(
        "--shard auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; use K/N"
    )


def _whole(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(name, "" if default is None else str(default))
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ConfigError(f"--shard auto: {name} is {text!r}, which is no number")
    return int(text)
