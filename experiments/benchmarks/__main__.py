"""Measure ratios to what people would use instead, and compare them with an earlier state.

Exit codes: 0 done, 1 something failed, 2 usage or a refused baseline, 3 a ratio has fallen,
130 interrupted, 143 terminated.
"""

import signal
import sys
from pathlib import Path

import click

from experiments.benchmarks.commands import measure_grid
from experiments.benchmarks.measured import (
    OtherCpuError,
    Result,
    load_result,
    regressions,
    require_same_cpu,
    save,
    text,
)
from experiments.benchmarks.parts import measure_parts
from experiments.benchmarks.scale import measure_records
from experiments.benchmarks.settings import (
    Benchmark,
    Grid,
    Parts,
    Steps,
    read_benchmark,
    require_installed,
)
from experiments.benchmarks.steps import measure_steps
from vaebench.environment import describe
from vaebench.errors import ConfigError, VaebenchError

HERE = Path(__file__).parent
FOLDER = click.Path(file_okay=False, path_type=Path)


def run_benchmark(benchmark: Benchmark, where: Path) -> Result:
    """Measure, and record what ran where.

    Arguments:
        benchmark: From :func:`~experiments.benchmarks.settings.read_benchmark`.
        where: The folder of its file, to which a grid's file is relative.

    Raises:
        VaebenchError: A contender died, or a command failed.
    """
    environment = describe("cpu", threads=1, jobs=1)
    if isinstance(benchmark, Steps):
        outcome = measure_steps(benchmark)
    elif isinstance(benchmark, Grid):
        outcome = measure_grid(benchmark, where)
    elif isinstance(benchmark, Parts):
        outcome = measure_parts(benchmark)
    else:
        outcome = measure_records(benchmark)
    return Result(
        benchmark.name,
        benchmark.question,
        benchmark.model_dump(mode="json"),
        environment,
        *outcome,
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("files", nargs=-1, required=True, metavar="BENCHMARK.yaml...", type=Path)
@click.option(
    "--output",
    default="results/benchmarks",
    show_default=True,
    type=FOLDER,
    help="Folder of the tables, the pictures and the JSON.",
)
@click.option("--repeats", type=click.IntRange(1, 1000), help="Turns.  [default: the file's]")
@click.option(
    "--compare",
    "baseline",
    type=FOLDER,
    help="Folder of an earlier state's results, from the same kind of CPU: exit code 3 where a "
    "ratio has fallen since.",
)
@click.option(
    "--any-cpu",
    is_flag=True,
    help="Where the baseline is of another kind of CPU, say so and compare nothing, with exit code "
    "0.",
)
def main(
    files: tuple[Path, ...],
    output: Path,
    repeats: int | None,
    baseline: Path | None,
    any_cpu: bool,
) -> None:
    """Measure speed in turns: vaebench, a plain loop, Lightning, pythae, and the limit.

    The name of a file in experiments/benchmarks/ is enough. Lightning and pythae come with `pip
    install '.[bench]'`. Leave the machine alone meanwhile.
    """
    try:
        worse = _measure(files, output, repeats, baseline)
    except OtherCpuError as error:
        click.echo(f"{'other CPU' if any_cpu else 'Error'}: {error}", err=True)
        sys.exit(0 if any_cpu else 2)
    except KeyboardInterrupt:
        sys.exit(130)
    except (VaebenchError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    for line in worse:
        click.echo(f"slower: {line}", err=True)
    if worse:
        sys.exit(3)


def _measure(
    files: tuple[Path, ...], output: Path, repeats: int | None, baseline: Path | None
) -> list[str]:
    """Measure every file's benchmark; return the ratios that have fallen, in words."""
    if baseline and baseline.resolve() == output.resolve():
        raise ConfigError(f"--compare {baseline}: --output would overwrite it; name another one")
    # a name alone is looked for beside this program, too
    paths = [file if file.exists() or file.name != str(file) else HERE / file for file in files]
    chosen = [(path, read_benchmark(path)) for path in paths]
    for path, benchmark in chosen:
        require_installed(benchmark, str(path))
    known = {
        benchmark.name: load_result(baseline / f"{benchmark.name}.json")
        for _, benchmark in chosen
        if baseline
    }
    for earlier in known.values():
        require_same_cpu(earlier, describe("cpu", threads=1, jobs=1))
    output.mkdir(parents=True, exist_ok=True)  # fails now, not after half an hour
    worse: list[str] = []
    for path, benchmark in chosen:
        benchmark = benchmark.model_copy(update={"repeats": repeats} if repeats else {})
        result = run_benchmark(benchmark, path.parent)
        click.echo(text(result))
        click.echo(f"wrote {', '.join(map(str, save(result, output)))}", err=True)
        if benchmark.name in known:
            if not result.ratios:
                click.echo(f"{benchmark.name}: has no ratios, so nothing to compare", err=True)
            worse += regressions(known[benchmark.name], result)
    return worse


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what it has started ends with it
    main()
