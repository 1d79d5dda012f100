"""One trial: a throw-away copy of the project, perhaps a mutant in it, and pytest.

Trials are forked from a process that has torch and its like imported, which takes longer than most
of the tests; nothing of vaebench is imported there.
"""

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal, NamedTuple

from mutants.child import Workplace, run_pytest
from mutants.mutant import CannotPlant, Mutant, plant

Verdict = Literal["caught", "passed", "hung", "broken", "not planted"]

COPIED = ("vaebench", "tests", "experiments", "README.md", "setup.cfg", "pyproject.toml")
PRELOADED = [
    *("torch.distributions", "torch.testing", "torch.distributed.tensor", "torch._dynamo"),
    *("sklearn.datasets", "skimage.metrics", "scipy.stats", "pydantic", "hypothesis"),
]
TAIL = 12  # lines of pytest's output that explain a trial that went wrong


class Outcome(NamedTuple):
    """What became of a trial.

    Attributes:
        verdict: ``caught``: a test failed; ``passed``: none did; ``hung``: out of time; ``broken``:
            no test had a say, as the copy cannot be imported; ``not planted``: no such place.
        detail: The id of the test that caught it, or what went wrong.
        seconds: Wall time.
    """

    verdict: Verdict
    detail: str
    seconds: float


class Trials:
    """Makes trials, from as many threads as one likes; ``stop`` ends those under way.

    It is to be made in the main thread, where signals are handled.

    Arguments:
        root: Of the project, which is only ever read.
        timeout: Seconds for one trial.
    """

    def __init__(self, root: Path, timeout: float) -> None:
        self._root = root
        self._timeout = timeout
        self._running: set[BaseProcess] = set()
        self._stopped = False
        self._lock = threading.Lock()
        # read when the process that is forked from starts: one thread, which survives a fork
        single = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        os.environ.update(dict.fromkeys(single, "1"))
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is not for that process
        ensure_running()
        signal.signal(signal.SIGINT, before)

    def run(self, tests: Sequence[str], mutant: Mutant | None = None) -> Outcome:
        """Run files below ``tests/`` in a copy, perhaps with a mutant, up to the first failure."""
        began = time.monotonic()
        # a killed trial's processes may still write for a moment
        with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as folder:
            place, module = Workplace(Path(folder).resolve()), None
            copy_project(self._root, place.copy)
            if mutant is not None:
                try:
                    planted = plant(place.copy, mutant)
                except CannotPlant as error:
                    return Outcome("not planted", str(error), time.monotonic() - began)
                (place.copy / planted.path).write_text(planted.text, encoding="utf-8")
                module = planted.module
            verdict, detail = self._judge(place, tests, module)
        return Outcome(verdict, detail, time.monotonic() - began)

    def stop(self) -> None:
        """Kill what runs, and let nothing begin."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _kill(process)

    def _judge(
        self, place: Workplace, tests: Sequence[str], module: str | None
    ) -> tuple[Verdict, str]:
        code = self._exit_code(place, tests, module)
        if code is None:
            return "hung", f"not done after {self._timeout:.0f} s"
        if code == 0:
            return "passed", ""
        if code == 1 and place.note.exists():
            return "caught", place.note.read_text(encoding="utf-8").removeprefix("tests/")
        said = place.output.read_text(errors="replace") if place.output.exists() else "stopped"
        return "broken", "\n".join(said.splitlines()[-TAIL:])

    def _exit_code(self, place: Workplace, tests: Sequence[str], module: str | None) -> int | None:
        """That of pytest; None when the time was up."""
        process = self._context.Process(target=run_pytest, args=(place, tests, module))
        if self._stopped:
            return -signal.SIGKILL
        process.start()
        with self._lock:
            self._running.add(process)
            if self._stopped:  # meanwhile
                _kill(process)
        process.join(self._timeout)
        code = process.exitcode
        _kill(process)
        process.join()
        with self._lock:
            self._running.discard(process)
        return code


def copy_project(root: Path, to: Path) -> None:
    """Copy what tests need to a new folder, without what is made anew."""
    to.mkdir()
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        elif source.exists():
            shutil.copy(source, to / name)


def _kill(process: BaseProcess) -> None:
    """End a trial's process and whatever its tests started and left."""
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # were it too young to have a group of its own
