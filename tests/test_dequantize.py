"""Dequantised images: what is drawn and when, what they are measured by, what they go with."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import numbers, results, settings, task, without_figures
from tiny import images, make_subject, make_vae
from torch import Tensor

from vaebench import datasets
from vaebench.config import make_grid, make_run
from vaebench.datasets import DATASETS, Arrays, Dataset, load
from vaebench.datasets.pixels import dequantized, quantized
from vaebench.errors import ConfigError, DataError
from vaebench.likelihoods import LIKELIHOODS, maps_of
from vaebench.metrics import METRICS, Evaluation, measure
from vaebench.report.ranking import base_measure_key, dataset_key
from vaebench.run import load_run, run
from vaebench.run.measuring import drawn_once
from vaebench.seeding import stream
from vaebench.storage import RunStore
from vaebench.training import Plan

GRAY = torch.arange(256, dtype=torch.float32) / 255
DENSITIES = [name for name, kind in LIKELIHOODS.items() if kind.support != "binary"]


def _bytes(contents: Any) -> Arrays:
    train_x, train_y, test_x, test_y = datasets.digits(contents)
    x, test = ((images * 255).astype(np.uint8) for images in (train_x, test_x))
    return Arrays(x, train_y, test, test_y)


@pytest.fixture(autouse=True)
def digits_of_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits as a data set of bytes, of the name ``bytes``."""
    monkeypatch.setitem(DATASETS, "bytes", Dataset(read=_bytes, shape=(1, 8, 8), validation=297))
    without_figures(monkeypatch)


def small(folder: Path, **overrides: Any) -> Any:
    return task(
        folder,
        **(
            {"dataset__name": "bytes", "dataset__dequantize": "uniform"}
            | {"loss": "mse"}
            | overrides
        ),
    )


# What is drawn


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dequantised_pixels_lie_in_their_own_gray_level(dtype: torch.dtype) -> None:
    x = (torch.arange(256, dtype=dtype) / 255).repeat(4000, 1)
    drawn = dequantized(x, stream(0, "test"))
    assert drawn.dtype == dtype
    assert 0 < drawn.min() < drawn.max() < 1
    assert torch.equal(quantized(drawn), x)
    noise = (drawn.double() * 256) % 1
    assert noise.mean().item() == pytest.approx(0.5, abs=4 / math.sqrt(12 * noise.numel()))
    assert noise.var().item() == pytest.approx(1 / 12, rel=0.01)
    assert torch.histc(noise, 10, 0, 1).div(noise.numel()).sub(0.1).abs().max() < 2e-3


def test_the_largest_draw_is_not_rounded_to_the_next_gray_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    largest = 1 - 2.0**-24  # of torch.rand in float32
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, largest))
    drawn = dequantized(GRAY, stream(0, "test"))
    assert drawn.max() < 1
    assert torch.equal(quantized(drawn), GRAY)


def test_dequantisation_depends_on_the_generator_only() -> None:
    x = GRAY.repeat(3, 1)
    first = dequantized(x, stream(0, "a", 1))
    assert torch.equal(first, dequantized(x, stream(0, "a", 1)))
    assert not torch.equal(first, dequantized(x, stream(0, "a", 2)))


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_of_dequantised_pixels_is_a_distribution_of_gray_levels(name: str) -> None:
    """P(v) is the mean of p(x) / 256 over the draws; the levels share what p has in [0, 1]."""
    likelihood = LIKELIHOODS[name]()
    x = dequantized(GRAY.double().repeat(500, 1), stream(0, "test")).view(-1, 1, 1, 1)
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64).view(-1, 1, 1, 1)
    maps = maps_of(likelihood)
    drawn, exact = (
        likelihood.log_prob(p, torch.full_like(p, 0.2).repeat(1, maps, 1, 1)).exp()
        for p in (x, grid)
    )
    levels = drawn.view(500, 256).mean(dim=0) / 256
    assert levels.sum().item() == pytest.approx(
        torch.trapezoid(exact, grid.flatten()).item(), rel=1e-5
    )


