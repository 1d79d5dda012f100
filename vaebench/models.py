"""The encoder and decoder networks, sized by the configuration and by the images.

To add a model: a function ``(shape, latent_dim, *, options...) -> Networks`` whose keyword options
are annotated with their bounds and have defaults, and an entry in ``MODELS`` at the bottom. Encoder
and decoder may be any modules: an encoder returns (mean, log_var), each (B, Z), or a
``DiagonalGaussian``. A model that also takes ``maps`` serves likelihoods with several parameters
per pixel: its decoder then returns (B, maps * C, H, W). The configuration
(``model.<name>.<option>``), the command line, the tables and the contract tests follow. Whenever
the same configuration would give other numbers, raise the function's attribute ``version``
(``cnn.version = 2`` below it), which is 1 where it has none; a model that is built by another one's
function gets a new version together with it.
"""

import inspect
import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

from annotated_types import Gt, Len, Predicate
from torch import Tensor, nn

from vaebench.distributions import DiagonalGaussian
from vaebench.layers import ConvTranspose2d, Flatten, Linear, Unflatten
from vaebench.plugins import Registry, not_callable

Shape = tuple[int, int, int]
Width = Annotated[int, Gt(0)]
Activation = Literal["relu", "gelu", "elu", "silu", "tanh"]


def odd(n: int) -> bool:
    """Whether a number is odd."""
    return n % 2 == 1


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),  # it needs but its result to differentiate
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Encoder(nn.Module):
    """q(z|x): a body that ends in features, and one linear head for mean and log-variance."""

    def __init__(self, body: nn.Sequential, features: int, latent_dim: int) -> None:
        super().__init__()
        self.body = body
        self.head = Linear(features, 2 * latent_dim)

    def forward(self, x: Tensor) -> DiagonalGaussian:
        """Map images (B, C, H, W) to their posterior, ``mean`` and ``log_var`` of shape (B, Z)."""
        # reduced precision ends with the networks
        mean, log_var = self.head(self.body(x)).to(x.dtype).chunk(2, dim=-1)
        return DiagonalGaussian.bounded(mean, log_var)


class Networks(NamedTuple):
    """An encoder, and a decoder from codes (B, Z) to likelihood parameters (B, maps * C, H, W).

    The encoder maps images (B, C, H, W) to (mean, log_var) or a ``DiagonalGaussian``, each (B, Z).
    """

    encoder: nn.Module
    decoder: nn.Module


def takes_maps(name: str) -> bool:
    """Whether a model serves likelihoods that need more than one map of parameters per channel."""
    return "maps" in inspect.signature(MODELS[name]).parameters


