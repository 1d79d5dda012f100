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
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.distributions import Normal

from vaebench.fitted_gaussian import FittedGaussian, Support
from vaebench.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    Heteroscedastic,
    Likelihood,
    maps_of,
)
from vaebench.seeding import seeded

EACH = pytest.mark.parametrize("name", LIKELIHOODS)
SHAPE = (1, 3, 2)


def make(name: str, **options: Any) -> Likelihood:
    return LIKELIHOODS[name](**options)


def pixels_of(likelihood: Likelihood, count: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    x = images(count, SHAPE, dtype=dtype)
    return x.round() if likelihood.support == "binary" else x


def params_for(likelihood: Likelihood, count: int) -> Tensor:
    return draws(count, maps_of(likelihood) * SHAPE[0], *SHAPE[1:])


@EACH
def test_support_is_declared(name: str) -> None:
    assert make(name).support in get_args(Support)


@EACH
@given(logit=st.floats(-3, 3))
def test_density_of_one_pixel_totals_one(name: str, logit: float) -> None:
    likelihood = make(name)
    if likelihood.support == "binary":
        grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
    elif likelihood.support == "unit":
        grid = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    else:
        grid = torch.linspace(-20, 20, 40_001, dtype=torch.float64)
    x = grid.view(-1, 1, 1, 1)
    params = torch.full_like(x, logit).repeat(1, maps_of(likelihood), 1, 1)
    density = likelihood.log_prob(x, params).exp()
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
    x, params = pixels_of(likelihood, 4), params_for(likelihood, 4)
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


@given(st.floats(0.05, 6))
def test_continuous_bernoulli_matches_torch_distributions(scale: float) -> None:  # trap 3
    # Theirs is a series within 0.001 of a probability of 1/2, ours within a logit of 0.2: the
    # pixels where theirs is the worse one are left out here and have a test of their own.
    x, logits = images(4, SHAPE), scale * draws(4, *SHAPE)
    logits = torch.where(logits.abs() < 0.05, 0.05, logits)
    theirs = TorchContinuousBernoulli(logits=logits)
    reference = torch_log_prob(theirs, x).sum(dim=(1, 2, 3))
    ours = ContinuousBernoulli()
    torch.testing.assert_close(ours.log_prob(x, logits), reference, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.mean(logits), theirs.mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("logit", [0.0, 1e-12, -1e-7, 1e-4, 0.0199, 0.0201, -0.199, 0.2, 0.201])
def test_continuous_bernoulli_is_stable_near_a_half(logit: float) -> None:
    # log A = log((e^n - 1) / n), from the power series of (e^n - 1) / n: exact here
    series = sum(logit**k / math.factorial(k + 1) for k in range(12))
    x = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64).view(-1, 1, 1, 1)
    params = torch.full_like(x, logit).requires_grad_()
    log_prob = ContinuousBernoulli().log_prob(x, params)
    expected = x.flatten() * logit - math.log(series)
    torch.testing.assert_close(log_prob, expected, rtol=0, atol=1e-12)
    log_prob.sum().backward()  # type: ignore[no-untyped-call]
    slope = sum(k * logit ** (k - 1) / math.factorial(k + 1) for k in range(1, 13)) / series
    assert params.grad is not None
    torch.testing.assert_close(params.grad.flatten(), x.flatten() - slope, rtol=0, atol=1e-10)
    mean = ContinuousBernoulli().mean(params)
    torch.testing.assert_close(mean, torch.full_like(mean, slope), rtol=0, atol=1e-10)


def test_fitted_gaussian_has_the_density_of_the_gaussian_of_its_variance() -> None:
    x, params = images(4, SHAPE), draws(4, *SHAPE)
    for option in ("learned", "optimal"):
        fitted = FittedGaussian(option).double().eval()
        assert fitted.sigma2 == pytest.approx(0.5)
        fitted.state_dict()["log_sigma2"].fill_(math.log(0.02))
        expected = Gaussian(sigma2=0.02).log_prob(x, params)
        assert_exact(fitted.log_prob(x, params), expected)


def test_learned_variance_has_the_gradient_of_its_density() -> None:
    x, params = images(4, SHAPE), draws(4, *SHAPE)
    likelihood = FittedGaussian("learned", "linear").double()
    likelihood.log_prob(x, params).sum().backward()  # type: ignore[no-untyped-call]
    squares, pixels = (x - params).square().sum().item(), x.numel()
    # d/ds of -squares / (2 e^s) - pixels s / 2
    assert likelihood.log_sigma2.grad is not None
    expected = squares / (2 * 0.5) - pixels / 2
    assert likelihood.log_sigma2.grad.item() == pytest.approx(expected, rel=1e-6)


def test_optimal_variance_is_where_the_batch_is_most_likely() -> None:
    x, params = images(8, SHAPE), draws(8, *SHAPE)
    optimal = FittedGaussian("optimal").double().train()
    found = optimal.log_prob(x, params).sum()
    error = (x - params.sigmoid()).square().mean().item()
    for factor, comparison in ((1.0, torch.testing.assert_close), (1.1, None), (0.9, None)):
        other = Gaussian(sigma2=factor * error).log_prob(x, params).sum()
        if comparison is not None:
            comparison(found, other)
        else:
            assert other < found


def test_optimal_variance_has_the_gradient_of_its_value() -> None:
    x = images(8, SHAPE)
    params = draws(8, *SHAPE).requires_grad_()
    optimal = FittedGaussian("optimal", "linear").double().train()
    optimal.log_prob(x, params).mean().backward()  # type: ignore[no-untyped-call]
    # the value as a function of the decoder alone: -D/2 (log(2 pi MSE) + 1)
    free = params.detach().requires_grad_()
    value = -0.5 * 6 * ((x - free).square().mean().log() + math.log(2 * math.pi) + 1)
    value.backward()  # type: ignore[no-untyped-call]
    assert params.grad is not None
    assert free.grad is not None
    assert_exact(params.grad, free.grad)


def test_optimal_variance_is_frozen_outside_training() -> None:  # an image has no neighbours
    x, params = images(6, SHAPE), draws(6, *SHAPE)
    likelihood = FittedGaussian("optimal").double().train()
    for _ in range(200):
        likelihood.log_prob(x, params.requires_grad_())
    error = (x - params.sigmoid()).square().mean().item()
    assert likelihood.sigma2 == pytest.approx(error, rel=1e-3)
    likelihood.eval()
    together = likelihood.log_prob(x, params)
    alone = torch.cat([likelihood.log_prob(x[i : i + 1], params[i : i + 1]) for i in range(6)])
    assert_exact(alone, together)


def test_optimal_variance_is_fitted_to_all_batches_by_pixel() -> None:
    x, params = images(7, SHAPE), draws(7, *SHAPE)
    likelihood = FittedGaussian("optimal").double()
    batches = zip(torch.split(x, 3), torch.split(params, 3), strict=True)  # of 3, 3 and 1
    likelihood.fit(batches)
    assert likelihood.sigma2 == pytest.approx((x - params.sigmoid()).square().mean().item())
    perfect = FittedGaussian("optimal", "linear")
    perfect.fit([(x, x)])
    assert perfect.sigma2 == pytest.approx(math.exp(-30))
    learned = FittedGaussian("learned")
    learned.fit([(x, params)])
    assert learned.sigma2 == pytest.approx(0.5)


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
    params = torch.full_like(params_for(likelihood, 2), size, dtype=dtype).requires_grad_()
    log_prob = likelihood.log_prob(x, params)
    log_prob.sum().backward()  # type: ignore[no-untyped-call]
    assert log_prob.isfinite().all()
    assert params.grad is not None
    assert params.grad.isfinite().all()


ROUNDING = 2.0**-24  # half of float32's distance from 1 to the next number


@pytest.mark.parametrize("name", ["bce", "cb"])
def test_float32_is_as_exact_as_float32_can_be(name: str) -> None:
    # all sizes of logits, each with a black, a gray and a white pixel
    sizes = torch.cat([torch.linspace(-200, 200, 20_001), torch.logspace(-9, 2, 2_001)])
    logits = torch.cat([sizes, -sizes]).view(-1, 1, 1, 1).repeat(3, 1, 1, 1).requires_grad_()
    x = torch.tensor([0.0, 0.3, 1.0]).repeat_interleave(len(logits) // 3).view(-1, 1, 1, 1)
    exact = logits.detach().double().requires_grad_()
    found, expected = make(name).log_prob(x, logits), make(name).log_prob(x.double(), exact)
    found.sum().backward()  # type: ignore[no-untyped-call]
    expected.sum().backward()  # type: ignore[no-untyped-call]
    unit = 1 + logits.detach().abs().flatten()  # of what is added and subtracted
    assert ((found - expected).abs().detach() <= 4 * ROUNDING * unit).all()
    assert logits.grad is not None
    assert exact.grad is not None
    # coth t - 1/t subtracts numbers of up to 1/t = 20, from where the series takes over
    bound = (4 if name == "bce" else 40) * ROUNDING
    assert ((logits.grad - exact.grad).abs() <= bound).all()


@pytest.mark.parametrize("name", ["bce", "cb"])
def test_own_gradients_are_those_of_the_value(name: str) -> None:
    x, params = images(3, SHAPE), (3 * draws(3, *SHAPE)).requires_grad_()
    x = x.clone().requires_grad_()
    likelihood = make(name)
    with seeded(0, "gradcheck"):  # it draws directions
        assert torch.autograd.gradcheck(lambda a, b: likelihood.log_prob(b, a), (params, x))
        assert torch.autograd.gradgradcheck(lambda a: likelihood.log_prob(x.detach(), a), (params,))


@EACH
def test_transforms_of_functions_find_the_same_gradient(name: str) -> None:
    likelihood = make(name)
    x, params = pixels_of(likelihood, 3), params_for(likelihood, 3).requires_grad_()
    likelihood.log_prob(x, params).sum().backward()  # type: ignore[no-untyped-call]

    def one(a: Tensor, image: Tensor) -> Tensor:
        return likelihood.log_prob(image.unsqueeze(0), a.unsqueeze(0)).sum()

    if name != "gaussian":  # its optimal variance writes to a buffer
        found = torch.func.vmap(torch.func.grad(one))(params.detach(), x)
        assert params.grad is not None
        assert_exact(found, params.grad)


def test_a_wrong_pixel_at_logit_200_costs_200_nats() -> None:  # trap 6: not clipped either
    params = torch.full((1, 1, 1, 1), 200.0)
    assert Bernoulli().log_prob(torch.zeros(1, 1, 1, 1), params).item() == pytest.approx(-200)
    assert Bernoulli().log_prob(torch.ones(1, 1, 1, 1), params).item() == pytest.approx(0, abs=1e-6)


@EACH
def test_default_mean_is_an_image_in_the_unit_interval(name: str) -> None:
    mean = make(name).mean(4 * params_for(make(name), 2))
    assert mean.shape == (2, *SHAPE)
    assert ((mean >= 0) & (mean <= 1)).all()


@EACH
def test_mean_is_where_the_log_prob_is_largest(name: str) -> None:
    # log_prob and mean agree on the link: at x = mean, moving the mean's parameters does not help.
    likelihood = make(name)
    params = params_for(likelihood, 3).requires_grad_()
    x = likelihood.mean(params).detach()
    likelihood.log_prob(x, params).sum().backward()  # type: ignore[no-untyped-call]
    assert params.grad is not None
    moved = params.grad[:, : SHAPE[0]]
    torch.testing.assert_close(moved, torch.zeros_like(moved), atol=1e-12, rtol=0)


@given(st.floats(-40, 3), st.sampled_from(["sigmoid", "linear"]), st.integers(1, 3))
def test_heteroscedastic_matches_torch_distributions(  # trap 3
    free: float, output: Literal["sigmoid", "linear"], channels: int
) -> None:
    shape = (channels, 3, 2)
    x, means = images(2, shape), 3 * draws(2, *shape)
    log_vars = free + draws(2, *shape, name="log_vars")
    floor = -math.log(12 * 256**2)
    sigma = (floor + (1 + (log_vars - floor).exp()).log()).exp().sqrt()
    mean = means.sigmoid() if output == "sigmoid" else means
    reference = torch_log_prob(Normal(mean, sigma), x).sum(dim=(1, 2, 3))
    likelihood = Heteroscedastic(output=output)
    params = torch.cat([means, log_vars], dim=1)
    torch.testing.assert_close(likelihood.log_prob(x, params), reference, rtol=1e-9, atol=1e-9)
    assert_exact(likelihood.mean(params), mean)


def test_no_pixel_is_surer_than_the_noise_of_dequantisation_and_its_gradient_stays() -> None:
    x = torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64)
    params = torch.tensor([0.3, -50.0], dtype=torch.float64).view(1, 2, 1, 1).requires_grad_()
    best = Heteroscedastic(output="linear").log_prob(x, params)
    assert best.item() == pytest.approx(0.5 * math.log(12 * 256**2 / (2 * math.pi)), abs=1e-9)
    best.sum().backward()  # type: ignore[no-untyped-call]
    assert params.grad is not None
    assert params.grad[0, 1].abs().item() > 0


@EACH
def test_parameters_of_another_number_of_maps_are_refused(name: str) -> None:
    likelihood = make(name)
    x, params = pixels_of(likelihood, 3), params_for(likelihood, 3)
    likelihood.log_prob(x, params)
    if maps_of(likelihood) > 1:
        with pytest.raises(ValueError, match="maps"):
            likelihood.log_prob(x, params[:, : SHAPE[0]])


def test_linear_output_is_the_mean_itself() -> None:
    params = draws(2, *SHAPE)
    assert torch.equal(Gaussian(output="linear").mean(params), params)
    assert torch.equal(Gaussian(output="sigmoid").mean(params), params.sigmoid())
