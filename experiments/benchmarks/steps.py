"""Training loops in turns: every contender in a process of its own, one of them at work."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any

from experiments.benchmarks.commands import environment, python, say
from experiments.benchmarks.measured import Measurement, Outcome, Unit, ratio
from experiments.benchmarks.settings import Steps
from experiments.benchmarks.work import Work
from vaebench.config import with_value
from vaebench.errors import ConfigError, VaebenchError
from vaebench.executors import single_threaded, worker_environment

OURS, LIMIT = "vaebench", "limit"


def measure_steps(benchmark: Steps) -> Outcome:
    """Let the contenders take turns, once for every value of the sweep."""
    points: list[tuple[str, dict[str, Any]]] = [
        (f"{key} {_plain(value)}: ", with_value(benchmark.run, key, value))
        for key, values in benchmark.sweep.items()
        for value in values
    ]
    whole = Outcome([], [], [])
    for prefix, config in points or [("", benchmark.run)]:
        works = [Work(name, config) for name in benchmark.contenders]
        say(f"{prefix}{', '.join(benchmark.contenders)}")
        measurements, ratios, remarks = _measured(works, benchmark, prefix)
        whole.measurements.extend(measurements)
        whole.ratios.extend(ratios)
        whole.remarks.extend(remarks)
    return whole


def _plain(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def _measured(works: Sequence[Work], benchmark: Steps, prefix: str) -> Outcome:
    images = {work.contender: _images_of(work) for work in works}
    with ExitStack() as stack:
        contenders = [stack.enter_context(_Contender.started(work)) for work in works]
        for each in contenders:
            each.answer()  # it stands ready
        first = {each.name: each.lap() for each in contenders}  # what starting takes
        laps: dict[str, list[dict[str, float]]] = {name: [] for name in first}
        for turn in range(benchmark.repeats):
            start = turn % len(contenders)  # nobody always follows the same one
            for each in (*contenders[start:], *contenders[:start]):
                laps[each.name].append(each.lap())
    key = "seconds" if benchmark.clock == "wall" else "cpu_seconds"
    unit: Unit = "images/s" if benchmark.clock == "wall" else "images/CPU s"
    speeds = {
        name: Measurement(f"{prefix}{name}", unit, [images[name] / lap[key] for lap in done])
        for name, done in laps.items()
    }
    peaks = [
        Measurement(f"{prefix}{name}: peak of memory", "MB", [done[-1]["peak_mb"]])
        for name, done in laps.items()
        if not name.startswith(LIMIT) and done[-1]["peak_mb"] is not None
    ]
    ours = [speed for name, speed in speeds.items() if name.startswith(OURS)]
    others = [speed for name, speed in speeds.items() if not name.startswith(OURS)]
    ratios = [ratio(mine, other) for mine in ours for other in others]
    remarks = list(_start_up(first, speeds, images, prefix))
    return Outcome([*speeds.values(), *peaks], ratios, remarks)


def _images_of(work: Work) -> int:
    """Images of an epoch; the limit leaves out a last partial batch."""
    count, size = len(work.images), work.run.training.batch_size
    if count < size:
        raise ConfigError(f"run: training.batch_size {size}: an epoch has only {count} images")
    return count // size * size if work.contender.startswith(LIMIT) else count


def _start_up(
    first: dict[str, dict[str, float]],
    speeds: dict[str, Measurement],
    images: dict[str, int],
    prefix: str,
) -> Iterator[str]:
    """Yield what the first epoch of each of our options took more, and when that is earned back."""
    if OURS not in speeds:
        return
    plain = 1 / speeds[OURS].median
    for name in speeds:
        if not name.startswith(OURS) or name == OURS:
            continue
        each = 1 / speeds[name].median
        start = first[name]["seconds"] - first[OURS]["seconds"] - images[name] * (each - plain)
        if each >= plain:
            yield f"{prefix}{name}: {start:.1f} s more to start, and never earned back"
        else:
            worth = max(0.0, start) / (plain - each)
            yield (
                f"{prefix}{name}: {max(0.0, start):.1f} s more to start, earned back after "
                f"{worth:,.0f} images, {worth * plain:,.0f} s of the plain one"
            )


class _Contender:
    """The parent's side of a contender's process."""

    def __init__(self, work: Work, process: "subprocess.Popen[bytes]", said: IO[bytes]) -> None:
        self.name = work.contender
        self._process = process
        self._said = said

    @classmethod
    @contextmanager
    def started(cls, work: Work) -> Iterator["_Contender"]:
        """Start the process, and end it."""
        ours = work.contender.startswith((OURS, LIMIT))
        with (
            tempfile.TemporaryFile() as said,  # a pipe that nobody reads would stop it when full
            # what it compiles or writes is its own: it starts cold, and leaves nothing
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
            subprocess.Popen(
                python("experiments.benchmarks.contenders"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=environment(worker_environment() if ours else single_threaded())
                | {"TMPDIR": scratch},
            ) as process,
        ):
            try:
                assert process.stdin is not None
                process.stdin.write(work.to_line())
                process.stdin.flush()
                yield cls(work, process, said)
            finally:
                process.kill()
                assert process.stdin is not None
                with suppress(BrokenPipeError):
                    process.stdin.close()

    def lap(self) -> dict[str, float]:
        """Let it train an epoch; its seconds and its peak of memory in MB.

        Raises:
            VaebenchError: It died.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # then there is no answer either
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, float]:
        """The next line that it writes.

        Raises:
            VaebenchError: It died.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip().splitlines()
            raise VaebenchError(f"{self.name}: {said[-1] if said else 'its process died'}")
        lap: dict[str, float] = json.loads(line)
        return lap
