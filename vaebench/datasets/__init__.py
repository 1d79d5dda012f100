"""The data sets: names in, tensors of train, validation and test split out.

To add one, write a function that returns `Arrays` (images as uint8 or as floats in [0, 1], of any
height, width and number of channels; labels or None; training pool and test part apart), or `Uncut`
images that their content cuts, and enter it in `DATASETS` at the bottom. Its keyword options are
annotated with their bounds and have defaults; an empty default ("" or ()) stands for an option that
must be given. A data set that is downloaded also describes its files
(`vaebench.datasets.files.RemoteFiles`); its function receives their verified content by name. The
splits, the binarisation, the digest and `vaebench data fetch` then work by themselves. Raise the
entry's `version` whenever the same configuration would give other numbers.
"""

import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from vaebench.datasets.colour import cifar10, svhn
from vaebench.datasets.embedded import digits, emnist, idx
from vaebench.datasets.files import (
    RemoteFiles,
    data_directory,
    fetch_files,
    file_states,
    read_present,
    read_verified,
)
from vaebench.datasets.own import folder, folder_shape, folder_state, npz, npz_shape, npz_state
from vaebench.datasets.pixels import dequantized, require_8_bits
from vaebench.datasets.published import (
    cifar10_files,
    emnist_files,
    fashion_mnist_files,
    kmnist_files,
    mnist_files,
    svhn_files,
)
from vaebench.datasets.splits import (
    Arrays,
    Source,
    Split,
    Splits,
    Uncut,
    as_split,
    cut,
    digest_of,
    drawn,
    ends,
)
from vaebench.errors import DataError
from vaebench.plugins import Registry, no_instance
from vaebench.seeding import stream

__all__ = [
    "DATASETS",
    "Arrays",
    "Binarize",
    "Dataset",
    "Dequantize",
    "Split",
    "Splits",
    "Uncut",
    "digest",
    "digits",
    "fetch",
    "forget",
    "idx",
    "load",
]

Binarize = Literal["none", "static", "dynamic"]
Dequantize = Literal["none", "uniform"]


