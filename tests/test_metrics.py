"""What is measured on a split: by image, in evaluation mode, from sampled codes.

Of the evidence, see ``test_evidence``; of what is generated, ``test_generation``.
"""

import inspect
import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from tiny import (
    POSTERIOR_MEAN,
    SIGMA2,
    W,
    X,
    assert_exact,
    draws,
    images,
    linear_gaussian,
    make_subject,
    make_vae,
)
from torch import Tensor, nn

from vaebench.declarations import COSTS, Comparable, Declaration, Direction
from vaebench.errors import DivergedError
from vaebench.likelihoods import LIKELIHOODS
from vaebench.metrics import (
    METRICS,
    Evaluation,
    Latents,
    Metric,
    Part,
    Subject,
    active_units,
    distortion,
    elbo,
    evaluate,
    knn_accuracy,
    mae_px,
    measure,
    mse_px,
    psnr,
    rate,
    ssim,
    ssim_per_image,
    ssim_window,
)
from vaebench.models import MODELS
from vaebench.seeding import stream

SHAPE = (1, 8, 7)
DECLARATIONS = {name: entry.declaration for name, entry in (METRICS | COSTS).items()}


def batch_norm(model: str) -> dict[str, bool]:
    """The option, where the model has it: what an image's neighbours could leak through."""
    has_it = "batch_norm" in inspect.signature(MODELS[model]).parameters
    return {"batch_norm": True} if has_it else {}


def evaluation(x: Tensor, reconstruction: Tensor, **others: Tensor) -> Evaluation:
    zeros = torch.zeros(len(x), dtype=torch.float64)
    names = ("mean", "log_var", "rate", "rate_per_dimension", "distortion")
    rest = dict.fromkeys(names, zeros)
    return Evaluation(x=x, reconstruction=reconstruction, **{**rest, **others})


@pytest.mark.parametrize("name", DECLARATIONS)
def test_a_number_declares_what_it_is(name: str) -> None:
    declaration = DECLARATIONS[name]
    assert declaration.title
    assert declaration.direction in (*get_args(get_args(Direction)[0]), None)
    assert declaration.comparable in get_args(Comparable)
    assert declaration.version >= 1
    assert declaration.samples is None
    assert name == name.lower()
    assert "/" not in name


