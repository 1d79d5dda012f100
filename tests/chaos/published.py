"""Published runs, watched while a grid is done: a complete run stays the one that it was."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PAUSE = 0.05  # seconds between two looks


class Watch:
    """Looks at the published runs of a grid.

    Attributes:
        problems: Complete runs that were exchanged, changed or taken away again.
    """

    def __init__(self, grid: Path) -> None:
        self.grid = grid
        self.problems: list[str] = []
        self._known: dict[Path, tuple[int, int, int] | None] = {}

    def look(self) -> None:
        """Note who is complete, and who is no longer what was noted."""
        for folder in self.grid.glob("runs/*"):
            if folder not in self._known and _is_complete(folder):
                self._known[folder] = _state(folder)
        for folder, before in self._known.items():
            if (now := _state(folder)) != before:
                self.problems.append(f"published twice: {folder.name} was {before}, is {now}")
                self._known[folder] = now


def _is_complete(folder: Path) -> bool:
    with suppress(OSError, ValueError):
        return bool(json.loads((folder / "record.json").read_text())["status"] == "complete")
    return False


def _state(folder: Path) -> tuple[int, int, int] | None:
    """What tells a run from another one of its name; None where there is none."""
    try:
        record = os.stat(folder / "record.json")  # noqa: PTH116
        return folder.stat().st_ino, record.st_ino, record.st_mtime_ns
    except OSError:
        return None


@contextmanager
def watched(grid: Path) -> Iterator[Watch]:
    """Watch a grid for as long as the context lasts."""
    watch, ended = Watch(grid), threading.Event()

    def go_on() -> None:
        while not ended.wait(PAUSE):
            watch.look()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()
        watch.look()
