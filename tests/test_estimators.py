"""The estimators against models whose evidence is known, and against each other."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

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
    X,
    assert_exact,
    draws,
    images,
    linear_gaussian,
    make_vae,
    torch_log_prob,
)
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from vaebench.config import make_grid, make_run
from vaebench.distributions import DiagonalGaussian, standard_normal_log_prob
from vaebench.errors import ConfigError
from vaebench.estimators import ESTIMATORS, Estimate, closed_form_kl, dreg, iwae, sgvb
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


class Copies(NamedTuple):
    """Independent linear-Gaussian models, one per image, so that each has a gradient of its own.

    ``leaves`` are the posterior's mean and log-variance (N, 1) and the decoder's weight (N,).
    """

    vae: VAE
    x: Tensor
    leaves: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, mean: float, log_var: float, count: int = DRAWS) -> "Copies":
        vae, x = linear_gaussian(mean, log_var)
        leaves = tuple(
            torch.full(shape, value, dtype=torch.float64, requires_grad=True)
            for shape, value in (((count, 1), mean), ((count, 1), log_var), ((count,), W))
        )
        weight = leaves[2]
        vae.encoder.register_forward_hook(lambda *_: DiagonalGaussian(*leaves[:2]))
        vae.decoder.register_forward_hook(
            lambda _, z, __: (z[0].view(-1, count) * weight).view(-1, 1, 1, 1)
        )
        return cls(vae, x.expand(count, 1, 1, 1), leaves)

    def gradients(self, value: Tensor) -> list[Tensor]:
        """Of ``value`` (N,), for each image, in the three leaves; zero where it has none."""
        found = torch.autograd.grad(
            value.sum(), self.leaves, allow_unused=True, materialize_grads=True
        )
        return [gradient.flatten() for gradient in found]


def exact_elbo(mean: Tensor, log_var: Tensor, weight: Tensor) -> Tensor:
    """The linear-Gaussian model's ELBO in closed form."""
    var = log_var.exp()
    error = (X - weight * mean).square() + weight.square() * var
    distortion = 0.5 * (math.log(2 * math.pi * SIGMA2) + error / SIGMA2)
    return -(distortion + 0.5 * (mean.square() + var - 1 - log_var))


def integrated_iwae(
    mean: Tensor, log_var: Tensor, weight: Tensor, samples: int, step: float = 0.04
) -> Tensor:
    """The linear-Gaussian model's importance-weighted bound, for one or two samples.

    The trapezoid rule over the draws, whose error for such integrands is that of rounding.
    """
    epsilon = torch.arange(-8, 8, step, dtype=torch.float64)
    density = torch.exp(standard_normal_log_prob(epsilon.unsqueeze(-1))) * step
    z = mean + (0.5 * log_var).exp() * epsilon
    log_joint = torch_log_prob(
        Normal(weight * z, math.sqrt(SIGMA2)), torch.tensor(X, dtype=torch.float64)
    )
    log_joint = log_joint - 0.5 * z.square()
    log_weight = log_joint + 0.5 * (log_var + epsilon.square())  # 2 pi cancels: p(z) against q(z)
    if samples == 1:
        return (density * log_weight).sum()
    pairs = torch.logaddexp(log_weight, log_weight.unsqueeze(-1)) - math.log(2)
    return density @ pairs @ density


def exact(name: str, mean: float, log_var: float) -> tuple[Tensor, list[Tensor]]:
    """Expected value of an estimator with two samples, and its gradient in the three leaves."""
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (mean, log_var, W)]
    value = exact_elbo(*leaves) if ESTIMATORS[name].splits else integrated_iwae(*leaves, samples=2)
    return value, list(torch.autograd.grad(value, leaves))


def assert_within_four_standard_errors(found: Tensor, expected: Tensor, largest: float) -> None:
    """The mean of ``found`` (N,) is ``expected``, and is known better than to ``largest``."""
    error = (found.std() / math.sqrt(len(found))).item()
    assert 0 < error < largest
    assert found.mean().item() == pytest.approx(expected.item(), abs=4 * error)


def test_the_references_are_right() -> None:
    leaves = [torch.tensor(v, dtype=torch.float64) for v in (MEAN, LOG_VAR, W)]
    elbo = exact_elbo(*leaves)
    assert elbo.item() + kl_to_posterior(MEAN, LOG_VAR) == pytest.approx(LOG_PX, abs=1e-12)
    assert_exact(integrated_iwae(*leaves, samples=1), elbo)
    two = integrated_iwae(*leaves, samples=2)
    assert_exact(integrated_iwae(*leaves, samples=2, step=0.02), two)
    assert elbo + 0.1 < two < LOG_PX - 0.1


