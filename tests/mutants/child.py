"""The process of a trial: pytest in a copy, with a plugin that notes the first test that fails."""

import importlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ORIGINAL = Path(__file__).parents[2]


class Workplace(NamedTuple):
    """The folders and files of one trial.

    Attributes:
        folder: That holds them all, and is thrown away.
    """

    folder: Path

    @property
    def copy(self) -> Path:
        """The copy of the project."""
        return self.folder / "project"

    @property
    def note(self) -> Path:
        """The id of the first test that failed; not there while none has."""
        return self.folder / "note"

    @property
    def output(self) -> Path:
        """What pytest said."""
        return self.folder / "output"


class Watch:
    """The plugin: imports what was planted, and notes the first failure."""

    def __init__(self, place: Workplace, module: str | None) -> None:
        self._place = place
        self._module = module

    def pytest_sessionstart(self) -> None:
        """Import the planted module: a test that fails because it cannot be imported saw nothing.

        Raises:
            pytest.UsageError: It cannot, or it is not the copy's.
        """
        if self._module is None:
            return
        try:
            file = importlib.import_module(self._module).__file__
        except Exception as error:
            raise pytest.UsageError(f"{self._module} cannot be imported: {error!r}") from error
        if file is None or not Path(file).is_relative_to(self._place.copy):
            raise pytest.UsageError(f"{self._module} was imported from {file}, not from the copy")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Within a file, run tests of one case first: they are quick, and say what is wrong."""
        cases = Counter(item.nodeid.partition("[")[0] for item in items)
        files = list(dict.fromkeys(item.path for item in items))
        items.sort(key=lambda i: (files.index(i.path), cases[i.nodeid.partition("[")[0]]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the first test that fails, its fixtures included."""
        if report.failed and not self._place.note.exists():
            self._place.note.write_text(report.nodeid, encoding="utf-8")


def run_pytest(place: Workplace, tests: Sequence[str], module: str | None) -> None:
    """Be the process of a trial, and exit as pytest does.

    Arguments:
        place: Whose copy is ready.
        tests: Files below ``tests/``, in this order, up to the first failure.
        module: What was planted; None for a copy as it is.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # some tests are about it
    os.setsid()  # a Ctrl-C is for the parent, and one kill reaches all that tests start
    output = os.open(place.output, os.O_WRONLY | os.O_CREAT)
    for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(source, descriptor)
    os.chdir(place.copy)
    os.environ["PYTHONPATH"] = str(place.copy)  # of the processes that tests start
    os.environ["TMPDIR"] = str(place.folder)
    os.environ.pop("PYTEST_ADDOPTS", None)
    original = {"", str(ORIGINAL), str(ORIGINAL / "tests")}
    sys.path[:] = [str(place.copy), *(path for path in sys.path if path not in original)]
    # plain assertions: what a failure looks like is not asked, and rewriting every file takes time
    arguments = ["-x", "-q", "--assert=plain", "--tb=short", "-p", "no:cacheprovider"]
    files = [f"tests/{name}" for name in tests]
    sys.exit(pytest.main([*arguments, *files], plugins=[Watch(place, module)]))
