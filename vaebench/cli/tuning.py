"""What a person sees of tuning before anything is run."""

import click

from vaebench.cli.progress import print_plan
from vaebench.config import Grid
from vaebench.grid import Options, plan
from vaebench.grid.groups import groups, known_picks
from vaebench.report import tuning_text


def print_dry_run(grid: Grid, options: Options) -> None:
    """What a call would do; what is tuned comes first, or is shown as it was picked."""
    todo = plan(grid, options, thorough=False)
    if grid.tune is None:
        print_plan(todo)
        return
    tune = grid.tune
    found = groups(grid, options.results / grid.name, anew=options.rerun == "all")
    entries = known_picks(found)
    if entries is not None:
        click.echo(tuning_text(tune.model_dump(mode="json"), entries))
        print_plan(todo)
        return
    missing = sum(group.stored is None for group in found)
    print_plan(todo)
    click.echo(
        f"These are tuning runs: {tune.key}, {len(tune.values)} values x {tune.count} seeds for "
        f"{missing} of {len(found)} groups (per {', '.join(tune.per) or 'grid'}). The "
        f"{len(grid.runs(grid.name))} runs of the grid follow with what is picked."
    )