def test_what_depends_on_the_likelihood_is_not_compared_across_it() -> None:
    for name in ("elbo", "rate", "distortion", "log_px"):
        assert METRICS[name].declaration.comparable == "likelihood"
    for name in ("ssim", "psnr", "mse_px", "mae_px", "active_units", "knn_accuracy"):
        assert METRICS[name].declaration.comparable == "dataset"
    for name in ("classifier_frechet", "precision", "recall"):
        assert METRICS[name].declaration.comparable == "dataset"
    assert METRICS["rate"].declaration.direction is None


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("model", MODELS)
def test_a_metric_is_the_same_for_every_batch_size(  # traps 7, 13
    model: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaebench.metrics.subject.GENERATED", 20)
    vae = make_vae(model, shape=SHAPE, options=batch_norm(model))
    values = [
        METRICS[name](make_subject(vae.train(), shape=SHAPE, batch_size=size))
        for size in (1, 7, 128)
    ]
    assert values == pytest.approx([values[0]] * 3, rel=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_of_a_part_that_there_is_and_names_k_only_if_k_is_chosen(name: str) -> None:
    metric = METRICS[name]
    assert metric.part in get_args(Part)
    assert hasattr(Subject, metric.part)
    with_k = metric.declaration.with_samples(5000)
    assert with_k.title == f"{metric.declaration.title}, K = 5,000"
    assert with_k.to_dict()["samples"] == 5000
    assert "samples" not in metric.declaration.to_dict()


def test_a_pass_is_made_once_for_all_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaebench.metrics.subject.GENERATED", 5)
    subject = make_subject(make_vae(shape=SHAPE), shape=SHAPE)
    parts = get_args(Part)
    assert all(getattr(subject, part) is getattr(subject, part) for part in parts)


def test_the_noise_of_an_evaluation_is_that_of_its_stream() -> None:
    subject = make_subject(make_vae(shape=SHAPE), shape=SHAPE)
    noise = torch.randn((16, 20, 3), generator=stream(0, "evaluation"))
    assert_exact(
        subject.evaluation.distortion, evaluate(subject.vae, subject.images.x, noise).distortion
    )
    other = replace(subject, noise="evaluation/train").evaluation.distortion
    assert not torch.allclose(subject.evaluation.distortion, other)


@given(count=st.integers(1, 12), size=st.integers(1, 15))
def test_every_image_counts_once_in_its_place(count: int, size: int) -> None:  # trap 7
    vae = make_vae(shape=SHAPE)
    x, noise = images(count, SHAPE), draws(2, count, 3)
    whole, parts = evaluate(vae, x, noise, count), evaluate(vae, x, noise, size)
    assert torch.equal(parts.x, x)
    for one, other in zip(whole, parts, strict=True):
        assert len(other) == count
        assert_exact(one, other)
    assert elbo(parts) == pytest.approx(-(parts.rate + parts.distortion).mean().item(), rel=1e-12)


@pytest.mark.parametrize("loss", LIKELIHOODS)
def test_distortion_averages_the_likelihoods_of_sampled_codes(loss: str) -> None:  # traps 8, 10
    vae, x, noise = make_vae(loss=loss, shape=SHAPE).eval(), images(5, SHAPE), draws(4, 5, 3)
    found = evaluate(vae, x, noise)
    with torch.no_grad():
        q = vae.encoder(x)
        z = q.mean + (0.5 * q.log_var).exp() * noise
        params = [vae.decoder(code) for code in z]
        each = -torch.stack([vae.likelihood.log_prob(x, p) for p in params]).mean(dim=0)
        of_mean = -vae.likelihood.log_prob(x, vae.decoder(q.mean))
        averaged = -vae.likelihood.log_prob(x, torch.stack(params).mean(dim=0))
    assert_exact(found.distortion, each)
    assert not torch.allclose(found.distortion, of_mean, rtol=1e-6)
    assert not torch.allclose(found.distortion, averaged, rtol=1e-6)
    assert_exact(found.rate, q.kl_to_standard_normal())


def test_distortion_counts_the_variance_of_the_posterior() -> None:
    # E (x - w z)^2 = (x - w mu)^2 + w^2 s^2: decoding the posterior mean loses the second term
    variance = 0.2
    vae, x = linear_gaussian(POSTERIOR_MEAN, math.log(variance))
    found = evaluate(vae, x, draws(20_000, 1, 1)).distortion.item()
    squares = (X - W * POSTERIOR_MEAN) ** 2 + W**2 * variance
    expected = squares / (2 * SIGMA2) + 0.5 * math.log(2 * math.pi * SIGMA2)
    spread = math.sqrt(2) * W**2 * variance / (2 * SIGMA2)  # mainly of the squared noise
    assert found == pytest.approx(expected, abs=4 * spread / math.sqrt(20_000))


@pytest.mark.parametrize("model", MODELS)
def test_an_image_does_not_see_its_neighbours(model: str) -> None:  # trap 13
    vae = make_vae(model, shape=SHAPE, options=batch_norm(model)).train()
    with torch.no_grad():
        vae.decoder(vae.encoder(images(9, SHAPE, name="before")).mean)  # moves the averages
    vae.train()
    x, noise = images(6, SHAPE), draws(2, 6, 3)
    alone = evaluate(vae, x[:1], noise[:, :1])
    vae.train()
    together = evaluate(vae, torch.cat([x[:1], 1 - x[1:]]), noise)
    for one, other in zip(alone, together, strict=True):
        assert_exact(one[0], other[0])


@pytest.mark.parametrize("model", MODELS)
def test_measuring_changes_nothing_in_the_model(model: str) -> None:  # trap 13
    vae = make_vae(model, shape=SHAPE, options=batch_norm(model)).train()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    evaluate(vae, images(6, SHAPE), draws(1, 6, 3))
    for name, value in vae.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_reconstruction_is_of_the_posterior_mean_and_clipped() -> None:
    vae = make_vae(loss="mse", shape=SHAPE, loss_options={"output": "linear"})
    x = images(4, SHAPE)
    with torch.no_grad():
        next(m for m in vae.decoder.modules() if isinstance(m, nn.Linear)).weight.mul_(30)
        raw = vae.decode(vae.encoder(x).mean)
    found = evaluate(vae, x, draws(2, 4, 3)).reconstruction
    assert raw.min() < 0
    assert raw.max() > 1
    assert_exact(found, raw.clamp(0, 1))


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (1, 11, 13), (3, 12, 11), (2, 9, 7)])
def test_ssim_is_that_of_scikit_image_image_by_image(  # trap 14
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vaebench.metrics.images._STACK", 3
    )  # stacks of three, and a last one of two
    x = images(8, shape)
    y = (x + 0.3 * (images(8, shape, name="y") - 0.5)).clamp(0, 1)
    y[4:] = images(4, shape, name="other")  # unlike neighbours: a leak across borders would show
    options: dict[str, Any] = {"win_size": 7}
    if min(shape[1:]) >= 11:
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        structural_similarity(
            a.permute(1, 2, 0).numpy(),
            b.permute(1, 2, 0).numpy(),
            data_range=1.0,
            channel_axis=-1,
            **options,
        )
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(ssim_per_image(x, y), expected, rtol=0, atol=1e-6)
    assert ssim(ssim_per_image(x, y)) == pytest.approx(np.mean(expected), abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 12, 11)])
def test_ssim_of_an_image_with_itself_is_one(shape: tuple[int, int, int]) -> None:  # trap 14
    x = images(4, shape, dtype=torch.float32)
    np.testing.assert_allclose(ssim_per_image(x, x), 1.0, rtol=0, atol=1e-12)
    assert (ssim_per_image(x, 1 - x) < 0.5).all()


def test_ssim_window_says_what_it_is() -> None:
    assert "11x11" in ssim_window(11, 28).description
    assert "smoke value" in ssim_window(10, 28).description
    with pytest.raises(ValueError, match="at least 7x7 pixels, not 6x28"):
        ssim_window(6, 28)


