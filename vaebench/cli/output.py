"""What is printed, wherever a command prints: it steers no terminal, and says where it failed."""

import contextlib
import os
import sys

import click

from vaebench.errors import OutputError
from vaebench.text import lines


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text.

    Raises:
        OutputError: The standard output takes nothing.
    """
    try:
        click.echo(lines(str(text)), err=err, nl=nl)
    except BrokenPipeError:
        raise  # click knows what to do when the reader of a pipe is gone
    except OSError as error:
        raise unwritable(error) from error


def unwritable(error: OSError) -> OutputError:
    """What to tell of a standard output that takes nothing; what it still holds is given up."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.stdout.fileno() == 1:  # else Python would try again at its end, and fail
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)
    return OutputError(f"the standard output cannot be written: {error.strerror or error}")
