"""Readers of the embedded digits, and of files in the IDX format."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vaebench.datasets.idx_format import decode_idx
from vaebench.datasets.published import EMNIST_PARTS, IDX_FILES, emnist_file
from vaebench.datasets.splits import Arrays
from vaebench.errors import DataError
from vaebench.seeding import stream

EmnistSplit = Literal["balanced", "letters", "digits", "mnist", "byclass", "bymerge"]


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
    return _decoded(contents, *IDX_FILES)


def emnist(contents: Mapping[str, bytes], *, split: EmnistSplit = "balanced") -> Arrays:
    """Decode a split of EMNIST, upright: its files hold every image with rows as columns.

    Arguments:
        contents: The four files of the split.
        split: ``balanced`` (47 classes, 112,800 training images), ``letters`` (26, labelled from 1;
            124,800), ``digits`` (10; 240,000), ``mnist`` (10; 60,000), ``bymerge`` (47) or
            ``byclass`` (62; 697,932 training images each, which take some gigabytes of memory).

    References:
        Cohen et al. (2017), https://arxiv.org/abs/1702.05373
    """
    arrays = _decoded(contents, *(emnist_file(split, *part) for part in EMNIST_PARTS))
    turned = (np.ascontiguousarray(x.transpose(0, 2, 1)) for x in (arrays.train_x, arrays.test_x))
    train_x, test_x = turned
    return arrays._replace(train_x=train_x, test_x=test_x)


def _decoded(contents: Mapping[str, bytes], *names: str) -> Arrays:
    """Images and labels of the training part, then of the test part."""
    parts = []
    for images_file, labels_file in zip(names[::2], names[1::2], strict=True):
        images = decode_idx(contents[images_file], images_file, dimensions=3)
        labels = decode_idx(contents[labels_file], labels_file, dimensions=1)
        if len(images) != len(labels):
            raise DataError(f"{images_file}: {len(images)} images, but {len(labels)} labels")
        parts += [images, labels]
    return Arrays(*parts)
