"""Every likelihood is a density over its support, constant included, and stable at extremes."""

import itertools
import math
from typing import Any, Literal, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import assert_exact, draws, images, torch_log_prob
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal

from vaebench.likelihoods import LIKELIHOODS, Bernoulli, Gaussian, Likelihood

EACH = pytest.mark.parametrize("name", LIKELIHOODS)
SHAPE = (1, 3, 2)


def make(name: str, **options: Any) -> Likelihood:
    return LIKELIHOODS[name](**options)


def pixels_of(likelihood: Likelihood, count: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    x = images(count, SHAPE, dtype=dtype)
    return x.round() if likelihood.support == "binary" else x


@EACH
def test_support_is_declared(name: str) -> None:
    assert make(name).support in get_args(Literal["binary", "real"])


@EACH
@given(logit=st.floats(-3, 3))
def test_density_of_one_pixel_totals_one(name: str, logit: float) -> None:
    likelihood = make(name)
    if likelihood.support == "binary":
        grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
    else:
        grid = torch.linspace(-20, 20, 40_001, dtype=torch.float64)
    x = grid.view(-1, 1, 1, 1)
    density = likelihood.log_prob(x, torch.full_like(x, logit)).exp()
    total = density.sum() if likelihood.support == "binary" else torch.trapezoid(density, grid)
    assert total.item() == pytest.approx(1.0, abs=1e-6)


def test_bernoulli_of_all_binary_images_totals_one() -> None:
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)), dtype=torch.float64)
    logits = draws(1, 1, 3, 2).expand(64, 1, 3, 2)
    total = Bernoulli().log_prob(x.view(64, 1, 3, 2), logits).exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-12)


@EACH
def test_log_prob_sums_over_pixels_with_one_value_an_image(name: str) -> None:  # trap 1
    likelihood = make(name)
    x, params = pixels_of(likelihood, 4), draws(4, *SHAPE)
    log_prob = likelihood.log_prob(x, params)
    assert log_prob.shape == (4,)
    twice = likelihood.log_prob(torch.cat([x, x], dim=2), torch.cat([params, params], dim=2))
    assert_exact(twice, 2 * log_prob)
    tiled = likelihood.log_prob(x.repeat(3, 1, 1, 1), params.repeat(3, 1, 1, 1))
    assert_exact(tiled, log_prob.repeat(3))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_bernoulli_matches_torch_distributions(  # trap 3
    channels: int, height: int, width: int, binary: bool
) -> None:
    shape = (channels, height, width)
    x, logits = images(2, shape), 5 * draws(2, *shape)
    x = x.round() if binary else x
    reference = torch_log_prob(TorchBernoulli(logits=logits, validate_args=False), x).sum(
        dim=(1, 2, 3)
    )
    assert_exact(Bernoulli().log_prob(x, logits), reference)


@given(st.floats(1e-3, 10), st.sampled_from(["sigmoid", "linear"]), st.integers(1, 3))
def test_gaussian_matches_torch_distributions(  # trap 3
    sigma2: float, output: Literal["sigmoid", "linear"], channels: int
) -> None:
    shape = (channels, 3, 2)
    x, params = images(2, shape), 3 * draws(2, *shape)
    mean = params.sigmoid() if output == "sigmoid" else params
    reference = torch_log_prob(Normal(mean, math.sqrt(sigma2)), x).sum(dim=(1, 2, 3))
    likelihood = Gaussian(sigma2=sigma2, output=output)
    assert_exact(likelihood.log_prob(x, params), reference)


def test_default_gaussian_is_the_squared_error_plus_its_constant() -> None:  # trap 3
    x = images(3, (1, 28, 28))
    perfect = Gaussian(output="linear").log_prob(x, x)
    expected = torch.full((3,), -448.73, dtype=torch.float64)
    torch.testing.assert_close(perfect, expected, rtol=0, atol=5e-3)
    off = Gaussian(output="linear").log_prob(x, x + 0.1)
    assert_exact(perfect - off, torch.full_like(off, 7.84))


def test_relaxed_bernoulli_cannot_fall_below_the_entropy_of_its_pixels() -> None:
    x = images(5, SHAPE).clamp(0.01, 0.99)
    entropy = -(x * x.log() + (1 - x) * (1 - x).log()).sum(dim=(1, 2, 3))
    assert_exact(-Bernoulli().log_prob(x, x.logit()), entropy)
    assert (-Bernoulli().log_prob(x, x.logit() + 0.5) > entropy).all()


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [200.0, -200.0])
def test_extreme_logits_give_a_finite_value_and_gradient(  # trap 6
    name: str, dtype: torch.dtype, size: float
) -> None:
    likelihood = make(name)
    x = pixels_of(likelihood, 2, dtype=dtype)
    params = torch.full_like(x, size).requires_grad_()
    log_prob = likelihood.log_prob(x, params)
    log_prob.sum().backward()  # type: ignore[no-untyped-call]
    assert log_prob.isfinite().all()
    assert params.grad is not None
    assert params.grad.isfinite().all()


def test_a_wrong_pixel_at_logit_200_costs_200_nats() -> None:  # trap 6: not clipped either
    params = torch.full((1, 1, 1, 1), 200.0)
    assert Bernoulli().log_prob(torch.zeros(1, 1, 1, 1), params).item() == pytest.approx(-200)
    assert Bernoulli().log_prob(torch.ones(1, 1, 1, 1), params).item() == pytest.approx(0, abs=1e-6)


@EACH
def test_default_mean_is_an_image_in_the_unit_interval(name: str) -> None:
    params = 4 * draws(2, *SHAPE)
    mean = make(name).mean(params)
    assert mean.shape == params.shape
    assert ((mean >= 0) & (mean <= 1)).all()


@EACH
def test_mean_is_where_the_log_prob_is_largest(name: str) -> None:
    # log_prob and mean agree on the link: at x = mean, moving the parameters does not help.
    likelihood = make(name)
    params = draws(3, *SHAPE).requires_grad_()
    x = likelihood.mean(params).detach()
    likelihood.log_prob(x, params).sum().backward()  # type: ignore[no-untyped-call]
    assert params.grad is not None
    torch.testing.assert_close(params.grad, torch.zeros_like(params), atol=1e-12, rtol=0)


def test_linear_output_is_the_mean_itself() -> None:
    params = draws(2, *SHAPE)
    assert torch.equal(Gaussian(output="linear").mean(params), params)
    assert torch.equal(Gaussian(output="sigmoid").mean(params), params.sigmoid())
