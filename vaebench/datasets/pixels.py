"""What becomes of pixels before a model sees them: drawn as bits, or spread over a gray level."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vaebench.errors import DataError

_PARTS = 2**15  # of a gray level


def binarize(x: Tensor, generator: Generator) -> Tensor:
    r"""Draw each pixel from :math:`\mathrm{Bernoulli}(x)`; the result has ``x``'s shape and type.

    The draws are made on the generator's device and moved, so that a CPU generator gives the same
    images on every device. Pixels of 0 and 1 never change.
    """
    uniform = torch.rand(x.shape, generator=generator, device=generator.device, dtype=torch.float32)
    return (uniform.to(x.device) < x).to(x.dtype)


def dequantized(x: Tensor, generator: Generator) -> Tensor:
    r"""Spread 8-bit pixels over their gray level: :math:`(v + u) / 256`, u uniform in (0, 1).

    A density of such images bounds the probability of the 8-bit ones: its expectation over u is at
    most the logarithm of the discrete model's. The draws have 15 bits, the centres of as many equal
    parts of (0, 1): in float32 none is rounded to the next gray level.

    Arguments:
        x: Pixels v / 255, in [0, 1].
        generator: As in :func:`binarize`.

    Returns:
        Pixels in (0, 1), with ``x``'s shape and type; :func:`quantized` gives ``x`` back.

    References:
        Theis, van den Oord & Bethge (2016), section 3.1, https://arxiv.org/abs/1511.01844
    """
    uniform = torch.rand(x.shape, generator=generator, device=generator.device, dtype=torch.float32)
    noise = ((uniform * _PARTS).floor() + 0.5) / _PARTS
    return ((x * 255).round() + noise.to(x)) / 256


def quantized(x: Tensor) -> Tensor:
    """The 8-bit pixels v / 255 of dequantised ones: v is the floor of 256 x."""
    return (x * 256).floor() / 255


def require_8_bits(name: str, *images: NDArray[Any]) -> None:
    """Refuse to dequantise what has no 256 gray levels.

    Raises:
        DataError: Images of the data set ``name`` are not uint8.
    """
    kinds = {str(array.dtype) for array in images}
    if kinds != {"uint8"}:
        raise DataError(
            f"{name}: only 8-bit images can be dequantised, not {', '.join(sorted(kinds))}; "
            f"leave dataset.dequantize at none"
        )
