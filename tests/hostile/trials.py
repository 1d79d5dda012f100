"""One trial: a results folder, one thing in it made hostile, and every command on it."""

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostile.commands import COMMANDS, Command, outputs
from hostile.places import GRID_FILES, LONG_AGO, RUN_FILES, RUN_FOLDERS, Place
from hostile.shapes import LIES, SHAPES, Change

SECONDS = 60.0  # of one command, on a machine that does other things as well
MEMORY = 3_000_000_000  # bytes of addresses beyond those that the process has at the start
MAX_LINES = 12  # of an error


@dataclass(frozen=True)
class Trial:
    """What is done to a results folder.

    Attributes:
        what: Which file or folder, relative to the results folder, or to the run that is damaged.
        shape: What is done to it.
        change: Does it.
        spoils: Which part may not work any more: ``run``, ``grid`` or ``store``.
    """

    what: str
    shape: str
    change: Change
    spoils: str

    @property
    def name(self) -> str:
        """For the summary."""
        return f"{self.what}: {self.shape}"

    def path(self, place: Place) -> Path:
        """What is changed."""
        return {"run": place.victim, "grid": place.bad, "store": place.results}[self.spoils] / (
            self.what if self.what != "." else ""
        )


@dataclass
class Found:
    """What is wrong with what came of a command: nothing, if all is well."""

    trial: str
    command: str
    code: int | None
    seconds: float
    faults: list[str] = field(default_factory=list)


def trials(*, short: bool) -> list[Trial]:
    """Every trial; ``short``: each shape once at least, and each file, with the lies."""
    found = [
        *_trials(RUN_FILES, "run"),
        *_trials(RUN_FOLDERS, "run"),
        *_trials(GRID_FILES, "grid"),
        *_trials(("runs",), "grid"),
        # the grid's own folder, which is named: a link to it is followed
        *(t for t in _trials((".",), "grid") if t.shape not in ("folder", "link out")),
        *_trials(("mlflow.db", "mlflow.db.lock", "artifacts"), "store"),
    ]
    lies = [
        Trial(what, shape, change, _spoils(what))
        for what, listed in LIES.items()
        for shape, change in listed.items()
    ]
    return [*found[:: SHORT if short else 1], *lies]


SHORT = 9  # no divisor of the number of shapes: with every ninth trial each shape has its turn
# What reads these only is slow; the short form does it for lies alone.
DEEP = {"weights.pt": "load_run(RUN)", "mlflow.db": "sync(RES)"}


def suited(trial: Trial, *, quick: bool) -> list[Command]:
    """What is done in a trial; ``quick``: slow commands only where nothing else would do."""
    deep = DEEP.get(trial.what) if trial.shape in LIES.get(trial.what, ()) else None
    return [c for c in COMMANDS if not (quick and c.slow and c.name != deep)]


def _trials(names: Sequence[str], spoils: str) -> Iterator[Trial]:
    for what in names:
        for shape, change in SHAPES.items():
            yield Trial(what, shape, change, spoils)


def _spoils(what: str) -> str:
    return "store" if what == "mlflow.db" else "grid" if what in GRID_FILES else "run"


def knows_reading(place: Place) -> bool:
    """Whether the file system notes when a file is read (``noatime`` does not)."""
    place.fill()
    secret = place.outside / "secret"
    secret.read_bytes()
    return secret.stat().st_atime != LONG_AGO


def attempt(trial: Trial, place: Place, commands: Sequence[Command] = COMMANDS) -> list[Found]:
    """Do a trial: each command in turn, in a process of its own if the one before was ended."""
    found: list[Found] = []
    left = list(commands)
    place.fill()
    trial.change(trial.path(place), place)
    place.seal()
    read = trial.shape != "hard link"  # which is the file itself: nothing tells its names apart
    before = place.whats_outside(read=read)
    while left:
        some, died = _in_child(trial, place, left)
        found += some
        left = left[len(some) :]
        if died and left:
            found.append(Found(trial.name, left[0].name, None, SECONDS, [died]))
            left = left[1:]
    after = place.whats_outside(read=read)
    if after != before:
        changed = sorted(name for name in before | after if before.get(name) != after.get(name))
        fault = f"outside was read or changed: {', '.join(changed)}"
        found.append(Found(trial.name, "all", None, 0.0, [fault]))
    return found


class TooLong(BaseException):
    """A command did not end in time."""


