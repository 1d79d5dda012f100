"""What data sets deliver, and how it is cut into splits."""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.datasets.pixels import binarize
from vaebench.errors import DataError
from vaebench.seeding import stream

TEST_SHARE, VALIDATION_SHARE = 0.15, 0.1  # of images that are cut by their content
NO_LABEL = -1


class Split(NamedTuple):
    """Images ``x`` (B, C, H, W), float32 in [0, 1], and labels ``y`` (B,), int64.

    Where a data set has no labels, all are -1.
    """

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Splits:
    """One data set, cut: ``validation`` may be empty, or be the test split itself.

    ``digest`` identifies the source data (12 hexadecimal digits of a sha256), whatever the cut.
    """

    name: str
    digest: str
    train: Split
    validation: Split
    test: Split

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: (C, H, W)."""
        _, channels, height, width = self.train.x.shape
        return channels, height, width

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return bool((self.train.y != NO_LABEL).any())


class Arrays(NamedTuple):
    """What a data set delivers, in a fixed order: images (N, H, W) or (N, C, H, W), labels (N,).

    Images are uint8 (0 to 255) or floats in [0, 1]. Without labels, these are None.
    """

    train_x: NDArray[Any]
    train_y: NDArray[Any] | None
    test_x: NDArray[Any]
    test_y: NDArray[Any] | None


class Uncut(NamedTuple):
    """Images of one's own that nobody has cut into splits: their content decides, see :func:`cut`.

    Attributes:
        x: Images (N, H, W) or (N, C, H, W), uint8 or floats in [0, 1].
        y: Labels (N,), or None.
        keys: A sha256 of each image's content, uint8 (N, 32).
    """

    x: NDArray[Any]
    y: NDArray[Any] | None
    keys: NDArray[np.uint8]


class Source(NamedTuple):
    """A data set as it is kept in memory.

    Attributes:
        arrays: Training pool and test part.
        digest: As in :class:`Splits`.
        held_out: How many of the last training images are the validation split, if their content
            has decided that; None where a number may be chosen.
    """

    arrays: Arrays
    digest: str
    held_out: int | None = None


def cut(name: str, images: Uncut) -> tuple[Arrays, int]:
    """Cut images by their content: more images move no image from one split to another.

    The first bytes of an image's key, as a number u in [0, 1), decide: u below 0.15 is the test
    part, u from there to 0.25 the validation split. Images of the same content share a split.

    Returns:
        The arrays, in the order of the keys, the validation images at the end of the training pool;
        and how many these are.

    Raises:
        DataError: A split would have no image.
    """
    order = np.lexsort([*images.keys.T[::-1]])
    x, keys = images.x[order], images.keys[order]
    y = None if images.y is None else images.y[order]
    u = keys[:, :4].astype(np.uint64) @ (256 ** np.arange(3, -1, -1, dtype=np.uint64)) / 2**32
    test = u < TEST_SHARE
    validation = ~test & (u < TEST_SHARE + VALIDATION_SHARE)
    rest = ~test & ~validation
    for part, chosen in (("training", rest), ("validation", validation), ("test", test)):
        if not chosen.any():
            raise DataError(
                f"{name}: none of its {len(x)} images is in the {part} split, which their content "
                f"decides; some dozens are needed"
            )
    pool = np.concatenate([np.flatnonzero(rest), np.flatnonzero(validation)])
    arrays = Arrays(
        x[pool], None if y is None else y[pool], x[test], None if y is None else y[test]
    )
    return arrays, int(validation.sum())


def ends(name: str, pool: int, train: int | None, validation: int) -> tuple[int, int]:
    """Return the end of the training and the start of the validation split in a pool of images.

    Raises:
        DataError: The pool has not as many images.
    """
    if not 0 <= validation < pool:
        raise DataError(
            f"{name}: validation must be from 0 to {pool - 1} of its {pool} training images, "
            f"not {validation}"
        )
    rest = pool - validation
    if train is not None and not 1 <= train <= rest:
        raise DataError(
            f"{name}: train must be from 1 to {rest} (its {pool} training images less "
            f"{validation} for validation), not {train}"
        )
    return (rest if train is None else train), rest


def as_split(x: NDArray[Any], y: NDArray[Any] | None) -> Split:
    """Images and labels as tensors."""
    pixels = torch.from_numpy(x.astype(np.float32))
    if x.dtype == np.uint8:
        pixels /= 255
    labels = np.full(len(x), NO_LABEL) if y is None else y
    return Split(
        pixels if pixels.ndim == 4 else pixels.unsqueeze(1),
        torch.from_numpy(labels.astype(np.int64)),
    )


def drawn(split: Split, name: str) -> Split:
    """A split whose pixels are drawn as bits, alike in every run: not from the run's seed."""
    return split._replace(x=binarize(split.x, stream(0, name)))


def digest_of(arrays: Arrays) -> str:
    """Digest of arrays: 12 hexadecimal digits of a sha256."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is None:
            digest.update(b"none")
            continue
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:12]
