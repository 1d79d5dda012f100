"""The end of a tuning run: its score on the validation split instead of pictures and metrics."""

import math
from typing import Any

import torch
from torch import Tensor

from vaebench.errors import DivergedError
from vaebench.estimators import ESTIMATORS, EstimateFunction
from vaebench.run.building import fit, plan
from vaebench.run.record import Task, make_record
from vaebench.seeding import stream
from vaebench.vae import VAE

SCORE = "tune/bound"  # its name among the metrics of a tuning run


def scored_record(task: Task, vae: VAE, x: Tensor, validation: Tensor) -> dict[str, Any]:
    """The record of a tuning run whose training has ended.

    Arguments:
        task: The run.
        vae: With the weights of its last epoch; what its likelihood fits is fitted here, to ``x``.
        x: Training images as they are measured.
        validation: Images that the score is a mean over.

    Raises:
        DivergedError: The score is not finite.
    """
    config, trained = task.config, plan(task.config)
    fit(config, vae, x)
    shape = (trained.samples, len(validation), vae.latent_dim)
    score = trained_bound(
        vae,
        ESTIMATORS[config.estimator.name],
        validation,
        torch.randn(shape, generator=stream(config.seed, "tune")),
        beta=trained.beta_at(trained.epochs),  # where early stopping ends it, too
        batch_size=trained.batch_size,
    )
    if not math.isfinite(score):
        raise DivergedError(f"the bound on the validation split is {score} after the last epoch")
    return make_record(task, "complete", None) | {"metrics": {SCORE: score}}


def trained_bound(
    vae: VAE,
    estimator: EstimateFunction,
    x: Tensor,
    noise: Tensor,
    *,
    beta: float,
    batch_size: int,
) -> float:
    r"""Mean over images of the bound that is trained, in evaluation mode.

    The estimator's bound; with another beta than 1, :math:`-(D + \beta R)`.

    Arguments:
        vae: The model.
        estimator: That trained it.
        x: Images (N, C, H, W), on the model's device.
        noise: Standard normal draws (L, N, Z), with the L of the training.
        beta: Weight of the rate in the objective.
        batch_size: Images at a time; it does not change the result beyond float rounding.

    Returns:
        Nats per image; higher is better.
    """
    total = 0.0
    vae.eval()
    with torch.no_grad():
        for images, draws in zip(
            torch.split(x, batch_size), torch.split(noise, batch_size, 1), strict=True
        ):
            estimate = estimator(vae, images, draws.to(x.device))
            bound = estimate.bound
            if beta != 1.0:
                if estimate.rate is None or estimate.distortion is None:
                    raise ValueError("beta other than 1 needs an estimator whose bound splits")
                bound = -(estimate.distortion + beta * estimate.rate)
            total += bound.cpu().double().sum().item()
    return total / len(x)
