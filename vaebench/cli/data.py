"""``vaebench data``: the data sets."""

from pathlib import Path

import click

from vaebench.cli.options import FOLDER, registered
from vaebench.cli.output import echo
from vaebench.errors import ConfigError


@click.group()
def data() -> None:
    """Data sets."""


@data.command()
@click.argument("name", metavar="NAME")
@click.option("--mirror", metavar="URL", help="A base URL (file:// too) or a folder to fetch from.")
@click.option(
    "--data-dir",
    type=FOLDER,
    help="Where data sets lie.  [default: $VAEBENCH_DATA, else the user's cache folder]",
)
def fetch(name: str, mirror: str | None, data_dir: Path | None) -> None:
    """Download what is missing of a data set, verify every file, and explain."""
    from vaebench.datasets import DATASETS
    from vaebench.datasets import fetch as execute
    from vaebench.schema.section import did_you_mean

    if name not in DATASETS:
        raise ConfigError(f"unknown data set {name!r}; {did_you_mean(name, DATASETS)}")
    execute(name, data_dir=data_dir, mirror=mirror, report=echo)


fetch.help = f"{fetch.help}\n\nNAME is one of: {', '.join(registered('datasets', 'DATASETS'))}."
