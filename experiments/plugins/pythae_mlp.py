"""The networks of another library: pythae's default encoder and decoder, trained and measured here.

Needs ``pip install pythae``. Run them against the built-in fnn::

    vaebench run-grid experiments/plugins/pythae_mlp.yaml

Whatever returns a mean and a log-variance is an encoder. pythae's decoder ends in a sigmoid, which
vaebench leaves to the likelihood: its images are turned back into what a sigmoid makes them of.

References:
    Chadebec, Vincent & Allassonnière (2022), https://arxiv.org/abs/2206.08309
"""

from types import SimpleNamespace

from pythae.models.nn.default_architectures import Decoder_AE_MLP, Encoder_VAE_MLP
from torch import Tensor, nn

from vaebench import MODELS
from vaebench.models import Networks, Shape

EPSILON = 1e-6  # from 0 and 1, of a pixel in float32


class TheirEncoder(nn.Module):
    """pythae's encoder, as a pair."""

    def __init__(self, args: SimpleNamespace) -> None:
        super().__init__()
        self.theirs = Encoder_VAE_MLP(args)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, C, H, W) to mean and log-variance, each (B, Z)."""
        output = self.theirs(x)
        return output.embedding, output.log_covariance


class TheirDecoder(nn.Module):
    """pythae's decoder, before its sigmoid."""

    def __init__(self, args: SimpleNamespace) -> None:
        super().__init__()
        self.theirs = Decoder_AE_MLP(args)

    def forward(self, z: Tensor) -> Tensor:
        """Map codes (B, Z) to logits (B, C, H, W)."""
        images: Tensor = self.theirs(z).reconstruction
        return images.clamp(EPSILON, 1 - EPSILON).logit()


def pythae_mlp(shape: Shape, latent_dim: int) -> Networks:
    """pythae's default networks: one hidden layer of 512 on each side.

    Arguments:
        shape: Image shape (C, H, W).
        latent_dim: Z, the number of latent dimensions.
    """
    args = SimpleNamespace(input_dim=shape, latent_dim=latent_dim)
    return Networks(TheirEncoder(args), TheirDecoder(args))


MODELS["pythae_mlp"] = pythae_mlp
