"""Attempts at a run: each in a folder of its own until it is published, by a rename.

::

    <grid>/.work/<part>/<run_id>/<number>/lease.json   who does the run, see ``leases``
    <grid>/.work/<part>/<run_id>/<number>/<run_id>/    where
    <grid>/<part>/<run_id>/                            published: complete, failed or interrupted

``part`` is ``runs`` or ``tuning``. A run is published by renaming its folder onto a name that does
not exist: the first wins. One that comes late (its process slept until another took over) goes to
``attempts/late-<number>`` of the one that is there. An attempt takes up what there was: a run that
was published without being complete is renamed back; of one whose process died, all is copied, as
nobody can be sure that it will not write there again.
"""

import os
from pathlib import Path
from typing import NamedTuple

from vaebench.errors import ResultsError
from vaebench.files import (
    MAX_RECORD_BYTES,
    flush_folder,
    make_folder,
    read_file,
    require_no_link,
)
from vaebench.storage.copying import copy_folder
from vaebench.storage.holders import Holder, Watch, parse, read
from vaebench.storage.leases import (
    FILE,
    GRACE,
    WORK,
    Lease,
    LostError,
    Taken,
    numbers,
    rename_new,
    take,
)


class Late(NamedTuple):
    """A run that was not published, as another process had taken it over: where it is kept."""

    kept: Path


def work_place(grid_dir: Path, run_id: str, part: str) -> Path:
    """Where the attempts at a run are."""
    return grid_dir / WORK / part / run_id


def attempt_at(grid_dir: Path, run_id: str, part: str, watch: Watch) -> Lease | Taken:
    """Take a run, unless another process does it.

    Raises:
        ResultsError: A link stands in the way.
        OSError: The folder cannot be written.
    """
    return take(work_place(grid_dir, run_id, part), grid_dir, watch, GRACE)


def content_of(lease: Lease) -> Path:
    """The folder in which an attempt works."""
    return lease.folder / lease.place.name


def lease_of(folder: Path) -> Lease | None:
    """The lease of the attempt that works in a folder; None for one that is no attempt's.

    Raises:
        LostError: There is none any more.
    """
    if len(folder.parents) < 5 or folder.parents[3].name != WORK:
        return None
    grid_dir = folder.parents[4]
    holder = parse(read(folder.parent / FILE, grid_dir))
    if holder is None:
        raise LostError(f"{folder.parents[1]}: was taken over by another process")
    return Lease(folder.parents[1], int(folder.parent.name), holder, grid_dir)


def published_of(lease: Lease) -> Path:
    """The folder under which the run of an attempt is published."""
    return lease.within / lease.place.parent.name / lease.place.name


def find_run(grid_dir: Path, run_id: str, part: str) -> Path:
    """The folder of a run as it is now: published, or that of the latest attempt."""
    published = grid_dir / part / run_id
    if os.path.lexists(published):
        return published
    place = work_place(grid_dir, run_id, part)
    try:
        known = numbers(place, grid_dir)
    except ResultsError:
        return published
    return place / str(known[-1]) / run_id if known else published


def worker_of(folder: Path) -> Holder | None:
    """Who does the run in the folder of an attempt; None where nobody does, as far as is known."""
    try:
        lease = lease_of(folder)
    except LostError:
        return None
    return lease.holder if lease is not None and not lease.holder.is_gone else None


def take_up(lease: Lease) -> None:
    """Bring what there is of a run into the folder of a new attempt.

    Raises:
        LostError: Another process has taken it over meanwhile; nothing is changed.
        ResultsError: What there is is no plain folder of files.
        OSError: The folder cannot be written.
    """
    content, published = content_of(lease), published_of(lease)
    require_no_link(published, lease.within)
    if published.is_dir():
        if not lease.is_current():
            raise LostError(f"{lease.place}: was taken over by another process")
        published.rename(content)
        if not lease.is_current():  # this process slept between the two lines above
            rename_new(content, published)
            raise LostError(f"{lease.place}: was taken over by another process")
        flush_folder(published.parent)
        return
    for number in reversed(numbers(lease.place, lease.within)):
        before = lease.place / str(number) / lease.place.name
        if number < lease.number and before.is_dir():
            new = lease.folder / ".new"
            copy_folder(before, new, lease.within)
            new.rename(content)
            return


def publish(lease: Lease) -> Late | None:
    """Publish the run of an attempt, and give the lease back; say where it is kept if it is late.

    Raises:
        ResultsError: A link stands in the way.
        OSError: The folder cannot be written.
    """
    content, published = content_of(lease), published_of(lease)
    require_no_link(published, lease.within)
    record = read_file(content / "record.json", MAX_RECORD_BYTES, lease.within)
    make_folder(published.parent)
    if lease.is_current():
        try:
            done = rename_new(content, published)
        except FileNotFoundError:  # on a network, the answer to a rename may be lost
            there = read_file(published / "record.json", MAX_RECORD_BYTES, lease.within)
            if record is None or there != record:
                raise
            done = True
        if done:
            flush_folder(published.parent)
            lease.release(done=True)
            return None
    return _keep(lease)


def _keep(lease: Lease) -> Late:
    """Keep what came late where the run is that came first, or is to come."""
    content, published = content_of(lease), published_of(lease)
    latest = find_run(lease.within, lease.place.name, lease.place.parent.name)
    place = published if published.is_dir() else latest
    if place == content or not place.is_dir():
        return Late(content)
    kept = place / "attempts" / f"late-{lease.number}"
    require_no_link(kept, lease.within)
    while True:
        make_folder(kept.parent)
        if rename_new(content, kept):
            break
        kept = kept.with_name(f"{kept.name}-again")
    lease.release()
    return Late(kept)