def _dense(widths: list[int], activation: str, *, batch_norm: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers.append(Linear(before, after))
        if batch_norm:
            layers.append(nn.BatchNorm1d(after))
        layers.append(_ACTIVATIONS[activation]())
    return layers


def fnn(
    shape: Shape,
    latent_dim: int,
    maps: int = 1,
    *,
    hidden: tuple[Width, ...] = (512, 256),
    activation: Activation = "relu",
    batch_norm: bool = False,
) -> Networks:
    """Fully connected encoder and mirrored decoder.

    Arguments:
        shape: Image shape (C, H, W).
        latent_dim: Z, the number of latent dimensions.
        maps: Likelihood parameters per pixel.
        hidden: Widths from the pixels to the latent heads; the decoder mirrors them.
        activation: Follows every hidden layer.
        batch_norm: Batch normalisation before every activation.
    """
    pixels = math.prod(shape)
    widths = [pixels, *hidden]
    mirrored = [latent_dim, *reversed(hidden)]
    body = nn.Sequential(nn.Flatten(), *_dense(widths, activation, batch_norm=batch_norm))
    decoder = nn.Sequential(
        *_dense(mirrored, activation, batch_norm=batch_norm),
        Linear(mirrored[-1], maps * pixels),
        nn.Unflatten(-1, (maps * shape[0], *shape[1:])),
    )
    return Networks(Encoder(body, widths[-1], latent_dim), decoder)


def linear(shape: Shape, latent_dim: int, maps: int = 1) -> Networks:
    """Linear encoder and decoder: with a Gaussian loss and a linear output, probabilistic PCA.

    Its largest log-likelihood is known in closed form, and the exact posterior of an optimum is
    within reach of the encoder: what a training or a bound misses can be measured.

    References:
        Tipping & Bishop (1999), https://doi.org/10.1111/1467-9868.00196
        Lucas et al. (2019), https://arxiv.org/abs/1911.02469
    """
    return fnn(shape, latent_dim, maps, hidden=())


def cnn(
    shape: Shape,
    latent_dim: int,
    maps: int = 1,
    *,
    channels: Annotated[tuple[Width, ...], Len(1)] = (32, 64),
    strides: Annotated[tuple[Width, ...], Len(1)] = (2, 2),
    kernel_size: Annotated[Width, Predicate(odd)] = 3,
    hidden: tuple[Width, ...] = (160,),
    activation: Activation = "relu",
    batch_norm: bool = False,
) -> Networks:
    """Convolutional encoder and mirrored decoder with transposed convolutions.

    Every convolution pads by half its kernel, so that a stride s divides a side by s, rounded up;
    the decoder retraces the encoder's sizes exactly, whatever the image's height and width. The
    defaults have within 3 % of the default ``fnn``'s parameters on 28x28 images.

    Arguments:
        shape: Image shape (C, H, W).
        latent_dim: Z, the number of latent dimensions.
        maps: Likelihood parameters per pixel.
        channels: Output channels of each convolution.
        strides: Their strides, as many as ``channels``.
        kernel_size: Side of the square kernels, odd.
        hidden: Widths of the linear layers between the convolutions and the latent heads (none:
            the heads see the feature map), mirrored in the decoder.
        activation: Follows every convolution and every linear layer but the last ones.
        batch_norm: Batch normalisation after every convolution but the last one.

    Raises:
        ValueError: ``strides`` and ``channels`` differ in length.
    """
    if len(channels) != len(strides):
        raise ValueError(
            f"cnn: {len(strides)} strides for {len(channels)} channels; give one stride a layer"
        )
    padding = kernel_size // 2

    def finish(width: int) -> list[nn.Module]:
        norm: list[nn.Module] = [nn.BatchNorm2d(width)] if batch_norm else []
        return [*norm, _ACTIVATIONS[activation]()]

    down: list[nn.Module] = []
    up: list[list[nn.Module]] = []  # layer by layer, from the image inwards
    before, (height, width) = shape[0], shape[1:]
    for after, stride in zip(channels, strides, strict=True):
        down += [
            nn.Conv2d(before, after, kernel_size, stride, padding, bias=not batch_norm),
            *finish(after),
        ]
        smaller = (height - 1) // stride + 1, (width - 1) // stride + 1
        is_image = not up
        transposed = ConvTranspose2d(
            after,
            before if up else maps * before,
            kernel_size,
            stride,
            padding,
            # what the strided convolution rounded away on each side
            (height - 1 - (smaller[0] - 1) * stride, width - 1 - (smaller[1] - 1) * stride),
            bias=is_image or not batch_norm,
        )
        up.append([transposed] if is_image else [transposed, *finish(before)])
        before, (height, width) = after, smaller

    features = before * height * width
    widths = [features, *hidden]
    mirrored = [latent_dim, *reversed(hidden), features]
    body = nn.Sequential(*down, Flatten(), *_dense(widths, activation, batch_norm=False))
    decoder = nn.Sequential(
        *_dense(mirrored, activation, batch_norm=False),
        Unflatten((before, height, width)),
        *(layer for layers in reversed(up) for layer in layers),
    )
    return Networks(Encoder(body, widths[-1], latent_dim), decoder)


MODELS: Registry[Callable[..., Networks]] = Registry(
    "model", {"fnn": fnn, "cnn": cnn, "linear": linear}, not_callable
)
