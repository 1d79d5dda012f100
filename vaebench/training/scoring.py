"""The score by which a setting is picked: the bound that a training maximises, on validation."""

import torch
from torch import Tensor

from vaebench.estimators import EstimateFunction
from vaebench.vae import VAE


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
