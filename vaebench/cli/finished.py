"""``vaebench evaluate``: finished runs, measured again."""

import sys
from pathlib import Path

import click

from vaebench.cli.options import (
    assigned,
    data_option,
    device_option,
    directory_argument,
    jobs_option,
    plugin_option,
    registered,
    set_option,
)
from vaebench.cli.output import echo


@click.command()
@directory_argument
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help=f"Only this one (repeatable), of: {', '.join(registered('metrics', 'METRICS'))}.",
)
@set_option("Request an optional metric by its number of samples: metrics.log_px=200.")
@plugin_option
@device_option("measure")
@data_option
@jobs_option
def evaluate(
    directory: Path,
    metrics: tuple[str, ...],
    assignments: tuple[str, ...],
    plugins: tuple[str, ...],
    device: str,
    data_dir: Path | None,
    jobs: int | None,
) -> None:
    """Measure finished runs without training them again.

    DIR is a run's folder, a grid's folder, or a results folder that holds one grid. Computes only
    metrics that are new, newly requested or redefined; the other numbers stay as they are.
    """
    from vaebench.cli.progress import print_evaluated
    from vaebench.grid.evaluate import evaluate as execute
    from vaebench.plugins import load

    load(plugins)
    counts = execute(
        directory,
        print_evaluated,
        names=metrics,
        assignments=assigned(assignments),
        device=device,
        data_dir=data_dir,
        jobs=jobs,
    )
    echo(", ".join(f"{n} {kind}" for kind, n in counts.items()))
    if counts["failed"]:
        sys.exit(1)
