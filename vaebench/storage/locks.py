"""One process at a time in a grid's folder, and a note that says which.

The lock (``.lock``) is the kernel's: it ends with its process, however that ends. The note
(``.holder``) tells others who holds it. On a network file system, where a lock may be good for one
machine only, the note also keeps other machines away: its holder touches it every few seconds,
which is no proof (two that begin in the same moment do not see each other), but better than none.
"""

import errno
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import Timeout

from vaebench.errors import ResultsError
from vaebench.files import lock as file_lock
from vaebench.files import read_json, write_atomic
from vaebench.text import one_line

PATIENCE = 1.0  # seconds; who only looks whether it is held, holds it for a moment
MAX_HOST = 100  # characters of a machine's name in a message; a name has 64 at most
BEAT = 10.0  # seconds between two touches of the note
STALE = 60.0  # seconds after which a holder on another machine is taken for dead
MOUNTS = Path("/proc/self/mountinfo")
NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|ceph|lustre|gpfs|afs|9p|beegfs|pvfs2|orangefs|panfs|vboxsf|virtiofs"
    r"|glusterfs|fuse\.(sshfs|glusterfs\w*|ceph\w*|s3fs|gcsfuse|rclone|moosefs|cvmfs2?|lustre)"
)


class Held(ResultsError):
    """Another process works in a folder."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep a folder to this process for as long as the context lasts.

    Raises:
        Held: Another process has it; which one is in the message.
        ResultsError: The file system knows no locks.
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, note = file_lock(folder / ".lock", PATIENCE), folder / ".holder"
    try:
        lock.acquire()
    except Timeout:
        raise Held(_told(folder, _holder(note))) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        raise ResultsError(
            f"{folder}: this file system knows no locks; choose --results on another"
        ) from error
    try:
        shared = network_file_system(folder) is not None
        if shared and (other := _elsewhere(note, folder / ".lock")):
            raise Held(_told(folder, other))
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        write_atomic(note, json.dumps(mine))
        try:
            with _beating(note) if shared else nullcontext():
                yield
        finally:
            with suppress(OSError):  # a note without a lock keeps nobody away
                note.unlink()
    finally:
        lock.release()


def network_file_system(path: Path) -> str | None:
    """The kind of network file system that a path lies on; None for a local or an unknown one."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return None
    where, mounted_at, kind = path.resolve(), "", ""
    for line in lines:
        fields = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        # the longest that holds the path, and of equals the last, which covers the others
        if where.is_relative_to(point) and len(point) >= len(mounted_at):
            mounted_at, kind = point, fields[fields.index("-") + 1]
    return kind if NETWORK.fullmatch(kind) else None


def _holder(note: Path) -> tuple[str, str] | None:
    """The machine that a note names, and all of it in words; None if it says nothing of use."""
    try:
        said = read_json(note) or {}
        host = one_line(said["host"], MAX_HOST)
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(said["since"])))
        return host, f"process {one_line(int(said['pid']), 20)} on {host}, since {since}"
    except (ResultsError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def _told(folder: Path, holder: tuple[str, str] | None) -> str:
    who = f" ({holder[1]})" if holder else ""
    return f"{folder}: another vaebench works on this grid{who}; wait for it"


def _elsewhere(note: Path, lock: Path) -> tuple[str, str] | None:
    """Who holds a folder from another machine, or did until a minute ago."""
    holder = _holder(note)
    if holder is None or holder[0] == socket.gethostname():
        return None
    lock.touch()  # both times are the file server's, whatever the clocks of the machines say
    age = lock.stat().st_mtime - note.stat().st_mtime
    return holder if abs(age) < STALE else None  # a date to come is nobody's who is at work


@contextmanager
def _beating(note: Path) -> Iterator[None]:
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            with suppress(OSError):
                os.utime(note)

    thread = threading.Thread(target=beat, name="lock-holder", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