POSTERIORS = pytest.mark.parametrize(
    ("mean", "log_var"), [(MEAN, LOG_VAR), (-0.3, math.log(0.05)), (0.7, math.log(0.1))]
)


@EACH
@POSTERIORS
def test_value_is_the_exact_bound_within_four_standard_errors(  # trap 2
    name: str, mean: float, log_var: float
) -> None:
    copies = Copies.of(mean, log_var)
    with torch.no_grad():
        bound = ESTIMATORS[name](copies.vae, copies.x, draws(2, DRAWS, 1)).bound
    assert_within_four_standard_errors(bound, exact(name, mean, log_var)[0], 0.05)


@EACH
@POSTERIORS
def test_gradient_is_that_of_the_exact_bound_within_four_standard_errors(
    name: str, mean: float, log_var: float
) -> None:
    copies = Copies.of(mean, log_var)
    surrogate = ESTIMATORS[name](copies.vae, copies.x, draws(2, DRAWS, 1)).surrogate
    expected = exact(name, mean, log_var)[1]
    for found, value in zip(copies.gradients(surrogate), expected, strict=True):
        assert abs(value) > 0.05
        assert_within_four_standard_errors(found, value, 0.35)


@EACH
@POSTERIORS
def test_rate_has_the_gradient_of_the_kl_so_that_beta_weighs_it(
    name: str, mean: float, log_var: float
) -> None:
    copies = Copies.of(mean, log_var)
    estimate = ESTIMATORS[name](copies.vae, copies.x, draws(2, DRAWS, 1))
    if estimate.rate is None:
        return
    in_mean, in_log_var, in_weight = copies.gradients(estimate.rate)
    for found, value in ((in_mean, mean), (in_log_var, 0.5 * (math.exp(log_var) - 1))):
        if name == "kl":
            assert_exact(found, torch.full_like(found, value))
        else:
            assert_within_four_standard_errors(found, torch.tensor(value), 0.05)
    assert not in_weight.any()


@pytest.mark.parametrize(
    ("stands_still", "name"),
    [
        *((True, name) for name in ("stl", "dreg", "score")),
        *((False, name) for name in ("sgvb", "kl", "iwae")),
    ],
)
def test_which_encoder_gradients_vanish_at_the_exact_posterior_for_every_draw(
    stands_still: bool, name: str
) -> None:
    copies = Copies.of(POSTERIOR_MEAN, math.log(POSTERIOR_VAR), count=50)
    estimate = ESTIMATORS[name](copies.vae, copies.x, draws(3, 50, 1))
    in_mean, in_log_var, in_weight = copies.gradients(estimate.surrogate)
    for gradient in (in_mean, in_log_var):
        if stands_still:
            assert_exact(gradient, torch.zeros_like(gradient))
        else:
            assert gradient.abs().median() > 0.1
    assert in_weight.abs().median() > 0.1


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


