"""A linear VAE with a learned variance is probabilistic PCA, and its optimum is known.

p(x) is then N(b, W W' + sigma2 I), which has a density in closed form, and so has the largest
likelihood of a data set under it (Tipping & Bishop 1999). Where the columns of W are orthogonal the
exact posterior is diagonal, so that the best ELBO equals that likelihood (Lucas et al. 2019): what
training, the bound and the importance-weighted bound miss can all be measured, on real images.

https://doi.org/10.1111/1467-9868.00196, https://arxiv.org/abs/1911.02469
"""

import copy
import math
import os
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from sklearn.decomposition import PCA
from test_datasets import REAL_MIRROR
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaebench import datasets
from vaebench.config import Grid, RunConfig, make_grid, make_run, read_yaml, with_value
from vaebench.datasets import Splits
from vaebench.errors import DataError
from vaebench.estimators import ESTIMATORS
from vaebench.fitted_gaussian import FittedGaussian
from vaebench.metrics import Evaluation, elbo, evaluate, importance_weighted_bound, rate
from vaebench.run import build
from vaebench.run.building import plan
from vaebench.seeding import stream
from vaebench.training import train
from vaebench.vae import VAE, start_likelihood

PRESET = Path(__file__).parents[1] / "experiments" / "ppca.yaml"


class Ppca(NamedTuple):
    """The maximum-likelihood fit of probabilistic PCA.

    Attributes:
        log_likelihood: Of the images that it was fitted to, nats per image.
        rate: KL(p(z|x) || p(z)) of the exact posterior, nats per image.
        sigma2: The variance of the pixels' noise: the mean of the eigenvalues left out.
        density: p(x) of flattened images.
    """

    log_likelihood: float
    rate: float
    sigma2: float
    density: MultivariateNormal


def flat(x: Tensor) -> Tensor:
    return x.flatten(1).double()


def ppca(x: Tensor, latent_dim: int) -> Ppca:
    """Fit probabilistic PCA to images (N, C, H, W): Tipping & Bishop, equations 4, 7 and 8."""
    pixels = flat(x)
    count = pixels.shape[1]
    eigenvalues, vectors = torch.linalg.eigh(torch.cov(pixels.T, correction=0))
    kept, left = eigenvalues[-latent_dim:], eigenvalues[:-latent_dim]
    sigma2 = left.mean()
    weights = vectors[:, -latent_dim:] * (kept - sigma2).sqrt()
    log_det = kept.log().sum() + len(left) * sigma2.log()
    return Ppca(
        log_likelihood=-0.5 * (count * math.log(2 * math.pi) + log_det + count).item(),
        rate=0.5 * (kept / sigma2).log().sum().item(),
        sigma2=sigma2.item(),
        density=gaussian(pixels.mean(dim=0), weights, sigma2.item()),
    )


def gaussian(mean: Tensor, weights: Tensor, sigma2: float) -> MultivariateNormal:
    """N(mean, W W' + sigma2 I), with weights W of shape (pixels, Z)."""
    noise = sigma2 * torch.eye(len(weights), dtype=weights.dtype)
    return MultivariateNormal(mean, weights @ weights.T + noise)


def density_of(vae: VAE) -> MultivariateNormal:
    """The exact p(x) of a trained linear VAE."""
    assert isinstance(vae.likelihood, FittedGaussian)
    weights = vae.get_parameter("decoder.0.weight").detach().double()
    bias = vae.get_parameter("decoder.0.bias").detach().double()
    return gaussian(bias, weights, vae.likelihood.sigma2)


def log_likelihood(density: MultivariateNormal, x: Tensor) -> Tensor:
    """Exact log p(x) of images (N, C, H, W): nats, (N,)."""
    found: Tensor = density.log_prob(flat(x))  # type: ignore[no-untyped-call]
    return found


def config(estimator: str) -> RunConfig:
    return make_run(
        {
            "dataset": "digits",
            "model": {"name": "linear", "latent_dim": 8},
            "loss": {"name": "gaussian", "gaussian": {"sigma2": "learned", "output": "linear"}},
            "estimator": estimator,
            "training": {
                "epochs": 60,
                "batch_size": 60,
                "learning_rate": 0.03,
                "schedule": "cosine",
            },
        }
    )


def trained(config: RunConfig, splits: Splits) -> VAE:
    """Train as a run does, without validation."""
    state = build(config, splits.shape, "cpu")
    x = splits.train.x
    start_likelihood(state.vae, x)
    estimator = ESTIMATORS[config.estimator.name]
    for _ in train(state, estimator, x, x[:0], plan(config), seed=config.seed):
        pass
    return state.vae


def evaluated(vae: VAE, x: Tensor) -> Evaluation:
    return evaluate(vae, x, torch.randn(16, len(x), vae.latent_dim, generator=stream(0, "test")))


@pytest.fixture(scope="module")
def digits() -> Splits:
    return datasets.load("digits")


@pytest.fixture(scope="module", params=["kl", "sgvb"])
def vae(request: pytest.FixtureRequest, digits: Splits) -> VAE:
    return trained(config(request.param), digits)