def test_only_validation_and_test_are_drawn_with_the_data_set() -> None:
    plain, drawn = load("bytes"), load("bytes", dequantize="uniform")
    assert torch.equal(drawn.train.x, plain.train.x)
    for part in ("validation", "test"):
        before, after = getattr(plain, part).x, getattr(drawn, part).x
        assert torch.equal(quantized(after), before)
        assert not torch.equal(after, before)
        assert torch.equal(after, getattr(load("bytes", dequantize="uniform"), part).x)
    assert drawn.digest == plain.digest


def test_an_image_is_dequantised_alike_however_the_set_is_cut() -> None:
    whole = load("bytes", dequantize="uniform", validation=300)
    cut = load("bytes", dequantize="uniform", train=10, validation=30)
    assert torch.equal(cut.validation.x, whole.validation.x[-30:])
    assert torch.equal(cut.test.x, whole.test.x)


def test_training_images_are_measured_on_one_draw_of_no_run() -> None:
    x = load("bytes", dequantize="uniform", train=64, validation=32).train.x
    first, second = (drawn_once(small(Path(), seed=seed).config, x) for seed in (0, 1))
    assert torch.equal(first, second)
    assert torch.equal(quantized(first), x)
    assert not torch.equal(first, x)


def _seen(plan: Plan, seed: int = 0) -> list[Tensor]:
    """The training images as two epochs' steps saw them, in their own order."""
    from test_training import Recorder, make_state

    from vaebench.training import train

    recorder, x = Recorder(), quantized(images(10, dtype=torch.float64))
    for _ in train(make_state(), recorder, x, x[:0], plan, seed=seed):
        pass
    order = [torch.randperm(10, generator=stream(seed, "order", epoch)) for epoch in (1, 2)]
    return [seen[o.argsort()] for seen, o in zip(recorder.x, order, strict=True)]


def test_training_images_are_drawn_anew_each_epoch_and_for_each_seed() -> None:
    plan = Plan(epochs=2, batch_size=10, dequantize=True)
    first, second = _seen(plan)
    again, other = _seen(plan), _seen(plan, seed=1)
    original = quantized(images(10))
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, other[0])
    assert torch.equal(quantized(first), original)
    assert torch.equal(quantized(second), original)
    assert torch.equal(first, dequantized(original, stream(0, "dequantize", 1)))


def test_a_resumed_run_draws_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole, torn = (small(tmp_path / name, training__epochs=3) for name in ("whole", "torn"))

    def stop(line: dict[str, Any]) -> None:
        if line["epoch"] == 1:
            raise KeyboardInterrupt

    expected = run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(torn, stop)
    record = run(torn)
    assert results(record) == results(expected)
    journals = [numbers(RunStore(t.folder).journal) for t in (whole, torn)]
    assert journals[0] == journals[1]


# What they are measured by


def test_bits_of_a_uniform_density_are_eight() -> None:
    zeros = torch.zeros(3, dtype=torch.float64)
    codes = zeros.unsqueeze(1)
    e = Evaluation(
        x=images(3),
        reconstruction=images(3),
        mean=codes,
        log_var=codes,
        rate=zeros,
        rate_per_dimension=codes,
        distortion=zeros,
    )
    assert METRICS["bits_per_dim"].function(e) == 8.0
    pixels = e.x[0].numel()
    halved = e._replace(distortion=zeros - pixels * math.log(2))  # twice the density: a bit less
    assert METRICS["bits_per_dim"].function(halved) == pytest.approx(7.0, abs=1e-12)
    dearer = e._replace(rate=zeros + pixels * math.log(2))
    assert METRICS["bits_per_dim"].function(dearer) == pytest.approx(9.0, abs=1e-12)