def _in_child(
    trial: Trial, place: Place, commands: Sequence[Command]
) -> tuple[list[Found], str | None]:
    """Do commands in one child; what was found of each, and why it died before the last, if so."""
    here, there = os.pipe()
    child = os.fork()
    if not child:
        os.close(here)
        code = 1
        try:
            _do_all(trial, place, commands, there)
            code = 0
        finally:
            os._exit(code)
    os.close(there)
    received = bytearray()
    deadline = time.monotonic() + SECONDS * 1.5
    with os.fdopen(here, "rb", buffering=0) as answers:
        os.set_blocking(here, False)
        while True:
            part = answers.read(65536)
            if part:
                received += part
                deadline = time.monotonic() + SECONDS * 1.5
            elif part == b"":
                break
            elif time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                break
            else:
                time.sleep(0.005)
    _, status = os.waitpid(child, 0)
    found = [Found(**json.loads(each)) for each in received.decode().splitlines()]
    died = None if len(found) == len(commands) else f"the process died: status {status}"
    return found, died


def _do_all(trial: Trial, place: Place, commands: Sequence[Command], answers: int) -> None:
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    os.chdir(place.out)
    for command in commands:
        found = _do(trial, place, command)
        os.write(answers, (json.dumps(vars(found)) + "\n").encode())


def _do(trial: Trial, place: Place, command: Command) -> Found:
    shutil.rmtree(place.out, ignore_errors=True)
    place.out.mkdir()
    os.chdir(place.out)
    said = place.root / "said"

    def late(*_: Any) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, late)
    faults: list[str] = []
    code: int | None = None
    began = time.monotonic()
    with said.open("w+b") as out, _redirected(out.fileno()):
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            code = command.do(place)
        except TooLong:
            faults.append(f"not done after {SECONDS:.0f} s: {_where()}")
        except BaseException as error:
            faults.append(f"{type(error).__name__}: {str(error)[:200]}: {_where()}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    text = said.read_bytes().decode(errors="replace")
    faults += _faults(trial, place, command, code, text)
    return Found(trial.name, command.name, code, time.monotonic() - began, faults)


def _where() -> str:
    frames = traceback.extract_tb(sys.exc_info()[2])
    ours = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "vaebench" in f.filename]
    return " < ".join(reversed(ours[-3:]))


@contextlib.contextmanager
def _redirected(descriptor: int) -> Iterator[None]:
    """What is said goes to a file."""
    kept = [os.dup(1), os.dup(2)]
    streams = sys.stdout, sys.stderr
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(os.fdopen(os.dup(n), "wb"), encoding="utf-8", errors="replace")
        for n in (1, 2)
    )
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.close()
        sys.stdout, sys.stderr = streams
        for n, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, n)
            os.close(copy)


def _faults(
    trial: Trial, place: Place, command: Command, code: int | None, text: str
) -> Iterator[str]:
    """What is wrong with the exit code, the output, and what was written."""
    if code is not None and code not in command.codes:
        yield f"exit code {code}: {text[-300:]!r}"
    if "Traceback (most recent call last)" in text:
        yield f"a traceback: {text[-300:]!r}"
    if code in (1, 2) and not any(word in text for word in ("rror", "failed", "refused: ")):
        yield f"exit code {code} without a reason: {text[-300:]!r}"
    if wrong := steering(text):
        yield f"characters that steer a terminal: {wrong!r}"
    if code == 1 and len(text[text.rfind("Error:") :].splitlines()) > MAX_LINES:
        yield f"an error of many lines: {text[-300:]!r}"
    if trial.spoils != "store" and command.serves is not None:
        wanted = command.serves.format(n=len(place.runs(place.good)))
        if wanted not in text:
            yield f"the other grid is not served: {text[-300:]!r}"
    if trial.spoils == "run" and trial.what != "." and code is not None:
        yield from _rest(place, command, code, text)
    for path in outputs(place.out):
        content = path.read_bytes()
        if path.suffix == ".png" and not content.startswith(b"\x89PNG"):
            yield f"{path.name}: no picture, and yet copied"
        if path.suffix != ".png" and (wrong := steering(content.decode(errors="replace"))):
            yield f"{path.name}: characters that steer a terminal: {wrong!r}"


def _rest(place: Place, command: Command, code: int, text: str) -> Iterator[str]:
    """Whether a grid of which one run is damaged shows the others."""
    if command.name.startswith("report") and code:
        yield f"no report, though one run only is damaged: {text[-300:]!r}"
    if command.name.endswith("--format json") and any(
        run.name not in text for run in place.runs(place.bad)[1:]
    ):
        yield "a run that is whole is missing in the table"


def steering(text: str) -> str:
    """Characters of a text that a terminal, an editor or a browser does not show but obeys."""
    return "".join(
        sorted({c for c in text if unicodedata.category(c) in ("Cc", "Cf")} - set("\n\t"))
    )
