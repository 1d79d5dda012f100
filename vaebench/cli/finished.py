"""``vaebench evaluate``: finished runs, measured again."""

import sys
from pathlib import Path

import click

from vaebench.cli.options import (
    assigned,
    data_option,
    device_option,
    directory_argument,
    job_count,
    registered,
)


@click.command()
@directory_argument
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help=f"Only this one (repeatable), of: {', '.join(registered('metrics', 'METRICS'))}.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Ask for what is not measured by itself: metrics.log_px=200, its number of samples.",
)
@device_option("measure")
@data_option
@click.option("--jobs", default="auto", show_default=True, metavar="N|auto", help="Runs at a time.")
def evaluate(
    directory: Path,
    metrics: tuple[str, ...],
    assignments: tuple[str, ...],
    device: str,
    data_dir: Path | None,
    jobs: str,
) -> None:
    """Measure finished runs without training them again.

    DIR is a run's folder, a grid's folder, or a results folder that holds one grid. Computed is
    what a run lacks: a metric that is new, asked for only now, or has a newer definition. Numbers
    that are up to date stay as they are.
    """
    from vaebench.cli.progress import print_evaluated
    from vaebench.grid.evaluate import Request
    from vaebench.grid.evaluate import evaluate as execute

    request = Request(metrics, assigned(assignments), device, data_dir, job_count(jobs))
    counts = execute(directory, request, print_evaluated)
    click.echo(", ".join(f"{n} {kind}" for kind, n in counts.items()))
    if counts["failed"]:
        sys.exit(1)
