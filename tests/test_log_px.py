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
from vaebench.metrics import METRICS, importance_weighted_bound, log_px
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
    assert_exact(found, weights.exp().mean().log().reshape(1))
    assert log_px(found) == pytest.approx(found.mean().item())


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_one_sample_is_l_a(loss: str) -> None:
    vae, x = make_vae(loss=loss).eval(), images(5)
    with torch.no_grad():
        expected = sgvb(vae, x, noise(0, 5, 3).unsqueeze(0)).bound
    assert_exact(importance_weighted_bound(vae, x, seed=0, samples=1), expected)


@pytest.mark.parametrize("samples", [1, 3, 50])
def test_with_the_exact_posterior_every_sample_gives_the_evidence(samples: int) -> None:
    vae, x = linear_gaussian(POSTERIOR_MEAN, math.log(POSTERIOR_VAR))
    found = importance_weighted_bound(vae, x, seed=0, samples=samples)
    assert found.item() == pytest.approx(LOG_PX, abs=1e-9)


def test_bound_rises_with_k_to_the_evidence() -> None:
    vae, x = linear_gaussian(MEAN, LOG_VAR)
    many = x.expand(4000, 1, 1, 1)
    bounds = [importance_weighted_bound(vae, many, seed=0, samples=k) for k in (1, 4, 16, 64)]
    means = [bound.mean().item() for bound in bounds]
    errors = [bound.std().item() / math.sqrt(len(bound)) for bound in bounds]
    for i in range(3):
        assert means[i + 1] - means[i] > 4 * math.hypot(errors[i], errors[i + 1])
    assert all(m < LOG_PX + 4 * e for m, e in zip(means, errors, strict=True))
    assert means[-1] == pytest.approx(LOG_PX, abs=0.05)


def test_batches_do_not_change_it_and_seeds_do() -> None:  # trap 7
    vae, x = make_vae().eval(), images(10)
    whole = importance_weighted_bound(vae, x, seed=0, samples=3)
    assert whole.shape == (10,)
    for size in (1, 7):
        found = importance_weighted_bound(vae, x, seed=0, samples=3, batch_size=size)
        assert_exact(found, whole)
    assert not torch.allclose(importance_weighted_bound(vae, x, seed=1, samples=3), whole)


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
    assert found.dtype == torch.float64
    assert torch.isfinite(found).all()
    assert (found < -400).all()


def test_log_px_without_its_k_is_an_error() -> None:
    assert METRICS["log_px"].opt_in
    with pytest.raises(ValueError, match="number of samples K"):
        METRICS["log_px"](make_subject(make_vae(), samples=None))
