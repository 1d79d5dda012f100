"""What is measured: one training loop a process, which waits between epochs for its turn.

``python -m vaebench.bench.contenders`` takes one :class:`Work` as a line of JSON, says when it is
ready, then trains an epoch for every further line, and answers each with its seconds and its peak
of memory. So all contenders stand ready, and only one computes at a time. To add one: a function
``(work, laps)`` that calls ``laps.begin()`` and ``laps.end()`` around every epoch, and an entry in
``CONTENDERS``.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from vaebench import datasets
from vaebench.bench import peers
from vaebench.bench.limit import Product, products, usual_product
from vaebench.config import RunConfig, make_run
from vaebench.environment import peak_memory
from vaebench.estimators import ESTIMATORS
from vaebench.layers import ConvTranspose2d, Linear, onednn_product
from vaebench.run import build
from vaebench.run.arithmetic import same_arithmetic
from vaebench.run.building import plan
from vaebench.training import train
from vaebench.vae import VAE

FOREVER = 1_000_000  # epochs


@dataclass(frozen=True)
class Work:
    """What every contender does.

    Attributes:
        contender: A key of ``CONTENDERS``.
        config: Of a run, as plain values; its data set is the training images that are used.
        data_dir: Where data sets lie; None for the default.
    """

    contender: str
    config: dict[str, Any]
    data_dir: str | None = None

    def to_line(self) -> bytes:
        """Itself as a line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @cached_property
    def run(self) -> RunConfig:
        """The configuration."""
        return make_run(self.config)

    @cached_property
    def splits(self) -> datasets.Splits:
        """The data set."""
        folder = None if self.data_dir is None else Path(self.data_dir)
        return datasets.load(data_dir=folder, **self.run.dataset.model_dump())

    @property
    def images(self) -> Tensor:
        """Training images (N, C, H, W) in [0, 1]."""
        return self.splits.train.x

    def vae(self) -> VAE:
        """The model as it begins, in PyTorch's own memory layout and of its own layers."""
        vae = build(self.run, self.shape, "cpu").vae
        for layer in vae.modules():
            if isinstance(layer, Linear):
                layer.forward = partial(nn.Linear.forward, layer)  # type: ignore[method-assign]
            if isinstance(layer, ConvTranspose2d):
                usual = partial(nn.ConvTranspose2d.forward, layer)
                layer.forward = usual  # type: ignore[method-assign]
        return vae.to(memory_format=torch.contiguous_format)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the images, (C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


class Laps:
    """Waits for a turn, times an epoch, tells what it took."""

    def __init__(self, turns: IO[bytes], out: IO[bytes]) -> None:
        self._turns, self._out = turns, out
        self._peak = peak_memory("cpu")
        self._began = 0.0
        self._is_ready = False

    def begin(self) -> None:
        """Wait for the turn. When there is none any more, the process ends."""
        if not self._is_ready:
            self._is_ready = True
            self._tell({"ready": True})
        if not self._turns.readline():
            os._exit(0)
        self._began = time.perf_counter()

    def end(self) -> None:
        """Tell the seconds since the turn began."""
        seconds = time.perf_counter() - self._began
        self._tell({"seconds": seconds, "peak_mb": self._peak()})

    def _tell(self, what: dict[str, Any]) -> None:
        self._out.write(json.dumps(what).encode() + b"\n")
        self._out.flush()


def vaebench(work: Work, laps: Laps, **options: Any) -> None:
    """The loop of this package, with options of its ``training`` section."""
    training = work.config.get("training", {}) | options | {"epochs": FOREVER}
    config = work.config | {"training": training}
    run = make_run(config)
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
    work = Work(**json.loads(turns.readline()))
    with same_arithmetic():
        CONTENDERS[work.contender](work, Laps(turns, out))


if __name__ == "__main__":
    main()
