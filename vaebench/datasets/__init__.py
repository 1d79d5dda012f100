"""The data sets: names in, tensors of train, validation and test split out.

To add one, write a function that returns `Arrays` (images as uint8 or as floats in [0, 1], of any
height, width and number of channels; labels; training pool and test part apart) and enter it in
`DATASETS` at the bottom. A data set that is downloaded also describes its files
(`vaebench.datasets.files.RemoteFiles`); its function receives their verified content by name. The
splits, the binarisation, the digest and `vaebench data fetch` then work by themselves. Raise the
entry's `version` whenever the same configuration would give other numbers.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.datasets.files import (
    FileStates,
    RemoteFiles,
    data_directory,
    fetch_files,
    file_states,
    read_present,
    read_verified,
)
from vaebench.datasets.idx_format import decode_idx
from vaebench.datasets.pixels import binarize, dequantized, require_8_bits
from vaebench.datasets.published import fashion_mnist_files, mnist_files
from vaebench.errors import DataError
from vaebench.plugins import Registry, no_instance
from vaebench.seeding import stream

Binarize = Literal["none", "static", "dynamic"]
Dequantize = Literal["none", "uniform"]


class Split(NamedTuple):
    """Images ``x`` (B, C, H, W), float32 in [0, 1], and labels ``y`` (B,), int64."""

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


class Arrays(NamedTuple):
    """What a data set delivers, in a fixed order: images (N, H, W) or (N, C, H, W), labels (N,).

    Images are uint8 (0 to 255) or floats in [0, 1].
    """

    train_x: NDArray[Any]
    train_y: NDArray[Any]
    test_x: NDArray[Any]
    test_y: NDArray[Any]


@dataclass(frozen=True)
class Dataset:
    """An entry of `DATASETS`.

    Arguments:
        read: Turns the verified contents of the files (name -> bytes) into arrays.
        shape: The shape of its images (C, H, W), known before they are downloaded.
        validation: How many of the last training images are the validation split by default.
        files: Describes the files to download; None for an embedded data set.
        version: Raised whenever the same configuration would give other numbers.
        is_8_bit: Whether its images are uint8, which can be dequantised.
    """

    read: Callable[[Mapping[str, bytes]], Arrays]
    shape: tuple[int, int, int]
    validation: int
    files: Callable[[], RemoteFiles] | None = None
    version: int = 1
    is_8_bit: bool = True


def load(
    name: str,
    *,
    data_dir: Path | None = None,
    binarize: Binarize = "none",
    dequantize: Dequantize = "none",
    train: int | None = None,
    validation: int | Literal["test"] | None = None,
) -> Splits:
    """Load a data set, downloading what is missing, and cut it into splits.

    The splits are fixed: the last ``validation`` images of the training part are the validation
    split, the first ``train`` of the others the training split, the test part is left whole.

    Arguments:
        name: A key of `DATASETS`.
        data_dir: Where the files lie: the four files themselves, or a folder in torchvision's
            layout. Default: ``$VAEBENCH_DATA``, else ``vaebench`` in the user's cache folder.
        binarize: ``none`` keeps gray values; ``static`` draws every pixel once, with a fixed seed;
            ``dynamic`` does so for validation and test and leaves train gray, for `binarize` to
            draw anew in each epoch. An image's draw depends neither on the cut nor on the run.
        dequantize: ``uniform`` spreads the pixels of validation and test over their gray level,
            with a fixed seed, and leaves train for `dequantized` to draw anew in each epoch.
        train: Number of training images. Default: all.
        validation: Number of validation images (0: none), or ``test``: the test images serve as
            validation split, as some reproductions want it. Default: the data set's own.

    Raises:
        DataError: Unknown name, impossible sizes, or files that are corrupt or out of reach.
    """
    dataset = _entry(name)
    if binarize not in ("none", "static", "dynamic"):
        raise DataError(f"unknown binarize {binarize!r}; choose from none, static, dynamic")
    if dequantize not in ("none", "uniform"):
        raise DataError(f"unknown dequantize {dequantize!r}; choose from none, uniform")
    arrays, digest = _read(dataset, data_directory(data_dir))
    size = dataset.validation if validation is None else validation
    held_out = 0 if size == "test" else size
    first, rest = _cut(name, len(arrays.train_x), train, held_out)

    pool = Split(_images(arrays.train_x), _labels(arrays.train_y))
    test = Split(_images(arrays.test_x), _labels(arrays.test_y))
    drawn = pool
    # The whole pool is drawn before it is cut, so that an image keeps its bits in every cut.
    if binarize != "none":
        drawn, test = _drawn(pool, f"{name}/binarize/train"), _drawn(test, f"{name}/binarize/test")
    elif dequantize != "none":
        require_8_bits(name, *arrays[::2])
        drawn, test = (
            split._replace(x=dequantized(split.x, stream(0, f"{name}/dequantize/{part}")))
            for split, part in ((pool, "train"), (test, "test"))
        )
    source = drawn if binarize == "static" else pool
    return Splits(
        name=name,
        digest=digest,
        train=Split(source.x[:first], source.y[:first]),
        validation=test if size == "test" else Split(drawn.x[rest:], drawn.y[rest:]),
        test=test,
    )


def digest(name: str, data_dir: Path | None = None) -> str | None:
    """The digest of the source data, as in :class:`Splits`; None where it is not: no download."""
    dataset, root = _entry(name), data_directory(data_dir)
    files = dataset.files() if dataset.files else None
    try:
        missing = files is not None and len(read_present(files, root)) < len(files.md5)
        return None if missing else _read(dataset, root)[1]
    except DataError:  # told by who needs the data
        return None


def fetch(
    name: str,
    *,
    data_dir: Path | None = None,
    mirror: str | None = None,
    report: Callable[[str], None],
) -> Path:
    """Download what is missing or corrupt, verify every file, and explain it line by line.

    Arguments:
        name: A key of `DATASETS`.
        data_dir: As in `load`.
        mirror: A base URL (``file://`` included) or a folder to take the files from. Default, for
            ``mnist``: ``$VAEBENCH_MNIST_MIRROR``; else torchvision's mirrors.
        report: Receives one line per event.

    Returns:
        The folder that holds the files (the data directory for an embedded data set).

    Raises:
        DataError: Unknown name, no mirror has the right bytes, or the folder cannot be written.
    """
    dataset, root = _entry(name), data_directory(data_dir)
    if dataset.files is None:
        report(f"{name}: embedded, nothing to download")
        return root
    folder = fetch_files(dataset.files(), root, mirror, report)
    report(f"{name}: complete in {folder}")
    return folder


def _entry(name: str) -> Dataset:
    if name not in DATASETS:
        raise DataError(f"unknown data set {name!r}; choose from {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def _read(dataset: Dataset, root: Path) -> tuple[Arrays, str]:
    """The arrays of a data set and their digest, read once as long as its files stay the same."""
    files = dataset.files() if dataset.files else None
    return _read_once(dataset, root, file_states(files, root) if files else ())


@lru_cache(maxsize=2)  # in a process that does run after run; nobody outside gets these arrays
def _read_once(dataset: Dataset, root: Path, _states: FileStates) -> tuple[Arrays, str]:
    arrays = dataset.read(read_verified(dataset.files(), root) if dataset.files else {})
    return arrays, _digest(arrays)


def _cut(name: str, pool: int, train: int | None, validation: int) -> tuple[int, int]:
    """Return the end of the training and the start of the validation split in a pool of images."""
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


def _drawn(split: Split, name: str) -> Split:
    # Not the run's seed: validation and test images are the same in every run.
    return split._replace(x=binarize(split.x, stream(0, name)))


def _images(array: NDArray[Any]) -> Tensor:
    x = torch.from_numpy(array.astype(np.float32))
    if array.dtype == np.uint8:
        x /= 255
    return x if x.ndim == 4 else x.unsqueeze(1)


def _labels(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:12]


def digits(_contents: Mapping[str, bytes]) -> Arrays:
    """Read the 1,797 handwritten digits of 8x8 pixels that scikit-learn ships.

    A fixed permutation makes the last 300 the test part. Source: UCI, Optical Recognition of
    Handwritten Digits, https://doi.org/10.24432/C50P49.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=stream(0, "digits/split")).numpy()
    x, y = (bunch.images[order] / 16).astype(np.float32), bunch.target[order]
    return Arrays(x[:-300], y[:-300], x[-300:], y[-300:])


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


DATASETS: Registry[Dataset] = Registry(
    "data set",
    {
        "mnist": Dataset(read=idx, shape=(1, 28, 28), validation=10_000, files=mnist_files),
        "fashion-mnist": Dataset(
            read=idx, shape=(1, 28, 28), validation=10_000, files=fashion_mnist_files
        ),
        "digits": Dataset(read=digits, shape=(1, 8, 8), validation=297, is_8_bit=False),
    },
    no_instance(Dataset),
)
