"""``make hostile``: every trial, a line per fault, and a summary; exit 1 if there was any."""

import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--short", is_flag=True, help="A share of the shapes, and quick commands only.")
@click.option("--quick", is_flag=True, help="All shapes, but only commands without PyTorch.")
@click.option("--only", default="", metavar="TEXT", help="Trials whose name holds this.")
@click.option("--command", "wanted", default="", metavar="TEXT", help="Commands likewise.")
@click.option("--keep", type=click.Path(path_type=Path), help="A new folder to work in, and leave.")
def main(short: bool, quick: bool, only: str, wanted: str, keep: Path | None) -> None:
    """Take hostile results folders through every command that reads."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    if keep:
        keep.mkdir(parents=True)
        _all(keep.resolve(), short, quick or short, only, wanted)
    else:
        with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
            _all(Path(folder), short, quick or short, only, wanted)


def _all(root: Path, short: bool, quick: bool, only: str, wanted: str) -> None:
    import mlflow  # noqa: F401 (once for all children)

    from hostile import trials
    from hostile.places import build
    from vaebench import grid
    from vaebench.executors import in_this_process
    from vaebench.grid import evaluate, repeat

    for module in (grid, evaluate, repeat):  # what workers read is what matters, not their start
        vars(module)["in_workers"] = lambda tasks, hear, **_: in_this_process(tasks, hear)

    began = time.monotonic()
    place = build(root, seeds=3)
    chosen = [trial for trial in trials.trials(short=short) if only in trial.name]
    if not trials.knows_reading(place):
        click.echo("this file system does not note when files are read: only changes are seen")
    counts: Counter[str] = Counter()
    for trial in chosen:
        commands = [c for c in trials.suited(trial, quick=quick) if wanted in c.name]
        for found in trials.attempt(trial, place, commands):
            counts["commands"] += found.command != "all"
            counts[f"exit code {found.code}"] += found.code is not None
            for fault in found.faults:
                counts["faults"] += 1
                click.echo(f"{found.trial}\n  {found.command} ({found.seconds:.1f} s): {fault}")
    click.echo(f"{len(chosen)} hostile folders, {time.monotonic() - began:.0f} s")
    click.echo(", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    sys.exit(bool(counts["faults"]))


if __name__ == "__main__":
    main()
