"""Whole commands, timed from outside as their user waits for them."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from vaebench.errors import VaebenchError


def own_environment() -> dict[str, str]:
    """This process's environment without its user's MLflow, which benchmarks must not fill."""
    return {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}


def vaebench(*arguments: str) -> list[str]:
    """The command line that runs a command of this vaebench."""
    return [sys.executable, "-P", "-m", "vaebench", *arguments]


def seconds(command: Sequence[str], *, given: bytes = b"") -> float:
    """Run a command to its end.

    Arguments:
        command: Program and arguments.
        given: Its standard input.

    Raises:
        VaebenchError: It failed; its last line is in the message.
    """
    began = time.perf_counter()
    done = subprocess.run(command, input=given, capture_output=True, env=own_environment())
    took = time.perf_counter() - began
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        last = said[-1] if said else "no word"
        raise VaebenchError(f"{' '.join(command[3:6])}: exit code {done.returncode}: {last}")
    return took
