"""Readers of CIFAR-10 and of the Street View House Numbers, colour images of 32x32 pixels.

CIFAR-10 is published as pickles in a tar archive. Neither is unpacked or unpickled here: the bytes
of the images and the labels are picked out of them, and nothing else of them is used.
"""

import io
import pickletools
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.datasets.splits import Arrays
from vaebench.errors import DataError

MAX_TAR_BYTES = 400_000_000  # that of CIFAR-10 has 186 million
BLOCK = 512  # bytes of a tar archive's header, and what its contents are padded to
PIXELS = 3 * 32 * 32
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")


def cifar10(contents: Mapping[str, bytes]) -> Arrays:
    """Read the 60,000 images of CIFAR-10, https://www.cs.toronto.edu/~kriz/cifar.html."""
    [(name, content)] = contents.items()
    members = {path.rpartition("/")[2]: body for path, body in _members(name, content)}
    parts = []
    for wanted in (BATCHES, ("test_batch",)):
        if lacking := [batch for batch in wanted if batch not in members]:
            raise DataError(f"{name}: has no {lacking[0]}")
        batches = [_batch(f"{name}: {batch}", members[batch]) for batch in wanted]
        parts += [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]
    return Arrays(*parts)


def svhn(contents: Mapping[str, bytes]) -> Arrays:
    """Read the cropped digits of SVHN, http://ufldl.stanford.edu/housenumbers/."""
    from scipy.io import loadmat

    parts: list[NDArray[Any]] = []
    for name in ("train_32x32.mat", "test_32x32.mat"):
        try:
            read = loadmat(io.BytesIO(contents[name]), variable_names=["X", "y"])
            x, y = read["X"].transpose(3, 2, 0, 1), read["y"].ravel() % 10  # zero is label 10
        except Exception as error:  # scipy raises many kinds for a damaged file
            raise DataError(f"{name}: no images that can be read ({error})") from error
        if x.shape != (len(y), 3, 32, 32) or x.dtype != np.uint8:
            raise DataError(f"{name}: holds {x.dtype} images of shape {x.shape}")
        parts += [np.ascontiguousarray(x), y.astype(np.int64)]
    return Arrays(*parts)


def _members(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the plain files in a gzipped tar archive."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        tar = unpacker.decompress(content, MAX_TAR_BYTES)
    except zlib.error as error:
        raise DataError(f"{name}: not a gzip file ({error})") from error
    at = 0
    while at + BLOCK <= len(tar) and tar[at]:
        header = tar[at : at + BLOCK]
        path = header[:100].rstrip(b"\0").decode("ascii", "replace")
        digits = header[124:136].strip(b"\0 ")
        if not digits.isdigit() or len(tar) < at + BLOCK + int(digits, 8):
            raise DataError(f"{name}: damaged at {path!r}")
        size = int(digits, 8)
        if header[156:157] in (b"0", b"\0"):
            yield path, tar[at + BLOCK : at + BLOCK + size]
        at += BLOCK + -(-size // BLOCK) * BLOCK


def _batch(name: str, content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 3, 32, 32) and labels of a batch: the longest text in it, and whole numbers."""
    data, labels, reading = b"", list[int](), False
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if isinstance(argument, str | bytes):
                text = argument.encode("latin-1") if isinstance(argument, str) else argument
                reading = text == b"labels"
                data = max(data, text, key=len)
            elif reading and isinstance(argument, int) and opcode.name.startswith("BININT"):
                labels.append(argument)
    except ValueError as error:
        raise DataError(f"{name}: no batch that can be read ({error})") from error
    if not labels or len(data) != PIXELS * len(labels) or not 0 <= min(labels) <= max(labels) < 10:
        raise DataError(f"{name}: {len(data):,} bytes of pixels, {len(labels):,} labels")
    return np.frombuffer(data, np.uint8).reshape(-1, 3, 32, 32), np.array(labels)
