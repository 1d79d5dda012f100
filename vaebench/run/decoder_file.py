"""``decoder.safetensors``: the measured decoder, small enough to publish, read without its model.

It holds tensors, and in the metadata under ``vaebench.decoder`` a JSON object::

    {"format_version": 1, "latent_dim": Z, "image_shape": [C, H, W], "layers": [...], "link": "..."}

A layer is its ``kind``, the names of its ``tensors`` by role, and its geometry. From codes (B, Z)
the layers, in order, and then the link make mean images (B, C, H, W) in the data's units:

- ``linear`` (``in_features``, ``out_features``): int8 ``weight`` (out, in);
- ``conv_transpose2d`` (``in_channels``, ``out_channels``, and ``kernel``, ``stride``, ``padding``,
  ``output_padding``, each a pair): int8 ``weight`` (in, out, kh, kw);
- ``batch_norm`` (``features``): x * ``scale`` + ``shift`` by channel, both float32;
- ``reshape`` (``shape``, without the batch);
- ``unflatten`` (``shape`` (C, H, W)): from features in the order (H, W, C), the channels fastest;
- ``relu``, ``gelu`` (exact), ``elu`` (alpha 1), ``silu``, ``tanh``.

A weight is its whole number times ``scale``, float32, one for each output feature or channel, and
in place of int8 there may be int16, where int8 would change the images;
``bias``, where there is one, is float32. Links are ``sigmoid``, ``linear`` (none) and
``continuous_bernoulli``: :meth:`vaebench.likelihoods.ContinuousBernoulli.mean`. Where a layer or
the likelihood is none of these, ``layers`` and ``link`` are null, and the tensors are those of the
decoder's state in float16 (in float32 where that overflows).

``decoder_export`` writes the file. To add a kind: an entry in its ``_WRITERS``, one in
:data:`_READERS` here, and a line above.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vaebench.errors import ResultsError
from vaebench.files import require_file
from vaebench.layers import Unflatten
from vaebench.likelihoods import ContinuousBernoulli
from vaebench.models import Shape

FORMAT_VERSION = 1
KEY = "vaebench.decoder"  # one key: safetensors writes several in any order
MAX_BYTES = 256_000_000  # of a file; the default decoders have 0.6 million
MAX_LAYERS = 1000
MAX_NUMBERS = 2**26  # that a layer makes of one code

Sizes = tuple[int, ...]  # of what a layer makes of one code
Step = Callable[[Tensor], Tensor]
Description = dict[str, Any]

ACTIVATIONS: dict[str, Step] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "elu": F.elu,
    "silu": F.silu,
    "tanh": torch.tanh,
}
LINKS: dict[str, Step] = {
    "sigmoid": torch.sigmoid,
    "linear": lambda params: params,
    "continuous_bernoulli": ContinuousBernoulli().mean,
}


@dataclass(frozen=True)
class Decoder:
    """A decoder as its file has it.

    Attributes:
        latent_dim: Z.
        shape: The shape of an image, (C, H, W).
        steps: From codes to images.
    """

    latent_dim: int
    shape: Shape
    steps: tuple[Step, ...]

    def __call__(self, z: Tensor) -> Tensor:
        """Mean images (B, C, H, W), in the data's units, of float32 codes (B, Z) on the CPU."""
        for step in self.steps:
            z = step(z)
        return z


def read_decoder(path: Path | str) -> Decoder:
    """Read a decoder from its file alone.

    Raises:
        ResultsError: The file is damaged, too large, not that of a decoder, or that of one whose
            layers are not known.
    """
    path = Path(path)
    require_file(path, MAX_BYTES)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise ValueError(f"no {KEY} in its metadata")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return make_decoder(json.loads(metadata[KEY]), tensors)
    except (OSError, SafetensorError) as error:
        raise ResultsError(f"{path}: damaged: {error}") from error
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        said = error if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise ResultsError(f"{path}: no decoder that can be read: {said}") from error


def make_decoder(description: Description, tensors: dict[str, Tensor]) -> Decoder:
    """Check a description and its tensors against each other, and make the decoder of them.

    Raises:
        ValueError: They do not fit, or the layers are not known.
        Exception: AttributeError, LookupError or TypeError: the description has another form.
    """
    version, layers = description["format_version"], description["layers"]
    if version != FORMAT_VERSION:
        raise ValueError(f"format version {version!r}, not {FORMAT_VERSION}")
    if layers is None or description["link"] not in LINKS:
        raise ValueError("its layers or its link are not known")
    if len(layers) > MAX_LAYERS:
        raise ValueError(f"{len(layers)} layers, more than {MAX_LAYERS}")
    (latent_dim,) = sizes = _whole([description["latent_dim"]], 1)
    channels, height, width = shape = _whole(description["image_shape"], 3)
    left, steps = _Tensors(tensors), []
    for layer in layers:
        step, sizes = _READERS[layer["kind"]](layer, left, sizes)
        if _product(sizes) > MAX_NUMBERS:
            raise ValueError(f"a layer makes {sizes} of one code")
        steps.append(step)
    if sizes != shape:
        raise ValueError(f"its layers make {sizes}, not images {shape}")
    if left.unused:
        raise ValueError(f"no layer uses {min(left.unused)}")
    return Decoder(latent_dim, (channels, height, width), (*steps, LINKS[description["link"]]))