def gradients(vae: VAE, value: Tensor) -> dict[str, Tensor]:
    """Of the mean of ``value`` (B,), by the name of the parameter; zero where it has none."""
    names, parameters = zip(*vae.named_parameters(), strict=True)
    found = torch.autograd.grad(
        value.mean(), parameters, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return dict(zip(names, found, strict=True))


def test_no_two_estimators_have_the_same_gradient() -> None:  # trap 5: the switch
    vae, x, noise = make_vae(), images(4), draws(5, 4, 3)
    found = {
        name: gradients(vae, estimator(vae, x, noise).surrogate)["encoder.head.weight"]
        for name, estimator in ESTIMATORS.items()
    }
    for name in found:
        for other in found:
            if name < other:
                assert not torch.allclose(found[name], found[other], rtol=1e-3), (
                    f"{name} trains like {other}"
                )


def assert_same(
    vae: VAE, one: Estimate, other: Estimate, which: Callable[[str], bool] = lambda _: True
) -> None:
    """Equal bounds, and equal gradients in the parameters that ``which`` names."""
    assert_exact(one.bound, other.bound)
    expected = gradients(vae, other.surrogate)
    compared = {k: v for k, v in gradients(vae, one.surrogate).items() if which(k)}
    assert any(bool(v.any()) for v in compared.values())
    for key, gradient in compared.items():
        assert_exact(gradient, expected[key], key)


@pytest.mark.parametrize(("name", "other"), [("iwae", "sgvb"), ("dreg", "stl")])
def test_importance_weighting_one_sample_changes_nothing(name: str, other: str) -> None:  # trap 9
    vae, x, noise = make_vae(), images(4), draws(1, 4, 3)
    assert_same(vae, ESTIMATORS[name](vae, x, noise), ESTIMATORS[other](vae, x, noise))


@pytest.mark.parametrize(("name", "other"), [("stl", "sgvb"), ("score", "sgvb"), ("dreg", "iwae")])
def test_estimators_of_one_bound_differ_in_the_gradient_of_the_encoder_only(
    name: str, other: str
) -> None:
    vae, x, noise = make_vae(), images(4), draws(3, 4, 3)
    one, two = ESTIMATORS[name](vae, x, noise), ESTIMATORS[other](vae, x, noise)
    assert_same(vae, one, two, which=lambda key: key.startswith("decoder"))
    head = "encoder.head.weight"
    assert not torch.allclose(
        gradients(vae, one.surrogate)[head], gradients(vae, two.surrogate)[head]
    )


@EACH
def test_the_order_of_the_samples_does_not_matter(name: str) -> None:
    vae, x, noise = make_vae(), images(4), draws(5, 4, 3)
    once, again = (ESTIMATORS[name](vae, x, n) for n in (noise, noise.flip(0)))
    assert_same(vae, once, again)


def test_importance_weighted_bound_rises_with_its_samples_to_the_evidence() -> None:  # trap 9
    copies = Copies.of(MEAN, LOG_VAR, count=4000)
    noise = draws(100, 4000, 1)
    with torch.no_grad():
        bounds = [iwae(copies.vae, copies.x, noise[:k]).bound for k in (1, 2, 5, 20, 100)]
    for fewer, more in pairwise(bounds):
        rise = more - fewer
        assert rise.mean() > 4 * rise.std() / math.sqrt(len(rise))
    assert bounds[-1].mean().item() == pytest.approx(LOG_PX, abs=0.02)


def test_dreg_weighs_each_path_by_its_squared_normalised_weight() -> None:
    vae, x, noise = make_vae(), images(4), draws(3, 4, 3)
    q = vae.encoder(x)
    z = q.sample(noise).detach().requires_grad_()
    fixed = DiagonalGaussian(q.mean.detach(), q.log_var.detach())
    log_px = vae.likelihood.log_prob(x.repeat(3, 1, 1, 1), vae.decoder(z.flatten(0, 1)))
    log_weights = log_px.view(3, 4) + standard_normal_log_prob(z) - fixed.log_prob(z)
    (in_z,) = torch.autograd.grad(log_weights.sum(), z)
    squared = (log_weights.exp() / log_weights.exp().sum(dim=0)).square().detach()
    along = squared.unsqueeze(-1) * in_z
    expected = gradients(vae, (along * q.sample(noise)).sum(dim=(0, 2)))
    found = gradients(vae, dreg(vae, x, noise).surrogate)
    for key in (key for key in found if key.startswith("encoder")):
        assert_exact(found[key], expected[key], key)


def test_score_is_its_formula() -> None:
    samples, std = 3, math.exp(0.5 * LOG_VAR)
    copies = Copies.of(MEAN, LOG_VAR, count=20)
    epsilon = draws(samples, 20, 1)
    found = copies.gradients(ESTIMATORS["score"](copies.vae, copies.x, epsilon).surrogate)
    e = epsilon.squeeze(-1)
    z = MEAN + std * e
    f = torch_log_prob(Normal(W * z, math.sqrt(SIGMA2)), copies.x.flatten())
    f = f + 0.5 * (e.square() + LOG_VAR - z.square())
    scores = (e / std, 0.5 * (e.square() - 1))  # of q, in its mean and its log-variance
    for gradient, in_q in zip(found[:2], scores, strict=True):
        terms = [(f[k] - (f.sum(dim=0) - f[k]) / (samples - 1)) * in_q[k] for k in range(samples)]
        assert_exact(gradient, torch.stack(terms).mean(dim=0))
    assert_exact(found[2], (z * (copies.x.flatten() - W * z) / SIGMA2).mean(dim=0))


def test_score_lets_no_gradient_flow_through_the_code() -> None:
    vae, seen = make_vae(), []
    vae.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].requires_grad))
    estimate = ESTIMATORS["score"](vae, images(4), draws(2, 4, 3))
    assert seen == [False]
    assert all(bool(g.any()) for g in gradients(vae, estimate.surrogate).values())


