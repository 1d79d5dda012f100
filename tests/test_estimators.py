"""The estimators against models whose evidence is known, and against each other."""

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import (
    LOG_PX,
    POSTERIOR_MEAN,
    POSTERIOR_VAR,
    SHAPE,
    SIGMA2,
    W,
    assert_exact,
    draws,
    images,
    linear_gaussian,
    make_vae,
    torch_log_prob,
)
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from vaebench.distributions import DiagonalGaussian
from vaebench.estimators import ESTIMATORS, Estimate, closed_form_kl, sgvb
from vaebench.likelihoods import LIKELIHOODS
from vaebench.models import MODELS
from vaebench.vae import VAE

EACH = pytest.mark.parametrize("name", ESTIMATORS)
CELLS = [(m, x, e) for m in MODELS for x in LIKELIHOODS for e in ESTIMATORS]
MEAN, LOG_VAR = 0.4, math.log(0.3)  # a posterior that is not the exact one
DRAWS = 20_000


def fields(estimate: Estimate) -> Iterator[tuple[str, Tensor]]:
    for name, value in estimate._asdict().items():
        if value is not None:
            yield name, value


def normal(mean: float, log_var: float) -> Normal:
    one = torch.ones((), dtype=torch.float64)
    return Normal(mean * one, (0.5 * log_var * one).exp())


def kl_to_posterior(mean: float, log_var: float) -> float:
    posterior = normal(POSTERIOR_MEAN, math.log(POSTERIOR_VAR))
    return kl_divergence(normal(mean, log_var), posterior).item()


@pytest.mark.parametrize(("model", "loss", "name"), CELLS)
def test_every_value_is_per_image_and_finite(model: str, loss: str, name: str) -> None:
    estimate = ESTIMATORS[name](make_vae(model, loss), images(4), draws(2, 4, 3))
    for field, value in fields(estimate):
        assert value.shape == (4,), field
        assert value.isfinite().all(), field
    if estimate.rate is not None and estimate.distortion is not None:
        assert_exact(estimate.bound, -(estimate.rate + estimate.distortion))


@pytest.mark.parametrize(("model", "loss", "name"), CELLS)
def test_an_image_gets_the_same_value_however_the_batch_is_tiled(  # trap 1
    model: str, loss: str, name: str
) -> None:
    vae, x, noise = make_vae(model, loss), images(3), draws(2, 3, 3)
    once = ESTIMATORS[name](vae, x, noise)
    tiled = ESTIMATORS[name](vae, x.repeat(2, 1, 1, 1), noise.repeat(1, 2, 1))
    for (field, value), (_, twice) in zip(fields(once), fields(tiled), strict=True):
        assert_exact(twice, value.repeat(2), field)


@EACH
@pytest.mark.parametrize("loss", LIKELIHOODS)
def test_twice_the_pixels_is_twice_the_distortion(loss: str, name: str) -> None:  # trap 1
    # an encoder and a decoder that ignore their input, so that only the number of pixels differs
    small, large = (make_vae(loss=loss, shape=(1, h, 4)) for h in (3, 6))
    with torch.no_grad():
        for vae in (small, large):
            for parameter in vae.parameters():
                parameter.zero_()
    x, noise = images(2, (1, 3, 4)), draws(2, 2, 3)
    one = ESTIMATORS[name](small, x, noise)
    two = ESTIMATORS[name](large, torch.cat([x, x], dim=2), noise)
    if one.distortion is None or two.distortion is None:
        assert_exact(two.bound, 2 * one.bound)  # q is the prior: no rate
    else:
        assert_exact(two.distortion, 2 * one.distortion)


def test_linear_gaussian_evidence_is_the_known_number() -> None:  # trap 2
    assert pytest.approx(-1.8412, abs=5e-5) == LOG_PX


@EACH
def test_bound_plus_gap_is_the_evidence_within_four_standard_errors(name: str) -> None:  # trap 2
    vae, x = linear_gaussian(MEAN, LOG_VAR)
    with torch.no_grad():
        estimate = ESTIMATORS[name](vae, x.expand(DRAWS, 1, 1, 1), draws(1, DRAWS, 1))
    error = (estimate.bound.std() / math.sqrt(DRAWS)).item()
    assert 0 < error < 0.05
    gap = kl_to_posterior(MEAN, LOG_VAR)
    assert estimate.bound.mean().item() + gap == pytest.approx(LOG_PX, abs=4 * error)


