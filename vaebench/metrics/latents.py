"""What the latent codes are good for: posterior means of the measured and the training images."""

from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.metrics.evaluation import Evaluation
from vaebench.vae import VAE

NEIGHBOURS = 5


class Latents(NamedTuple):
    """Posterior means and labels, on the CPU.

    Attributes:
        train: Means of the training images, (M, Z).
        train_y: Their labels, (M,).
        mean: Means of the measured images, (N, Z).
        y: Their labels, (N,).
    """

    train: Tensor
    train_y: Tensor
    mean: Tensor
    y: Tensor


def posterior_means(vae: VAE, x: Tensor, batch_size: int = 500) -> Tensor:
    """E[z|x] of images (N, C, H, W) on the model's device: (N, Z), on the CPU."""
    vae.eval()
    with torch.no_grad():
        return torch.cat([vae.encoder(images).mean.cpu() for images in torch.split(x, batch_size)])


def knn_accuracy(latents: Latents) -> float:
    """Share of images whose 5 nearest training images by posterior mean vote for their label."""
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(latents.train)), n_jobs=1)
    neighbours.fit(latents.train.numpy(), latents.train_y.numpy())
    return float(neighbours.score(latents.mean.numpy(), latents.y.numpy()))


def active_units(e: Evaluation) -> float:
    """Latent dimensions whose posterior mean varies over images: variance above 0.01.

    References:
        Burda et al. (2016), section 5.2, https://arxiv.org/abs/1509.00519
    """
    return float((e.mean.double().var(dim=0) > 0.01).sum().item())
