"""Optimisers by name, and how a training step applies its gradients.

To add one: a function with annotated options, and an entry at the bottom.
"""

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.adam import adam as adam_

from vaebench.vae import VAE


def _fused(vae: VAE) -> bool:
    return next(vae.parameters()).device.type in {"cpu", "cuda"}


def adam(
    vae: VAE, learning_rate: float, *, weight_decay: Annotated[float, Ge(0)] = 0.0
) -> Optimizer:
    """Adam (Kingma & Ba 2015) with PyTorch's defaults for the rest."""
    parameters = vae.parameters()
    return Adam(parameters, learning_rate, weight_decay=weight_decay, fused=_fused(vae))


def adamw(
    vae: VAE, learning_rate: float, *, weight_decay: Annotated[float, Ge(0)] = 0.01
) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019): decoupled weight decay."""
    parameters = vae.parameters()
    return AdamW(parameters, learning_rate, weight_decay=weight_decay, fused=_fused(vae))


def sgd(
    vae: VAE,
    learning_rate: float,
    *,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> Optimizer:
    """Stochastic gradient descent, with momentum if asked."""
    return SGD(
        vae.parameters(),
        learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        fused=_fused(vae),
    )


def update_function(optimizer: Optimizer) -> Callable[[], None]:
    """Return a function that applies the gradients, and drops them.

    The same to the last bit as ``optimizer.step()`` and ``optimizer.zero_grad()``. For fused Adam,
    what ``step`` collects anew each time is collected once, and PyTorch's function called on it:
    the matrix products have just swept the caches, and Python is slow there (a perceptron of 1.1
    million parameters gains 3 to 4 % in float32, 6 to 8 % in bfloat16).

    Arguments:
        optimizer: In its present state; another one must not be loaded into it.
    """

    def usual() -> None:
        optimizer.step()
        optimizer.zero_grad()

    group = optimizer.param_groups[0]
    if not isinstance(optimizer, Adam) or not group["fused"] or group["amsgrad"]:
        return usual
    parameters: list[Tensor] = group["params"]
    means: list[Tensor] = []
    squares: list[Tensor] = []
    steps: list[Tensor] = []

    def collect() -> None:
        states = [optimizer.state[p] for p in parameters if p in optimizer.state]
        if len(states) == len(parameters):
            means.extend(state["exp_avg"] for state in states)
            squares.extend(state["exp_avg_sq"] for state in states)
            steps.extend(state["step"] for state in states)

    def lean() -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not steps or len(gradients) < len(parameters):
            usual()  # which makes its state with the first gradients, and skips what has none
            if not steps:
                collect()
            return
        beta1, beta2 = group["betas"]
        with torch.no_grad():
            adam_(
                parameters,
                gradients,
                means,
                squares,
                [],
                steps,
                beta1=beta1,
                beta2=beta2,
                lr=group["lr"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                decoupled_weight_decay=group["decoupled_weight_decay"],
                maximize=group["maximize"],
                amsgrad=False,
                fused=True,
            )
        for parameter in parameters:
            parameter.grad = None

    return lean


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "adamw": adamw, "sgd": sgd}
