"""A network of one's own: residual convolutions with dropout, for images of any size and channels.

Run it against the built-in cnn::

    vaebench run-grid experiments/plugins/residual.yaml

The encoder is a plain module that returns (mean, log_var); the decoder gives as many maps per
channel as the likelihood needs, so that it serves all of them.

References:
    He et al. (2016), https://arxiv.org/abs/1603.05027
"""

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from vaebench import MODELS
from vaebench.models import Networks, Shape


class Block(nn.Module):
    """Two 3x3 convolutions beside the identity, with activations before them."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        return x + self.second(self.dropout(F.silu(self.first(F.silu(x)))))


class ResidualEncoder(nn.Module):
    """Images to the mean and the log-variance of their codes."""

    def __init__(
        self, shape: Shape, latent_dim: int, width: int, blocks: int, dropout: float
    ) -> None:
        super().__init__()
        channels, height, width_px = shape
        self.stem = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Block(width, dropout) for _ in range(blocks)))
        features = width * -(-height // 2) * -(-width_px // 2)  # a stride of 2, rounded up
        self.mean = nn.Linear(features, latent_dim)
        self.log_var = nn.Linear(features, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, C, H, W) to mean and log-variance, each (B, Z)."""
        features = F.silu(self.blocks(self.stem(x))).flatten(1)
        return self.mean(features), self.log_var(features)


class ResidualDecoder(nn.Module):
    """Codes to the likelihood's parameters."""

    def __init__(
        self, shape: Shape, latent_dim: int, maps: int, width: int, blocks: int, dropout: float
    ) -> None:
        super().__init__()
        channels, *self.size = shape
        self.small = [-(-side // 2) for side in self.size]
        self.width = width
        self.dense = nn.Linear(latent_dim, width * self.small[0] * self.small[1])
        self.blocks = nn.Sequential(*(Block(width, dropout) for _ in range(blocks)))
        self.last = nn.Conv2d(width, maps * channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Map codes (B, Z) to parameters (B, maps * C, H, W)."""
        features = self.blocks(self.dense(z).view(-1, self.width, *self.small))
        parameters: Tensor = self.last(F.interpolate(F.silu(features), size=self.size))
        return parameters


def residual(
    shape: Shape,
    latent_dim: int,
    maps: int = 1,
    *,
    width: Annotated[int, Gt(0)] = 16,
    blocks: Annotated[int, Ge(0)] = 2,
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
) -> Networks:
    """Residual encoder and decoder, each at half the image's height and width.

    Arguments:
        shape: Image shape (C, H, W).
        latent_dim: Z, the number of latent dimensions.
        maps: Likelihood parameters per pixel.
        width: Channels of every block.
        blocks: Blocks in the encoder, and in the decoder.
        dropout: Share of channels that a block leaves out in training.
    """
    return Networks(
        ResidualEncoder(shape, latent_dim, width, blocks, dropout),
        ResidualDecoder(shape, latent_dim, maps, width, blocks, dropout),
    )


MODELS["residual"] = residual
