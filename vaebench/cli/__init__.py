"""The command line: parse, call one function, print. The only place that knows exit codes.

0 done, 1 a run failed, 2 usage or configuration, 3 a regression found by a comparison,
130 interrupted, 143 terminated. PyTorch and MLflow are imported inside the commands, so that
``--help`` stays fast. To add a command: a function here, with a docstring that is its help.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click

from vaebench import __version__
from vaebench.cli.options import (
    WHERE,
    assigned,
    data_option,
    device_option,
    job_count,
    registered,
    run_options,
    settings,
)
from vaebench.cli.repeating import repeat
from vaebench.errors import ConfigError, VaebenchError

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RESULTS = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class Terminated(KeyboardInterrupt):
    """SIGTERM: what an interrupt does, with another exit code."""


class _Commands(click.Group):
    """Turns the exceptions of vaebench, and interrupts, into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        for number in ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup does where a terminal goes
                signal.signal(number, _end)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            word, code = (
                ("Terminated", 143) if isinstance(error, Terminated) else ("Interrupted", 130)
            )
            training = ctx.invoked_subcommand in {"run-grid", "train"}
            more = ": what was running resumes with the same command" if training else ""
            self._leave(f"{word}{more}.", code)
        except ConfigError as error:
            self._leave(f"Error: {error}", 2)
        except VaebenchError as error:
            self._leave(f"Error: {error}", 1)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise  # click knows what to do when the reader of a pipe is gone
            where = f"{error.filename}: " if error.filename else ""
            self._leave(f"Error: {where}{error.strerror or error}", 1)

    @staticmethod
    def _leave(message: str, code: int) -> None:
        click.echo(message, err=True)
        sys.exit(code)


def _end(number: int, _frame: FrameType | None) -> None:
    """End in order, the first time; what is open is closed meanwhile. The second time: at once."""
    for each in ENDING:
        signal.signal(each, _end_at_once)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    """Leave everything as it lies. Workers end by themselves, and the next start mends the rest."""
    if sys.stdout.isatty():
        os.write(1, b"\x1b[?25h\n")  # the progress bars have hidden the cursor
    os._exit(130 if number == signal.SIGINT else 143)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="vaebench %(version)s")
def main() -> None:
    """Benchmark variational autoencoders: train a grid, track it, report it.

    Start with `vaebench run-grid --dataset digits`: eight small models, about a minute, no
    download.
    """


@main.command()
@click.argument("grid", required=False, type=FILE)
@run_options
@click.option("--seeds", metavar="N|LIST", help="Number of seeds, or a list such as 0,3,7.")
@click.option("--jobs", default="auto", show_default=True, metavar="N|auto", help="Runs at a time.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first run that fails.")
def run_grid(grid: Path | None, jobs: str, dry_run: bool, **options: Any) -> None:
    """Train and measure every run of GRID that is not finished, and write its report.

    GRID is a YAML file; without it, the eight cells {fnn, cnn} x {bce, mse} x {sgvb, kl} are
    trained on MNIST; with `--dataset digits` alone, the demo, which needs no download. Finished
    runs are skipped, interrupted ones resume.
    """
    from vaebench.cli.progress import Progress, print_plan, print_results
    from vaebench.config import make_grid, read_yaml, without_file
    from vaebench.grid import Options, plan
    from vaebench.grid import run_grid as execute

    raw = read_yaml(grid) if grid else without_file(options["dataset"])
    chosen = make_grid(raw, settings(options), source=str(grid or "run-grid"))
    how = {name: options[name] for name in (*WHERE, "fail_fast")}
    where = Options(**how, jobs=job_count(jobs))
    if dry_run:
        print_plan(plan(chosen, where))
        return
    with Progress() as progress:
        results = execute(chosen, where, progress)
    print_results(results, where)
    if results.failed:
        sys.exit(1)


@main.command()
@click.argument("config", required=False, type=FILE)
@run_options
@click.option("--seed", type=click.IntRange(0), metavar="N", help="The run's seed.")
def train(config: Path | None, dry_run: bool, **options: Any) -> None:
    """Do one run, in this process.

    CONFIG is a YAML file, such as the config.yaml in a run's folder; without it, an fnn with bce
    and closed-form KL is trained on MNIST.
    """
    from vaebench.cli.progress import Progress, print_metrics, print_plan
    from vaebench.config import make_single, read_yaml
    from vaebench.grid import Options, plan
    from vaebench.grid import train as execute

    raw = read_yaml(config) if config else {}
    chosen = make_single(raw, settings(options), source=str(config or "train"))
    where = Options(**{name: options[name] for name in WHERE})
    if dry_run:
        print_plan(plan(chosen, where))
        return
    with Progress() as progress:
        run = execute(chosen, where, progress)
    print_metrics(run.record, where.results / chosen.name)


