"""Readers of the embedded digits, and of files in the IDX format."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vaebench.datasets.idx_format import decode_idx
from vaebench.datasets.splits import Arrays
from vaebench.errors import DataError
from vaebench.seeding import stream


def digits(_contents: Mapping[str, bytes]) -> Arrays:
    """Read the 1,797 handwritten digits of 8x8 pixels that scikit-learn ships.

    A fixed permutation makes the last 300 the test part. Source: UCI, Optical Recognition of
    Handwritten Digits, https://doi.org/10.24432/C50P49.
    """
    images, labels = _shipped_digits()
    order = torch.randperm(len(labels), generator=stream(0, "digits/split")).numpy()
    x, y = (images[order] / 16).astype(np.float32), labels[order]
    return Arrays(x[:-300], y[:-300], x[-300:], y[-300:])


def _shipped_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What scikit-learn's ``load_digits`` gives: images (N, 8, 8) from 0 to 16, and labels (N,).

    Its file is read where it lies, as scikit-learn takes almost as long as PyTorch to import.
    """
    package = find_spec("sklearn")
    path = Path(str(package and package.origin)).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():  # another version has moved it
        from sklearn.datasets import load_digits

        return load_digits().images, load_digits().target
    table = np.loadtxt(path, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def idx(contents: Mapping[str, bytes]) -> Arrays:
    """Decode the four gzipped IDX files in which MNIST and its look-alikes are published."""
    parts = []
    for part in ("train", "t10k"):
        images_file, labels_file = f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"
        images = decode_idx(contents[images_file], images_file, dimensions=3)
        labels = decode_idx(contents[labels_file], labels_file, dimensions=1)
        if len(images) != len(labels):
            raise DataError(f"{images_file}: {len(images)} images, but {len(labels)} labels")
        parts += [images, labels]
    return Arrays(*parts)