def test_baseline_of_score_takes_away_what_all_samples_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vae, x, noise = make_vae(), images(4), draws(3, 4, 3)
    before = gradients(vae, ESTIMATORS["score"](vae, x, noise).surrogate)
    kind = type(vae.likelihood)
    plain = kind.log_prob
    monkeypatch.setattr(kind, "log_prob", lambda *args: plain(*args) + 1000.0)
    after = gradients(vae, ESTIMATORS["score"](vae, x, noise).surrogate)
    for key in before:
        assert_exact(after[key], before[key], key)


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
def test_likelihoods_are_averaged_and_not_what_the_decoder_returns(name: str) -> None:  # trap 8
    vae, x, noise = make_vae(), images(4).round(), 3 * draws(6, 4, 3)
    q = vae.encoder(x)
    z = q.sample(noise)
    probabilities = vae.decoder(z.flatten(0, 1)).sigmoid().reshape(6, 4, *SHAPE)
    each = torch_log_prob(Bernoulli(probs=probabilities), x).sum(dim=(2, 3, 4))
    averaged = torch_log_prob(Bernoulli(probs=probabilities.mean(dim=0)), x).sum(dim=(1, 2, 3))
    assert (each.mean(dim=0) < averaged - 1e-6).all()  # Jensen: the mistake flatters
    estimate = ESTIMATORS[name](vae, x, noise)
    if estimate.distortion is None:
        log_weights = each + standard_normal_log_prob(z) - q.log_prob(z)
        assert_exact(estimate.bound, log_weights.exp().mean(dim=0).log())
    else:
        assert_exact(estimate.distortion, -each.mean(dim=0))


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
    x, noise = images(4, dtype=torch.float32), draws(2, 4, 3, dtype=torch.float32)
    estimate = ESTIMATORS[name](vae, x, noise)
    (-estimate.surrogate.mean()).backward()  # type: ignore[no-untyped-call]
    assert estimate.surrogate.isfinite().all()
    assert gradients_are_finite(vae)


def gradients_are_finite(vae: VAE) -> bool:
    return all(p.grad is not None and bool(p.grad.isfinite().all()) for p in vae.parameters())


# ---------------------------------------------------------------- what the configuration knows


@EACH
def test_an_estimator_declares_whether_its_bound_splits(name: str) -> None:
    estimate = ESTIMATORS[name](make_vae(), images(4), draws(2, 4, 3))
    splits = ESTIMATORS[name].splits
    assert (estimate.rate is not None, estimate.distortion is not None) == (splits, splits)


@EACH
def test_an_estimator_works_with_the_fewest_samples_it_declares_and_with_its_default(
    name: str,
) -> None:
    estimator = ESTIMATORS[name]
    assert estimator.samples >= estimator.min_samples
    for samples in (estimator.min_samples, estimator.samples):
        estimate = estimator(make_vae(), images(4), draws(samples, 4, 3))
        assert estimate.surrogate.isfinite().all()
    if estimator.min_samples > 1:
        with pytest.raises(ValueError, match=f"at least {estimator.min_samples} samples"):
            estimator(make_vae(), images(4), draws(estimator.min_samples - 1, 4, 3))


@EACH
def test_samples_are_the_estimators_own_unless_the_configuration_says_otherwise(name: str) -> None:
    for given_ in (name, {"name": name}):
        assert make_run({"estimator": given_}).estimator.samples == ESTIMATORS[name].samples
    chosen = make_run({"estimator": {"name": name, "samples": 7}})
    assert chosen.to_dict()["estimator"] == {"name": name, "samples": 7}


def test_default_runs_of_sgvb_and_kl_take_one_sample() -> None:  # the published run_ids stand on it
    for name in ("sgvb", "kl"):
        assert make_run({"estimator": name}).to_dict()["estimator"] == {"name": name, "samples": 1}


def test_too_few_samples_are_refused_with_the_number_that_is_needed() -> None:
    with pytest.raises(ConfigError, match="estimator: score needs samples of at least 2, not 1"):
        make_run({"estimator": {"name": "score", "samples": 1}})
    with pytest.raises(ConfigError, match="score needs samples of at least 2"):
        make_grid({"axes": {"estimator": ["kl", "score"]}}, {"estimator.samples": 1})


@EACH
@pytest.mark.parametrize("training", [{"beta": 4.0}, {"beta": 0.5}, {"beta_warmup": 3}])
def test_beta_is_refused_where_there_is_no_rate_to_weigh(
    name: str, training: dict[str, float]
) -> None:
    raw = {"estimator": name, "training": training}
    if ESTIMATORS[name].splits:
        assert make_run(raw).estimator.name == name
    else:
        with pytest.raises(ConfigError, match=f"the bound of {name} does not split.*beta_warmup"):
            make_run(raw)
