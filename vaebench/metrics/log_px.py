"""The evidence log p(x), estimated by importance sampling: tighter than the ELBO, and dearer."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaebench.distributions import standard_normal_log_prob
from vaebench.seeding import stream
from vaebench.vae import VAE


class Evidence(NamedTuple):
    """What K importance weights of each image say; tensors (N,), float64, on the CPU.

    Attributes:
        bound: The importance-weighted bound on log p(x), nats.
        effective: The effective sample size, from 1 (one weight outweighs all others: the bound is
            loose) to K (all are equal: it is log p(x)).
        curve: The bound's mean over images, nats, with the first 1, 2, 5, 10, 20, 50, ... samples
            and with all K. Where it still rises, K is too small.
    """

    bound: Tensor
    effective: Tensor
    curve: dict[int, float]

    def describe(self) -> dict[str, Any]:
        """What a record says of it; ``ess_low`` is the 5 % quantile over images."""
        return {
            "samples": max(self.curve),
            "ess": self.effective.mean().item(),
            "ess_low": self.effective.quantile(0.05).item(),
            "curve": {str(k): value for k, value in self.curve.items()},
        }


def importance_weighted_bound(
    vae: VAE, x: Tensor, *, seed: int, samples: int, batch_size: int = 500
) -> Evidence:
    r"""Importance-weighted bound on the evidence of each image, with exactly K samples.

    .. math:: \log \frac1K \sum_k \frac{p(x|z_k)\, p(z_k)}{q(z_k|x)}, \quad z_k \sim q(z|x)

    and the effective sample size, :math:`(\sum_k w_k)^2 / \sum_k w_k^2`, of the weights
    :math:`w_k` that it averages.

    Rises with K in expectation, towards log p(x); K = 1 is the ELBO (L^A). One sample at a time
    enters running sums: memory depends neither on K nor, but for the codes, on the images. The
    k-th draw of an image is the same whatever K and ``batch_size`` are.

    Arguments:
        vae: The model.
        x: Images (N, C, H, W), on the model's device.
        seed: The seed of the noise (stream ``log_px``).
        samples: K.
        batch_size: Images at a time; it does not change the result beyond float rounding.

    References:
        Burda et al. (2016), equation 8, https://arxiv.org/abs/1509.00519
        Kong (1992), of the effective sample size: "A note on importance sampling using
        standardized weights", technical report 348, University of Chicago
    """
    vae.eval()
    total = torch.full((len(x),), -math.inf, dtype=torch.float64)
    squares = total.clone()
    curve: dict[int, float] = {}
    with torch.no_grad():
        batches = [(images, vae.encoder(images)) for images in torch.split(x, batch_size)]
        for k in range(samples):
            noise = torch.randn(len(x), vae.latent_dim, generator=stream(seed, "log_px", k))
            weights = []
            for (images, q), draws in zip(batches, torch.split(noise, batch_size), strict=True):
                z = q.sample(draws.to(x.device))
                log_likelihood = vae.likelihood.log_prob(images, vae.decoder(z)).double()
                weights.append((log_likelihood + standard_normal_log_prob(z) - q.log_prob(z)).cpu())
            log_weights = torch.cat(weights)
            total = torch.logaddexp(total, log_weights)
            squares = torch.logaddexp(squares, 2 * log_weights)
            if k + 1 == samples or _is_round(k + 1):
                curve[k + 1] = (total - math.log(k + 1)).mean().item()
    return Evidence(total - math.log(samples), (2 * total - squares).exp(), curve)


def _is_round(count: int) -> bool:
    """Whether it is 1, 2 or 5 times a power of ten."""
    return str(count).rstrip("0") in {"1", "2", "5"}


def log_px(evidence: Evidence) -> float:
    """Importance-weighted bound on log p(x) in nats per image, with the K samples asked for."""
    return evidence.bound.mean().item()
