"""The diagonal Gaussian against torch.distributions, quadrature and numbers worked by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import assert_exact, draws, torch_log_prob
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from vaebench.distributions import (
    LOG_VAR_MAX,
    LOG_VAR_MIN,
    DiagonalGaussian,
    standard_normal_log_prob,
)

MEANS = st.floats(-20, 20)
LOG_VARS = st.floats(-15, 15)


def gaussian(
    mean: float, log_var: float, *, dtype: torch.dtype = torch.float64
) -> DiagonalGaussian:
    one = torch.ones(1, 1, dtype=dtype)
    return DiagonalGaussian.bounded(mean * one, log_var * one)


def reference(q: DiagonalGaussian) -> Distribution:
    std = (0.5 * q.log_var).exp()
    return Independent(Normal(q.mean, std), 1)


@pytest.mark.parametrize(
    ("mean", "std", "nats"),
    [(2.0, 1.0, 2.0), (0.0, 0.1, 1.8076), (0.0, 1.0, 0.0), (1.0, 2.0, 1.3069)],
)
def test_kl_has_the_known_values(mean: float, std: float, nats: float) -> None:  # trap 1
    q = gaussian(mean, 2 * math.log(std))
    assert q.kl_to_standard_normal().item() == pytest.approx(nats, abs=5e-5)
    assert q.kl_per_dimension().shape == (1, 1)


def test_kl_sums_over_dimensions_and_not_over_images() -> None:
    q = DiagonalGaussian(torch.full((3, 5), 2.0), torch.zeros(3, 5))
    assert torch.equal(q.kl_to_standard_normal(), torch.full((3,), 10.0))
    assert torch.equal(q.kl_per_dimension(), torch.full((3, 5), 2.0))


@given(st.lists(st.tuples(MEANS, LOG_VARS), min_size=1, max_size=4))
def test_kl_matches_torch_distributions(values: list[tuple[float, float]]) -> None:  # trap 3
    mean, log_var = torch.tensor(values, dtype=torch.float64).T.unsqueeze(1)
    q = DiagonalGaussian(mean, log_var)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    assert_exact(q.kl_to_standard_normal(), kl_divergence(reference(q), prior))


@given(MEANS, LOG_VARS)
def test_kl_is_never_negative_and_zero_only_at_the_prior(mean: float, log_var: float) -> None:
    kl = gaussian(mean, log_var).kl_to_standard_normal().item()
    assert kl >= -1e-12
    if abs(mean) > 1e-3 or abs(log_var) > 1e-3:
        assert kl > 0


@given(st.floats(-3, 3), st.floats(-4, 2))
def test_kl_is_the_integral_of_q_times_the_log_ratio(mean: float, log_var: float) -> None:
    q = gaussian(mean, log_var)
    std = math.exp(0.5 * log_var)
    z = torch.linspace(mean - 10 * std, mean + 10 * std, 4001, dtype=torch.float64).view(-1, 1, 1)
    integrand = q.log_prob(z).exp() * (q.log_prob(z) - standard_normal_log_prob(z))
    integral = torch.trapezoid(integrand.flatten(), z.flatten()).item()
    assert q.kl_to_standard_normal().item() == pytest.approx(integral, abs=1e-6)


@given(MEANS, LOG_VARS, st.floats(-30, 30))
def test_log_prob_matches_torch_distributions(  # trap 3
    mean: float, log_var: float, z: float
) -> None:
    q = gaussian(mean, log_var)
    code = torch.full((1, 1), z, dtype=torch.float64)
    assert_exact(q.log_prob(code), torch_log_prob(reference(q), code))
    prior = Independent(Normal(torch.zeros_like(code), torch.ones_like(code)), 1)
    assert_exact(standard_normal_log_prob(code), torch_log_prob(prior, code))


def test_densities_keep_the_constant_of_every_dimension() -> None:  # trap 3
    zeros = torch.zeros(2, 7, dtype=torch.float64)
    expected = torch.full((2,), -3.5 * math.log(2 * math.pi), dtype=torch.float64)
    assert_exact(standard_normal_log_prob(zeros), expected)
    assert_exact(DiagonalGaussian(zeros, zeros).log_prob(zeros), expected)


def test_samples_are_mean_plus_standard_deviation_times_noise() -> None:
    q = DiagonalGaussian(torch.tensor([[1.0, -2.0]]), torch.tensor([[math.log(9.0), 0.0]]))
    noise = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]], [[-1.0, 2.0]]])
    expected = torch.tensor([[[1.0, -2.0]], [[4.0, -1.0]], [[-2.0, 0.0]]])
    torch.testing.assert_close(q.sample(noise), expected)


def test_samples_are_differentiable_in_mean_and_log_variance() -> None:
    mean, log_var = (torch.zeros(1, 1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    noise = torch.full((1, 1, 1), 3.0, dtype=torch.float64)
    DiagonalGaussian(mean, log_var).sample(noise).sum().backward()  # type: ignore[no-untyped-call]
    assert mean.grad == 1.0
    assert log_var.grad == 1.5  # half the noise


def test_samples_have_the_moments_of_the_posterior() -> None:
    q = gaussian(1.5, math.log(0.25))
    z = q.sample(draws(40_000, 1, 1))
    assert z.mean().item() == pytest.approx(1.5, abs=4 * 0.5 / 200)
    assert z.std().item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(80_000))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("log_var", [-100.0, -30.0, 20.0, 100.0, -math.inf, math.inf])
def test_extreme_log_variances_stay_finite(log_var: float, dtype: torch.dtype) -> None:  # trap 6
    raw: Tensor = torch.tensor([[log_var]], dtype=dtype, requires_grad=True)
    mean = torch.ones(1, 1, dtype=dtype, requires_grad=True)
    q = DiagonalGaussian.bounded(mean, raw)
    z = q.sample(torch.full((1, 1, 1), 2.0, dtype=dtype))
    terms = [z, q.log_prob(z), q.kl_to_standard_normal(), standard_normal_log_prob(z)]
    total = sum(term.sum() for term in terms)
    assert isinstance(total, Tensor)
    total.backward()  # type: ignore[no-untyped-call]
    for value in (*terms, mean.grad, raw.grad):
        assert value is not None
        assert value.isfinite().all()


@given(st.floats(-200, 200))
def test_log_variances_are_bounded_to_the_declared_range(log_var: float) -> None:
    q = gaussian(0.0, log_var)
    assert (LOG_VAR_MIN, LOG_VAR_MAX) == (-30.0, 20.0)
    assert q.log_var.item() == min(max(log_var, -30.0), 20.0)