def test_sgvb_and_closed_form_agree_within_four_standard_errors() -> None:  # trap 2
    vae, x = linear_gaussian(MEAN, LOG_VAR)
    many = x.expand(DRAWS, 1, 1, 1)
    with torch.no_grad():
        a = sgvb(vae, many, draws(1, DRAWS, 1, name="a"))
        b = closed_form_kl(vae, many, draws(1, DRAWS, 1, name="b"))
    for term in ("bound", "rate", "distortion"):
        one, other = getattr(a, term), getattr(b, term)
        error = math.sqrt(one.var().item() / DRAWS + other.var().item() / DRAWS)
        difference = (one.mean() - other.mean()).item()
        assert abs(difference) <= 4 * error, term


def test_sgvb_at_the_exact_posterior_is_the_evidence_for_every_draw() -> None:  # traps 2, 4
    # log p(x,z) - log q(z|x) = log p(x), if and only if one z stands in all three terms
    vae, x = linear_gaussian(POSTERIOR_MEAN, math.log(POSTERIOR_VAR))
    bound = sgvb(vae, x.expand(50, 1, 1, 1), draws(1, 50, 1)).bound
    assert_exact(bound, torch.full_like(bound, LOG_PX))


@given(st.floats(-1, 1), st.floats(-2, 1), st.floats(-3, 3))
def test_each_estimator_is_its_formula_for_one_draw(
    mean: float, log_var: float, noise: float
) -> None:  # traps 3, 4, 5
    vae, x = linear_gaussian(mean, log_var)
    epsilon = torch.full((1, 1, 1), noise, dtype=torch.float64)
    q, prior = normal(mean, log_var), normal(0.0, 0.0)
    z = q.loc + q.scale * noise
    log_px_z = torch_log_prob(Normal(W * z, math.sqrt(SIGMA2)), x.squeeze())
    rates = {"sgvb": torch_log_prob(q, z) - torch_log_prob(prior, z), "kl": kl_divergence(q, prior)}
    for name, rate in rates.items():
        estimate = ESTIMATORS[name](vae, x, epsilon)
        assert estimate.rate is not None
        assert estimate.distortion is not None
        assert_exact(estimate.rate.squeeze(), rate)
        assert_exact(estimate.distortion.squeeze(), -log_px_z)
        assert_exact(estimate.bound.squeeze(), log_px_z - rate)


def test_sgvb_draws_one_code_for_all_its_terms(monkeypatch: pytest.MonkeyPatch) -> None:  # trap 4
    vae, seen = make_vae(), []
    log_prob = DiagonalGaussian.log_prob

    def watch(q: DiagonalGaussian, z: Tensor) -> Tensor:
        seen.append(("q", z))
        return log_prob(q, z)

    monkeypatch.setattr(DiagonalGaussian, "log_prob", watch)
    vae.decoder.register_forward_pre_hook(lambda _, args: seen.append(("decoder", args[0])))
    sgvb(vae, images(4), draws(2, 4, 3))
    codes = {name: z.reshape(2, 4, 3) for name, z in seen}
    assert set(codes) == {"q", "decoder"}
    assert torch.equal(codes["q"], codes["decoder"])


@EACH
@pytest.mark.parametrize("loss", LIKELIHOODS)
def test_maximising_the_surrogate_moves_q_towards_the_prior(  # trap 5: the sign of the KL
    loss: str, name: str
) -> None:
    # a decoder that ignores z leaves nothing to the surrogate but its rate
    vae = make_vae(loss=loss)
    means = torch.tensor([2.0, -2.0, 3.0])
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        vae.encoder.head.bias.copy_(torch.cat([means, torch.zeros(3)]))
    estimate = ESTIMATORS[name](vae, images(4), draws(64, 4, 3))
    rise = torch.autograd.grad(estimate.surrogate.mean(), vae.encoder.head.bias)[0]
    assert (rise[:3] * means < 0).all()
    assert estimate.rate is None or (estimate.rate > 0).all()


def test_closed_form_rate_is_exact_and_sampled_rate_is_not() -> None:  # trap 5: the switch
    vae, x = make_vae(), images(4)
    rates = {}
    for name in ("kl", "sgvb"):
        first, other = (ESTIMATORS[name](vae, x, draws(1, 4, 3, name=n)).rate for n in "ab")
        assert first is not None
        assert other is not None
        rates[name] = torch.equal(first, other)
    assert rates == {"kl": True, "sgvb": False}


