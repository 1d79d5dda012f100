"""``vaebench run-grid`` and ``vaebench train``: what trains."""

import sys
from pathlib import Path
from typing import Any

import click

from vaebench.cli.options import (
    FILE,
    WHERE,
    again,
    grid_options,
    job_count,
    run_options,
    seconds,
    settings,
)


@click.command()
@click.argument("grid", required=False, type=FILE)
@run_options
@grid_options
def run_grid(
    grid: Path | None, jobs: str, timeout: str | None, dry_run: bool, **options: Any
) -> None:
    """Train and measure every run of GRID that is not finished, and write its report.

    GRID is a YAML file; without it, the eight cells {fnn, cnn} x {bce, mse} x {sgvb, kl} are
    trained on MNIST; with `--dataset digits` alone, the demo, which needs no download. Finished
    runs are skipped, interrupted ones resume. What GRID asks to `tune` is tuned first.
    """
    from vaebench.cli.progress import Progress, print_results
    from vaebench.cli.tuning import print_dry_run
    from vaebench.config import make_grid, read_yaml, without_file
    from vaebench.grid import Options
    from vaebench.grid import run_grid as execute

    raw = read_yaml(grid) if grid else without_file(options["dataset"])
    chosen = make_grid(raw, settings(options), source=str(grid or "run-grid"))
    how = {name: options[name] for name in (*WHERE, "fail_fast", "retries", "tune_only")}
    where = Options(**how, jobs=job_count(jobs), timeout=seconds(timeout))
    if dry_run:
        print_dry_run(chosen, where)
        return
    with Progress() as progress:
        results = execute(chosen, where, progress)
    print_results(results, where, again("--rerun", "failed", without=["--rerun"]))
    if results.failed:
        sys.exit(1)


@click.command()
@click.argument("config", required=False, type=FILE)
@run_options
@click.option("--seed", type=click.IntRange(0), metavar="N", help="The run's seed.")
def train(config: Path | None, dry_run: bool, **options: Any) -> None:
    """Do one run, in this process.

    CONFIG is a YAML file, such as the config.yaml in a run's folder; without it, an fnn with bce
    and closed-form KL is trained on MNIST.
    """
    from vaebench.cli.progress import Progress, print_metrics, print_plan
    from vaebench.config import make_single, read_yaml
    from vaebench.grid import Options, plan
    from vaebench.grid import train as execute

    raw = read_yaml(config) if config else {}
    chosen = make_single(raw, settings(options), source=str(config or "train"))
    where = Options(**{name: options[name] for name in WHERE})
    if dry_run:
        print_plan(plan(chosen, where, thorough=False))
        return
    with Progress() as progress:
        run = execute(chosen, where, progress)
    print_metrics(run.record, where.results / chosen.name)
