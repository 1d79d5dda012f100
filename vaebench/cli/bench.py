"""``vaebench bench``: ratios to what people would use instead, and to an earlier state."""

import sys
from pathlib import Path

import click

from vaebench.cli.options import FILE, FOLDER, data_option, json_option
from vaebench.errors import ConfigError


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="BENCHMARK.yaml...", type=FILE)
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
@data_option
@json_option
def bench(
    files: tuple[Path, ...],
    output: Path,
    repeats: int | None,
    baseline: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Measure speed in turns: vaebench, a plain loop, Lightning, pythae, and the limit.

    The benchmarks are in experiments/benchmarks/ of the repository. Lightning and pythae come with
    `pip install 'vaebench[bench]'`. Leave the machine alone meanwhile.
    """
    import json

    from vaebench import bench as benchmarks
    from vaebench.environment import describe

    if baseline and baseline.resolve() == output.resolve():
        raise ConfigError(f"--compare {baseline}: --output would overwrite it; name another one")
    chosen = [(file, benchmarks.read_benchmark(file)) for file in files]
    for file, benchmark in chosen:
        benchmarks.require_installed(benchmark, str(file))
    known = {
        benchmark.name: benchmarks.load_result(baseline / f"{benchmark.name}.json")
        for _, benchmark in chosen
        if baseline
    }
    for earlier in known.values():
        benchmarks.require_same_cpu(earlier, describe("cpu", threads=1, jobs=1))
    output.mkdir(parents=True, exist_ok=True)  # found out now, not after half an hour
    worse: list[str] = []
    for file, benchmark in chosen:
        benchmark = benchmark.model_copy(update={"repeats": repeats} if repeats else {})
        result = benchmarks.run_benchmark(
            benchmark, file.parent, data_dir, lambda line: click.echo(line, err=True)
        )
        click.echo(json.dumps(result.to_dict()) if as_json else benchmarks.text(result))
        paths = benchmarks.save(result, output)
        click.echo(f"wrote {', '.join(map(str, paths))}", err=True)
        if benchmark.name in known:
            if not result.ratios:
                click.echo(f"{benchmark.name}: has no ratios, so nothing to compare", err=True)
            worse += benchmarks.regressions(known[benchmark.name], result)
    for line in worse:
        click.echo(f"slower: {line}", err=True)
    if worse:
        sys.exit(3)
