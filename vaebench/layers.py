"""A linear layer whose large float32 products oneDNN computes on a CPU.

PyTorch hands float32 matrix products on an x86 CPU to MKL, which does not use the widest vectors
of every CPU, and carries oneDNN, which does, for convolutions. For the sizes of a VAE's layers
oneDNN is up to twice as fast (AMD Zen 5), and where it may use AVX2 only still as fast as MKL. Its
rounding errors are of the same size: 2 to 6e-7 of a product's root mean square, MKL's 2 to 3e-7.
PyTorch's switches reach it in reduced precision alone, so its own operator is called: the one that
``torch.compile`` writes into the programs that it compiles.
"""

import platform
from typing import Any

import torch
from torch import Tensor, nn

LEAST_WORK = 2**21
"""Multiply-adds of a product below which what a call of oneDNN costs outweighs what it gains."""

ONEDNN = (
    platform.machine() in {"x86_64", "AMD64"}
    and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
"""Whether it is used on this machine's CPU."""


class Linear(nn.Linear):
    """``nn.Linear``, to float rounding: the same parameters, names and initial values.

    A GPU, another precision, a small product, a compiled or exported program, the transforms of
    ``torch.func`` and a CPU without oneDNN get what ``nn.Linear`` gives them, to the last bit.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., ``in_features``) to (..., ``out_features``)."""
        if _gains(x, self.weight):
            mapped: Tensor = _Product.apply(x, self.weight, self.bias)
            return mapped
        return super().forward(x)


def _gains(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # first: else sizes are written into the program
        and ONEDNN
        and x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and x.dim() == 2
        and len(x) * weight.numel() >= LEAST_WORK
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
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
