"""A run's fixed cost, part by part: CPU seconds of imports, and of two runs after them.

``python -m experiments.benchmarks.parts`` reads a run's configuration as a line of JSON, does it
twice in this process, as a worker does one run after the other, and prints the CPU seconds of each
part as JSON. A part is less the parts within it; what the data set's classifier or the radii of the
test images cost is in ``generation`` of the first run. To add a part: a function by its place in
:data:`FUNCTIONS`.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, wraps
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.benchmarks.commands import children_cpu_seconds, environment, run, say
from experiments.benchmarks.measured import Measurement, Outcome, ratio
from experiments.benchmarks.settings import Parts
from vaebench.errors import VaebenchError

START = "imports, once a grid"  # by the template of its workers
RUNS = ("first run", "further run")
TORCH = "import torch"
SHOWN = 0.01  # CPU seconds of a part below which it is one of the rest
REST = "the rest: files, journal, record"

FUNCTIONS = {
    "vaebench.run:load_splits": "data",
    "vaebench.run:_begin": "model and optimiser",
    "vaebench.run:_train": "training, validation, checkpoints",
    "vaebench.run:save_snapshot": "tiles",
    "vaebench.run:decoder_bytes": "decoder's file",
    "vaebench.run:figure_arrays": "arrays of the figures",
    "vaebench.run:draw_figures": "figures",
    "vaebench.run:completed_record": "record",
    "vaebench.run.record:flops_per_image": "counting FLOPs",
}
"""Where a name is looked up when it is called, and what the table calls the part."""


class Clock:
    """CPU seconds of parts, each less what is within it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._within = [0.0]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose CPU time is counted under a name."""

        @wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            self._within.append(0.0)
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.process_time() - began
                own = took - self._within.pop()
                self._within[-1] += took
                self.seconds[name] = self.seconds.get(name, 0.0) + own

        return inner


def install(clock: Clock) -> None:
    """Time every part of the runs that this process does from now on."""
    from vaebench.metrics import METRICS, Metric, Subject

    for place, name in FUNCTIONS.items():
        module_name, _, attribute = place.partition(":")
        module = import_module(module_name)
        setattr(module, attribute, clock.timed(name, getattr(module, attribute)))
    for name, attribute in vars(Subject).items():
        if isinstance(attribute, cached_property):
            attribute.func = clock.timed(f"pass over images: {name}", attribute.func)
    names = {id(metric): name for name, metric in METRICS.items()}
    value = Metric.__call__

    def call(metric: Metric, subject: Subject) -> float:
        return float(clock.timed(f"metric: {names[id(metric)]}", value)(metric, subject))

    Metric.__call__ = call  # type: ignore[method-assign,assignment]


def main() -> None:
    """Do a run twice, and print what took how long."""
    out, sys.stdout = sys.stdout, sys.stderr
    from vaebench.config import make_run
    from vaebench.executors.worker import preload
    from vaebench.run import Task
    from vaebench.run import run as do

    preload()
    found: dict[str, Any] = {START: time.process_time()}
    config = make_run(json.loads(sys.stdin.readline()))
    with TemporaryDirectory() as folder:
        task, clock = Task(config, {}, Path(folder), device="cpu"), Clock()
        install(clock)
        for name in RUNS:
            clock.seconds.clear()
            record = clock.timed(REST, do)(replace(task, folder=Path(folder, name)))
            if record["status"] != "complete":
                raise VaebenchError(f"the run {record['status']}: {record['reason']}")
            found[name] = dict(clock.seconds)
    print(json.dumps(found), file=out, flush=True)


def measure_parts(benchmark: Parts) -> Outcome:
    """Measure a run's parts, each turn in a process of its own, and what PyTorch's import takes."""
    line = json.dumps(benchmark.run).encode() + b"\n"
    torch: list[float] = []
    found: list[dict[str, Any]] = []
    for turn in range(benchmark.repeats):
        say(f"turn {turn + 1} of {benchmark.repeats}: a run, part by part")
        torch.append(_cpu_seconds_of_importing_torch())
        found.append(json.loads(run("experiments.benchmarks.parts", given=line)[1]))
    whole = {name: [sum(each[name].values()) for each in found] for name in RUNS}
    measured = [
        Measurement(TORCH, "CPU s", torch),
        Measurement(START, "CPU s", [each[START] for each in found]),
        *(Measurement(name, "CPU s", values) for name, values in whole.items()),
    ]
    for name in RUNS:
        measured += _parts(name, [each[name] for each in found])
    return Outcome(measured, [ratio(each, measured[0]) for each in measured[1:4]], [])


def _parts(name: str, turns: list[dict[str, float]]) -> list[Measurement]:
    """The parts of a run, the largest first, small ones as one."""
    large = [
        Measurement(f"{name}: {part}", "CPU s", [turn.get(part, 0.0) for turn in turns])
        for part in dict.fromkeys(part for turn in turns for part in turn if part != REST)
    ]
    shown = sorted((e for e in large if e.median >= SHOWN), key=lambda each: -each.median)
    rests = [
        sum(turn.values()) - sum(each.values[i] for each in shown) for i, turn in enumerate(turns)
    ]
    return [*shown, Measurement(f"{name}: {REST}", "CPU s", rests)]


def _cpu_seconds_of_importing_torch() -> float:
    before = children_cpu_seconds()
    command = [sys.executable, "-P", "-c", "import torch"]
    subprocess.run(command, check=True, env=environment())
    return children_cpu_seconds() - before


if __name__ == "__main__":
    main()
