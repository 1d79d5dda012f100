"""The command line: parse, call one function, print. The only place that knows exit codes.

0 done, 1 a run failed, 2 usage or configuration, 3 a comparison found a regression, or a repetition
other numbers, 130 interrupted, 143 terminated. PyTorch and MLflow are imported inside the commands,
so that ``--help`` stays fast. To add a command: a function in a module of its kind, whose docstring
is its help, and its name at the bottom of this one.
"""

import difflib
import gc
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import click

from vaebench import __version__
from vaebench.cli.data import data
from vaebench.cli.finished import evaluate
from vaebench.cli.merging import export, merge
from vaebench.cli.mlflow import sync, ui
from vaebench.cli.output import echo
from vaebench.cli.plugins import check, new, plugins
from vaebench.cli.repeating import repeat
from vaebench.cli.reports import compare, figures, report, status
from vaebench.cli.schema import schema
from vaebench.cli.training import run_grid, train
from vaebench.errors import ConfigError, OutputError, VaebenchError

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """SIGTERM: what an interrupt does, with another exit code."""


class _Commands(click.Group):
    """Turns the exceptions of vaebench, and interrupts, into messages and exit codes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Also keep what was typed, for :func:`vaebench.cli.options.again`."""
        ctx.obj = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        for number in ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup does where a terminal goes
                signal.signal(number, _end)
        gc.set_threshold(50_000)  # 10,000 records are no garbage: looking for it takes a quarter
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Also say which command was perhaps meant."""
        names = self.list_commands(ctx)
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            meant = difflib.get_close_matches(args[0], names, n=1)
            meant += [name for name in names if args[0] in name.split("-")]
            hint = f" Did you mean {meant[0]!r}?" if meant else " See `vaebench --help`."
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx) from error

    @staticmethod
    def _leave(message: str, code: int) -> None:
        with suppress(OSError, OutputError):
            echo(message, err=True)
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


for command in (
    *(run_grid, train, evaluate, repeat),
    *(report, figures, compare, status),
    *(merge, export),
    *(sync, ui, data, schema),
    *(plugins, new, check),
):
    main.add_command(command)
