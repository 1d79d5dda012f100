"""The file of a benchmark: its kind, and what that kind needs."""

import importlib.util
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from experiments.benchmarks.contenders import CONTENDERS
from experiments.benchmarks.peers import PEERS
from vaebench.config import RunConfig, Section, make_grid, make_run, read_yaml, with_value
from vaebench.config.messages import shortened
from vaebench.errors import ConfigError
from vaebench.layers import AVAILABLE

Repeats = Annotated[int, Field(ge=1, le=1000)]


class _Common(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)
    question: str = ""
    repeats: Repeats = 5


class Steps(_Common):
    """Training loops in turns, an epoch each.

    Attributes:
        run: A run's configuration: the work. ``dataset.train`` is the images of an epoch.
        contenders: Keys of :data:`~experiments.benchmarks.contenders.CONTENDERS`.
        sweep: Keys of ``run`` with their values; each value is measured by itself.
        clock: Whether a turn takes the time that passes, or the CPU's, which says more where others
            work on the machine, and nothing of waiting.
    """

    kind: Literal["steps"]
    run: dict[str, Any]
    contenders: tuple[str, ...] = Field(min_length=1)
    sweep: dict[str, list[Any]] = Field(default_factory=dict)
    clock: Literal["wall", "cpu"] = "wall"


class Grid(_Common):
    """``vaebench run-grid`` as a whole, start-up and report included.

    Attributes:
        grid: A grid's file, relative to this one.
        jobs: Values of ``--jobs``.
        seeds: Numbers of seeds: how the cost grows with the number of runs.
        epochs: Epochs instead of the grid's own.
        pythae: Whether pythae does the same trainings, too, one after the other in one process.
    """

    kind: Literal["grid"]
    grid: str
    jobs: tuple[Annotated[int, Field(ge=1)] | Literal["auto"], ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=1)], ...] = (1,)
    epochs: int | None = Field(default=None, ge=1)
    pythae: bool = False


class Records(_Common):
    """The harness at scale: commands over so many records, and what a run costs besides training.

    Attributes:
        records: Number of records that the commands read.
        runs: Number of untrained runs on which the overhead is measured.
    """

    kind: Literal["records"]
    records: int = Field(default=10_000, ge=80, multiple_of=80)
    runs: int = Field(default=100, ge=1)


class Parts(_Common):
    """A run's fixed cost, part by part.

    Attributes:
        run: A run's configuration.
    """

    kind: Literal["parts"]
    run: dict[str, Any]


Benchmark = Steps | Grid | Records | Parts
KINDS: dict[str, type[Benchmark]] = {
    "steps": Steps,
    "grid": Grid,
    "records": Records,
    "parts": Parts,
}


def read_benchmark(path: Path) -> Benchmark:
    """Read and check a benchmark's file.

    Raises:
        ConfigError: Names the file and what is wrong.
    """
    raw = read_yaml(path)
    kind = KINDS.get(str(raw.get("kind")))
    if kind is None:
        raise ConfigError(f"{path}: kind: choose from {', '.join(KINDS)}")
    try:
        benchmark = kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {shortened(where)}: {first['msg']}") from error
    if isinstance(benchmark, Steps):
        _require_steps(benchmark, str(path))
    if isinstance(benchmark, Parts):
        make_run(benchmark.run, str(path))
    if isinstance(benchmark, Grid):
        make_grid(read_yaml(path.parent / benchmark.grid), source=benchmark.grid)
    return benchmark


def require_installed(benchmark: Benchmark, source: str) -> None:
    """Refuse a benchmark that needs what this environment lacks.

    Raises:
        ConfigError: Names ``source``, what is not installed, and how to install it.
    """
    names = benchmark.contenders if isinstance(benchmark, Steps) else ()
    if "limit, oneDNN" in names and not AVAILABLE:
        raise ConfigError(f"{source}: PyTorch has no oneDNN for this CPU: leave out limit, oneDNN")
    if isinstance(benchmark, Grid) and benchmark.pythae:
        names = ("pythae",)
    for name in names:
        module = PEERS.get(name)
        if module is not None and importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"{source}: {name} is not installed: pip install '.[bench]', or leave it out"
            )


def _require_steps(benchmark: Steps, source: str) -> None:
    """Refuse now what would otherwise fail after minutes."""
    run = make_run(benchmark.run, source)
    for key, values in benchmark.sweep.items():
        for value in values:
            make_run(with_value(benchmark.run, key, value), source)
    for name in benchmark.contenders:
        if name not in CONTENDERS:
            known = ", ".join(CONTENDERS)
            raise ConfigError(f"{source}: contenders: unknown {name!r}; choose from {known}")
        if name in PEERS and not _is_common(run):
            raise ConfigError(
                f"{source}: contenders: {name} does only loss bce or mse, estimator kl with one "
                f"sample, adam without weight decay, a constant learning rate, no beta, no clipping"
            )


def _is_common(run: RunConfig) -> bool:
    """Whether the peers' loops do what a configuration says."""
    usual = make_run(
        {
            **{key: getattr(run, key) for key in ("dataset", "model")},
            "loss": run.loss.name,
            "training": {
                key: getattr(run.training, key) for key in ("epochs", "batch_size", "learning_rate")
            },
        }
    )
    return run.loss.name in ("bce", "mse") and run.dataset.binarize != "dynamic" and usual == run
