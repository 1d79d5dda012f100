"""The bound and its terms: one pass over a split, in evaluation mode, from sampled codes."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.vae import VAE


class Evaluation(NamedTuple):
    """One pass over a split: everything on the CPU, one row per image.

    Attributes:
        x: Images (N, C, H, W) in [0, 1]; the 8-bit ones where dequantised ones were encoded.
        reconstruction: From the posterior mean, clipped to [0, 1], same shape.
        mean: Posterior means (N, Z).
        log_var: Logarithms of the posterior's variances (N, Z).
        rate: KL(q(z|x) || p(z)) in closed form, nats, (N,).
        rate_per_dimension: The same by latent dimension, (N, Z).
        distortion: -log p(x|z) averaged over the noise draws, nats, (N,).
    """

    x: Tensor
    reconstruction: Tensor
    mean: Tensor
    log_var: Tensor
    rate: Tensor
    rate_per_dimension: Tensor
    distortion: Tensor


def evaluate(vae: VAE, x: Tensor, noise: Tensor, batch_size: int = 500) -> Evaluation:
    """Measure a split in evaluation mode, with beta 1 and L^B for every cell.

    The latent code is sampled (decoding the posterior mean would not bound the evidence), with
    noise fixed per image; the likelihood is averaged over the draws, never the decoded images.

    Arguments:
        vae: The model.
        x: Images (N, C, H, W), on the model's device.
        noise: Standard normal draws (L, N, Z), on the CPU.
        batch_size: Images at a time; it does not change the result beyond float rounding.
    """
    vae.eval()
    parts: list[Evaluation] = []
    with torch.no_grad():
        for images, draws in zip(
            torch.split(x, batch_size), torch.split(noise, batch_size, 1), strict=True
        ):
            q = vae.encoder(images)
            # one draw at a time: the decoded images of all draws need not fit in memory
            log_probs = [
                vae.likelihood.log_prob(images, vae.decoder(q.sample(draw)))
                for draw in draws.to(x.device)
            ]
            per_dimension = q.kl_per_dimension().cpu().double()
            part = Evaluation(
                x=images.cpu(),
                reconstruction=vae.decode(q.mean).clamp(0.0, 1.0).cpu(),
                mean=q.mean.cpu(),
                log_var=q.log_var.cpu(),
                rate=per_dimension.sum(dim=-1),
                rate_per_dimension=per_dimension,
                distortion=-torch.stack(log_probs).cpu().double().mean(dim=0),
            )
            parts.append(part)
    return Evaluation(*(torch.cat(values) for values in zip(*parts, strict=True)))


def elbo(e: Evaluation) -> float:
    """Evidence lower bound in nats per image: -(rate + distortion)."""
    return -rate(e) - distortion(e)


def rate(e: Evaluation) -> float:
    """KL(q(z|x) || p(z)) in nats per image."""
    return e.rate.mean().item()


def distortion(e: Evaluation) -> float:
    """-E log p(x|z) in nats per image."""
    return e.distortion.mean().item()


def bits_per_dim(e: Evaluation) -> float:
    r"""Bound on the bits that a lossless code needs per 8-bit pixel, of dequantised images.

    .. math:: -\mathrm{ELBO} / (D \ln 2) + 8

    The 8 turns a density of pixels in [0, 1] into one of gray levels of width 1. An upper bound, as
    the ELBO is a lower one.

    References:
        Theis, van den Oord & Bethge (2016), section 3.1, https://arxiv.org/abs/1511.01844
    """
    return -elbo(e) / (e.x[0].numel() * math.log(2)) + 8
