"""What moves the last bits, or more, is the same in every run of a machine."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def same_arithmetic() -> Iterator[None]:
    """Fix what would otherwise depend on where a run runs.

    One CPU thread (threads of several workers would collide, too); on CUDA no TF32, which PyTorch
    allows in convolutions alone and would favour one model, and no choice of kernels by timing.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    exact = {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": False}
    try:
        with torch.backends.cudnn.flags(**exact):
            yield
    finally:
        torch.set_num_threads(before)
