"""Fitted and continuous densities against references that share no code with them.

The plain cases are in ``test_likelihoods.py``; here is where a density could go wrong unseen: in
training mode, at logits where other formulas overflow or cancel, in single precision.
"""

import math

import pytest
import torch
from tiny import assert_exact, draws, images, torch_log_prob
from torch import Tensor
from torch.distributions import Normal

from vaebench.fitted_gaussian import FittedGaussian, Link
from vaebench.likelihoods import ContinuousBernoulli

SHAPE = (1, 3, 2)


@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_learned_gaussian_is_that_of_torch_in_value_and_gradient(output: Link) -> None:  # trap 3
    x, params = images(5, SHAPE), draws(5, *SHAPE).requires_grad_()
    likelihood = FittedGaussian("learned", output).double().train()
    assert isinstance(likelihood.log_sigma2, torch.nn.Parameter)
    found = likelihood.log_prob(x, params)

    log_sigma2 = likelihood.log_sigma2.detach().clone().requires_grad_()
    free = params.detach().clone().requires_grad_()
    mean = free.sigmoid() if output == "sigmoid" else free
    expected = torch_log_prob(Normal(mean, (log_sigma2 / 2).exp()), x).sum(dim=(1, 2, 3))
    assert_exact(found, expected)
    variables = [likelihood.log_sigma2, params], [log_sigma2, free]
    for ours, theirs in zip(
        torch.autograd.grad(found.sum(), variables[0]),
        torch.autograd.grad(expected.sum(), variables[1]),
        strict=True,
    ):
        assert_exact(ours, theirs)


def test_optimal_gaussian_of_a_training_batch_is_that_of_torch_at_the_mean_squared_error() -> None:
    x, params = images(5, SHAPE), draws(5, *SHAPE)  # trap 3
    found = FittedGaussian("optimal", "linear").double().train().log_prob(x, params)
    deviation = (x - params).square().mean().sqrt()
    assert_exact(found, torch_log_prob(Normal(params, deviation), x).sum(dim=(1, 2, 3)))


def log_normaliser(logit: float) -> float:
    """log((e^n - 1) / n), written so that nothing overflows or cancels."""
    size = abs(logit)
    return math.log(-math.expm1(-size) / size) + max(logit, 0.0)


LOGITS = [s * n for n in (1e-6, 0.01, 0.19, 0.21, 1.0, 20.0, 36.0, 200.0, 700.0) for s in (1, -1)]


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_is_exact_at_any_logit(logit: float) -> None:
    # torch's own clips its probabilities: it is off by 1e-3 at a logit of 36 and by 1.7 at 200
    x = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    params = torch.full((3, 1, 1, 1), logit, dtype=torch.float64)
    found = ContinuousBernoulli().log_prob(x.view(3, 1, 1, 1), params)
    expected = logit * x - log_normaliser(logit)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-11)
    mean = 1 / -math.expm1(-logit) - 1 / logit if abs(logit) > 0.1 else 0.5 + logit / 12
    found_mean = ContinuousBernoulli().mean(params)
    torch.testing.assert_close(found_mean, torch.full_like(params, mean), rtol=0, atol=1e-8)


def test_continuous_bernoulli_holds_in_the_single_precision_that_trains() -> None:
    logits = torch.linspace(-3, 3, 6001, dtype=torch.float64).view(1, 1, 1, -1)
    x = images(1, (1, 1, 6001))

    def value_and_gradient(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        params = logits.clone().requires_grad_()
        value = ContinuousBernoulli().log_prob(x, params)
        [gradient] = torch.autograd.grad(value.sum(), params)
        return value.detach().double(), gradient.double()

    exact_value, exact_gradient = value_and_gradient(x, logits)
    value, gradient = value_and_gradient(x.float(), logits.float())
    torch.testing.assert_close(value, exact_value, rtol=0, atol=6001 * 1e-6)
    torch.testing.assert_close(gradient, exact_gradient, rtol=0, atol=1e-5)
