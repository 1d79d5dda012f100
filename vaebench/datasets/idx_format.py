"""The IDX format, in which MNIST and its look-alikes are published."""

import gzip
import io
import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from vaebench.errors import DataError

MAX_VALUES = 1_000_000_000  # of a file; the largest of MNIST's has 47,040,000


def decode_idx(content: bytes, name: str, dimensions: int) -> NDArray[np.uint8]:
    """Decode an IDX file of unsigned bytes, gzipped or not, with a number of ``dimensions``.

    The format: two zero bytes, type 8, the number of dimensions, the dimensions as big-endian
    32-bit integers, then the values (http://yann.lecun.com/exdb/mnist/).

    Raises:
        DataError: The content is no such file, or its size is not what its header says.
    """
    header = 4 + 4 * dimensions
    try:
        packed = content.startswith(b"\x1f\x8b")
        with gzip.open(io.BytesIO(content)) if packed else io.BytesIO(content) as file:
            start = file.read(header)
            if start[:4] != bytes([0, 0, 8, dimensions]) or len(start) < header:
                raise DataError(f"{name}: not an IDX file of bytes in {dimensions} dimension(s)")
            shape = [int(size) for size in np.frombuffer(start, ">u4", offset=4)]
            if math.prod(shape) > MAX_VALUES:
                raise DataError(f"{name}: its header says {shape}, which is too large")
            # one more than the header says, never all that a small file may unpack to
            values = file.read(math.prod(shape) + 1)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{name}: not a gzip file ({error})") from error
    if len(values) != math.prod(shape):
        many = f"{len(values)}" if len(values) < math.prod(shape) else "more"
        raise DataError(f"{name}: {many} values, but its header says {shape}")
    return np.frombuffer(values, np.uint8).reshape(shape)
