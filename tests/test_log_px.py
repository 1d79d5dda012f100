"""log p(x) by importance sampling, against models whose evidence is known (trap 9)."""

import math

import pytest
import torch
from tiny import (
    LOG_PX,
    POSTERIOR_MEAN,
    POSTERIOR_VAR,
    SIGMA2,
    W,
    X,
    assert_exact,
    images,
    linear_gaussian,
    make_subject,
    make_vae,
    torch_log_prob,
)
from torch import Tensor
from torch.distributions import Normal

from vaebench.estimators import sgvb
from vaebench.metrics import METRICS, Evidence, importance_weighted_bound, log_px
from vaebench.seeding import stream

MEAN, LOG_VAR = 0.4, math.log(0.3)  # a posterior that is not the exact one


def noise(k: int, count: int, latent_dim: int, seed: int = 0) -> Tensor:
    return torch.randn(count, latent_dim, generator=stream(seed, "log_px", k)).double()


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_bound_is_the_log_of_the_mean_of_exactly_k_weights(samples: int) -> None:
    vae, x = linear_gaussian(MEAN, LOG_VAR)
    q = Normal(*torch.tensor([MEAN, math.exp(LOG_VAR / 2)], dtype=torch.float64))
    z = torch.cat([q.mean + q.stddev * noise(k, 1, 1) for k in range(samples)])
    one = torch.ones((), dtype=torch.float64)
    weights = (
        torch_log_prob(Normal(W * z, math.sqrt(SIGMA2) * one), X * one)
        + torch_log_prob(Normal(0 * one, one), z)
        - torch_log_prob(q, z)
    )
    found = importance_weighted_bound(vae, x, seed=0, samples=samples)
    assert_exact(found.bound, weights.exp().mean().log().reshape(1))
    assert log_px(found) == pytest.approx(found.bound.mean().item())
    assert found.effective.item() == pytest.approx(
        (weights.exp().sum() ** 2 / weights.exp().square().sum()).item(), rel=1e-9
    )


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_one_sample_is_l_a(loss: str) -> None:
    vae, x = make_vae(loss=loss).eval(), images(5)
    with torch.no_grad():
        expected = sgvb(vae, x, noise(0, 5, 3).unsqueeze(0)).bound
    assert_exact(importance_weighted_bound(vae, x, seed=0, samples=1).bound, expected)


@pytest.mark.parametrize("samples", [1, 3, 50])
def test_with_the_exact_posterior_every_sample_gives_the_evidence(samples: int) -> None:
    vae, x = linear_gaussian(POSTERIOR_MEAN, math.log(POSTERIOR_VAR))
    found = importance_weighted_bound(vae, x, seed=0, samples=samples)
    assert found.bound.item() == pytest.approx(LOG_PX, abs=1e-9)
    assert found.effective.item() == pytest.approx(samples, rel=1e-9)  # equal weights


@pytest.mark.parametrize(
    ("samples", "at"),
    [(1, [1]), (3, [1, 2, 3]), (20, [1, 2, 5, 10, 20]), (60, [1, 2, 5, 10, 20, 50, 60])],
)
def test_curve_over_k_is_of_the_same_draws_and_ends_at_the_metric(
    samples: int, at: list[int]
) -> None:
    vae, x = make_vae().eval(), images(5)
    found = importance_weighted_bound(vae, x, seed=0, samples=samples)
    assert list(found.curve) == at
    assert found.curve[samples] == log_px(found)
    for k in at:
        alone = importance_weighted_bound(vae, x, seed=0, samples=k)
        assert found.curve[k] == pytest.approx(log_px(alone), rel=1e-12)
    with torch.no_grad():
        l_a = sgvb(vae, x, noise(0, 5, 3).unsqueeze(0)).bound
    assert found.curve[1] == pytest.approx(l_a.mean().item(), rel=1e-9)


