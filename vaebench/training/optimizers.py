"""Optimisers by name, and how a training step applies its gradients.

To add one: a function with annotated options, and an entry at the bottom.
"""

from collections.abc import Callable
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.adam import adam as adam_

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

    groups = optimizer.param_groups
    if not isinstance(optimizer, Adam) or any(not g["fused"] or g["amsgrad"] for g in groups):
        return usual
    parameters: list[Tensor] = [p for group in groups for p in group["params"]]
    states: list[tuple[list[Tensor], list[Tensor], list[Tensor]]] = []

    def collect() -> None:
        if any(p not in optimizer.state for p in parameters):
            return
        for group in groups:
            known = [optimizer.state[p] for p in group["params"]]
            means, squares, steps = (
                [state[key] for state in known] for key in ("exp_avg", "exp_avg_sq", "step")
            )
            states.append((means, squares, steps))

    def lean() -> None:
        if not states or any(p.grad is None for p in parameters):
            usual()  # which makes its state with the first gradients, and skips what has none
            if not states:
                collect()
            return
        with torch.no_grad():
            for group, (means, squares, steps) in zip(groups, states, strict=True):
                beta1, beta2 = group["betas"]
                adam_(
                    group["params"],
                    [p.grad for p in group["params"]],
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
