"""Who holds a lease, and whether that process is known to live.

No clock of another machine counts. A lease is given up for dead at once where its process was of
this machine and is gone; else when *this* process has watched it unchanged for as long as the lease
says, by its own monotonic clock. Time in which this process did not look counts for little: it may
have been stopped, or the machine suspended, and the holder with it.
"""

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from vaebench.errors import ResultsError
from vaebench.files import read_file, write_atomic
from vaebench.storage import processes
from vaebench.text import one_line

EXPIRES = 60.0  # seconds for which a lease is good after a renewal
MAX_SECONDS = 600.0  # that any lease is good for, whatever it says
MAX_LOOK = 10.0  # seconds that may count between two looks at a lease
MAX_LEASE_BYTES = 10_000
MAX_HOST = 100  # characters of a machine's name in a message; a name has 64 at most

Judgement = Literal["free", "dead", "alive", "unclear"]

MINE: set[str] = set()  # nonces of the leases that this process holds


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as its file says.

    Attributes:
        host: The machine's name, for people.
        machine: See :func:`vaebench.storage.processes.machine`.
        pid: The process.
        started: When the process began, to tell it from a later one of its number.
        since: When it took the lease, Unix time, for people.
        nonce: What no other lease has.
        beat: How often the lease was renewed.
        seconds: For how long it is good after that; 0: it has been given back.
    """

    host: str
    machine: str
    pid: int
    started: str
    since: float
    nonce: str
    beat: int = 0
    seconds: float = EXPIRES

    def __str__(self) -> str:
        return f"process {self.pid} on {one_line(self.host, MAX_HOST)}"

    @property
    def when(self) -> str:
        """When the lease was taken, by the clock of who took it."""
        try:
            return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
        except (ValueError, OverflowError, OSError):
            return "a time that is none"

    @property
    def is_here(self) -> bool:
        """Whether this machine knows if the process runs."""
        return (self.host, self.machine) == (processes.host(), processes.machine())

    @property
    def is_gone(self) -> bool:
        """Whether it was given back, or its process was one of this machine and has ended."""
        return not self.seconds or (
            self.is_here and processes.life(self.pid, self.started) == "gone"
        )


def new_holder(seconds: float = EXPIRES) -> Holder:
    """This process, as the holder of a new lease."""
    pid = os.getpid()
    return Holder(
        host=processes.host(),
        machine=processes.machine(),
        pid=pid,
        started=processes.started(pid),
        since=time.time(),
        nonce=uuid.uuid4().hex,
        seconds=seconds,
    )


def parse(content: bytes | None) -> Holder | None:
    """Who a lease's file names; None if it says nothing of use."""
    try:
        said = json.loads(content or b"")
        return Holder(
            host=str(said["host"]),
            machine=str(said["machine"]),
            pid=int(said["pid"]),
            started=str(said["started"]),
            since=float(said["since"]),
            nonce=str(said["nonce"]),
            beat=int(said["beat"]),
            seconds=min(MAX_SECONDS, max(0.0, float(said["seconds"]))),
        )
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None


def read(path: Path, within: Path) -> bytes:
    """What a lease's file holds; nothing where it cannot be read."""
    try:
        return read_file(path, MAX_LEASE_BYTES, within) or b""
    except ResultsError:
        return b""


def write(path: Path, holder: Holder, within: Path) -> None:
    """Write a lease; what a crash of the machine does to it does not matter."""
    write_atomic(path, json.dumps(asdict(holder)), within, durable=False)


class _Seen(NamedTuple):
    content: bytes
    unchanged: float  # seconds of this process's watching
    at: float
    has_changed: bool


class Watch:
    """What a process has seen of leases, by its own clock. Arguments: clock: a monotonic one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Path, _Seen] = {}

    def judge(self, path: Path, within: Path) -> tuple[Judgement, Holder | None]:
        """What can be said of a lease by now, and who holds it.

        ``free``: given back. ``dead``: its process is gone, or was not heard of for too long.
        ``alive``: its process was heard of, or runs on this machine. ``unclear``: look again.
        """
        content, now = read(path, within), self._clock()
        holder = parse(content)
        if holder is not None and not holder.seconds:
            return "free", holder
        before = self._seen.get(path)
        if before is None or before.content != content:
            seen = _Seen(content, 0.0, now, before is not None)
        else:
            passed = before.unchanged + min(MAX_LOOK, now - before.at)
            seen = before._replace(unchanged=passed, at=now)
        self._seen[path] = seen
        if seen.unchanged >= (EXPIRES if holder is None else holder.seconds):
            return "dead", holder
        if holder is not None and holder.is_here:
            life = processes.life(holder.pid, holder.started)
            mine = holder.pid == os.getpid()
            if life == "gone" or (mine and holder.nonce not in MINE):
                return "dead", holder
            if life == "runs":
                return "alive", holder
        return ("alive" if seen.has_changed else "unclear"), holder
