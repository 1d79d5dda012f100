"""A small classifier of a data set, in whose features generated images are judged.

One for each data set, whatever a run does: trained on the gray images of the data set's own
training split, and compared on its gray test images. It is trained once and kept in the data
directory, under a hash of all that it depends on: ``classifiers/<hash>.pt``. To change the network
or its training, raise :data:`RECIPE`, and the version of the metrics that use it.
"""

import hashlib
import io
import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench import datasets
from vaebench.datasets.files import data_directory
from vaebench.errors import ResultsError
from vaebench.files import lock, open_archive, write_atomic
from vaebench.metrics.generation import squared_radii
from vaebench.seeding import seeded, stream
from vaebench.tensors import require_tensors

RECIPE = 1
FEATURES = 64  # width of the penultimate layer
LEARNING_RATE = 4e-3  # at its highest
BATCH_SIZE = 64
SEEN = 200_000  # training images in all: about 20 s on one core
MAX_BYTES = 64_000_000  # of a kept classifier; that of MNIST has 3,034,000
MAX_CLASSES = 1000
EPOCHS = (4, 30)  # the least and the most for that: 4 for MNIST, 30 (two seconds) for digits

Shape = tuple[int, int, int]  # (C, H, W)


@dataclass(frozen=True, eq=False)
class Reference:
    """A data set as its classifier sees it.

    Attributes:
        body: Gray images (N, C, H, W) to features (N, F).
        features: Features of the test images, (N, F), float32.
        recipe: The hash of all that the classifier depends on.
        weights: A hash of its weights: machines may round differently on the same recipe.
        accuracy: The classifier's accuracy on the test images.
    """

    body: nn.Module
    features: Tensor
    recipe: str
    weights: str
    accuracy: float

    @cached_property
    def radii(self) -> Tensor:
        """What ``precision`` asks of the test images, once for all runs: squared radii, (N,)."""
        return squared_radii(self.features.double())

    def features_of(self, images: Tensor, batch_size: int = 500) -> Tensor:
        """Features (N, F), on the CPU, of gray images (N, C, H, W) from anywhere."""
        return _batched(self.body, images.to(next(self.body.parameters())), batch_size)

    def describe(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"recipe": self.recipe, "weights": self.weights, "test_accuracy": self.accuracy}


@cache  # where the data directory cannot be written, at least a process trains it only once
def reference(
    name: str,
    digest: str,
    data_dir: Path | None = None,
    options: tuple[tuple[str, Any], ...] = (),
) -> Reference:
    """The classifier of a data set, from the data directory, or trained now and kept there.

    Arguments:
        name: A key of ``DATASETS``.
        digest: The digest of its source data, as in :class:`vaebench.datasets.Splits`.
        data_dir: Where data sets lie; None for the default.
        options: The data set's own, as pairs.

    Raises:
        DataError: It must be trained, and the data set cannot be loaded.
    """
    shape = datasets.DATASETS[name].shape_with(dict(options))
    recipe = _recipe(digest, datasets.DATASETS[name].validation)
    path = data_directory(data_dir) / "classifiers" / f"{recipe}.pt"
    known = _read(path, shape, recipe)
    if known is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with lock(path.with_suffix(".lock"), -1):  # for as long as it takes
                known = _read(path, shape, recipe)  # another process may have trained it meanwhile
                if known is None:
                    state = _trained(name, data_dir, options)
                    known = _rebuilt(state, shape, recipe)
                    buffer = io.BytesIO()
                    torch.save(state, buffer)
                    write_atomic(path, buffer.getvalue())
        except (OSError, ResultsError):  # it cannot be kept
            known = known or _rebuilt(_trained(name, data_dir, options), shape, recipe)
    return known


def _rebuilt(state: dict[str, Any], shape: Shape, recipe: str) -> Reference:
    """The classifier with some weights and features.

    Raises:
        Exception: They are not those of a classifier; many kinds, whatever the file said.
    """
    weights, features = state["model"], state["features"]
    classes = len(weights["7.bias"])
    if classes > MAX_CLASSES:
        raise ValueError(f"{classes} classes")
    if features.shape[1:] != (FEATURES,) or features.dtype != torch.float32:
        raise ValueError(f"features of shape {tuple(features.shape)}, {features.dtype}")
    with seeded(0, "load"):
        network = _network(shape, classes)
    network.load_state_dict(weights)
    accuracy = float(state["accuracy"])
    if not (0 <= accuracy <= 1 and all(t.isfinite().all() for t in (features, *weights.values()))):
        raise ValueError("numbers that are none")
    return Reference(
        body=network[:-1].eval(),
        features=features.contiguous(),
        recipe=recipe,
        weights=_digest(weights),
        accuracy=accuracy,
    )


def _network(shape: Shape, classes: int) -> nn.Sequential:
    channels, height, width = shape
    features = 32 * -(-height // 4) * -(-width // 4)  # two strides of 2, rounded up
    return nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(features, FEATURES), nn.ReLU(), nn.Linear(FEATURES, classes)),
    ).to(memory_format=torch.channels_last)


def _trained(
    name: str, data_dir: Path | None, options: tuple[tuple[str, Any], ...]
) -> dict[str, Any]:
    """Train on the CPU, with one thread: the same recipe gives the same bits on one machine."""
    splits = datasets.load(name, data_dir=data_dir, **dict(options))
    (x, y), test = splits.train, splits.test
    with seeded(0, f"{name}/classifier"):
        network = _network(splits.shape, int(y.max()) + 1)
    epochs = min(max(round(SEEN / len(x)), EPOCHS[0]), EPOCHS[1])
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=epochs * -(-len(x) // BATCH_SIZE)
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for epoch in range(epochs):
            order = torch.randperm(len(x), generator=stream(0, f"{name}/classifier/order", epoch))
            for batch in torch.split(order, BATCH_SIZE):
                optimizer.zero_grad()
                F.cross_entropy(network(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        features = _batched(network[:-1], test.x, 500)
        guessed = _batched(network[-1], features, 500).argmax(dim=1)
    finally:
        torch.set_num_threads(threads)
    return {
        "model": network.state_dict(),
        "features": features,
        "accuracy": (guessed == test.y).double().mean().item(),
    }


def _batched(function: nn.Module, x: Tensor, size: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([function(part) for part in torch.split(x, size)])


def _recipe(digest: str, validation: int | None) -> str:
    """What the classifier depends on: the source data, how many are held out, the recipe."""
    return hashlib.sha256(f"{digest}/{validation}/{RECIPE}".encode()).hexdigest()[:12]


def _digest(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for value in state.values():
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _read(path: Path, shape: Shape, recipe: str) -> Reference | None:
    """A kept classifier; None when there is none, or it is damaged (and is to be trained anew)."""
    try:
        file = open_archive(path, MAX_BYTES)
        if file is None:
            return None
        with file:
            size = os.fstat(file.fileno()).st_size
            state = require_tensors(torch.load(file, weights_only=True), size)
        return _rebuilt(state, shape, recipe)
    except Exception:  # torch and zipfile raise half a dozen kinds for a damaged file
        return None
