"""Leases: folders that say who works on something, renewed for as long as it does.

A lease is ``<place>/<number>/lease.json``. It is taken by renaming a folder onto the next number,
which must not exist: of those who try, one succeeds. Who holds the highest number holds the place.
A process that slept until another took the next number sees that when it wakes, and nothing that it
writes is in a folder of the other. :mod:`vaebench.storage.holders` says when a lease is dead.

What file systems promise of this:

- Local disks: all of it.
- NFS v4: a rename is atomic on the server, and fails onto a folder that is not empty. A file is
  read as its last writer closed it. Names may be seen late, by up to a minute (``acdirmax``): a
  process may learn late that its lease is lost. What it then publishes is refused all the same.
- Lustre: a rename is atomic, and seen at once by all clients.

No kernel lock is used, which on network file systems may be good for one machine only.
"""

import errno
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from vaebench.errors import ResultsError
from vaebench.files import names_in, require_no_link
from vaebench.storage.holders import (
    EXPIRES,
    MINE,
    Holder,
    Judgement,
    Watch,
    new_holder,
    parse,
    read,
    write,
)

BEAT = 10.0  # seconds between two renewals
GRACE = 600.0  # seconds for which a lease is good whose worker has yet to import PyTorch
FILE = "lease.json"
WORK = ".work"  # in a grid's folder: leases, and what is not yet published


class LostError(ResultsError):
    """A lease is another's by now."""


class Taken(NamedTuple):
    """Somebody else has a place: who, and whether it is known to live."""

    holder: Holder | None
    judgement: Judgement

    def __str__(self) -> str:
        return str(self.holder or "another process")


@dataclass
class Lease:
    """A place that this process, or its parent, has taken.

    Attributes:
        place: What is taken.
        number: One more than that of the lease before.
        holder: What the file says.
        within: The grid's folder, below which no link is followed.
    """

    place: Path
    number: int
    holder: Holder
    within: Path

    @property
    def folder(self) -> Path:
        """The folder that is this lease's own."""
        return self.place / str(self.number)

    def is_current(self) -> bool:
        """Whether it is still this lease that counts."""
        if max(numbers(self.place, self.within), default=0) != self.number:
            return False
        return self._is_mine()

    def _is_mine(self) -> bool:
        now = parse(read(self.folder / FILE, self.within))
        return now is not None and now.nonce == self.holder.nonce and now.seconds > 0

    def renew(self, seconds: float = EXPIRES) -> None:
        """Say that its holder is at work.

        Raises:
            LostError: It is another's by now.
        """
        if not self.is_current():
            raise LostError(f"{self.place}: was taken over by another process")
        self.holder = replace(self.holder, beat=self.holder.beat + 1, seconds=seconds)
        write(self.folder / FILE, self.holder, self.within)

    def release(self, *, done: bool = False) -> None:
        """Give it back; what lies in its folder stays.

        Never raises: what is left behind is given up for dead by the next.

        Arguments:
            done: Whether earlier leases whose holders are gone may be removed, with what they left.
        """
        MINE.discard(self.holder.nonce)
        with suppress(OSError, ResultsError):
            if not self._is_mine():
                return  # given back already
            others = {n: self.place / str(n) for n in numbers(self.place, self.within)}
            del others[self.number]
            for number, folder in [*others.items()] if done else ():
                if number < self.number and _is_gone(folder, self.within):
                    _remove(folder)
                    del others[number]
            is_empty = names_in(self.folder, self.within) == [FILE]
            if is_empty and (not others or max(others) > self.number):
                _remove(self.folder)
            elif not any(number > self.number for number in others):
                # one who sleeps must see, when it wakes, that its lease was not the last
                write(self.folder / FILE, replace(self.holder, seconds=0.0), self.within)
            if numbers(self.place, self.within):
                return
            _remove_leftovers(self.place, self.within)
            for folder in (self.place, *self.place.parents):
                if folder == self.within:
                    return
                folder.rmdir()  # until one holds something


def numbers(place: Path, within: Path) -> list[int]:
    """The leases of a place that there are, in their order."""
    return sorted(int(n) for n in names_in(place, within) if n.isdecimal() and len(n) < 10)


