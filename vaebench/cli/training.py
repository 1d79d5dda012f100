"""``vaebench run-grid`` and ``vaebench train``: what trains."""

import atexit
import sys
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaebench.cli.options import FILE, again, jobs_option, run_options, seconds, settings
from vaebench.cli.shards import shard

if TYPE_CHECKING:
    from vaebench.grid import Options


keep_option = click.option(
    "--keep-checkpoints", is_flag=True, help="Keep the checkpoints of complete runs."
)


@click.command()
@click.argument("grid", required=False, type=FILE)
@run_options
@click.option(
    "--seeds",
    metavar="N|LIST",
    help="Number of seeds (3: seeds 0, 1 and 2), or a list such as 0,3,7; `3,` is seed 3 alone.",
)
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Who does the runs: workers on this machine, or the nodes of a Ray cluster (RAY_ADDRESS).",
)
@jobs_option
@click.option(
    "--jobs-per-gpu",
    type=click.IntRange(1),
    metavar="N",
    help="Runs that may share a GPU.  [default: 4; with Ray 1]",
)
@click.option("--tune-only", is_flag=True, help="Tune what GRID's `tune` asks for, and stop.")
@click.option(
    "--shard",
    metavar="K/N|auto[/N]",
    callback=lambda _, __, text: shard(text),
    help="Do only the K-th of N parts, which cost the same. auto: the part of this task of a Slurm "
    "array or, as auto/N, of a Kubernetes Indexed Job.",
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first run that fails.")
@click.option(
    "--timeout",
    metavar="TIME",
    callback=lambda _, __, text: seconds(text),
    help="Maximum time of a run at each try: seconds, or 10m, 2h, 1d. Then it is ended and counts "
    "as failed; the same command resumes it.  [default: no limit]",
)
@click.option(
    "--retries",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    metavar="N",
    help="Resume a run up to N times that was killed, timed out, ran out of memory or met a system "
    "error.",
)
@keep_option
@click.option(
    "--log-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append every event to this file: JSON lines with time and run id.",
)
@click.option("--json", "as_json", is_flag=True, help="Print these JSON lines, and nothing else.")
def run_grid(
    grid: Path | None, dry_run: bool, log_file: Path | None, as_json: bool, **given: Any
) -> None:
    """Train and measure every run of GRID that is not finished, and write its report.

    GRID is a YAML file. Without it, the eight cells {fnn, cnn} x {bce, mse} x {sgvb, kl} are
    trained on MNIST; with only `--dataset digits`, the demo, which needs no download. Finished
    runs are skipped, interrupted ones resume. If GRID has a `tune` section, that is tuned first.
    """
    from vaebench import forking

    if not dry_run and given["executor"] == "local":
        forking.begin()  # it imports while this process does
        atexit.register(forking.end)

    from vaebench.cli.log import Log, Several
    from vaebench.cli.progress import Progress, print_dry_run, print_results
    from vaebench.config import make_grid, read_yaml, without_file
    from vaebench.grid import plan
    from vaebench.grid import run_grid as execute

    raw = read_yaml(grid) if grid else without_file(given["dataset"])
    chosen = make_grid(raw, settings(given), source=str(grid or "run-grid"))
    options = _options(given)
    printed = Log(sys.stdout) if as_json else Progress()
    if dry_run:
        if isinstance(printed, Log):
            with printed:
                printed.listed(plan(chosen, options, thorough=False))
        else:
            print_dry_run(chosen, options)
        return
    logs = [printed, *([Log.to(log_file)] if log_file else [])]
    with ExitStack() as stack:
        results = execute(chosen, options, Several([stack.enter_context(log) for log in logs]))
        for log in logs:
            if isinstance(log, Log):
                log.results = results
    if not as_json:
        print_results(results, options, again("--rerun", "failed"))
    if results.failed:
        sys.exit(1)


@click.command()
@click.argument("config", required=False, type=FILE)
@run_options
@click.option("--seed", type=click.IntRange(0), metavar="N", help="The run's seed.")
@keep_option
def train(config: Path | None, dry_run: bool, **given: Any) -> None:
    """Do one run, in this process.

    CONFIG is a YAML file, such as the config.yaml in a run's folder. Without it, an fnn with bce
    and closed-form KL is trained on MNIST.
    """
    from vaebench.cli.progress import Progress, print_dry_run, print_metrics
    from vaebench.config import make_single, read_yaml
    from vaebench.grid import train as execute

    raw = read_yaml(config) if config else {}
    chosen = make_single(raw, settings(given), source=str(config or "train"))
    options = _options(given)
    if dry_run:
        print_dry_run(chosen, options)
        return
    with Progress() as progress:
        run = execute(chosen, options, progress)
    print_metrics(run.record, options.results / chosen.name)


def _options(given: dict[str, Any]) -> "Options":
    """The options that say where and how, which are no part of a run's identity."""
    from vaebench.grid import Options

    return Options(
        **{each.name: given[each.name] for each in fields(Options) if each.name in given}
    )