def test_effective_sample_size_is_that_of_the_known_weights() -> None:
    # E[w]^2 / E[w^2] in closed form: w = p(x) N(z; m, v) / q(z), all Gaussians
    q_var, m, v = math.exp(LOG_VAR), POSTERIOR_MEAN, POSTERIOR_VAR
    combined = 2 / v - 1 / q_var
    exponent = (2 * m / v - MEAN / q_var) ** 2 / combined - 2 * m**2 / v + MEAN**2 / q_var
    second = math.sqrt(q_var / combined) / v * math.exp(exponent / 2)
    samples = 4000
    vae, x = linear_gaussian(MEAN, LOG_VAR)
    many = x.expand(50, 1, 1, 1)
    found = importance_weighted_bound(vae, many, seed=0, samples=samples)
    mean, spread = found.effective.mean().item(), found.effective.std().item()
    assert mean / samples == pytest.approx(1 / second, abs=4 * spread / samples / math.sqrt(50))
    assert spread < 0.05 * samples


def test_record_names_mean_and_low_quantile_of_the_effective_sample_size() -> None:
    effective = torch.linspace(1, 3, 21, dtype=torch.float64)
    found = Evidence(torch.zeros(21), effective, {1: -2.0, 2: -1.5, 3: -1.25})
    assert found.describe() == {
        "samples": 3,
        "ess": pytest.approx(2.0),
        "ess_low": pytest.approx(1.1),
        "curve": {"1": -2.0, "2": -1.5, "3": -1.25},
    }


def test_bound_rises_with_k_to_the_evidence() -> None:
    vae, x = linear_gaussian(MEAN, LOG_VAR)
    many = x.expand(4000, 1, 1, 1)
    bounds = [importance_weighted_bound(vae, many, seed=0, samples=k).bound for k in (1, 4, 16, 64)]
    means = [bound.mean().item() for bound in bounds]
    errors = [bound.std().item() / math.sqrt(len(bound)) for bound in bounds]
    for i in range(3):
        assert means[i + 1] - means[i] > 4 * math.hypot(errors[i], errors[i + 1])
    assert all(m < LOG_PX + 4 * e for m, e in zip(means, errors, strict=True))
    assert means[-1] == pytest.approx(LOG_PX, abs=0.05)


def test_batches_do_not_change_it_and_seeds_do() -> None:  # trap 7
    vae, x = make_vae().eval(), images(10)
    whole = importance_weighted_bound(vae, x, seed=0, samples=3)
    assert whole.bound.shape == whole.effective.shape == (10,)
    for size in (1, 7):
        found = importance_weighted_bound(vae, x, seed=0, samples=3, batch_size=size)
        assert_exact(found.bound, whole.bound)
        assert_exact(found.effective, whole.effective)
        assert found.curve == pytest.approx(whole.curve, rel=1e-9)
    other = importance_weighted_bound(vae, x, seed=1, samples=3)
    assert not torch.allclose(other.bound, whole.bound)


def test_memory_does_not_grow_with_k(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    vae, x = make_vae(), images(6)
    decode = vae.decoder.forward

    def watched(z: Tensor) -> Tensor:
        decoded.append(len(z))
        return decode(z)

    monkeypatch.setattr(vae.decoder, "forward", watched)
    importance_weighted_bound(vae, x, seed=0, samples=50, batch_size=4)
    assert decoded == [4, 2] * 50


def test_hundreds_of_nats_do_not_underflow() -> None:
    vae = make_vae(shape=(1, 28, 28), dtype=torch.float32)
    x = images(3, (1, 28, 28), dtype=torch.float32).round()
    found = importance_weighted_bound(vae, x, seed=0, samples=5)
    assert found.bound.dtype == torch.float64
    assert torch.isfinite(found.bound).all()
    assert (found.bound < -400).all()
    assert ((found.effective + 1e-9 >= 1) & (found.effective <= 5 + 1e-9)).all()


def test_log_px_without_its_k_is_an_error() -> None:
    assert METRICS["log_px"].opt_in
    with pytest.raises(ValueError, match="number of samples K"):
        METRICS["log_px"](make_subject(make_vae(), samples=None))
