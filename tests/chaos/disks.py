"""A disk that is full at some point of a grid, and one that cannot be written."""

import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chaos.compare import differences, faults_of_mlflow
from chaos.grids import Tally
from chaos.launch import Start, Workplace, start

LEVELS = (0.002, 0.02, 0.1, 0.25, 0.5, 0.8)  # of what a whole grid takes
FILE_SIZES = (4, 64)  # KiB, where no disk can be made: the largest size of a file stands in
READ_ONLY = "read-only folder"


class CannotTry(Exception):
    """Why there is no such disk on this machine."""


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes.

    Raises:
        CannotTry: This process may not mount one.
    """
    folder.mkdir()
    call("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        call("umount", "-l", str(folder))


def call(*command: str) -> None:
    """Do what needs root.

    Raises:
        CannotTry: It was refused.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = done.stderr.partition("\n")[0]
        raise CannotTry(f"{command[0]} {command[1]} is refused here: {why}")


def _protect(folder: Path) -> None:
    call("mount", "-o", "remount,ro", str(folder))


def fill(folder: Path, size: int) -> Path:
    """Take so many bytes of a disk; return the file to delete when they are to be free again."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return filler


def can_mount(place: Workplace) -> str | None:
    """Why disks cannot be made, filled or protected here; None if they can."""
    try:
        with disk(place.folder / "disk-trial", 1_000_000) as folder:
            fill(folder, 1000)
            _protect(folder)
    except (CannotTry, OSError) as error:
        return str(error)
    return None


def full(place: Workplace, level: float, need: int, expected: dict[str, Any], tally: Tally) -> None:
    """Fill a disk so that a part of what a grid takes is free; then free the rest."""
    with disk(place.folder / f"disk-{level}", 3 * need) as folder:
        filler = fill(folder, 3 * need - int(level * need))
        results = folder / "results"
        first = start(place, results)
        problems = [*first.problems, *_silent(first), *_unreadable(results / "chaos")]
        filler.unlink()
        problems += _finish(place, results, expected, tally)
    kind = f"disk full at {level:.1%}"
    tally.fault(kind, problems)
    tally.say(f"  {kind}: exit {first.code}, {'; '.join(problems) or 'then the same'}")


def small_files(place: Workplace, size: int, expected: dict[str, Any], tally: Tally) -> None:
    """Let no file grow beyond ``size`` KiB; then let it."""
    results = place.folder / f"small-files-{size}"
    limit = ["bash", "-c", f'ulimit -S -f {size}; exec "$@"', "limited"]
    first = start(place, results, prefix=limit)
    problems = [*first.problems, *_silent(first), *_unreadable(results / "chaos")]
    problems += _finish(place, results, expected, tally)
    kind = f"no file above {size} KiB"
    tally.fault(kind, problems)
    tally.say(f"  {kind}: exit {first.code}, {'; '.join(problems) or 'then the same'}")
    shutil.rmtree(results)


def read_only(place: Workplace, mounts: bool, tally: Tally) -> None:
    """Start where nothing can be written: one message, and nothing there."""
    folder = place.folder / "read-only"
    if mounts:
        with disk(folder, 1_000_000):
            _protect(folder)
            problems = _refused(place, folder)
    elif os.geteuid():
        folder.mkdir(mode=0o555)
        problems = _refused(place, folder)
    else:
        tally.skipped.append(f"{READ_ONLY}: no disk can be mounted, and no mode stops root")
        return
    tally.fault(READ_ONLY, problems)
    tally.say(f"  {READ_ONLY}: {'; '.join(problems) or 'told'}")


def _refused(place: Workplace, folder: Path) -> list[str]:
    done = start(place, folder / "results")
    wrong = [] if done.code == 1 else [f"exit code {done.code}"]
    return [*done.problems, *wrong, *_silent(done), *(f"left {p}" for p in folder.iterdir())]


def _finish(place: Workplace, results: Path, expected: dict[str, Any], tally: Tally) -> list[str]:
    done = start(place, results)
    tally.starts += 2
    problems = [*done.problems, *done.wrong_exit]
    return problems or [*differences(results / "chaos", expected), *faults_of_mlflow(results)]


def _silent(done: Start) -> list[str]:
    """What a user was not told: that a run stopped, why, or that MLflow misses something."""
    last = [line for line in done.said.splitlines() if line.startswith(("Error:", "Warning:"))]
    if done.code == 0 and not any("MLflow" in line for line in last):
        return [f"nothing said of what is missing: {done.said[-300:]}"]
    if done.code == 1 and not any("cannot be written" in line for line in last):
        return [f"nothing said of the disk: {done.said[-300:]}"]
    return [] if done.code in (0, 1) else [f"exit code {done.code}: {done.said[-300:]}"]


def _unreadable(grid: Path) -> list[str]:
    """What of a grid is not whole."""
    found = []
    for path in [*grid.rglob("*.pt"), *grid.rglob("*.npz")]:
        try:
            with zipfile.ZipFile(path) as archive:
                found += [f"{path.name} is damaged"] if archive.testzip() else []
        except (OSError, zipfile.BadZipFile) as error:
            found.append(f"{path.name}: {error}")
    found += [f"{p.name} is empty" for p in grid.rglob("*.json") if not p.stat().st_size]
    return found
