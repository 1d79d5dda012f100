"""CPU seconds of what follows a training, part by part, of a finished run on this machine.

    python experiments/benchmarks/measurement.py results/<grid>/runs/<run> [TURNS]

Each turn measures the run anew, in one process with one thread; the smallest of the turns is
printed. A part is a pass over images (``evaluation``, ``latents``, ``generation``) or a metric
without the pass that it reads. Not in it: reading data and weights, training the data set's
classifier (once a data directory), and the radii of the test images (once a process), which have
a line of their own. Run it on an idle machine, and compare only what one machine gave.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from vaebench import datasets
from vaebench.config import RunConfig
from vaebench.datasets import Split
from vaebench.metrics import METRICS, Subject
from vaebench.run import load_run
from vaebench.run.arithmetic import same_arithmetic
from vaebench.run.building import placed
from vaebench.run.declared import measured_names
from vaebench.run.measuring import TRAIN_PART, drawn_once, make_subject


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def by_part(subject: Subject, config: RunConfig) -> dict[str, float]:
    part = Split(subject.training.x[:TRAIN_PART], subject.training.y[:TRAIN_PART])
    on_train = replace(subject, images=part, noise="evaluation/train")
    seconds = {
        "evaluation": cpu_seconds(lambda: subject.evaluation),
        "evaluation, train": cpu_seconds(lambda: on_train.evaluation),
        "latents": cpu_seconds(lambda: subject.latents),
        "generation": cpu_seconds(lambda: subject.generation),
    }
    for name in measured_names(config):
        seconds[name] = cpu_seconds(partial(METRICS[name], subject))
    return seconds


def main(folder: Path, turns: int = 3) -> None:
    loaded = load_run(folder)
    config = loaded.config
    splits = datasets.load(**config.dataset.arguments)
    x = drawn_once(config, splits.train.x)
    vae = placed(loaded.model, "cpu")
    with same_arithmetic():
        reference = make_subject(config, vae, splits, x, None).reference()
        once = cpu_seconds(lambda: reference.radii)
        found = [by_part(make_subject(config, vae, splits, x, None), config) for _ in range(turns)]
    smallest = {name: min(seconds[name] for seconds in found) for name in found[0]}
    for name, seconds in smallest.items():
        print(f"{name:20} {seconds:7.3f} s")
    print(f"{'together':20} {sum(smallest.values()):7.3f} s")
    print(f"{'radii, once':20} {once:7.3f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
