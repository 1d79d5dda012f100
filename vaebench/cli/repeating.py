"""``vaebench repeat``: the command, and what it prints."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaebench.cli.options import FOLDER, data_option, json_option, plugin_option
from vaebench.cli.output import echo
from vaebench.text import one_line

if TYPE_CHECKING:
    from vaebench.grid.repeat import Repetition


@click.command()
@click.argument("run", type=FOLDER)
@click.option(
    "--device",
    metavar="auto|cpu|cuda|mps",
    help="Where to train.  [default: where the run was trained]",
)
@plugin_option
@data_option
@json_option
def repeat(
    run: Path,
    device: str | None,
    plugins: tuple[str, ...],
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Do a finished run again, and say whether its numbers are the same.

    RUN is its folder, results/GRID/runs/RUN_ID; it needs no weights, so that published runs can be
    repeated as well. Nothing in it is touched. Every epoch's metrics and the final ones are
    compared bit for bit, times and costs apart. Exit code 3 where they differ.
    """
    from vaebench.cli.progress import Progress
    from vaebench.cli.screen import Screen
    from vaebench.grid.repeat import repeat as execute
    from vaebench.plugins import load

    load(plugins)
    # a program reads the standard output: what goes on is told beside it
    with Progress(Screen(stderr=as_json)) as progress:
        found = execute(run, device=device, data_dir=data_dir, listener=progress)
    if as_json:
        echo(json.dumps(as_values(found), indent=1, ensure_ascii=False))
    else:
        _print(found)
    if not found.identical:
        sys.exit(3)


def as_values(found: "Repetition") -> dict[str, Any]:
    """A repetition as ``--json`` shows it."""
    return vars(found) | {
        "identical": found.identical,
        "differences": [difference._asdict() for difference in found.differences],
        "environment": {
            key: {"then": then, "now": now} for key, (then, now) in found.environment.items()
        },
    }


def _print(found: "Repetition") -> None:
    """The verdict, what differs, and what may be why."""
    from rich.table import Table

    from vaebench.cli.screen import Screen

    console = Screen()
    metrics, epochs = f"{len(found.metrics)} metrics", f"{found.epochs} epochs"
    if found.identical:
        console.print(f"{found.run}: identical: {metrics}, {epochs}")
    else:
        count = f"{len(found.differences)} of {metrics} differ"
        console.print(f"{found.run}: not identical: {count}, {epochs}")
        table = Table("metric", "first in", "then", "now", "largest", box=None, pad_edge=False)
        for metric, epoch, *values in found.differences:
            first = "the end" if epoch is None else f"epoch {epoch}"
            table.add_row(
                one_line(metric), first, *("none" if v is None else repr(v) for v in values)
            )
        console.print(table)
    remarks = {
        "only in the finished run": found.only_then,
        "only in the repetition": found.only_now,
        "not compared, as the definition has changed": found.redefined,
        "around it": [
            f"{key} {then} then, {now} now" for key, (then, now) in found.environment.items()
        ],
    }
    for what, listed in remarks.items():
        if listed:
            console.print(f"{what}: {'; '.join(listed)}")
    if any(key.startswith("versions.") for key in found.environment):
        console.print("vaebench has changed its numbers since: differences are to be expected")
