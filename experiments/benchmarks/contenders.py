"""The contenders: one training loop a process, which waits between epochs for its turn.

``python -m experiments.benchmarks.contenders`` reads one :class:`~experiments.benchmarks.work.Work`
as a line of JSON, says when it is ready, then trains an epoch for every further line, and answers
each with its seconds and its peak of memory. So all contenders stand ready, and only one computes
at a time. To add one: a function ``(work, laps)`` that calls ``laps.begin()`` and ``laps.end()``
around every epoch, and an entry in ``CONTENDERS``.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from experiments.benchmarks import peers
from experiments.benchmarks.limit import Product, products, usual_product
from experiments.benchmarks.work import FOREVER, Laps, Work
from vaebench.config import make_run
from vaebench.estimators import ESTIMATORS
from vaebench.layers import onednn_product
from vaebench.run import build
from vaebench.run.arithmetic import same_arithmetic
from vaebench.run.building import plan
from vaebench.training import train


def vaebench(work: Work, laps: Laps, **options: Any) -> None:
    """The loop of this package, with options of its ``training`` section."""
    training = work.config.get("training", {}) | options | {"epochs": FOREVER}
    run = make_run(work.config | {"training": training})
    x = work.images
    state = build(run, work.shape, "cpu")
    laps.begin()
    for _ in train(state, ESTIMATORS[run.estimator.name], x, x[:0], plan(run), seed=run.seed):
        laps.end()
        laps.begin()


def limit(work: Work, laps: Laps, product: Product = usual_product) -> None:
    """Only the matrix products and convolutions of the same steps, in float32."""
    size = work.run.training.batch_size
    state = build(work.run, work.shape, "cpu")
    step = products(state.vae, work.images[:size], work.run.estimator.samples, product)
    while True:
        laps.begin()
        for _ in range(len(work.images) // size):
            step()
        laps.end()


CONTENDERS: dict[str, Callable[[Work, Laps], None]] = {
    "vaebench": vaebench,
    "vaebench, bfloat16": partial(vaebench, precision="bfloat16"),
    "vaebench, compiled": partial(vaebench, compile=True),
    "vaebench, compiled, bfloat16": partial(vaebench, compile=True, precision="bfloat16"),
    "limit": limit,
    "limit, oneDNN": partial(limit, product=onednn_product),
    "plain loop": peers.plain_loop,
    "Lightning": peers.lightning,
    "pythae": peers.pythae,
}


def main() -> None:
    """Do one contender's work until there are no more turns."""
    turns = os.fdopen(os.dup(0), "rb")
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like a lap
    work = Work.from_line(turns.readline())
    with same_arithmetic():
        CONTENDERS[work.contender](work, Laps(turns, out))


if __name__ == "__main__":
    main()
