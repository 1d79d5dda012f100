"""Arrays and tensors that somebody else may have made: what they may be.

A file is an archive that is whole and unpacks to no more than it holds
(:func:`vaebench.files.open_archive`). What it says of its entries is checked here: arrays before
memory is taken for them, tensors before anything is computed with them.
"""

import math
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

MAX_DIMENSIONS = 8
MAX_VALUES = 100_000  # in a file of tensors; a checkpoint has some hundred
MAX_NESTING = 20
NUMBERS = "biuf"  # numpy's kinds of dtype: truth values, whole and real numbers


def read_arrays(file: BinaryIO) -> dict[str, "NDArray[Any]"]:
    """Read arrays of numbers from an archive.

    Pictures and codes, which have two dimensions or more, are finite; what was measured of each
    image may be anything.

    Raises:
        ValueError: An entry is something else, or not as large as its header says.
        Exception: As numpy and zipfile, on a damaged file.
    """
    import numpy as np

    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            _require_numbers(archive, entry)
    file.seek(0)
    with np.load(file, allow_pickle=False) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    for name, array in arrays.items():
        if array.ndim > 1 and not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    return arrays


def _require_numbers(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Make sure that an entry is an array of numbers that takes the bytes that the entry has."""
    from numpy.lib import format as npy

    with archive.open(entry) as file:
        if npy.read_magic(file) != (1, 0):
            raise ValueError(f"{entry.filename} has another format")
        shape, _, dtype = npy.read_array_header_1_0(file)
        left = entry.file_size - file.tell()
    if dtype.kind not in NUMBERS or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{entry.filename} holds {dtype} in {len(shape)} dimensions")
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != left:
        raise ValueError(f"{entry.filename} is not as large as its header says")


def require_tensors(value: object, max_bytes: int) -> dict[str, Any]:
    """What :meth:`RunStore.load_tensors` may return: plain values and dense tensors, by name.

    Raises:
        ValueError: It holds something else, or tensors of more than ``max_bytes``.
    """
    if not isinstance(value, dict):
        raise ValueError("it holds no tensors by name")
    import torch

    left, count = max_bytes, 0
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        count += 1
        if depth > MAX_NESTING or count > MAX_VALUES:
            raise ValueError("it holds too much")
        if isinstance(item, dict):
            if not all(isinstance(key, str | int) for key in item):
                raise ValueError("its names are none")
            waiting += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list | tuple):
            waiting += [(inner, depth + 1) for inner in item]
        elif isinstance(item, torch.Tensor):
            left -= _bytes_of(item)
            if left < 0:
                raise ValueError("its tensors are larger than the file")
        elif not isinstance(item, str | int | float | None):
            raise ValueError(f"it holds a {type(item).__name__}")
    return value


def _bytes_of(tensor: "Tensor") -> int:
    """How many bytes a tensor takes, which may be more than its storage has."""
    import torch

    dense = tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized
    if not dense or tensor.is_complex() or tensor.device.type != "cpu":
        raise ValueError(f"a tensor is {tensor.layout}, {tensor.dtype}, on {tensor.device}")
    return tensor.numel() * tensor.element_size()


def misfit(state: object, expected: Mapping[str, "Tensor"]) -> str | None:
    """Why tensors are not the state of a module whose state is ``expected``; None if they are."""
    import torch

    if not isinstance(state, dict) or state.keys() != expected.keys():
        return "not of the model in config.yaml: other names"
    for name, tensor in expected.items():
        given = state[name]
        if not isinstance(given, torch.Tensor):
            return f"damaged: {name} is no tensor"
        if given.shape != tensor.shape or given.dtype != tensor.dtype:
            return f"not of the model in config.yaml: {name} is {given.dtype} {tuple(given.shape)}"
        if not bool(given.isfinite().all()):
            return f"damaged: {name} is not finite"
    return None
