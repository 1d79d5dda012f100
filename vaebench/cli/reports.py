"""``vaebench report``, ``compare``, ``status``: what reads records, without PyTorch or MLflow."""

import sys
from pathlib import Path

import click

from vaebench.cli.options import FOLDER, directory_argument, json_option, registered
from vaebench.cli.output import echo
from vaebench.errors import ResultsError


@click.command()
@directory_argument
@click.option(
    "--format",
    "format_",
    type=click.Choice(registered("report", "FORMATS")),
    default="md",
    show_default=True,
    help="Format of the report.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; pictures are linked relative to it.  [default: the terminal; of html, "
    "report.html or index.html in DIR]",
)
@click.option(
    "--columns",
    metavar="NAME,...",
    callback=lambda _, __, text: text and [name.strip() for name in text.split(",")],
    help="The metrics to show, such as elbo,ssim.  [default: all]",
)
def report(directory: Path, format_: str, output: Path | None, columns: list[str] | None) -> None:
    """Write the tables of the grid in DIR, a grid's folder or a results folder that holds one.

    html is one file with curves, pictures and a latent explorer, which opens offline. Of a results
    folder with several grids it is a page that links to theirs.
    """
    from vaebench.report import load, pieces, write, write_html

    if format_ == "html":
        click.echo(f"wrote {write_html(directory, output, columns)}")
        return
    analysis = load(directory, columns)
    if output is None:
        for piece in pieces(analysis, format_):
            echo(piece, nl=False)
    else:
        write(analysis, format_, output)
        echo(f"wrote {output}")


@click.command()
@directory_argument
@click.option("--output", type=FOLDER, help="Where to.  [default: paper in the grid's folder]")
def figures(directory: Path, output: Path | None) -> None:
    """Draw the figures of the grid in DIR for a paper: PDF and PNG, without titles.

    Learning curves of the cells with bands over seeds, the cells on the same test images, and of
    each cell the figures of the run that stands for it: the seed of median validation ELBO.
    """
    from vaebench.report import load
    from vaebench.report.paper import write_figures

    written = write_figures(load(directory), output, lambda text: echo(text, err=True))
    echo(f"wrote {len(written)} figures, PDF and PNG, to {written[0].parent}")


@click.command()
@click.argument("first", metavar="A", type=FOLDER)
@click.argument("second", metavar="[B]", required=False, type=FOLDER)
@json_option
def compare(first: Path, second: Path | None, as_json: bool) -> None:
    """Set grid B against grid A, cell by cell: better, worse, no difference shown, not comparable.

    A and B are folders of grids. Runs are paired by seed; of two versions of vaebench, the
    comparison shows what the change of code has moved. Without B, A is set against its own runs of
    an older version. Exit code 3 where B (or the newer version) is worse.
    """
    from vaebench.report import compare as execute
    from vaebench.report import comparison_json, comparison_text, load

    old = load(first, superseded=second is None)
    if second is None and not old.planned:
        raise ResultsError(
            f"{old.directory}: has no runs of an older version of vaebench; name a second grid"
        )
    comparison = execute(old, load(second or first))
    echo((comparison_json if as_json else comparison_text)(comparison), nl=False)
    if comparison.regressed:
        sys.exit(3)


@click.command()
@directory_argument
@json_option
def status(directory: Path, as_json: bool) -> None:
    """Show how far the grids in DIR are."""
    from vaebench.report import status as read
    from vaebench.report import status_json, status_text

    rows = read(directory)
    echo(status_json(rows) if as_json else status_text(rows), nl=False)