def test_a_continuous_bernoulli_without_an_opinion_needs_eight_bits() -> None:
    vae = make_vae(loss="cb")
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
    subject = make_subject(vae, dequantized=True)
    assert measure(subject, "test", ["bits_per_dim"])["test/bits_per_dim"] == pytest.approx(8.0)


def test_images_are_compared_with_their_8_bit_originals_and_encoded_dequantised() -> None:
    vae, x = make_vae(loss="mse"), quantized(images(20))
    drawn = dequantized(x, stream(0, "test"))
    subject = make_subject(vae)
    subject = make_subject(vae, images=subject.images._replace(x=drawn), dequantized=True)
    assert torch.equal(subject.evaluation.x, x)
    with torch.no_grad():
        assert torch.equal(subject.evaluation.mean, vae.encoder(drawn).mean)
        expected = (vae.reconstruct(drawn) - x).square().mean().item()
    assert measure(subject, "test", ["mse_px"])["test/mse_px"] == pytest.approx(expected)


def test_bits_are_measured_of_dequantised_images_only(tmp_path: Path) -> None:
    record = run(small(tmp_path / "a", training__epochs=1))
    bits, elbo = (record["metrics"][f"test/{name}"] for name in ("bits_per_dim", "elbo"))
    assert bits == pytest.approx(8 - elbo / (64 * math.log(2)))
    assert record["metric_declarations"]["bits_per_dim"]["comparable"] == "likelihood"
    assert load_run(tmp_path / "a").config.dataset.dequantize == "uniform"
    plain = run(small(tmp_path / "b", training__epochs=1, dataset__dequantize="none"))
    assert "test/bits_per_dim" not in plain["metrics"]
    assert plain["status"] == "complete"


def test_bounds_of_dequantised_and_other_images_are_not_compared() -> None:
    plain, drawn = (
        {"config": small(Path(), dataset__dequantize=how).config.to_dict()}
        for how in ("none", "uniform")
    )
    assert base_measure_key(plain) != base_measure_key(drawn)
    assert dataset_key(plain) == dataset_key(drawn)  # image metrics see the same originals


# What they go with


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"loss": "bce"}, "loss bce is a distribution of binary pixels"),
        ({"dataset__binarize": "static"}, "dataset.binarize is static"),
        ({"dataset__binarize": "dynamic"}, "dataset.binarize is dynamic"),
        ({"dataset__name": "digits"}, "digits does not have 8-bit pixels"),
    ],
)
def test_what_cannot_be_dequantised_is_refused(overrides: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        small(Path(), **overrides)


@pytest.mark.parametrize("loss", DENSITIES)
def test_every_density_goes_with_dequantised_images(loss: str) -> None:
    assert small(Path(), loss=loss).config.dataset.dequantize == "uniform"


def test_images_that_turn_out_to_be_no_bytes_are_refused() -> None:
    with pytest.raises(DataError, match="digits: only 8-bit images can be dequantised, not float"):
        load("digits", dequantize="uniform")
    with pytest.raises(DataError, match="choose from none, uniform"):
        load("bytes", dequantize="gauss")  # type: ignore[arg-type]


def test_a_configuration_that_does_not_dequantise_is_what_it_was() -> None:
    plain = make_run(settings())
    assert "dequantize" not in plain.to_dict()["dataset"]
    explicit = make_run(settings(dataset__dequantize="none"))
    assert (explicit.to_dict(), explicit.run_id) == (plain.to_dict(), plain.run_id)
    drawn = small(Path()).config
    assert drawn.to_dict()["dataset"]["dequantize"] == "uniform"
    assert make_run(drawn.to_dict()).dataset == drawn.dataset
    assert drawn.run_id != small(Path(), dataset__dequantize="none").config.run_id


def test_dequantisation_can_be_an_axis() -> None:
    raw = settings(dataset__name="bytes", loss="mse")
    grid = make_grid(raw | {"axes": {"dataset.dequantize": ["none", "uniform"]}})
    found = [r.config.dataset.dequantize for r in grid.runs()]
    assert found == ["none", "uniform"]
