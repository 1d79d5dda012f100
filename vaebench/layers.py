"""Layers that are PyTorch's to float rounding, and faster on a CPU.

PyTorch sends float32 matrix products on an x86 CPU to MKL, which uses AVX-512 only on CPUs made by
Intel, and bundles oneDNN, which uses it on every CPU that has it. For the sizes of a VAE's layers
oneDNN is up to twice as fast on AMD Zen 5, no slower where both use AVX2, and a tenth slower on an
Intel CPU. Its rounding errors are of the same size: 2 to 6e-7 of a product's root mean square,
MKL's 2 to 3e-7. PyTorch's switches reach it in reduced precision alone, so its own operator is
called: the one that ``torch.compile`` writes into the programs that it compiles.

A GPU, another precision, a compiled or exported program and the transforms of ``torch.func`` get
what PyTorch's layers give them, to the last bit.
"""

import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench.cpu import cpu_kind

MIN_WORK = 2**21
"""Multiply-adds of a product below which what a call of oneDNN costs outweighs what it gains."""

FEW_CHANNELS = 4
"""Output channels up to which a transposed convolution is faster as one product of matrices."""

AVAILABLE = (
    platform.machine() in {"x86_64", "AMD64"}
    and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
"""Whether PyTorch has oneDNN's operator here."""


def is_intel() -> bool:
    """Whether this machine's CPU is one of Intel's."""
    kind = cpu_kind()
    return kind["vendor"] == "GenuineIntel" if kind else "Intel" in platform.processor()


ONEDNN = AVAILABLE and not is_intel()
"""Whether it is used on this machine's CPU."""


class Linear(nn.Linear):
    """``nn.Linear``, to float rounding: the same parameters, names and initial values."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., ``in_features``) to (..., ``out_features``)."""
        if (
            _is_plain(x, self.weight)
            and ONEDNN
            and x.dim() == 2
            and len(x) * self.weight.numel() >= MIN_WORK
        ):
            mapped: Tensor = _Product.apply(x, self.weight, self.bias)
            return mapped
        return super().forward(x)


class ConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d``, to float rounding: the same parameters, names and initial values.

    With few output channels, as in the layer that ends in an image, PyTorch's takes four times as
    long as one product of matrices whose columns are added up; and the gradient of a bias, a mere
    sum, takes it longer than that of the weight.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map (B, ``in_channels``, H, W) to (B, ``out_channels``, H', W')."""
        if (
            _is_plain(x, self.weight)
            and output_size is None
            and x.dim() == 4
            and self.groups == 1
            and self.dilation == (1, 1)
        ):
            geometry = self.stride, self.padding, self.output_padding
            mapped: Tensor = _Transposed.apply(x, self.weight, self.bias, geometry)
            return mapped
        return super().forward(x, output_size)


class Flatten(nn.Module):
    """(B, C, H, W) to (B, H * W * C): no copy of what a convolution returns, channels last."""

    def forward(self, x: Tensor) -> Tensor:
        """Flatten with the channels last."""
        return x.permute(0, 2, 3, 1).flatten(1)


class Unflatten(nn.Module):
    """(B, H * W * C) to (B, C, H, W), channels last in memory; undoes :class:`Flatten`."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Give features the ``shape`` (C, H, W)."""
        channels, height, width = self.shape
        return x.view(-1, height, width, channels).permute(0, 3, 1, 2)


_is_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)


def is_eager() -> bool:
    """Whether operations run as they are written: not compiled, exported or under torch.func."""
    return not torch.compiler.is_compiling() and not _is_transformed()


def _is_plain(x: Tensor, weight: Tensor) -> bool:
    """Whether a layer computes in float32 on a CPU, as it is written."""
    return (
        is_eager()  # first: else sizes are written into the program
        and x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


class _Product(torch.autograd.Function):
    """A B^T + bias by oneDNN; its gradients are such products, too."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(a, b)
        return onednn_product(a, b, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        of_a, of_b, of_bias = ctx.needs_input_grad
        # gradients of gradients, where they are wanted
        product = _Product.apply if torch.is_grad_enabled() else onednn_product
        return (
            product(gradient, b.t(), None) if of_a else None,
            product(gradient.t(), a.t(), None) if of_b else None,
            gradient.sum(0) if of_bias else None,
        )


def onednn_product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """A B^T + bias for float32 matrices (M, K) and (N, K) in any layout, and a bias (N,)."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return product


Pair = tuple[int, int]


class _Transposed(torch.autograd.Function):
    """A transposed convolution, given its stride, padding and output padding."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Pair, Pair, Pair]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        if weight.shape[1] > FEW_CHANNELS:
            return F.conv_transpose2d(x, weight, bias, *geometry)
        return _transposed_by_product(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        stride, padding, output_padding = ctx.geometry
        wanted = [of_x, of_weight, False]
        gradients = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, stride, padding, (1, 1), True, output_padding, 1, wanted
        )
        return gradients[0], gradients[1], gradient.sum((0, 2, 3)) if of_bias else None, None


def _transposed_by_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
) -> Tensor:
    count, channels, *size = x.shape
    kernel = weight.shape[2:]
    height, width = (
        (n - 1) * s - 2 * p + k + o
        for n, s, p, k, o in zip(size, stride, padding, kernel, output_padding, strict=True)
    )
    pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
    columns = torch.mm(weight.reshape(channels, -1).t(), pixels.t())
    columns = columns.view(len(columns), count, -1).transpose(0, 1)
    image = F.fold(columns, (height, width), tuple(kernel), 1, padding, stride)
    return image if bias is None else image.add_(bias.view(-1, 1, 1))
