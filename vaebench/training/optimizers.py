"""Optimisers by name.

To add one: a function with annotated options, and an entry at the bottom.
"""

from collections.abc import Callable
from typing import Annotated, Any

from annotated_types import Ge, Lt
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from vaebench.plugins import Registry, not_callable
from vaebench.vae import VAE


def _fused(vae: VAE) -> bool:
    return next(vae.parameters()).device.type in {"cpu", "cuda"}


def _groups(vae: VAE, learning_rate: float) -> list[dict[str, Any]]:
    """The network's parameters and, if they have a learning rate of their own, the likelihood's.

    It is the least at which they keep pace: where the network is faster, so are they. They are not
    decayed. A schedule scales both rates; clipping takes one norm of all.
    """
    rate = getattr(vae.likelihood, "learning_rate", None)
    own = list(vae.likelihood.parameters()) if isinstance(vae.likelihood, nn.Module) else []
    if rate is None or not own:
        return [{"params": list(vae.parameters())}]
    network = [p for p in vae.parameters() if all(p is not other for other in own)]
    rate = max(rate, learning_rate)
    return [{"params": network}, {"params": own, "lr": rate, "weight_decay": 0.0}]


def adam(
    vae: VAE, learning_rate: float, *, weight_decay: Annotated[float, Ge(0)] = 0.0
) -> Optimizer:
    """Adam (Kingma & Ba 2015) with PyTorch's defaults for the rest.

    Arguments:
        vae: Its parameters are trained.
        learning_rate: Learning rate of the network's parameters.
        weight_decay: L2 penalty, added to the gradient.
    """
    groups = _groups(vae, learning_rate)
    return Adam(groups, learning_rate, weight_decay=weight_decay, fused=_fused(vae))


def adamw(
    vae: VAE, learning_rate: float, *, weight_decay: Annotated[float, Ge(0)] = 0.01
) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019): decoupled weight decay.

    Arguments:
        vae: Its parameters are trained.
        learning_rate: Learning rate of the network's parameters.
        weight_decay: Weight decay, decoupled from the gradient.
    """
    groups = _groups(vae, learning_rate)
    return AdamW(groups, learning_rate, weight_decay=weight_decay, fused=_fused(vae))


def sgd(
    vae: VAE,
    learning_rate: float,
    *,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> Optimizer:
    """Stochastic gradient descent, with momentum if asked, at one learning rate for all.

    Its steps grow with the gradient, and that of log sigma2 is large: D/2 for a unit too much.

    Arguments:
        vae: Its parameters are trained.
        learning_rate: Learning rate of all parameters.
        momentum: Momentum factor; 0: none.
        weight_decay: L2 penalty, added to the gradient.
    """
    return SGD(
        vae.parameters(),
        learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        fused=_fused(vae),
    )


OPTIMIZERS: Registry[Callable[..., Optimizer]] = Registry(
    "optimizer", {"adam": adam, "adamw": adamw, "sgd": sgd}, not_callable
)
