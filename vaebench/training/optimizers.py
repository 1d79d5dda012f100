"""Optimisers by name. To add one: a function with annotated options, and an entry at the bottom."""

from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Lt
from torch.optim import SGD, Adam, AdamW, Optimizer

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


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "adamw": adamw, "sgd": sgd}
