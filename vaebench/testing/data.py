"""Checks of a data set, and of a metric on the embedded digits."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from vaebench import datasets
from vaebench.datasets import DATASETS, Split
from vaebench.likelihoods import Bernoulli
from vaebench.metrics import METRICS, Subject, reference
from vaebench.models import fnn
from vaebench.seeding import seeded
from vaebench.testing.common import LATENT_DIM
from vaebench.vae import VAE

Options = Mapping[str, Any]
IMAGES = 120  # that a metric measures


def images_are_as_declared(name: str, options: Options) -> None:
    """Pixels in [0, 1], of the declared shape, with a label for each image or for none."""
    splits = datasets.load(name, **options)
    declared = DATASETS[name].shape_with(options)
    assert splits.shape == declared, f"images of {splits.shape}, but the entry says {declared}"
    for part in ("train", "validation", "test"):
        x, y = getattr(splits, part)
        assert x.dtype == torch.float32, f"{part} images are {x.dtype}"
        assert len(x) == len(y), f"{part}: {len(x)} images, {len(y)} labels"
        assert x.isfinite().all(), f"{part} images are not finite"
        if len(x):
            low, high = x.min().item(), x.max().item()
            assert 0 <= low <= high <= 1, f"{part} pixels go from {low:g} to {high:g}"
    assert len(splits.train.x), "there are no training images"
    assert len(splits.test.x), "there are no test images"


def is_the_same_again(name: str, options: Options) -> None:
    """It is read alike each time: what the digest of a run's data stands for."""
    first = datasets.load(name, **options)
    datasets.forget()
    second = datasets.load(name, **options)
    assert first.digest == second.digest, "another digest when it is read again"
    assert torch.equal(first.test.x, second.test.x), "other test images when it is read again"


@cache
def subject() -> Subject:
    """An untrained model of the digits."""
    splits = datasets.load("digits")
    with seeded(0, "init"):
        vae = VAE(fnn(splits.shape, LATENT_DIM, hidden=(16,)), Bernoulli(), LATENT_DIM)
    return Subject(
        vae=vae.eval(),
        images=Split(splits.test.x[:IMAGES], splits.test.y[:IMAGES]),
        training=Split(splits.train.x[:IMAGES], splits.train.y[:IMAGES]),
        seed=0,
        reference=lambda: reference("digits", splits.digest),
        samples=4,
    )


def gives_a_number(name: str, _options: Options) -> None:
    """A finite float."""
    value = METRICS[name](subject())
    assert isinstance(value, int | float), f"gives a {type(value).__name__}, not a float"
    assert math.isfinite(value), f"is {value} for an untrained model of the digits"


def same_in_other_batches(name: str, _options: Options) -> None:
    """It is the same each time, and whatever the size of the batches."""
    once = METRICS[name](replace(subject()))
    assert once == METRICS[name](replace(subject())), "is another number when measured again"
    small = METRICS[name](replace(subject(), batch_size=7))
    assert math.isclose(once, small, rel_tol=1e-4, abs_tol=1e-6), (
        f"is {once:.6g} in one batch, and {small:.6g} in batches of 7"
    )


DATASET_CHECKS = {
    "images and labels are as declared": images_are_as_declared,
    "it is the same when it is read again": is_the_same_again,
}
METRIC_CHECKS = {
    "it is a finite number": gives_a_number,
    "it depends neither on the batch nor on a draw": same_in_other_batches,
}
