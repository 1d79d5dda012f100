"""Checks of an estimator: a bound on log p(x), image by image."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vaebench.estimators import ESTIMATORS
from vaebench.likelihoods import Bernoulli, Gaussian
from vaebench.models import Encoder, Networks, fnn
from vaebench.seeding import seeded
from vaebench.testing.common import LATENT_DIM, SHAPES, draws, images, resumes
from vaebench.vae import VAE

Options = Mapping[str, Any]
W, SIGMA2, X = 2.0, 0.25, 1.3  # z ~ N(0, 1), x = W z + noise: a model whose evidence is known
LOG_PX = -0.5 * (math.log(2 * math.pi * (W**2 + SIGMA2)) + X**2 / (W**2 + SIGMA2))
POSTERIOR = W * X / (W**2 + SIGMA2), math.log(SIGMA2 / (W**2 + SIGMA2))  # mean, log-variance
DRAWS = 20_000


def build() -> VAE:
    """A small fnn with bce."""
    with seeded(0, "init"):
        return VAE(fnn(SHAPES[0], LATENT_DIM, hidden=(8,)), Bernoulli(), LATENT_DIM)


def values_by_image(name: str, _options: Options) -> None:
    """Each part of the estimate has one finite value an image, which depends on no other."""
    estimator, vae = ESTIMATORS[name], build()
    x = images(4, SHAPES[0]).round()
    for samples in {estimator.min_samples, estimator.samples, estimator.samples + 2}:
        noise = draws(samples, 4, LATENT_DIM)
        estimate = estimator(vae, x, noise)
        for part, value in estimate._asdict().items():
            if value is None:
                continue
            assert value.shape == (4,), f"{part} of 4 images has the shape {tuple(value.shape)}"
            assert value.isfinite().all(), f"{part} is not finite with {samples} samples"
        alone = [estimator(vae, x[i : i + 1], noise[:, i : i + 1]).bound for i in range(4)]
        assert torch.allclose(torch.cat(alone), estimate.bound, atol=1e-4), (
            "the bound of an image depends on its batch"
        )


def splits_as_declared(name: str, _options: Options) -> None:
    """Rate and distortion are there where the entry says so, and make up the bound."""
    estimator = ESTIMATORS[name]
    estimate = estimator(build(), images(4, SHAPES[0]), draws(estimator.samples, 4, LATENT_DIM))
    has = estimate.rate is not None and estimate.distortion is not None
    assert has == estimator.splits, f"splits={estimator.splits}, but rate and distortion say {has}"
    if estimate.rate is not None and estimate.distortion is not None:
        together = -(estimate.rate + estimate.distortion)
        assert torch.allclose(together, estimate.bound, atol=1e-4), (
            "the bound is not -(rate + distortion)"
        )


def is_a_bound(name: str, _options: Options) -> None:
    """In expectation it is not above log p(x), in a model where that is known."""
    with seeded(0, "init"):
        encoder = Encoder(nn.Sequential(nn.Flatten()), features=1, latent_dim=1)
        decoder = nn.Sequential(nn.Linear(1, 1), nn.Unflatten(-1, (1, 1, 1)))
    vae = VAE(Networks(encoder, decoder), Gaussian(sigma2=SIGMA2, output="linear"), 1).double()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        vae.get_parameter("decoder.0.weight").fill_(W)
    x = torch.full((DRAWS, 1, 1, 1), X, dtype=torch.float64)
    noise = draws(ESTIMATORS[name].samples, DRAWS, 1, dtype=torch.float64)
    for mean, log_var in (POSTERIOR, (0.5, -1.5), (0.0, 0.0)):
        with torch.no_grad():
            vae.get_parameter("encoder.head.bias").copy_(torch.tensor([mean, log_var]))
        bound = ESTIMATORS[name](vae, x, noise).bound.detach()
        slack = 4 * bound.std().item() / math.sqrt(DRAWS) + 1e-9
        assert bound.mean().item() <= LOG_PX + slack, (
            f"its mean is {bound.mean().item():.4f}, and log p(x) {LOG_PX:.4f}"
        )


def learns(name: str, _options: Options) -> None:
    """Its surrogate has a finite gradient in encoder and decoder."""
    estimator, vae = ESTIMATORS[name], build()
    noise = draws(estimator.samples, 4, LATENT_DIM)
    estimator(vae, images(4, SHAPES[0]), noise).surrogate.mean().backward()  # type: ignore[no-untyped-call]
    for key, parameter in vae.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches {key}"
        assert parameter.grad.isfinite().all(), f"the gradient of {key} is not finite"


def resumes_bit_for_bit(name: str, _options: Options) -> None:
    """A training that is interrupted goes on with the numbers of one that was not."""
    resumes(build, ESTIMATORS[name], ESTIMATORS[name].samples)


CHECKS = {
    "one value an image, whatever its batch": values_by_image,
    "the bound splits as declared": splits_as_declared,
    "its mean is not above log p(x)": is_a_bound,
    "gradients reach encoder and decoder": learns,
    "training resumes bit for bit": resumes_bit_for_bit,
}
