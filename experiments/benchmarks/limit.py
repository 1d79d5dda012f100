"""The limit: what a step would take if it were nothing but its matrix products and convolutions.

"Model FLOPs utilisation" is the share of a machine's peak that a training's arithmetic reaches
(Chowdhery et al. 2022, appendix B, https://arxiv.org/abs/2204.02311). The peak here is not that of
a data sheet, but what the same kernels reach on the same shapes at the same moment.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vaebench.estimators import closed_form_kl
from vaebench.vae import VAE

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
Product = Callable[[Tensor, Tensor], Tensor]


def usual_product(a: Tensor, b: Tensor) -> Tensor:
    """A B^T for (M, K) and (N, K), as PyTorch computes it."""
    return torch.mm(a, b.t())


def products(
    vae: VAE, x: Tensor, samples: int, product: Product = usual_product
) -> Callable[[], None]:
    """Return a function that does the products of one training step, and nothing else.

    Forward through all layers, then backward in reverse, as a step does: per layer the product
    itself, the gradient of its weight and, but for the first layer, that of its input.

    Arguments:
        vae: The model, where and how it is laid out for training.
        x: A batch of images (B, C, H, W).
        samples: L, noise draws per image.
        product: A B^T, which makes those of the linear layers.
    """
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # in place changes of the output must not reach what is kept
        seen.append((module, inputs[0].detach().clone(), torch.ones_like(output)))

    layers = [module for module in vae.modules() if isinstance(module, LAYERS)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        closed_form_kl(vae, x, torch.zeros(samples, len(x), vae.latent_dim))
    for hook in hooks:
        hook.remove()
    pairs = [_pair(*layer, product, first=not n) for n, layer in enumerate(seen)]

    def step() -> None:
        with torch.no_grad():
            for forward, _ in pairs:
                forward()
            for _, backward in reversed(pairs):
                backward()

    return step


def _pair(
    layer: nn.Module, x: Tensor, gradient: Tensor, product: Product, *, first: bool
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A layer's product, and those of its backward pass."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.Linear):

        def backward() -> None:
            if not first:
                product(gradient, weight.t())
            product(gradient.t(), x.t())

        return lambda: product(x, weight), backward
    assert isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))
    transposed = isinstance(layer, nn.ConvTranspose2d)
    # stride, padding, dilation, transposed, output padding, groups
    geometry = (
        layer.stride,
        layer.padding,
        layer.dilation,
        transposed,
        layer.output_padding,
        layer.groups,
    )
    wanted = (not first, True, False)  # gradients of the input, the weight, the bias
    return (
        lambda: torch.ops.aten.convolution(x, weight, None, *geometry),
        lambda: torch.ops.aten.convolution_backward(gradient, x, weight, None, *geometry, wanted),
    )