class _Tensors:
    """The tensors of a file: each is used once, with the dtype and shape that its layer says."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.unused = dict(tensors)

    def take(self, layer: Description, role: str, shape: Sizes, dtype: torch.dtype) -> Tensor:
        name = layer["tensors"][role]
        tensor = self.unused.pop(name)
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            found = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            raise ValueError(f"{name} is {found}, not {dtype} of shape {shape}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} is not finite")
        return tensor

    def weight(self, layer: Description, shape: Sizes, rows: int) -> Tensor:
        wide = self.unused[layer["tensors"]["weight"]].dtype == torch.int16
        values = self.take(layer, "weight", shape, torch.int16 if wide else torch.int8)
        scale = self.take(layer, "scale", (shape[rows],), torch.float32)
        return values * scale.view([-1 if dim == rows else 1 for dim in range(len(shape))])

    def bias(self, layer: Description, size: int) -> Tensor | None:
        there = "bias" in layer["tensors"]
        return self.take(layer, "bias", (size,), torch.float32) if there else None


def _linear(layer: Description, tensors: _Tensors, sizes: Sizes) -> tuple[Step, Sizes]:
    before, after = _whole([layer["in_features"], layer["out_features"]], 2)
    _require(sizes, (before,), "linear")
    weight = tensors.weight(layer, (after, before), rows=0)
    bias = tensors.bias(layer, after)
    return lambda x: F.linear(x, weight, bias), (after,)


def _conv_transpose2d(layer: Description, tensors: _Tensors, sizes: Sizes) -> tuple[Step, Sizes]:
    before, after = _whole([layer["in_channels"], layer["out_channels"]], 2)
    _require(sizes, (before, *sizes[1:]), "conv_transpose2d", rank=3)
    kernel, stride = _whole(layer["kernel"], 2), _whole(layer["stride"], 2)
    padding, more = (
        _whole(layer["padding"], 2, least=0),
        _whole(layer["output_padding"], 2, least=0),
    )
    if any(extra >= step for extra, step in zip(more, stride, strict=True)):
        raise ValueError(f"conv_transpose2d: output padding {more} of stride {stride}")
    if after * _product((*kernel, *sizes[1:])) > MAX_NUMBERS:
        raise ValueError("conv_transpose2d: it needs too much memory")
    weight = tensors.weight(layer, (before, after, *kernel), rows=1)
    bias = tensors.bias(layer, after)
    made = [
        (size - 1) * step - 2 * pad + side + extra
        for size, step, pad, side, extra in zip(
            sizes[1:], stride, padding, kernel, more, strict=True
        )
    ]
    return (
        lambda x: F.conv_transpose2d(x, weight, bias, stride, padding, more),
        (after, *_whole(made, 2)),
    )


def _batch_norm(layer: Description, tensors: _Tensors, sizes: Sizes) -> tuple[Step, Sizes]:
    (features,) = _whole([layer["features"]], 1)
    _require(sizes, (features, *sizes[1:]), "batch_norm")
    each = (features, *(1 for _ in sizes[1:]))
    scale = tensors.take(layer, "scale", (features,), torch.float32).view(each)
    shift = tensors.take(layer, "shift", (features,), torch.float32).view(each)
    return lambda x: x * scale + shift, sizes


def _reshape(layer: Description, _: _Tensors, sizes: Sizes) -> tuple[Step, Sizes]:
    shape = _whole(layer["shape"], len(layer["shape"]))
    if _product(shape) != _product(sizes):
        raise ValueError(f"reshape: {shape} of {sizes}")
    return lambda x: x.reshape(-1, *shape), shape


def _unflatten(layer: Description, _: _Tensors, sizes: Sizes) -> tuple[Step, Sizes]:
    channels, height, width = _whole(layer["shape"], 3)
    _require(sizes, (channels * height * width,), "unflatten")
    unflatten = Unflatten((channels, height, width))
    return unflatten, unflatten.shape


def _activation(layer: Description, _: _Tensors, sizes: Sizes) -> tuple[Step, Sizes]:
    return ACTIVATIONS[layer["kind"]], sizes


def _whole(values: Any, count: int, least: int = 1) -> Sizes:
    """A list of so many whole numbers of a sane size."""
    found = tuple(values)
    sane = all(type(value) is int and least <= value <= MAX_NUMBERS for value in found)
    if not sane or len(found) != count:
        raise ValueError(f"{values!r} where {count} whole numbers of at least {least} belong")
    return found


def _product(sizes: Sizes) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _require(sizes: Sizes, expected: Sizes, kind: str, rank: int | None = None) -> None:
    if sizes != expected or len(sizes) != (rank or len(sizes)):
        raise ValueError(f"{kind}: it is given {sizes}")


_READERS: dict[str, Callable[[Description, _Tensors, Sizes], tuple[Step, Sizes]]] = {
    "linear": _linear,
    "conv_transpose2d": _conv_transpose2d,
    "batch_norm": _batch_norm,
    "reshape": _reshape,
    "unflatten": _unflatten,
    **dict.fromkeys(ACTIVATIONS, _activation),
}
