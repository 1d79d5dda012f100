"""``vaebench sync`` and ``vaebench ui``: what shows results in MLflow."""

from pathlib import Path

import click

from vaebench.cli.options import directory_argument, results_option
from vaebench.cli.output import echo
from vaebench.errors import TrackingError

uri_option = click.option(
    "--tracking-uri", help="MLflow's store.  [default: the results folder's own]"
)


@click.command()
@directory_argument
@uri_option
def sync(directory: Path, tracking_uri: str | None) -> None:
    """Send to MLflow what it does not show of the grids in DIR.

    DIR is a grid's folder or a results folder. What MLflow has already is not sent twice; runs that
    nobody trains any more are closed. To fill another MLflow, name it with --tracking-uri.
    """
    from vaebench.tracking import sync_all

    sync_all(directory, tracking_uri, echo)


@click.command()
@click.argument("grid", required=False)
@results_option
@uri_option
@click.option(
    "--port",
    default=5000,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="On the loopback address.",
)
def ui(grid: str | None, results: Path, tracking_uri: str | None, port: int) -> None:
    """Open MLflow on this machine's results, for this machine only.

    GRID is the name of a grid in --results: only what MLflow lacks of it is sent, and its links are
    shown. Without it, all grids are sent, and the links of the newest are shown. A server that only
    MLFLOW_TRACKING_URI names gets nothing: `vaebench sync` fills it.

    It listens on the loopback address and has no password. To see it from elsewhere, forward the
    port: ssh -L 5000:localhost:5000 MACHINE.
    """
    from vaebench.tracking import ui as serve

    serve(_grid_folder(results, grid), tracking_uri, port, echo)


def _grid_folder(results: Path, grid: str | None) -> Path:
    """The folder to show; that of one grid also by its path, as a shell completes it."""
    if grid is None:
        return results
    for folder in (results / grid, Path(grid)):
        if (folder / "grid.yaml").exists():
            return folder
    from vaebench.schema.manifest import grid_dirs

    names = ", ".join(folder.name for folder in grid_dirs(results)) or "none"
    raise TrackingError(f"{results} holds no grid {grid!r}; its grids: {names}")
