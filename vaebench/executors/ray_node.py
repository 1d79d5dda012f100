"""The node's side of a Ray task: one run, in a process of Ray's, told as it happens.

Nothing but the task itself has come here. Where the run's folder can be seen, with the lease that
the driver has taken, the run is done there; elsewhere in a folder of this node, and what it leaves
is sent back as an archive, in pieces, as the object store may be small.
"""

import hashlib
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

import vaebench
from vaebench.config import NUMBERS_VERSION
from vaebench.errors import ConfigError, ResultsError, StorageError
from vaebench.executors.messages import from_message
from vaebench.executors.worker import do
from vaebench.files import make_folder
from vaebench.run import Task
from vaebench.storage import LostError, lease_of
from vaebench.storage.archives import pack
from vaebench.storage.processes import life

PIECE = 8_000_000  # bytes of an archive that travel at once; an object store may have 100 MB
PREFIX = "vaebench-ray-"  # of folders of runs whose own folder cannot be seen

Message = tuple[str, dict[str, Any]]
Tell = Callable[[str, dict[str, Any]], None]


def versions() -> dict[str, str]:
    """What must be the same on every node: vaebench, to the letter, and PyTorch."""
    return {
        "vaebench": f"{vaebench.__version__} (source {_source(Path(vaebench.__file__).parent)})",
        "numbers": str(NUMBERS_VERSION),
        "torch": torch.__version__,
    }


@cache  # as it was when this process began: who edits it meanwhile changes no process
def _source(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()[:12]


def serve(message: dict[str, Any], nonce: str, wanted: Mapping[str, str]) -> Iterator[Message]:
    """Do a task, and yield what happens, kind and data, as it happens.

    Beside the kinds of a local worker: ``refused`` (this node must not do the run, and why),
    ``apart`` (the run's folder cannot be seen here), ``piece`` (of the archive of such a run).

    Arguments:
        message: The task, see :func:`vaebench.executors.messages.to_message`, and ``attempt``: how
            many attempts there will have been if it begins anew.
        nonce: That of the lease which lies beside the run's folder.
        wanted: The driver's :func:`versions`.
    """
    mine = versions()
    others = [f"{key} {mine.get(key)}, not {it}" for key, it in wanted.items() if mine[key] != it]
    if others:
        yield "refused", {"reason": "; ".join(others)}
        return
    said: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
    arguments = (message, nonce, lambda kind, data: said.put((kind, data)))

    def work() -> None:
        try:
            _work(*arguments)
        finally:
            said.put(None)

    threading.Thread(target=work, name="run", daemon=True).start()
    while (each := said.get()) is not None:
        yield each


def _work(message: dict[str, Any], nonce: str, tell: Tell) -> None:
    attempt = message.pop("attempt")
    try:
        task = from_message(message)
    except ConfigError as error:
        tell("refused", {"reason": str(error)})
        return
    try:
        if _sees(task.folder, nonce):
            do(task, tell)
        else:
            _do_apart(task, attempt, tell)
    except (StorageError, ResultsError, OSError) as error:  # not even a record can be written
        tell("unwritable", {"reason": str(error)})


def _sees(folder: Path, nonce: str) -> bool:
    """Whether a run's folder is here, and not another of its name."""
    try:
        lease = lease_of(folder)
    except (LostError, OSError):
        return False
    return lease is not None and lease.holder.nonce == nonce


def _do_apart(task: Task, attempt: int, tell: Tell) -> None:
    """Do a run in a folder of this node, and send back what it leaves."""
    tell("apart", {})
    part, grid = task.folder.parents[2].name, task.folder.parents[4].name
    with _scratch() as scratch:
        local = replace(task, folder=scratch / grid / part / task.key)
        make_folder(local.folder)
        if attempt > 1:
            make_folder(local.folder / "attempts" / str(attempt - 1))

        def tell_with_archive(kind: str, data: dict[str, Any]) -> None:
            if kind == "done":
                archive = scratch / "run.zip"
                pack(scratch / grid, [(part, task.key)], archive)
                with archive.open("rb") as file:
                    while piece := file.read(PIECE):
                        tell("piece", {"bytes": piece})
            tell(kind, data)

        try:
            do(local, tell_with_archive)
        except (StorageError, OSError) as error:  # other nodes have other disks
            tell("refused", {"reason": str(error)})


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for one run; those of processes that were killed are removed first."""
    place = Path(tempfile.gettempdir())
    for old in place.glob(f"{PREFIX}{os.getuid()}-*"):
        pid = old.name.split("-")[3]
        if pid.isdecimal() and life(int(pid), "") == "gone":
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getuid()}-{os.getpid()}-") as folder:
        yield Path(folder)