def test_no_two_estimators_have_the_same_gradient() -> None:  # trap 5: the switch
    gradients = {}
    for name, estimator in ESTIMATORS.items():
        vae = make_vae()
        estimator(vae, images(4), draws(1, 4, 3)).surrogate.mean().backward()  # type: ignore[no-untyped-call]
        assert vae.encoder.head.weight.grad is not None
        gradients[name] = vae.encoder.head.weight.grad
    for name in gradients:
        for other in gradients:
            if name < other:
                assert not torch.allclose(gradients[name], gradients[other], rtol=1e-3), (
                    f"{name} trains like {other}"
                )


def test_sgvb_gradient_flows_through_the_code_and_the_parameters_of_q() -> None:
    # log q(z) - log p(z) at z = mu + s e: the derivative is z in mu, (z s e - 1) / 2 in log s^2
    vae, x = linear_gaussian(MEAN, LOG_VAR)
    epsilon = torch.full((1, 1, 1), 0.7, dtype=torch.float64)
    estimate = sgvb(vae, x, epsilon)
    assert estimate.rate is not None
    gradient = torch.autograd.grad(estimate.rate.sum(), vae.encoder.head.bias)[0]
    std = math.exp(0.5 * LOG_VAR)
    z = MEAN + std * 0.7
    expected = torch.tensor([z, 0.5 * z * std * 0.7 - 0.5], dtype=torch.float64)
    assert_exact(gradient, expected)


@pytest.mark.parametrize("name", ["sgvb", "kl"])
def test_samples_are_averaged(name: str) -> None:
    vae, x, noise = make_vae(), images(4), draws(5, 4, 3)
    together = ESTIMATORS[name](vae, x, noise)
    each = [ESTIMATORS[name](vae, x, draw.unsqueeze(0)).bound for draw in noise]
    assert_exact(together.bound, torch.stack(each).mean(dim=0))


@EACH
def test_distortion_is_the_mean_of_likelihoods_not_the_likelihood_of_a_mean(  # trap 8
    name: str,
) -> None:
    vae, x, noise = make_vae(), images(4).round(), 3 * draws(6, 4, 3)
    z = vae.encoder(x).sample(noise)
    probabilities = vae.decoder(z.flatten(0, 1)).sigmoid().reshape(6, 4, *SHAPE)
    each = -torch_log_prob(Bernoulli(probs=probabilities), x).sum(dim=(2, 3, 4)).mean(dim=0)
    averaged = -torch_log_prob(Bernoulli(probs=probabilities.mean(dim=0)), x).sum(dim=(1, 2, 3))
    assert (each > averaged + 1e-6).all()  # Jensen: the mistake flatters
    estimate = ESTIMATORS[name](vae, x, noise)
    if estimate.distortion is None:
        assert (estimate.bound <= -averaged).all()
    else:
        assert_exact(estimate.distortion, each)


@pytest.mark.parametrize(("loss", "name"), [(x, e) for x in LIKELIHOODS for e in ESTIMATORS])
@pytest.mark.parametrize("bias", [(200.0, 0.0), (-200.0, 0.0), (0.0, 100.0), (0.0, -100.0)])
def test_extreme_outputs_leave_loss_and_gradient_finite(  # trap 6
    loss: str, name: str, bias: tuple[float, float]
) -> None:
    vae = make_vae(loss=loss, dtype=torch.float32)
    logit, log_var = bias
    output = [m for m in vae.decoder.modules() if isinstance(m, torch.nn.Linear)][-1]
    with torch.no_grad():
        output.bias.fill_(logit)
        vae.encoder.head.bias[vae.latent_dim :] = log_var
    x, noise = images(4, dtype=torch.float32), draws(1, 4, 3, dtype=torch.float32)
    estimate = ESTIMATORS[name](vae, x, noise)
    (-estimate.surrogate.mean()).backward()  # type: ignore[no-untyped-call]
    assert estimate.surrogate.isfinite().all()
    assert gradients_are_finite(vae)


def gradients_are_finite(vae: VAE) -> bool:
    return all(p.grad is not None and bool(p.grad.isfinite().all()) for p in vae.parameters())