@dataclass(frozen=True)
class Dataset:
    """An entry of `DATASETS`.

    Arguments:
        read: Turns the verified contents of the files (name -> bytes) into arrays; where there is
            a ``state``, it gets the data directory instead. Its keyword options follow.
        shape: The shape of its images (C, H, W), known before they are read; or a function of the
            options.
        validation: How many of the last training images are the validation split by default; None
            for `Uncut` images, of which their content decides.
        files: Describes the files to download, given the options that it takes; None for a data set
            that is not downloaded.
        version: Raised whenever the same configuration would give other numbers.
        is_8_bit: Whether its images are uint8, which can be dequantised.
        state: For data that lie on the disk already: a function of the data directory and the
            options, whose value changes when the data may have.
    """

    read: Callable[..., Arrays | Uncut]
    shape: tuple[int, int, int] | Callable[..., tuple[int, int, int]]
    validation: int | None
    files: Callable[..., RemoteFiles] | None = None
    version: int = 1
    is_8_bit: bool = True
    state: Callable[..., Hashable] | None = None

    def shape_with(self, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """The shape of its images, (C, H, W), with some options."""
        return self.shape(**_complete(self, options)) if callable(self.shape) else self.shape

    def files_with(self, options: Mapping[str, Any]) -> RemoteFiles | None:
        """The files to download with some options; None for a data set that is not downloaded."""
        if self.files is None:
            return None
        taken = inspect.signature(self.files).parameters
        complete = _complete(self, options)
        return self.files(**{name: complete[name] for name in taken})


def load(
    name: str,
    *,
    data_dir: Path | None = None,
    binarize: Binarize = "none",
    dequantize: Dequantize = "none",
    train: int | None = None,
    validation: int | Literal["test"] | None = None,
    **options: Any,
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
        options: The data set's own, such as the ``path`` of a ``folder``.

    Raises:
        DataError: Unknown name, impossible sizes, or files that are corrupt or out of reach.
    """
    dataset = _entry(name)
    if binarize not in ("none", "static", "dynamic"):
        raise DataError(f"unknown binarize {binarize!r}; choose from none, static, dynamic")
    if dequantize not in ("none", "uniform"):
        raise DataError(f"unknown dequantize {dequantize!r}; choose from none, uniform")
    source = _read(name, data_directory(data_dir), options)
    arrays = source.arrays
    held_out = source.held_out if source.held_out is not None else dataset.validation
    if source.held_out is not None and validation not in (None, 0, "test"):
        raise DataError(
            f"{name}: the content of its images decides which are the validation split: leave "
            f"dataset.validation out, or say 0 or test"
        )
    size = held_out if validation is None else validation
    first, rest = ends(name, len(arrays.train_x), train, 0 if size in ("test", None) else int(size))

    pool = as_split(arrays.train_x, arrays.train_y)
    test = as_split(arrays.test_x, arrays.test_y)
    # The whole pool is drawn before it is cut, so that an image keeps its bits in every cut.
    bits = pool
    if binarize != "none":
        bits, test = drawn(pool, f"{name}/binarize/train"), drawn(test, f"{name}/binarize/test")
    elif dequantize != "none":
        require_8_bits(name, arrays.train_x, arrays.test_x)
        bits, test = (
            split._replace(x=dequantized(split.x, stream(0, f"{name}/dequantize/{part}")))
            for split, part in ((pool, "train"), (test, "test"))
        )
    images = bits if binarize == "static" else pool
    return Splits(
        name=name,
        digest=source.digest,
        train=Split(images.x[:first], images.y[:first]),
        validation=test if size == "test" else Split(bits.x[rest:], bits.y[rest:]),
        test=test,
    )


def digest(name: str, data_dir: Path | None = None, **options: Any) -> str | None:
    """The digest of the source data, as in :class:`Splits`; None where it is not: no download."""
    dataset, root = _entry(name), data_directory(data_dir)
    files = dataset.files_with(options)
    try:
        missing = files is not None and len(read_present(files, root)) < len(files.digests)
        return None if missing else _read(name, root, options).digest
    except DataError:  # told by who needs the data
        return None


def forget() -> None:
    """Read data sets anew from now on; they are kept in memory as long as their files stay."""
    _read_once.cache_clear()


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
    files = dataset.files_with({})
    if files is None:
        kind = "read where it lies" if dataset.state else "embedded"
        report(f"{name}: {kind}, nothing to download")
        return root
    folder = fetch_files(files, root, mirror, report)
    report(f"{name}: complete in {folder}")
    return folder


def _entry(name: str) -> Dataset:
    if name not in DATASETS:
        raise DataError(f"unknown data set {name!r}; choose from {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def _read(name: str, root: Path, options: Mapping[str, Any]) -> Source:
    """The arrays of a data set and their digest, read once as long as its files stay the same."""
    dataset = DATASETS[name]
    files = dataset.files_with(options)
    state: Hashable = file_states(files, root) if files else ()
    if dataset.state:
        state = dataset.state(root, **_complete(dataset, options))
    known = tuple(sorted((key, _hashable(value)) for key, value in options.items()))
    return _read_once(dataset, name, root, known, state)


@lru_cache(maxsize=2)  # in a process that does run after run; nobody outside gets these arrays
def _read_once(
    dataset: Dataset, name: str, root: Path, options: tuple[tuple[str, Any], ...], _: Hashable
) -> Source:
    files = dataset.files_with(dict(options))
    given: Any = read_verified(files, root) if files else {}
    found = dataset.read(root if dataset.state else given, **dict(options))
    if isinstance(found, Uncut):
        arrays, held_out = cut(name, found)
        return Source(arrays, digest_of(arrays), held_out)
    return Source(found, digest_of(found))


def _complete(dataset: Dataset, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the defaults of those that are not given."""
    parameters = inspect.signature(dataset.read).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return {**defaults, **options}


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


DATASETS: Registry[Dataset] = Registry(
    "data set",
    {
        "mnist": Dataset(read=idx, shape=(1, 28, 28), validation=10_000, files=mnist_files),
        "fashion-mnist": Dataset(
            read=idx, shape=(1, 28, 28), validation=10_000, files=fashion_mnist_files
        ),
        "kmnist": Dataset(read=idx, shape=(1, 28, 28), validation=10_000, files=kmnist_files),
        "emnist": Dataset(read=emnist, shape=(1, 28, 28), validation=10_000, files=emnist_files),
        "cifar10": Dataset(read=cifar10, shape=(3, 32, 32), validation=5_000, files=cifar10_files),
        "svhn": Dataset(read=svhn, shape=(3, 32, 32), validation=10_000, files=svhn_files),
        "digits": Dataset(read=digits, shape=(1, 8, 8), validation=297, is_8_bit=False),
        "folder": Dataset(read=folder, shape=folder_shape, validation=None, state=folder_state),
        "npz": Dataset(read=npz, shape=npz_shape, validation=None, state=npz_state),
    },
    no_instance(Dataset),
)
