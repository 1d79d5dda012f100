"""``vaebench merge`` and ``vaebench export``: grids from several places, and to others."""

import sys
from pathlib import Path

import click

from vaebench.cli.options import FOLDER
from vaebench.cli.output import echo
from vaebench.text import one_line


@click.command()
@click.argument(
    "sources", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path)
)
@click.option("--into", required=True, metavar="DIR", type=FOLDER, help="Results folder to fill.")
def merge(sources: tuple[Path, ...], into: Path) -> None:
    """Bring the runs of grids in several places together in one results folder.

    DIR is a grid's folder, a results folder, or an archive that `export` wrote. Each finished run
    is checked: settings, versions, data and checksums. A run that is there stays. MLflow hears of
    the new ones by `vaebench sync`. Exit code 1 where something was refused.
    """
    from vaebench.grid.merge import Merged
    from vaebench.grid.merge import merge as execute

    def tell(merged: Merged) -> None:
        left, refused = sum(merged.left.values()), len(merged.refused)
        runs = "1 run" if merged.took == 1 else f"{merged.took:,} runs"
        echo(f"{merged.source}: {merged.grid}: took {runs}, left {left:,}, refused {refused:,}")
        for why, n in merged.left.items():
            echo(f"  left: {n:,}: {one_line(why)}")
        for label, why in merged.refused:
            echo(one_line(f"  refused: {label or 'the whole grid'}: {why}"))

    if any(merged.refused for merged in execute(sources, into, tell)):
        sys.exit(1)


@click.command()
@click.argument("grid", metavar="GRID", type=FOLDER)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: GRID.zip in this folder]",
)
def export(grid: Path, output: Path | None) -> None:
    """Write a grid's finished runs to one archive, without checkpoints.

    GRID is a grid's folder. `vaebench merge GRID.zip --into results` makes it a grid again.
    """
    from vaebench.grid.merge import export as execute

    output = output or Path(f"{grid.resolve().name}.zip")
    runs, size = execute(grid, output)
    echo(f"wrote {output}: {runs:,} runs, {size / 1e6:,.1f} MB")