def test_psnr_is_the_mean_over_images_and_not_of_the_mean_error() -> None:
    x = torch.zeros(2, 1, 7, 7)
    y = torch.stack([torch.full((1, 7, 7), 0.1), torch.full((1, 7, 7), 0.01)])
    assert psnr(evaluation(x, y)) == pytest.approx(30.0, abs=1e-5)  # of 20 and 40 dB


def test_psnr_of_a_perfect_image_is_capped_at_100() -> None:
    x = torch.zeros(2, 1, 7, 7)
    y = torch.stack([x[0], torch.full((1, 7, 7), 0.1)])
    assert psnr(evaluation(x, x)) == 100.0
    assert psnr(evaluation(x, y)) == pytest.approx(60.0, abs=1e-5)  # of 100 and 20 dB


def test_pixel_errors_are_means_over_pixels_and_images() -> None:
    x = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    y = torch.tensor([0.0, 0.0, 0.0, 0.4, 0.2, 0.2, 0.2, 0.2]).double().view(2, 1, 2, 2)
    assert mse_px(evaluation(x, y)) == pytest.approx((0.16 / 4 + 0.04) / 2, rel=1e-6)
    assert mae_px(evaluation(x, y)) == pytest.approx((0.1 + 0.2) / 2, rel=1e-6)


def test_nats_are_means_over_images() -> None:
    x = torch.zeros(3, 1, 7, 7)
    terms = {"rate": torch.tensor([1.0, 2.0, 6.0]), "distortion": torch.tensor([10.0, 20.0, 0.0])}
    e = evaluation(x, x, **terms)
    assert (rate(e), distortion(e), elbo(e)) == (3.0, 10.0, -13.0)


def test_active_units_are_those_whose_mean_varies() -> None:
    x = torch.zeros(1000, 1, 7, 7)
    mean = draws(1000, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0]) + torch.tensor([0, 0, 0, 9.0])
    assert active_units(evaluation(x, x, mean=mean)) == 2.0  # variances 1, 0.04, 0.0025, 0


def latents(train: list[float], train_y: list[int], mean: list[float], y: list[int]) -> Latents:
    columns = [torch.tensor(values).view(-1, 1) for values in (train, mean)]
    return Latents(columns[0], torch.tensor(train_y), columns[1], torch.tensor(y))


def test_five_neighbours_vote() -> None:
    train, labels = [0.0, 1.0, 2.0, 3.0, 4.0, 100.0, 101.0, 102.0], [7, 7, 7, 3, 3, 3, 3, 3]
    # of the five nearest to 3.5, three say 7, though the two nearest say 3
    assert knn_accuracy(latents(train, labels, [3.5, 90.0], [7, 3])) == 1.0
    assert knn_accuracy(latents(train, labels, [3.5, 90.0], [3, 3])) == 0.5


def test_neighbours_come_from_the_training_split_by_posterior_mean() -> None:
    subject = make_subject(make_vae(shape=SHAPE), shape=SHAPE)
    found = subject.latents
    with torch.no_grad():
        assert_exact(found.train, subject.vae.encoder(subject.training.x).mean)
        assert_exact(found.mean, subject.vae.encoder(subject.images.x).mean)
    assert torch.equal(found.train_y, subject.training.y)
    assert torch.equal(found.y, subject.images.y)
    distances = torch.cdist(found.mean, found.train)
    votes = subject.training.y[distances.topk(5, largest=False).indices].mode(dim=1).values
    expected = (votes == subject.images.y).double().mean().item()
    assert METRICS["knn_accuracy"](subject) == pytest.approx(expected)


def test_a_collapsed_dimension_is_visible() -> None:  # trap 14
    vae = make_vae(shape=SHAPE, latent_dim=3)
    with torch.no_grad():  # the second dimension ignores the image and equals the prior
        vae.encoder.head.weight[[1, 4]] = 0
        vae.encoder.head.bias[[1, 4]] = 0
        vae.encoder.head.weight[[0, 2]] *= 20
    e = evaluate(vae, images(40, SHAPE), draws(1, 40, 3))
    by_dimension = e.rate_per_dimension.mean(dim=0)
    assert by_dimension[1] == 0
    assert (by_dimension[[0, 2]] > 0.01).all()
    assert active_units(e) == 2.0
    assert_exact(e.rate, e.rate_per_dimension.sum(dim=1))


def test_measure_names_its_values_after_the_split() -> None:
    subject = make_subject(make_vae(shape=SHAPE), shape=SHAPE)
    found = measure(subject, "test", ["ssim", "rate"])
    assert list(found) == ["test/ssim", "test/rate"]
    assert measure(subject, "train_eval", ["rate"]) == {"train_eval/rate": found["test/rate"]}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_an_error_that_names_it(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    declaration = Declaration("Broken", "nats", None, "dataset")
    monkeypatch.setitem(METRICS, "broken", Metric(lambda _: value, declaration))
    with pytest.raises(DivergedError, match=rf"test/broken is {value}"):
        measure(make_subject(make_vae()), "test", ["broken"])
