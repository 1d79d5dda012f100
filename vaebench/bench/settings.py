"""The file of a benchmark: its kind, and what that kind needs."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from vaebench.config import Section, make_run, read_yaml
from vaebench.config.messages import shortened
from vaebench.errors import ConfigError

Repeats = Annotated[int, Field(ge=1, le=1000)]


class _Common(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)
    question: str = ""
    repeats: Repeats = 5


class Steps(_Common):
    """Training loops in turns, an epoch each.

    Attributes:
        run: Configuration of a run: the work. ``dataset.train`` says how many images an epoch has.
        contenders: Keys of :data:`vaebench.bench.contenders.CONTENDERS`.
        sweep: Keys of ``run`` with values of which each is measured in turn.
    """

    kind: Literal["steps"]
    run: dict[str, Any]
    contenders: tuple[str, ...] = Field(min_length=1)
    sweep: dict[str, list[Any]] = Field(default_factory=dict)


class Grid(_Common):
    """``vaebench run-grid`` as a whole, start-up and report included.

    Attributes:
        grid: A grid's file, relative to this one.
        jobs: Values of ``--jobs``.
        seeds: Numbers of seeds: how the cost grows with the number of runs.
        epochs: Instead of the grid's own.
        pythae: Also the same trainings by pythae, one after the other, in one process.
    """

    kind: Literal["grid"]
    grid: str
    jobs: tuple[int | Literal["auto"], ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=1)], ...] = (1,)
    epochs: int | None = Field(default=None, ge=1)
    pythae: bool = False


class Records(_Common):
    """The harness at scale: commands over so many records, and what a run costs besides training.

    Attributes:
        records: How many the commands read.
        runs: How many runs without a training the overhead is measured on.
    """

    kind: Literal["records"]
    records: int = Field(default=10_000, ge=80)
    runs: int = Field(default=100, ge=1)


Benchmark = Steps | Grid | Records
KINDS: dict[str, type[Benchmark]] = {"steps": Steps, "grid": Grid, "records": Records}


def read_benchmark(path: Path) -> Benchmark:
    """Read and check a benchmark's file.

    Raises:
        ConfigError: Naming the file and what is wrong.
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
        from vaebench.bench.contenders import CONTENDERS

        make_run(benchmark.run, str(path))
        for name in benchmark.contenders:
            if name not in CONTENDERS:
                known = ", ".join(CONTENDERS)
                raise ConfigError(f"{path}: contenders: unknown {name!r}; choose from {known}")
    return benchmark
