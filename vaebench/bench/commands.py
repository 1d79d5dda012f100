"""Whole commands, timed from outside as their user waits for them."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from vaebench.errors import VaebenchError


def vaebench(*arguments: str) -> list[str]:
    """The command line that runs a command of this vaebench."""
    return [sys.executable, "-P", "-m", "vaebench", *arguments]


def seconds(
    command: Sequence[str], *, given: bytes = b"", environment: Mapping[str, str] = os.environ
) -> float:
    """Run a command to its end.

    Arguments:
        command: Program and arguments.
        given: Its standard input.
        environment: Its environment.

    Raises:
        VaebenchError: It failed; its last line is in the message.
    """
    began = time.perf_counter()
    done = subprocess.run(command, input=given, capture_output=True, env=dict(environment))
    took = time.perf_counter() - began
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no word"]
        raise VaebenchError(f"{' '.join(command[3:6])}: exit code {done.returncode}: {said[-1]}")
    return took
