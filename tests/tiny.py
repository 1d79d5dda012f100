"""Small models and images for tests, in float64 so that tolerances can be tight.

Every draw comes from a named stream; nothing here moves a global random state. A contract test
that runs over ``MODELS`` gets a model that is as small as its options allow from `make_vae`; a
model without an entry in `SMALL` is built with its defaults.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vaebench.datasets import Split
from vaebench.likelihoods import LIKELIHOODS, Gaussian, maps_of
from vaebench.metrics import Reference, Subject
from vaebench.models import MODELS, Encoder, Networks, Shape
from vaebench.seeding import seeded, stream
from vaebench.vae import VAE

SHAPE: Shape = (1, 6, 5)
SMALL: dict[str, dict[str, Any]] = {
    "fnn": {"hidden": (12,)},
    "cnn": {"channels": (3, 4), "strides": (2, 2), "hidden": (10,)},
}


def make_vae(
    model: str = "fnn",
    loss: str = "bce",
    *,
    shape: Shape = SHAPE,
    latent_dim: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    options: dict[str, Any] | None = None,
    loss_options: dict[str, Any] | None = None,
) -> VAE:
    """Build a small VAE; ``options`` and ``loss_options`` are those of the model and the loss."""
    with seeded(seed, "init"):
        maps = maps_of(LIKELIHOODS[loss])
        given = SMALL.get(model, {}) | (options or {}) | ({} if maps == 1 else {"maps": maps})
        networks = MODELS[model](shape, latent_dim, **given)
    return VAE(networks, LIKELIHOODS[loss](**loss_options or {}), latent_dim).to(dtype)


def images(
    count: int, shape: Shape = SHAPE, *, name: str = "x", dtype: torch.dtype = torch.float64
) -> Tensor:
    """Return gray images (N, C, H, W), uniform in [0, 1]."""
    return torch.rand((count, *shape), generator=stream(0, f"test/{name}"), dtype=dtype)


def draws(*shape: int, name: str = "noise", dtype: torch.dtype = torch.float64) -> Tensor:
    """Return standard normal noise of the given shape."""
    return torch.randn(shape, generator=stream(0, f"test/{name}"), dtype=dtype)


def make_subject(vae: VAE, *, count: int = 20, shape: Shape = SHAPE, **others: Any) -> Subject:
    """What metrics measure: ``count`` images, twice as many to train on, a linear "classifier"."""
    with seeded(0, "body"):
        body = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 3)).double()
    with torch.no_grad():
        body[1].weight.copy_(draws(3, math.prod(shape), name="weights"))
        body[1].bias.zero_()
        features = body(images(count, shape))
    known = Reference(body, features, recipe="recipe", weights="weights", accuracy=1.0)
    subject = Subject(
        vae=vae,
        images=Split(images(count, shape), torch.arange(count) % 3),
        training=Split(images(2 * count, shape, name="train"), torch.arange(2 * count) % 3),
        seed=0,
        reference=lambda: known,
        samples=4,
    )
    return replace(subject, **others)


def torch_log_prob(distribution: Any, x: Tensor) -> Tensor:
    """Return what torch.distributions says, typed."""
    found: Tensor = distribution.log_prob(x)
    return found


def assert_exact(found: Tensor, expected: Tensor, what: str | None = None) -> None:
    """Assert equality to 1e-9, absolute and relative: what float64 leaves of a formula."""
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=what)


# The linear-Gaussian model: z ~ N(0, 1), x = w z + noise of variance sigma2, of one pixel.
W, SIGMA2, X = 2.0, 0.25, 1.3
LOG_PX = -0.5 * (math.log(2 * math.pi * (W**2 + SIGMA2)) + X**2 / (W**2 + SIGMA2))  # -1.8412
POSTERIOR_VAR = SIGMA2 / (W**2 + SIGMA2)
POSTERIOR_MEAN = W * X / (W**2 + SIGMA2)


def linear_gaussian(mean: float, log_var: float) -> tuple[VAE, Tensor]:
    """Build that model with q(z|x) = N(mean, exp(log_var)) for every x, and its image of ``X``."""
    with seeded(0, "init"):
        encoder = Encoder(nn.Sequential(nn.Flatten()), features=1, latent_dim=1)
        decoder = nn.Sequential(nn.Linear(1, 1), nn.Unflatten(-1, (1, 1, 1)))
    vae = VAE(Networks(encoder, decoder), Gaussian(sigma2=SIGMA2, output="linear"), 1).double()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        bias = torch.tensor([mean, log_var], dtype=torch.float64)
        vae.get_parameter("encoder.head.bias").copy_(bias)
        vae.get_parameter("decoder.0.weight").fill_(W)
    return vae, torch.full((1, 1, 1, 1), X, dtype=torch.float64)
