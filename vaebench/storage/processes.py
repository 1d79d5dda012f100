"""Which process this is, and whether another one of this machine still runs."""

import os
import socket
import uuid
from functools import cache
from pathlib import Path
from typing import Literal

BOOT = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/pid")  # process ids of two containers are not the same ids
STARTED, STATE = 19, 0  # fields of /proc/<pid>/stat behind the name, which may hold anything

Life = Literal["runs", "stopped", "gone"]


@cache
def host() -> str:
    """The machine's name."""
    return socket.gethostname()


@cache
def machine() -> str:
    """What two processes share if each can see whether the other runs: boot, and process ids."""
    try:
        return f"{BOOT.read_text().strip()} {NAMESPACE.readlink()}"
    except OSError:  # not Linux
        return f"{uuid.getnode():x}"


def started(pid: int) -> str:
    """When a process of this machine began, in the kernel's ticks; "" where it does not say."""
    fields = _stat(pid)
    return fields[STARTED] if fields else ""


def life(pid: int, since: str) -> Life:
    """Whether the process of this machine that began ``since`` runs, is stopped, or is gone."""
    if BOOT.exists():
        fields = _stat(pid)
        if not fields or (since and fields[STARTED] != since) or fields[STATE] in "ZX":
            return "gone"
        return "stopped" if fields[STATE] in "Tt" else "runs"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except (PermissionError, OverflowError):
        pass
    return "runs"


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