def take(place: Path, within: Path, watch: Watch, seconds: float = EXPIRES) -> Lease | Taken:
    """Take a place, unless somebody has it who is not known to be dead.

    Raises:
        ResultsError: A link stands in the way.
        OSError: The folder cannot be written.
    """
    require_no_link(place, within)
    there = numbers(place, within)
    if there:
        judgement, holder = watch.judge(place / str(there[-1]) / FILE, within)
        if judgement in ("alive", "unclear"):
            return Taken(holder, judgement)
    lease = Lease(place, there[-1] + 1 if there else 1, new_holder(seconds), within)
    if not _put(lease):
        return Taken(None, "unclear")
    MINE.add(lease.holder.nonce)
    others = [number for number in numbers(place, within) if number != lease.number]
    if not set(others) <= set(there):  # this process slept, and another has begun to count anew
        lease.release()
        return Taken(None, "unclear")
    return lease


def _put(lease: Lease) -> bool:
    """Make a lease's folder, with the lease in it; False if another one was faster."""
    new = lease.place / f".{lease.number}.{lease.holder.nonce}.tmp"
    for last in (*[False] * 9, True):
        try:
            new.mkdir(parents=True)
            write(new / FILE, lease.holder, lease.within)
            return rename_new(new, lease.folder)
        except FileNotFoundError:  # another one has just removed the folder, which was empty
            if last:
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return False


def rename_new(folder: Path, target: Path) -> bool:
    """Rename a folder that is not empty onto a name that does not exist; False where it does.

    Raises:
        OSError: As for a rename.
    """
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):
            return False
        raise
    return True


@contextmanager
def renewed(lease: Lease) -> Iterator[threading.Event]:
    """Renew a lease in the background; the event that is given is set when it is lost."""
    ended, lost = threading.Event(), threading.Event()

    def beat() -> None:
        while True:
            try:
                lease.renew()
            except LostError:
                lost.set()
                return
            except (OSError, ResultsError):  # a disk that is full, or away for a moment
                pass
            if ended.wait(BEAT):
                return

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        ended.set()
        thread.join()


@contextmanager
def locked(folder: Path, name: str) -> Iterator[Lease]:
    """Do something alone that takes a moment, such as to write the reports of a grid.

    Waits for the one who does it now. Who slept through its own lease learns it from
    :meth:`Lease.is_current`.
    """
    place, watch = folder / WORK / name, Watch()
    pause = 0.01
    while isinstance(lease := take(place, folder, watch), Taken):
        time.sleep(pause)
        pause = min(1.0, 1.5 * pause)
    try:
        with renewed(lease):
            yield lease
    finally:
        lease.release(done=True)


@contextmanager
def only_one(folder: Path, name: str) -> Iterator[bool]:
    """Do something that one process at a time does, unless another does it now."""
    lease = take(folder / WORK / name, folder, Watch())
    if isinstance(lease, Taken):
        yield False
        return
    try:
        with renewed(lease):
            yield True
    finally:
        lease.release(done=True)


def _is_gone(folder: Path, within: Path) -> bool:
    """Whether nobody can hold a lease any more."""
    holder = parse(read(folder / FILE, within))
    return holder is not None and holder.is_gone


def forget(place: Path, within: Path) -> None:
    """Remove the leases of a place that nobody can hold any more, if there are no others."""
    with suppress(OSError, ResultsError):
        known = [place / str(number) for number in numbers(place, within)]
        if all(_is_gone(folder, within) for folder in known):
            for folder in known:
                _remove(folder)
            _remove_leftovers(place, within)
            place.rmdir()


def _remove(folder: Path) -> None:
    """Remove a lease's folder: first its name, so that nobody sees a part of it."""
    away = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    folder.rename(away)
    _clear(away)


def _remove_leftovers(place: Path, within: Path) -> None:
    """Remove what is left of processes that died as they took a lease, or as they removed one."""
    for name in names_in(place, within):
        folder = place / name
        if name.endswith(".tmp") and (not names_in(folder, within) or _is_gone(folder, within)):
            _clear(folder)


def _clear(folder: Path) -> None:
    """Remove a folder, its lease last: it says to others, if this process dies, whose it was."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name != FILE:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (folder / FILE).unlink(missing_ok=True)
        folder.rmdir()
