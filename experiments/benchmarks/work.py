"""The work that all contenders do, and the clock that times it epoch by epoch."""

import json
import os
import time
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import IO, Any

import torch
from torch import Tensor, nn

from vaebench import datasets
from vaebench.config import RunConfig, make_run
from vaebench.environment import peak_memory
from vaebench.layers import ConvTranspose2d, Linear
from vaebench.run import build
from vaebench.vae import VAE

FOREVER = 1_000_000  # epochs


@dataclass(frozen=True)
class Work:
    """A contender and the training that it does.

    Attributes:
        contender: A key of :data:`~experiments.benchmarks.contenders.CONTENDERS`.
        config: A run's configuration as plain values. ``dataset.train`` is the images of an epoch.
    """

    contender: str
    config: dict[str, Any]

    def to_line(self) -> bytes:
        """The work as a line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Work":
        """The work of a line that :meth:`to_line` returned."""
        return cls(**json.loads(line))

    @cached_property
    def run(self) -> RunConfig:
        """The configuration."""
        return make_run(self.config)

    @cached_property
    def splits(self) -> datasets.Splits:
        """The data set."""
        return datasets.load(**self.run.dataset.arguments)

    @property
    def images(self) -> Tensor:
        """Training images (N, C, H, W) in [0, 1]."""
        return self.splits.train.x

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image, (C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def vae(self) -> VAE:
        """The untrained model, in PyTorch's own memory layout and of PyTorch's own layers."""
        vae = build(self.run, self.shape, "cpu").vae
        for layer in vae.modules():
            if isinstance(layer, Linear):
                layer.forward = partial(nn.Linear.forward, layer)  # type: ignore[method-assign]
            if isinstance(layer, ConvTranspose2d):
                usual = partial(nn.ConvTranspose2d.forward, layer)
                layer.forward = usual  # type: ignore[method-assign]
        return vae.to(memory_format=torch.contiguous_format)


class Laps:
    """Waits for a turn, times an epoch, and tells its seconds."""

    def __init__(self, turns: IO[bytes], out: IO[bytes]) -> None:
        self._turns, self._out = turns, out
        self._peak = peak_memory("cpu")
        self._began = self._cpu_began = 0.0
        self._is_ready = False

    def begin(self) -> None:
        """Wait for the turn. When there are no more turns, the process ends."""
        if not self._is_ready:
            self._is_ready = True
            self._tell({"ready": True})
        if not self._turns.readline():
            os._exit(0)
        self._began, self._cpu_began = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Tell the seconds since the turn began, those of the CPU, and the peak of memory in MB."""
        seconds = time.perf_counter() - self._began
        cpu_seconds = time.process_time() - self._cpu_began
        self._tell({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": self._peak()})

    def _tell(self, what: dict[str, Any]) -> None:
        self._out.write(json.dumps(what).encode() + b"\n")
        self._out.flush()