@pytest.mark.parametrize("latent_dim", [1, 8, 30])
def test_closed_form_is_the_likelihood_of_its_own_density_and_that_of_scikit_learn(
    latent_dim: int, digits: Splits
) -> None:
    x = digits.train.x
    found = ppca(x, latent_dim)
    assert found.log_likelihood == pytest.approx(log_likelihood(found.density, x).mean().item())

    theirs = PCA(latent_dim, svd_solver="full").fit(flat(x).numpy())
    unbiased = len(x) / (len(x) - 1)  # their covariance divides by N - 1
    assert found.sigma2 * unbiased == pytest.approx(theirs.noise_variance_)
    covariance = torch.from_numpy(theirs.get_covariance())
    assert torch.allclose(found.density.covariance_matrix * unbiased, covariance, atol=1e-9)


@pytest.mark.slow
def test_training_reaches_the_largest_likelihood_of_probabilistic_pca(
    vae: VAE, digits: Splits
) -> None:
    x = digits.train.x
    best = ppca(x, vae.latent_dim)
    reached = log_likelihood(density_of(vae), x).mean().item()
    assert best.log_likelihood - 0.15 < reached < best.log_likelihood
    assert isinstance(vae.likelihood, FittedGaussian)
    assert vae.likelihood.sigma2 == pytest.approx(best.sigma2, rel=0.03)


@pytest.mark.slow
def test_bound_reaches_that_likelihood_and_its_rate_that_of_the_exact_posterior(
    vae: VAE, digits: Splits
) -> None:
    x = digits.train.x
    best = ppca(x, vae.latent_dim)
    reached = evaluated(vae, x)
    assert best.log_likelihood - 0.5 < elbo(reached) < best.log_likelihood
    assert rate(reached) == pytest.approx(best.rate, abs=0.2)


@pytest.mark.slow
def test_fit_holds_on_images_that_it_was_not_fitted_to(vae: VAE, digits: Splits) -> None:
    best, x = ppca(digits.train.x, vae.latent_dim), digits.test.x
    expected = log_likelihood(best.density, x).mean().item()
    assert log_likelihood(density_of(vae), x).mean().item() == pytest.approx(expected, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("widening", [1.0, 1.5], ids=["as trained", "too wide a posterior"])
def test_importance_weighted_bound_finds_the_exact_likelihood_that_the_elbo_misses(
    widening: float, vae: VAE, digits: Splits
) -> None:
    x, samples = digits.test.x[:100], 500
    model = copy.deepcopy(vae)
    with torch.no_grad():  # the standard deviation of q, in every dimension
        model.get_parameter("encoder.head.bias")[model.latent_dim :] += 2 * math.log(widening)
    exact = log_likelihood(density_of(model), x).mean().item()

    bounds = [importance_weighted_bound(model, x, seed=s, samples=samples).bound for s in range(6)]
    means = torch.stack(bounds).mean(dim=1)
    error = means.std().item() / math.sqrt(len(means))
    # Its bias is a weight's relative variance / 2K: at most 3.4 / 1000 of q's width, and a rest.
    assert means.mean().item() == pytest.approx(exact, abs=4 * error + 0.005)
    assert error < 0.01

    # KL(q, posterior) of a posterior too wide by s, in nats a dimension: (s^2 - 1) / 2 - log s
    missed = model.latent_dim * ((widening**2 - 1) / 2 - math.log(widening))
    gap = exact - elbo(evaluated(model, x))
    assert missed - 0.1 < gap < missed + 0.6


# On MNIST: the preset, and what it quotes.


@pytest.fixture(scope="module")
def preset() -> Grid:
    return make_grid(read_yaml(PRESET), source=PRESET.name)


@pytest.fixture(scope="module")
def mnist(preset: Grid, tmp_path_factory: pytest.TempPathFactory) -> Splits:
    [found, *_] = preset.runs(PRESET.name)
    own_data, options = os.environ.get("VAEBENCH_DATA"), found.config.dataset.model_dump()
    folder = Path(own_data) if own_data else tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEBENCH_MNIST_MIRROR", REAL_MIRROR or "/nowhere")  # no internet in tests
        try:
            return datasets.load(data_dir=folder, **options)
        except DataError:
            if REAL_MIRROR:
                raise
            pytest.skip("no MNIST: set VAEBENCH_DATA or VAEBENCH_MNIST_MIRROR")


@pytest.mark.slow
def test_preset_quotes_the_closed_form(preset: Grid, mnist: Splits) -> None:
    [found, *_] = preset.runs(PRESET.name)
    best = ppca(mnist.train.x, found.config.model.latent_dim)
    expected = {
        "train_eval/elbo": best.log_likelihood,
        "train_eval/rate": best.rate,
        "test/log_px": log_likelihood(best.density, mnist.test.x).mean().item(),
    }
    quoted = {entry.metric: entry.value for entry in preset.published}
    assert quoted == pytest.approx(expected, abs=0.005)


@pytest.mark.slow
def test_preset_reaches_the_largest_likelihood_on_mnist(preset: Grid, mnist: Splits) -> None:
    [found, *_] = preset.runs(PRESET.name)
    short = make_run(with_value(found.config.to_dict(), "training.epochs", 80))
    vae = trained(short, mnist)
    best = ppca(mnist.train.x, vae.latent_dim)
    reached = log_likelihood(density_of(vae), mnist.train.x).mean().item()
    assert best.log_likelihood - 0.5 < reached < best.log_likelihood
