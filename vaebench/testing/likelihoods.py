"""Checks of a likelihood: a density of pixels, summed over them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vaebench.likelihoods import LIKELIHOODS, Likelihood, maps_of
from vaebench.models import Shape, fnn
from vaebench.seeding import seeded
from vaebench.testing.common import LATENT_DIM, SHAPES, draws, images, resumes, slope_agrees
from vaebench.vae import VAE

Options = Mapping[str, Any]
GRIDS = {  # of one pixel: values and the largest error of the total
    "binary": torch.tensor([0.0, 1.0], dtype=torch.float64),
    "unit": torch.linspace(0, 1, 20_001, dtype=torch.float64),
    "real": torch.linspace(-60, 60, 240_001, dtype=torch.float64),
}
MAX_ERROR = 2e-3  # of a total: a real density may have long tails, or a kink


def make(name: str, options: Options, dtype: torch.dtype = torch.float64) -> Likelihood:
    """A likelihood in evaluation mode, in which an image's value is its own."""
    made = LIKELIHOODS[name](**options)
    return made.to(dtype).eval() if isinstance(made, nn.Module) else made


def pixels(likelihood: Likelihood, count: int, shape: Shape) -> Tensor:
    """Images on which it is a density."""
    x = images(count, shape, torch.float64)
    return x.round() if likelihood.support == "binary" else x


def params(likelihood: Likelihood, count: int, shape: Shape, scale: float = 1.0) -> Tensor:
    """What a decoder might return."""
    maps = maps_of(likelihood)
    return scale * draws(count, maps * shape[0], *shape[1:], name="params", dtype=torch.float64)


def totals_one(name: str, options: Options) -> None:
    """The density of one pixel sums, or integrates, to one."""
    likelihood = make(name, options)
    grid = GRIDS[likelihood.support]
    x = grid.view(-1, 1, 1, 1)
    for i in range(5):
        drawn = draws(maps_of(likelihood), name=f"pixel/{i}", dtype=torch.float64).view(1, -1, 1, 1)
        density = likelihood.log_prob(x, drawn.expand(len(x), -1, 1, 1)).exp()
        total = density.sum() if likelihood.support == "binary" else torch.trapezoid(density, grid)
        assert abs(total.item() - 1) <= MAX_ERROR, (
            f"totals {total.item():.4g} over {likelihood.support} pixels where the decoder returns "
            f"{[round(value, 3) for value in drawn.flatten().tolist()]}"
        )


def sums_over_pixels(name: str, options: Options) -> None:
    """One value an image, the sum over its pixels, whatever else is in the batch."""
    likelihood = make(name, options)
    for shape in SHAPES:
        x, p = pixels(likelihood, 4, shape), params(likelihood, 4, shape)
        value = likelihood.log_prob(x, p)
        assert value.shape == (4,), f"of 4 images log_prob has the shape {tuple(value.shape)}"
        mean = likelihood.mean(p)
        assert mean.shape == x.shape, f"the mean image has the shape {tuple(mean.shape[1:])}"
        twice = likelihood.log_prob(torch.cat([x, x], 2), torch.cat([p, p], 2))
        assert torch.allclose(twice, 2 * value), "an image twice as high does not count twice"
        alone = torch.cat([likelihood.log_prob(x[i : i + 1], p[i : i + 1]) for i in range(4)])
        assert torch.allclose(alone, value), "an image's value depends on its batch"


def extremes_are_finite(name: str, options: Options) -> None:
    """Large outputs of a decoder give a finite value and gradient."""
    likelihood = make(name, options, torch.float32)
    shape = SHAPES[0]
    x = pixels(likelihood, 2, shape).float()
    for size in (100.0, -100.0):
        p = torch.full_like(params(likelihood, 2, shape), size).float().requires_grad_()
        value = likelihood.log_prob(x, p)
        value.sum().backward()  # type: ignore[no-untyped-call]
        assert value.isfinite().all(), f"where the decoder returns {size:g} it is {value.tolist()}"
        assert p.grad is not None
        assert p.grad.isfinite().all(), f"where the decoder returns {size:g} the gradient is not"


def gradients_are_right(name: str, options: Options) -> None:
    """The gradient in the decoder's output is that of the value."""
    likelihood = make(name, options)
    x = pixels(likelihood, 3, SHAPES[1])
    p = params(likelihood, 3, SHAPES[1]).requires_grad_()
    slope_agrees(lambda: likelihood.log_prob(x, p).mean(), [p], 1e-4)


def resumes_bit_for_bit(name: str, options: Options) -> None:
    """A training that is interrupted goes on with the numbers of one that was not."""

    def build() -> VAE:
        likelihood = LIKELIHOODS[name](**options)
        with seeded(0, "init"):
            networks = fnn(SHAPES[0], LATENT_DIM, maps_of(likelihood), hidden=(8,))
            return VAE(networks, likelihood, LATENT_DIM)

    resumes(build)


CHECKS = {
    "the density totals one": totals_one,
    "one value an image, summed over its pixels": sums_over_pixels,
    "large outputs stay finite": extremes_are_finite,
    "gradients agree with finite differences": gradients_are_right,
    "training resumes bit for bit": resumes_bit_for_bit,
}
