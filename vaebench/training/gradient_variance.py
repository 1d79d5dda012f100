r"""How noisy each estimator's gradient is, at the weights that a training has reached.

The estimators are compared at the *same* weights, on the same images and the same noise. The
variance of each run's own estimator would mix two things up: the estimator, and the weights to
which it has led. So every run measures all estimators along its own training: one picture then
says which is noisier and when, and the runs of a grid say whether that depends on what trained.

Two numbers, since one misleads. The estimators of the ELBO share one expected gradient, so their
variances compare as they are. ``iwae`` and ``dreg`` follow another bound, and with more samples the
encoder's gradient of ``iwae`` loses its signal faster than its noise (Rainforth et al. 2018): a
small variance there is no good news, and the signal-to-noise ratio says so.

After each epoch ten draws of the noise are taken: the trace of a covariance over many weights is
known well from few draws. All that is random here has a stream of its own and happens on a copy of
the model, so that no number of the training moves.
"""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.estimators import ESTIMATORS
from vaebench.seeding import stream
from vaebench.training import objective
from vaebench.vae import VAE

DRAWS = 10


class GradientVariance(NamedTuple):
    """How one estimator's gradient of one batch scatters over the draws of the noise.

    Attributes:
        encoder_variance: Trace of the covariance of the gradient of the objective (the batch's
            mean, as in a training step) in the encoder's weights: squared nats per squared weight.
        encoder_snr: Norm of the expected gradient over the square root of that trace; 0 where the
            draws show no signal, infinite where nothing scatters.
        decoder_variance: As above, in the decoder's weights.
        decoder_snr: Likewise.
    """

    encoder_variance: float
    encoder_snr: float
    decoder_variance: float
    decoder_snr: float


def gradient_variance(
    vae: VAE, x: Tensor, *, samples: int, beta: float, seed: int, epoch: int
) -> dict[str, GradientVariance]:
    """Measure every estimator that can be compared with this L and this beta, by its name.

    Arguments:
        vae: The model; it is left as it is, batch normalisation's running statistics included.
        x: A batch of training images (B, C, H, W), on the model's device, fixed over the epochs.
        samples: L of each estimator.
        beta: Weight of the rate in the objective.
        seed: The seed of the stream ``gradient_variance``.
        epoch: The epoch of that stream: its draws do not depend on those of the epochs before.

    References:
        Rainforth et al. (2018), https://arxiv.org/abs/1802.04537
    """
    twin = copy.deepcopy(vae).train()
    shape = (DRAWS, samples, len(x), vae.latent_dim)
    noise = torch.randn(shape, generator=stream(seed, "gradient_variance", epoch)).to(x.device)
    return {name: _measure(twin, x, noise, name, beta) for name in comparable(samples, beta)}


def comparable(samples: int, beta: float) -> list[str]:
    """Names of the estimators that differ from each other with this L and are defined at this beta.

    A bound that does not split knows no beta, and is that of another estimator when L is 1.
    """
    return [
        name
        for name, estimator in ESTIMATORS.items()
        if samples >= estimator.min_samples and (estimator.splits or (samples > 1 and beta == 1.0))
    ]


def _measure(vae: VAE, x: Tensor, noise: Tensor, name: str, beta: float) -> GradientVariance:
    parameters = [*vae.encoder.parameters(), *vae.decoder.parameters()]
    mean = torch.cat([torch.zeros_like(p).flatten() for p in parameters])
    squares = torch.zeros_like(mean)
    for count, draws in enumerate(noise, start=1):  # Welford (1962): one gradient in memory
        loss = objective(ESTIMATORS[name](vae, x, draws), beta)
        parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        gradient = torch.cat([part.flatten() for part in parts])
        deviation = gradient - mean
        mean += deviation / count
        squares += deviation * (gradient - mean)
    size = sum(p.numel() for p in vae.encoder.parameters())
    encoder = _summary(mean[:size], squares[:size], len(noise))
    decoder = _summary(mean[size:], squares[size:], len(noise))
    return GradientVariance(*encoder, *decoder)


def _summary(mean: Tensor, squares: Tensor, count: int) -> tuple[float, float]:
    """Total variance and signal-to-noise ratio, from moments of ``count`` gradients."""
    variance = squares.sum().item() / (count - 1)
    # the squared norm of a mean of draws is too large by their variance over their number
    signal = mean.square().sum().item() - variance / count
    return variance, math.sqrt(max(signal, 0.0) / variance) if variance else math.inf
