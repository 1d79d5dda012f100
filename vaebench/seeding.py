"""Named random streams: every draw depends on ``(seed, name, epoch)`` and on nothing else.

The streams of a run are ``init`` (the weights), ``order`` (the batches), ``noise`` (the
reparameterised draws), ``layers`` (what layers draw themselves, as dropout does), ``binarize``
(dynamic binarisation), ``dequantize``, ``validation``, ``fit``
(a fitted likelihood), ``evaluation``, ``evaluation/train``, ``log_px`` (its "epoch" is the sample),
``generation``, ``gradient_variance``, ``figures`` and ``tune`` (the score of a tuning run); what
belongs to a data set (its split, its binarised test images, its classifier) has seed 0 and the data
set's name. None of them knows the cell, so all cells of a grid see the same batches and the same
noise; none of them knows what was drawn before, so a run resumes at any epoch. To add a stream,
choose a new name: no other moves.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator


def _digest(seed: int, name: str, epoch: int) -> int:
    digest = hashlib.sha256(f"{seed}/{name}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, name: str, epoch: int = 0) -> Generator:
    """Return a CPU generator that depends only on ``(seed, name, epoch)``.

    It lives on the CPU whatever device trains, so that every device sees the same draws.
    """
    return Generator().manual_seed(_digest(seed, name, epoch))


@contextmanager
def seeded(
    seed: int, name: str, epoch: int = 0, device: torch.device | None = None
) -> Iterator[None]:
    """Seed PyTorch's global streams for the duration of a block, then put them back.

    PyTorch's layers draw their initial weights, and dropout its masks, from the global stream and
    take no generator: this is the one place where it is used, and it leaves no trace.

    Arguments:
        seed: As for :func:`stream`.
        name: As for :func:`stream`.
        epoch: As for :func:`stream`.
        device: A CUDA device whose stream is seeded as well; others have none of their own.
    """
    on_cuda = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        torch.default_generator.manual_seed(_digest(seed, name, epoch))
        if on_cuda:
            torch.cuda.manual_seed(_digest(seed, name, epoch))
        yield
