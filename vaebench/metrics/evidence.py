"""The evidence log p(x), estimated by importance sampling: tighter than the ELBO, and dearer."""

import math

import torch
from torch import Tensor

from vaebench.distributions import standard_normal_log_prob
from vaebench.seeding import stream
from vaebench.vae import VAE


def importance_weighted_bound(
    vae: VAE, x: Tensor, *, seed: int, samples: int, batch_size: int = 500
) -> Tensor:
    r"""Importance-weighted bound on the evidence of each image, with exactly K samples.

    .. math:: \log \frac1K \sum_k \frac{p(x|z_k)\, p(z_k)}{q(z_k|x)}, \quad z_k \sim q(z|x)

    Rises with K in expectation, towards log p(x); K = 1 is the ELBO (L^A). One sample at a time
    enters a running sum: memory depends neither on K nor, but for the codes, on the images. The
    k-th draw of an image is the same whatever K and ``batch_size`` are.

    Arguments:
        vae: The model.
        x: Images (N, C, H, W), on the model's device.
        seed: Of the noise (stream ``log_px``).
        samples: K.
        batch_size: Images at a time; it does not change the result beyond float rounding.

    Returns:
        Nats, shape (N,), float64, on the CPU.

    References:
        Burda et al. (2016), equation 8, https://arxiv.org/abs/1509.00519
    """
    vae.eval()
    total = torch.full((len(x),), -math.inf, dtype=torch.float64)
    with torch.no_grad():
        batches = [(images, vae.encoder(images)) for images in torch.split(x, batch_size)]
        for k in range(samples):
            noise = torch.randn(len(x), vae.latent_dim, generator=stream(seed, "log_px", k))
            weights = []
            for (images, q), draws in zip(batches, torch.split(noise, batch_size), strict=True):
                z = q.sample(draws.to(x.device))
                log_likelihood = vae.likelihood.log_prob(images, vae.decoder(z)).double()
                weights.append((log_likelihood + standard_normal_log_prob(z) - q.log_prob(z)).cpu())
            total = torch.logaddexp(total, torch.cat(weights))
    return total - math.log(samples)


def log_px(evidence: Tensor) -> float:
    """Importance-weighted bound on log p(x) in nats per image, with the K samples asked for."""
    return evidence.mean().item()
