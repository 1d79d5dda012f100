"""Other processes, here and elsewhere, as far as a lease says."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaebench.storage import Lease
from vaebench.storage.leases import FILE

MEMBER = """
import sys
from pathlib import Path
from vaebench.storage import join
with join(Path(sys.argv[1]), whole=sys.argv[2] == "whole"):
    print("there", flush=True)
    sys.stdin.read()
"""


class Clock:
    """A monotonic clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def elsewhere(lease: Lease, **changed: object) -> None:
    """Make a lease that of a process on another machine."""
    path = lease.folder / FILE
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"host": "far-away", "machine": "other"} | changed))


HOLDER = """
import sys, time
from pathlib import Path
from vaebench.storage import Watch
from vaebench.storage.leases import take, renewed
lease = take(Path(sys.argv[1]), Path(sys.argv[2]), Watch())
with renewed(lease):
    print(lease.number, flush=True)
    sys.stdin.read()
print(lease.is_current(), flush=True)
lease.release()
"""


@contextmanager
def holder_of(place: Path, within: Path | None = None) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place), str(within or place.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdecimal()
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def member_of(folder: Path, how: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", MEMBER, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
        if process.poll() is None:
            process.communicate("")