@main.command()
@click.argument("directory", default="results", metavar="[DIR]", type=RESULTS)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["md", "csv", "json", "latex"]),
    default="md",
    show_default=True,
    help="Of the report.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; pictures are linked relative to it.  [default: the terminal]",
)
def report(directory: Path, format_: str, output: Path | None) -> None:
    """Write the tables of the grid in DIR, a grid's folder or a results folder that holds one."""
    from vaebench.report import load, render, write

    if output is None:
        click.echo(render(load(directory), format_), nl=False)
    else:
        click.echo(f"wrote {write(directory, format_, output)}")


@main.command()
@click.argument("directory", default="results", metavar="[DIR]", type=RESULTS)
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
    from vaebench.grid.evaluating import Request
    from vaebench.grid.evaluating import evaluate as execute

    request = Request(metrics, assigned(assignments), device, data_dir, job_count(jobs))
    counts = execute(directory, request, print_evaluated)
    click.echo(", ".join(f"{n} {kind}" for kind, n in counts.items()))
    if counts["failed"]:
        sys.exit(1)


main.add_command(repeat)


@main.command()
@click.argument("first", metavar="A", type=RESULTS)
@click.argument("second", metavar="B", type=RESULTS)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Set grid B against grid A, cell by cell: better, worse, no difference shown, not comparable.

    A and B are folders of grids. Runs are paired by seed. Exit code 3 where B is worse.
    """
    from vaebench.report import compare as execute
    from vaebench.report import comparison_json, comparison_text, load

    comparison = execute(load(first), load(second))
    click.echo((comparison_json if as_json else comparison_text)(comparison), nl=False)
    if comparison.regressed:
        sys.exit(3)


@main.command()
@click.argument("directory", default="results", metavar="[DIR]", type=RESULTS)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(directory: Path, as_json: bool) -> None:
    """Show how far the grids in DIR are."""
    from vaebench.report import status as read
    from vaebench.report import status_json, status_text

    rows = read(directory)
    click.echo(status_json(rows) if as_json else status_text(rows), nl=False)


@main.command()
@click.argument("directory", default="results", metavar="[DIR]", type=RESULTS)
@click.option("--tracking-uri", help="MLflow's store.  [default: the results folder's own]")
def sync(directory: Path, tracking_uri: str | None) -> None:
    """Send to MLflow what it does not show of the grids in DIR.

    DIR is a grid's folder or a results folder. What MLflow has already is not sent twice; runs that
    nobody trains any more are closed. To fill another MLflow, name it with --tracking-uri.
    """
    from vaebench.tracking import sync_all

    sync_all(directory, tracking_uri, click.echo)


@main.command()
@click.option(
    "--results",
    default="results",
    show_default=True,
    type=RESULTS,
    help="Folder of all results.",
)
@click.option("--tracking-uri", help="MLflow's store.  [default: the results folder's own]")
@click.option(
    "--port",
    default=5000,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="On the loopback address.",
)
def ui(results: Path, tracking_uri: str | None, port: int) -> None:
    """Open MLflow on this machine's results, for this machine only.

    It listens on the loopback address and has no password. To see it from elsewhere, forward the
    port: ssh -L 5000:localhost:5000 MACHINE.
    """
    from vaebench.tracking import ui as serve

    serve(results, tracking_uri, port, click.echo)


@main.group()
def data() -> None:
    """Data sets."""


@data.command()
@click.argument("name", metavar="NAME")
@click.option("--mirror", metavar="URL", help="A base URL (file:// too) or a folder to fetch from.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where data sets lie.  [default: $VAEBENCH_DATA, else the user's cache folder]",
)
def fetch(name: str, mirror: str | None, data_dir: Path | None) -> None:
    """Download what is missing of a data set, verify every file, and explain."""
    from vaebench.config.choices import did_you_mean
    from vaebench.datasets import DATASETS
    from vaebench.datasets import fetch as execute

    if name not in DATASETS:
        raise ConfigError(f"unknown data set {name!r}; {did_you_mean(name, DATASETS)}")
    execute(name, data_dir=data_dir, mirror=mirror, report=click.echo)


fetch.help = f"{fetch.help}\n\nNAME is one of: {', '.join(registered('datasets', 'DATASETS'))}."
