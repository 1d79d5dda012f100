"""Writing ``decoder.safetensors``, whose format is that of ``decoder_file``.

Weights are int8 where that is enough: no pixel decoded from :data:`DRAWS` codes may move by more
than :data:`MAX_ERROR`. Else they are int16. The continuous Bernoulli needs that at times: a mean
of 0.999 is a logit of 1000, and what is rounded next to such logits moves the gray pixels.
"""

import json
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from vaebench.fitted_gaussian import FittedGaussian
from vaebench.layers import ConvTranspose2d, Linear, Unflatten
from vaebench.likelihoods import Bernoulli, ContinuousBernoulli, Gaussian, Likelihood
from vaebench.models import Shape
from vaebench.run.decoder_file import (
    FORMAT_VERSION,
    GEOMETRY,
    KEY,
    ROWS,
    Decoder,
    Description,
    make_decoder,
)
from vaebench.seeding import stream
from vaebench.vae import VAE

DRAWS = 512
MAX_ERROR = 0.02  # of the range from black to white

Named = dict[str, Tensor]  # by role in a layer, or by name in the file


def decoder_bytes(vae: VAE, shape: Shape) -> bytes:
    """The content of the file: a model's decoder in evaluation mode, and its likelihood's link.

    Arguments:
        vae: The model, on any device.
        shape: The shape of its images, (C, H, W).
    """
    description: Description = {
        "format_version": FORMAT_VERSION,
        "latent_dim": vae.latent_dim,
        "image_shape": list(shape),
        "layers": None,
        "link": None,
    }
    with torch.no_grad():
        try:
            for dtype in (torch.int8, torch.int16):
                layers, tensors = _described(vae.decoder, dtype)
                known = description | {"layers": layers, "link": _link(vae.likelihood)}
                if _error(vae, make_decoder(known, tensors)) <= MAX_ERROR:
                    break
            description = known
        except ValueError:  # something of a user's own
            tensors = _halved(vae.decoder)
    return save(tensors, {KEY: json.dumps(description, separators=(",", ":"))})


def _error(vae: VAE, decoder: Decoder) -> float:
    """The largest difference of a pixel, on fixed codes, between a model and what is kept of it."""
    z = torch.randn(DRAWS, vae.latent_dim, generator=stream(0, "decoder"))
    decoded = vae.eval().decode(z.to(next(vae.parameters()))).cpu()
    return (decoder(z) - decoded).abs().max().item()


def _described(decoder: nn.Module, dtype: torch.dtype) -> tuple[list[Description], Named]:
    """The list of layers, and their tensors, the weights in whole numbers of a type.

    Raises:
        ValueError: One of the layers is of no kind that there is.
    """
    layers: list[Description] = []
    tensors: Named = {}
    for name, layer in decoder.named_modules(remove_duplicate=False):
        if type(layer) is nn.Sequential:
            continue
        prefix = f"{name}." if name else ""
        kind = _KINDS.get(type(layer))  # not of a subclass, which may compute something else
        if kind is None or layer._forward_hooks or layer._forward_pre_hooks or _is_special(layer):
            raise ValueError(f"{layer} is not known")
        geometry = {key: getattr(layer, at) for key, at in GEOMETRY.get(kind, {}).items()}
        layers.append({"kind": kind} | geometry)
        if own := _tensors(layer, kind, dtype):
            layers[-1]["tensors"] = {role: prefix + role for role in own}
        tensors |= {prefix + role: _plain(tensor) for role, tensor in own.items()}
    return layers, tensors


def _is_special(layer: Any) -> bool:
    """Whether a layer of a known type has an option that its kind does not have."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.groups != 1 or set(layer.dilation) != {1}
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return layer.running_mean is None or layer.running_var is None
    if isinstance(layer, nn.Unflatten):
        return layer.dim not in (1, -1)
    options = getattr(layer, "alpha", 1.0), getattr(layer, "approximate", "none")
    return options != (1.0, "none")


def _tensors(layer: Any, kind: str, dtype: torch.dtype) -> Named:
    """The tensors of a layer by role."""
    if kind in ROWS:
        bias = {} if layer.bias is None else {"bias": layer.bias}
        return _quantised(layer.weight, ROWS[kind], dtype) | bias
    if kind != "batch_norm":
        return {}
    scale = (layer.running_var.cpu().double() + layer.eps).rsqrt()
    scale = scale if layer.weight is None else scale * layer.weight.cpu()
    shift = -scale * layer.running_mean.cpu()
    shift = shift if layer.bias is None else shift + layer.bias.cpu()
    return {"scale": scale, "shift": shift}


def _quantised(weight: Tensor, rows: int, dtype: torch.dtype) -> Named:
    """A weight in whole numbers, with the scale of each output row; rows lie along ``rows``."""
    most = torch.iinfo(dtype).max
    weight = weight.float()
    others = [dim for dim in range(weight.dim()) if dim != rows]
    scale = weight.abs().amax(dim=others, keepdim=True) / most
    steps = (weight / torch.where(scale > 0, scale, 1.0)).round()
    return {"weight": steps.to(dtype), "scale": scale.flatten()}


def _link(likelihood: Likelihood) -> str | None:
    """The link of a likelihood; None of one that is not known."""
    kind = type(likelihood)
    if kind in (Gaussian, FittedGaussian):
        link: str = likelihood.output  # type: ignore[attr-defined]
        return link
    return {Bernoulli: "sigmoid", ContinuousBernoulli: "continuous_bernoulli"}.get(kind)


def _halved(decoder: nn.Module) -> Named:
    """The real tensors of a decoder's state in float16, whole numbers as they are."""
    tensors = {}
    for name, tensor in decoder.state_dict().items():
        if isinstance(tensor, Tensor) and not tensor.is_complex():
            dtype = torch.float16 if tensor.is_floating_point() else tensor.dtype
            overflows = not tensor.to(dtype).isfinite().all()
            tensors[name] = _plain(tensor, torch.float32 if overflows else dtype)
    return tensors


def _plain(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A copy on the CPU, in memory as its shape says, whatever layout it was trained in."""
    dtype = dtype or (torch.float32 if tensor.is_floating_point() else tensor.dtype)
    return tensor.to("cpu", dtype).clone(memory_format=torch.contiguous_format)


_KINDS: dict[type[nn.Module], str] = {
    nn.Linear: "linear",
    Linear: "linear",
    nn.ConvTranspose2d: "conv_transpose2d",
    ConvTranspose2d: "conv_transpose2d",
    nn.BatchNorm1d: "batch_norm",
    nn.BatchNorm2d: "batch_norm",
    nn.Unflatten: "reshape",
    Unflatten: "unflatten",
    nn.ReLU: "relu",
    nn.GELU: "gelu",
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.Tanh: "tanh",
}
