"""The networks of two published VAEs of MNIST, as their authors wrote them.

Compare them on the embedded digits, or at their own size (``--dataset mnist``)::

    vaebench run-grid experiments/plugins/published_networks.yaml

``pytorch_examples`` is the perceptron of pytorch/examples, ``vae_mnist_fnn`` and ``vae_mnist_cnn``
are those of Sh-31/VAE-MNIST. Both projects end their decoders in a sigmoid, which vaebench leaves
to the likelihood. The settings in ``experiments/reproduce`` build the same functions from the
built-in ``fnn`` and ``cnn``; the tests copy weights from one to the other.

References:
    https://github.com/pytorch/examples/tree/main/vae
    https://github.com/Sh-31/VAE-MNIST
"""

import math
from itertools import pairwise

from torch import Tensor, nn

from vaebench import MODELS
from vaebench.models import Networks, Shape


class TwoHeads(nn.Module):
    """An encoder: a body, and one linear layer each for mean and log-variance."""

    def __init__(self, body: nn.Sequential, features: int, latent_dim: int) -> None:
        super().__init__()
        self.body = body
        self.mean = nn.Linear(features, latent_dim)
        self.log_var = nn.Linear(features, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, C, H, W) to mean and log-variance, each (B, Z)."""
        features = self.body(x)
        return self.mean(features), self.log_var(features)


def pytorch_examples(shape: Shape, latent_dim: int, maps: int = 1) -> Networks:
    """The VAE of pytorch/examples: 784-400-20 units on MNIST, ReLU.

    Arguments:
        shape: Image shape (C, H, W).
        latent_dim: Z, the number of latent dimensions; 20 there.
        maps: Likelihood parameters per pixel.
    """
    return _perceptron(shape, latent_dim, maps, [400])


def vae_mnist_fnn(shape: Shape, latent_dim: int, maps: int = 1) -> Networks:
    """The fully connected VAE of VAE-MNIST: 784-512-256-8 units on MNIST, ReLU.

    Arguments:
        shape: Image shape (C, H, W).
        latent_dim: Z, the number of latent dimensions; 8 there.
        maps: Likelihood parameters per pixel.
    """
    return _perceptron(shape, latent_dim, maps, [512, 256])


def _perceptron(shape: Shape, latent_dim: int, maps: int, hidden: list[int]) -> Networks:
    channels, height, width = shape
    down, up = [math.prod(shape), *hidden], [latent_dim, *reversed(hidden)]
    decoder = nn.Sequential(
        *_dense(up),
        nn.Linear(up[-1], maps * math.prod(shape)),
        nn.Unflatten(1, (maps * channels, height, width)),
    )
    return Networks(
        TwoHeads(nn.Sequential(nn.Flatten(), *_dense(down)), down[-1], latent_dim), decoder
    )


def _dense(widths: list[int]) -> list[nn.Module]:
    pairs = pairwise(widths)
    return [layer for before, after in pairs for layer in (nn.Linear(before, after), nn.ReLU())]


def vae_mnist_cnn(shape: Shape, latent_dim: int, maps: int = 1) -> Networks:
    """The convolutional VAE of VAE-MNIST: 32, 64 and 64 channels, 3x3 kernels, batch normalisation.

    Its transposed convolutions add a row and a column each, as 28 and 14 pixels need; here they add
    none where a side is odd.

    Arguments:
        shape: Image shape (C, H, W).
        latent_dim: Z, the number of latent dimensions; 8 there.
        maps: Likelihood parameters per pixel.
    """
    channels, *whole = shape
    half = [-(-side // 2) for side in whole]
    small = [-(-side // 2) for side in half]
    features = 64 * math.prod(small)
    encoder = nn.Sequential(
        *(nn.Conv2d(channels, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        nn.Flatten(),
    )
    decoder = nn.Sequential(
        *(nn.Linear(latent_dim, features), nn.Unflatten(1, (64, *small)), nn.ReLU()),
        *(_doubled(64, 64, half), nn.BatchNorm2d(64), nn.ReLU()),
        *(_doubled(64, 32, whole), nn.BatchNorm2d(32), nn.ReLU()),
        nn.ConvTranspose2d(32, maps * channels, 3, padding=1),
    )
    return Networks(TwoHeads(encoder, features, latent_dim), decoder)


def _doubled(before: int, after: int, size: list[int]) -> nn.ConvTranspose2d:
    """A transposed convolution of stride 2 that ends at a size."""
    height, width = (1 - side % 2 for side in size)
    return nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=(height, width))


MODELS["pytorch_examples"] = pytorch_examples
MODELS["vae_mnist_fnn"] = vae_mnist_fnn
MODELS["vae_mnist_cnn"] = vae_mnist_cnn
