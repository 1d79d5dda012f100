"""Run one benchmark, of whatever kind."""

from pathlib import Path

from vaebench.bench.grids import measure_grid
from vaebench.bench.measured import Result
from vaebench.bench.records import measure_records
from vaebench.bench.settings import Benchmark, Grid, Steps
from vaebench.bench.steps import Outcome, Say, measure_steps
from vaebench.environment import describe


def run_benchmark(
    benchmark: Benchmark, where: Path, data_dir: Path | None = None, say: Say = lambda _: None
) -> Result:
    """Measure, and say what ran where.

    Arguments:
        benchmark: From :func:`~vaebench.bench.settings.read_benchmark`.
        where: The folder of its file, to which a grid's file is relative.
        data_dir: Where data sets lie; None for the default.
        say: Hears what is measured next.

    Raises:
        VaebenchError: A contender died, or a command failed.
    """
    environment = describe("cpu", threads=1, jobs=1)
    outcome: Outcome
    if isinstance(benchmark, Steps):
        outcome = measure_steps(benchmark, data_dir, say)
    elif isinstance(benchmark, Grid):
        outcome = measure_grid(benchmark, where, data_dir, say)
    else:
        outcome = measure_records(benchmark, say)
    return Result(
        name=benchmark.name,
        question=benchmark.question,
        settings=benchmark.model_dump(mode="json"),
        environment=environment,
        measurements=outcome.measurements,
        ratios=outcome.ratios,
        remarks=outcome.remarks,
    )
