"""Where and how a grid runs."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vaebench.errors import ConfigError

Rerun = Literal["missing", "failed", "stale", "all"]


@dataclass(frozen=True)
class Options:
    """Where and how a grid runs. None of it is part of a run's identity.

    Attributes:
        results: Folder of all results.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        executor: ``local``: workers on this machine; ``ray``: the nodes of a Ray cluster.
        jobs: Runs at a time; None fills the machine, or the cluster.
        jobs_per_gpu: Runs that may share a GPU; None: four, if there are cores for them; on a
            cluster one.
        data_dir: Where data sets lie; None for the default.
        tracking_uri: MLflow's URI; None: the environment's, the grid file's, or the results' own.
        rerun: Only what is ``missing``, only what has ``failed``, only what is ``stale`` (complete,
            but of other data or of another source of a plugin than lie here now, or of an older
            version of vaebench), or ``all``; None: missing and failed.
        fail_fast: Stop at the first run that fails.
        timeout: Seconds that a run may take at each try, from its start or from where it resumes;
            then it is ended, and has failed. None: any time.
        retries: How often a run is tried again that failed for a reason that may pass: no memory,
            a worker that died or timed out, a system error.
        tune_only: Stop when every pick of a grid's ``tune`` is known.
        keep_checkpoints: Whether what a run resumes from stays when it is complete.
        shard: (K, N): only the K-th of N parts of the grid; None: all of it.

    Raises:
        ConfigError: The timeout or the retries are no such numbers.
    """

    results: Path = Path("results")
    device: str = "auto"
    executor: Literal["local", "ray"] = "local"
    jobs: int | None = None
    jobs_per_gpu: int | None = None
    data_dir: Path | None = None
    tracking_uri: str | None = None
    rerun: Rerun | None = None
    fail_fast: bool = False
    timeout: float | None = None
    retries: int = 0
    tune_only: bool = False
    keep_checkpoints: bool = False
    shard: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "results", Path(self.results))  # a str will do
        if self.timeout is not None and not (0 < self.timeout < math.inf):
            raise ConfigError(f"timeout: {self.timeout} is not a number of seconds above 0")
        if self.executor not in ("local", "ray"):
            raise ConfigError(f"executor: unknown name {self.executor!r}; choose from local, ray")
        if self.jobs_per_gpu is not None and self.jobs_per_gpu < 1:
            raise ConfigError(f"jobs_per_gpu: {self.jobs_per_gpu} is less than 1")
        if self.retries < 0:
            raise ConfigError(f"retries: {self.retries} is less than 0")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ConfigError(f"shard: {self.shard} is no (K, N) with K from 1 to N")
