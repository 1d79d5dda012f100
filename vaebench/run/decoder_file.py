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

``decoder_export`` writes the file. To add a kind: an entry in :data:`LAYERS` and one in its
``_KINDS``, in :data:`GEOMETRY` if it has numbers, and a line above.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from vaebench.errors import ResultsError
from vaebench.files import read_file
from vaebench.layers import Unflatten
from vaebench.likelihoods import ContinuousBernoulli
from vaebench.models import Shape

FORMAT_VERSION = 1
KEY = "vaebench.decoder"  # one key: safetensors writes several in any order
MAX_BYTES = 256_000_000  # of a file; the default decoders have 0.6 million
MAX_LAYERS = 1000
MAX_NUMBERS = 2**26  # that a layer makes of one code

Step = Callable[[Tensor], Tensor]
Description = dict[str, Any]


class _Affine(nn.Module):
    """Batch normalisation in evaluation mode."""

    scale: Tensor
    shift: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        for name in ("scale", "shift"):
            self.register_buffer(name, torch.empty(num_features, device="meta"))

    def forward(self, x: Tensor) -> Tensor:
        each = (-1, *(1 for _ in x.shape[2:]))
        return x * self.scale.view(each) + self.shift.view(each)


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "linear": partial(nn.Linear, device="meta"),
    "conv_transpose2d": partial(nn.ConvTranspose2d, device="meta"),
    "batch_norm": _Affine,
    "reshape": partial(nn.Unflatten, 1),
    "unflatten": Unflatten,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
# The numbers of a kind, and what PyTorch calls them; the first is the size of what it is given.
GEOMETRY: dict[str, dict[str, str]] = {
    "linear": {"in_features": "in_features", "out_features": "out_features"},
    "conv_transpose2d": {
        "in_channels": "in_channels",
        "out_channels": "out_channels",
        "kernel": "kernel_size",
        "stride": "stride",
        "padding": "padding",
        "output_padding": "output_padding",
    },
    "batch_norm": {"features": "num_features"},
    "reshape": {"shape": "unflattened_size"},
    "unflatten": {"shape": "shape"},
}
ROWS = {"linear": 0, "conv_transpose2d": 1}  # the dimension of a weight with a scale of its own
DIMENSIONS = {"linear": 2, "conv_transpose2d": 4, "unflatten": 2}  # of what a kind is given
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
        precision: ``int8``, or ``int16`` where a weight needs that.
    """

    latent_dim: int
    shape: Shape
    steps: tuple[Step, ...]
    precision: str = "int8"

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
    content = read_file(path, MAX_BYTES)
    if content is None:
        raise ResultsError(f"{path}: no such file")
    try:
        tensors = load(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        described = metadata.get("__metadata__", {})
        if KEY not in described:
            raise ValueError(f"no {KEY} in its metadata")
        return make_decoder(json.loads(described[KEY]), tensors)
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
    (latent_dim,) = _whole([description["latent_dim"]], 1)
    channels, height, width = _whole(description["image_shape"], 3)
    x = torch.empty(1, latent_dim, device="meta")  # sizes without numbers
    left, steps = dict(tensors), []
    for layer in layers:
        module, x = _layer(layer, x)
        module.load_state_dict(_taken(layer, module, left), assign=True)
        steps.append(module.requires_grad_(False))
    if x.shape != (1, channels, height, width):
        made, shape = tuple(x.shape[1:]), (channels, height, width)
        raise ValueError(f"its layers make {made}, not images {shape}")
    if left:
        raise ValueError(f"no layer uses {min(left)}")
    wide = any(tensor.dtype == torch.int16 for tensor in tensors.values())
    link = LINKS[description["link"]]
    precision = "int16" if wide else "int8"
    return Decoder(latent_dim, (channels, height, width), (*steps, link), precision)


def _layer(layer: Description, x: Tensor) -> tuple[nn.Module, Tensor]:
    """A layer without its tensors, and what it makes of one code, ``x``, as sizes."""
    kind, given = layer["kind"], tuple(x.shape[1:])
    numbers = {argument: _numbers(layer, key) for key, argument in GEOMETRY.get(kind, {}).items()}
    front = next(iter(numbers.values()), None)
    if x.dim() != DIMENSIONS.get(kind, x.dim()) or (type(front) is int and front != given[0]):
        raise ValueError(f"{kind}: it is given {given}")
    if kind in ROWS:
        numbers["bias"] = "bias" in layer["tensors"]
    try:
        module = LAYERS[kind](**numbers)
        made = module(x)
    except RuntimeError as error:
        raise ValueError(f"{kind}: it is given {given}") from error
    if len(made) != 1 or not 0 < made.numel() <= MAX_NUMBERS:
        raise ValueError(f"a layer makes {tuple(made.shape[1:])} of one code")
    if isinstance(module, nn.ConvTranspose2d):
        extra, stride = module.output_padding, module.stride
        if extra[0] >= stride[0] or extra[1] >= stride[1]:
            raise ValueError(f"{kind}: output padding {extra} of stride {stride}")
        if module.weight[0].numel() * x[0, 0].numel() > MAX_NUMBERS:
            raise ValueError(f"{kind}: it needs too much memory")
    return module, made


def _taken(layer: Description, module: nn.Module, left: dict[str, Tensor]) -> dict[str, Tensor]:
    """A layer's tensors by role, each taken out of ``left``, the weight in float32."""
    shapes = {role: tensor.shape for role, tensor in module.state_dict().items()}
    rows = ROWS.get(layer["kind"])
    if rows is not None:
        shapes["scale"] = shapes["weight"][rows : rows + 1]
    tensors = {}
    for role, shape in shapes.items():
        name = layer["tensors"][role]
        tensors[role] = tensor = left.pop(name)
        known = (torch.int8, torch.int16) if role == "weight" else (torch.float32,)
        if tensor.dtype not in known or tensor.shape != shape:
            given = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            raise ValueError(f"{name} is {given}, not {known[0]} of shape {tuple(shape)}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} is not finite")
    if rows is not None:
        each = [-1 if dim == rows else 1 for dim in range(len(shapes["weight"]))]
        tensors["weight"] = tensors["weight"] * tensors.pop("scale").view(each)
    return tensors


def _numbers(layer: Description, key: str) -> int | tuple[int, ...]:
    if key == "shape":
        return _whole(layer[key], 3 if layer["kind"] == "unflatten" else len(layer[key]))
    if key in ("kernel", "stride", "padding", "output_padding"):
        return _whole(layer[key], 2, least=0 if "padding" in key else 1)
    return _whole([layer[key]], 1)[0]


def _whole(values: Any, count: int, least: int = 1) -> tuple[int, ...]:
    """A list of so many whole numbers of a sane size."""
    numbers = tuple(values)
    sane = all(type(value) is int and least <= value <= MAX_NUMBERS for value in numbers)
    if not sane or len(numbers) != count:
        raise ValueError(f"{values!r} where {count} whole numbers of at least {least} belong")
    return numbers
