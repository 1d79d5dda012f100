"""Learning-rate schedules by name, stepped once an epoch.

To add one: a function ``(optimizer, epochs, *, options...)`` with annotated options, and an entry
at the bottom.
"""

from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LRScheduler,
    MultiStepLR,
    ReduceLROnPlateau,
)

from vaebench.plugins import Registry, not_callable

Fraction = Annotated[float, Gt(0), Lt(1)]


def constant(optimizer: Optimizer, epochs: int) -> LRScheduler:  # noqa: ARG001
    """Leave the learning rate as it is."""
    return MultiStepLR(optimizer, milestones=[])


def plateau(
    optimizer: Optimizer,
    epochs: int,  # noqa: ARG001
    *,
    factor: Fraction = 0.1,
    patience: Annotated[int, Ge(0)] = 5,
    min_learning_rate: Annotated[float, Ge(0)] = 0.0,
) -> LRScheduler:
    """Multiply by ``factor`` when the validation ELBO has not improved for ``patience`` epochs.

    Improved means by 0.01 nats: PyTorch's relative threshold at 100 nats. A relative one fails for
    the positive ELBOs of densities, where standing still would count as an improvement.

    Arguments:
        optimizer: Its learning rate is changed.
        epochs: Total number of epochs.
        factor: Factor of each reduction.
        patience: Epochs without improvement before a reduction.
        min_learning_rate: Lower bound of the learning rate.
    """
    return ReduceLROnPlateau(
        optimizer,
        "min",
        factor,
        patience,
        threshold=0.01,
        threshold_mode="abs",
        min_lr=min_learning_rate,
    )


def cosine(
    optimizer: Optimizer, epochs: int, *, min_learning_rate: Annotated[float, Ge(0)] = 0.0
) -> LRScheduler:
    """Anneal along half a cosine to ``min_learning_rate`` (Loshchilov & Hutter 2017).

    Arguments:
        optimizer: Its learning rate is changed.
        epochs: Total number of epochs.
        min_learning_rate: Learning rate at the end.
    """
    return CosineAnnealingLR(optimizer, T_max=epochs, eta_min=min_learning_rate)


def multistep(
    optimizer: Optimizer,
    epochs: int,  # noqa: ARG001
    *,
    milestones: tuple[Annotated[int, Gt(0)], ...] = (),
    gamma: Fraction = 0.1,
) -> LRScheduler:
    """Multiply by ``gamma`` after each of the epochs in ``milestones``.

    Arguments:
        optimizer: Its learning rate is changed.
        epochs: Total number of epochs.
        milestones: Epochs after which the learning rate is reduced.
        gamma: Factor of each reduction.
    """
    return MultiStepLR(optimizer, list(milestones), gamma)


SCHEDULES: Registry[Callable[..., LRScheduler]] = Registry(
    "schedule",
    {"constant": constant, "plateau": plateau, "cosine": cosine, "multistep": multistep},
    not_callable,
)
