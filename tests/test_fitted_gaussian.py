"""Where a fitted variance starts, and that it is the optimum of the bound that is trained."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from small_runs import settings, task, without_figures
from tiny import SHAPE, assert_exact, draws, images, make_vae
from torch import Tensor

from vaebench import datasets
from vaebench.estimators import ESTIMATORS, iwae
from vaebench.fitted_gaussian import FittedGaussian, Support
from vaebench.likelihoods import Fitted, ImportanceFitted
from vaebench.run import run
from vaebench.vae import VAE, fit_likelihood, start_likelihood

SAMPLES = 20
IMPORTANCE = [name for name, estimator in ESTIMATORS.items() if estimator.importance_weighted]
LEARNED = {"name": "gaussian", "gaussian": {"sigma2": "learned"}}
OPTIMAL = {"name": "gaussian", "gaussian": {"sigma2": "optimal"}}


def sharp_vae() -> VAE:
    """A model whose codes decode to different images, so that their weights differ."""
    vae = make_vae(loss="gaussian", loss_options={"sigma2": "optimal", "output": "linear"})
    with torch.no_grad():
        for parameter in vae.decoder.parameters():
            parameter.mul_(3.0)
    return vae


def variance(vae: VAE) -> float:
    assert isinstance(vae.likelihood, FittedGaussian)
    return vae.likelihood.sigma2


def bound_at(vae: VAE, shift: float, x: Tensor, noise: Tensor) -> float:
    """The importance-weighted bound with log sigma2 moved by ``shift``."""
    vae.eval()
    log_sigma2 = vae.likelihood.log_sigma2
    with torch.no_grad():
        log_sigma2 += shift
        bound = iwae(vae, x, noise).bound.mean().item()
        log_sigma2 -= shift
    return bound


@pytest.mark.parametrize("batch_size", [3, 500])
def test_an_optimal_variance_is_the_optimum_of_the_importance_weighted_bound(
    batch_size: int,
) -> None:
    vae, x, noise = sharp_vae(), images(7), draws(SAMPLES, 7, 3)
    fit_likelihood(vae, x, noise, batch_size)
    below, here, above = (bound_at(vae, shift, x, noise) for shift in (-0.01, 0.0, 0.01))
    assert below > here > above  # the ELBO's optimum is too large for it
    unweighted = variance(vae)
    fit_likelihood(vae, x, noise, batch_size, importance_weighted=True)
    below, here, above = (bound_at(vae, shift, x, noise) for shift in (-0.01, 0.0, 0.01))
    assert below < here > above
    # the top of a parabola through three nearer points is where the fit is, within 1e-6
    below, above = (bound_at(vae, shift, x, noise) for shift in (-0.001, 0.001))
    assert abs(above - below) < 1e-3 * (2 * here - above - below)
    assert variance(vae) < 0.97 * unweighted


@pytest.mark.parametrize("start", [1e-3, 10.0])
def test_the_fit_to_importance_weights_does_not_depend_on_where_it_starts(start: float) -> None:
    vae, x, noise = sharp_vae(), images(7), draws(SAMPLES, 7, 3)
    found = []
    for value in (0.5, start):
        vae.likelihood.log_sigma2.fill_(math.log(value))
        fit_likelihood(vae, x, noise, importance_weighted=True)
        found.append(variance(vae))
    assert found[1] == pytest.approx(found[0], rel=1e-6)


@pytest.mark.parametrize("name", IMPORTANCE)
def test_training_batches_come_to_that_optimum_too(name: str) -> None:
    vae, x, noise = sharp_vae(), images(7), draws(SAMPLES, 7, 3)
    fit_likelihood(vae, x, noise, importance_weighted=True)
    fitted, expected = variance(vae), bound_at(vae, 0.0, x, noise)
    vae.likelihood.log_sigma2.fill_(math.log(0.5))
    vae.train()
    for _ in range(400):
        bound = ESTIMATORS[name](vae, x, noise).bound
    assert variance(vae) == pytest.approx(fitted, rel=1e-4)
    assert bound.mean().item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", IMPORTANCE)
def test_a_training_batch_weighs_by_the_running_variance_and_carries_no_gradient(name: str) -> None:
    vae, x, noise = sharp_vae().train(), images(4), draws(SAMPLES, 4, 3)
    vae.likelihood.log_sigma2.fill_(math.log(0.07))
    with torch.no_grad():
        q = vae.encoder(x)
        z = q.sample(noise)
        squares = (x - vae.decoder(z.flatten(0, 1)).view(SAMPLES, 4, *SHAPE)).square()
        log_ratio = q.log_prob(z) + 0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=-1)
        weights = torch.softmax(-squares.sum(dim=(2, 3, 4)) / (2 * 0.07) - log_ratio, dim=0)
        expected = (weights * squares.mean(dim=(2, 3, 4))).sum() / 4
        ESTIMATORS[name](vae, x, noise)  # without a gradient, nothing follows
    assert variance(vae) == pytest.approx(0.07)
    ESTIMATORS[name](vae, x, noise).surrogate.mean().backward()  # type: ignore[no-untyped-call]
    assert not vae.likelihood.log_sigma2.requires_grad
    share = FittedGaussian.MOMENTUM
    followed = (1 - share) * math.log(0.07) + share * expected.log().item()
    assert math.log(variance(vae)) == pytest.approx(followed, rel=1e-9)


@pytest.mark.parametrize("name", [n for n in ESTIMATORS if n not in IMPORTANCE])
def test_estimators_of_the_elbo_do_not_weigh(name: str) -> None:
    vae, x, noise = sharp_vae().train(), images(4), draws(3, 4, 3)
    vae.likelihood.log_sigma2.fill_(math.log(0.07))
    with torch.no_grad():
        z = vae.encoder(x).sample(noise)
        error = (x - vae.decoder(z.flatten(0, 1)).view(3, 4, *SHAPE)).square().mean().item()
    ESTIMATORS[name](vae, x, noise)
    share = FittedGaussian.MOMENTUM
    followed = (1 - share) * math.log(0.07) + share * math.log(error)
    assert math.log(variance(vae)) == pytest.approx(followed, rel=1e-9)


def test_weights_are_of_one_image_and_one_sample_has_them_all() -> None:
    vae, x, noise = sharp_vae(), images(6), draws(1, 6, 3)
    fit_likelihood(vae, x, noise)
    alone = variance(vae)
    fit_likelihood(vae, x, noise, importance_weighted=True)
    assert variance(vae) == pytest.approx(alone, rel=1e-9)


class OfAUser:
    """A likelihood that knows nothing of importance weights, but has something to fit."""

    support: ClassVar[Support] = "real"

    def __init__(self) -> None:
        self.seen = 0

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        return -(x - params).square().flatten(1).sum(dim=1)

    def mean(self, params: Tensor) -> Tensor:
        return params

    def fit(self, decoded: Iterable[tuple[Tensor, Tensor]]) -> None:
        self.seen = sum(len(params) for _, params in decoded)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_likelihood_need_not_know_of_importance_weights(name: str) -> None:
    vae, x, noise = make_vae(), images(4), draws(2, 4, 3)
    vae.likelihood = plain = OfAUser()
    assert isinstance(plain, Fitted)
    assert not isinstance(plain, ImportanceFitted)
    assert ESTIMATORS[name](vae, x, noise).bound.isfinite().all()
    fit_likelihood(vae, x, noise, importance_weighted=ESTIMATORS[name].importance_weighted)
    assert plain.seen == 8


# Where a learned variance starts, and where it ends


def test_a_learned_variance_starts_at_that_of_the_images_around_their_mean_image() -> None:
    x = images(13)
    vae = make_vae(loss="gaussian")
    start_likelihood(vae, x, batch_size=4)
    expected = (x - x.mean(dim=0)).square().mean().item()
    assert variance(vae) == pytest.approx(expected, rel=1e-12)
    apart = (x - x.mean()).square().mean().item()
    assert apart != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("options", [{"sigma2": "optimal"}, None])
def test_other_variances_do_not_start_from_the_images(options: dict[str, Any] | None) -> None:
    vae = make_vae(loss="gaussian" if options else "mse", loss_options=options)
    before = vae.state_dict()
    start_likelihood(vae, images(13))
    for key, value in vae.state_dict().items():
        assert torch.equal(value, before[key])


def test_images_that_are_all_alike_leave_a_variance_that_can_be_trained() -> None:
    vae = make_vae(loss="gaussian")
    start_likelihood(vae, torch.ones(3, *SHAPE, dtype=torch.float64))
    assert variance(vae) == pytest.approx(math.exp(-30))


def test_a_learned_variance_is_compared_with_the_squared_error_of_sampled_codes() -> None:
    vae, x, noise = make_vae(loss="gaussian"), images(7), draws(1, 7, 3)
    assert isinstance(vae.likelihood, FittedGaussian)
    assert vae.likelihood.squared_error is None
    fit_likelihood(vae, x, noise, batch_size=3)
    expected = (x - vae.decode(vae.encoder(x).sample(noise)[0])).square().mean()
    assert_exact(torch.tensor(vae.likelihood.squared_error, dtype=torch.float64), expected)
    assert variance(vae) == pytest.approx(0.5)  # a comparison moves nothing


def test_under_importance_weights_it_is_compared_with_their_optimum() -> None:
    vae, x, noise = sharp_vae(), images(7), draws(SAMPLES, 7, 3)
    fit_likelihood(vae, x, noise, importance_weighted=True)
    learned = FittedGaussian("learned", "linear").double()
    with torch.no_grad():
        learned.log_sigma2.fill_(math.log(variance(vae)))
    vae.likelihood = learned
    fit_likelihood(vae, x, noise, importance_weighted=True)
    assert learned.squared_error == pytest.approx(learned.sigma2, rel=1e-6)


@pytest.mark.slow
def test_a_run_starts_from_its_training_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    starts: list[float] = []

    def watched(_config: Any, state: Any, *_: Any) -> None:
        starts.append(variance(state.vae))

    monkeypatch.setattr("vaebench.run.resume", watched)
    run(task(tmp_path, loss=LEARNED, training__epochs=1))
    x = datasets.load(**settings()["dataset"]).train.x
    expected = (x - x.mean(dim=0)).square().mean().item()
    assert starts == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize(("loss", "warned"), [(LEARNED, True), (OPTIMAL, False)])
def test_a_record_has_the_variance_and_warns_of_one_that_has_not_converged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: dict[str, Any], warned: bool
) -> None:
    without_figures(monkeypatch)
    record = run(task(tmp_path, loss=loss, training__epochs=1))  # three steps
    value, error = record["sigma2"]["value"], record["sigma2"]["mean_squared_error"]
    assert (abs(value / error - 1) > 0.05) is warned
    notes = [note for note in record["notes"] if "it has not converged" in note]
    assert len(notes) == warned
    assert all(f"{number:.4g}" in note for note in notes for number in (value, error))


@pytest.mark.slow
def test_a_learned_variance_converges_in_a_digits_sized_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    overrides = {"dataset__train": 1000, "training__epochs": 15, "training__batch_size": 32}
    record = run(task(tmp_path, loss=LEARNED, **overrides))
    found = record["sigma2"]
    assert found["value"] == pytest.approx(found["mean_squared_error"], rel=0.05)
    assert not any("it has not converged" in note for note in record["notes"])


def test_other_losses_have_no_fitted_variance_in_their_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    assert "sigma2" not in run(task(tmp_path, loss="mse", training__epochs=1))
