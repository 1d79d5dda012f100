"""What is left of the model of a published run: its decoder, from ``decoder.safetensors``."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vaebench.errors import ResultsError
from vaebench.run.decoder_file import Decoder
from vaebench.vae import VAE


class PublishedVAE(VAE):
    """A VAE of which only the decoder is there, its weights rounded to whole numbers.

    It decodes. What it lacks (``encoder``, ``likelihood``, ``decoder`` as a module, and all that
    needs them) raises a ResultsError that says so; it has no parameters.

    Attributes:
        latent_dim: Z.
        precision: ``int8`` or, where that would move the images, ``int16``.
        lacks: What is not there, in words.
    """

    def __init__(self, decoder: Decoder, folder: Path) -> None:
        nn.Module.__init__(self)
        self.latent_dim = decoder.latent_dim
        self.precision = decoder.precision
        self.lacks = (
            f"encoder, likelihood and exact weights: of a published run there is the decoder, in "
            f"{decoder.precision}"
        )
        self._decode = decoder
        self._folder = folder

    def decode(self, z: Tensor) -> Tensor:
        """Mean images of float32 codes on the CPU: (..., Z) to (..., C, H, W)."""
        images = self._decode(z.flatten(0, -2))
        return images.reshape(*z.shape[:-1], *images.shape[1:])

    def __getattr__(self, name: str) -> Any:
        if name in ("encoder", "likelihood", "decoder"):
            raise ResultsError(
                f"{self._folder}: no {name}: a published run has only its decoder, in "
                f"{self.precision}; train it under another --name for the rest"
            )
        return super().__getattr__(name)
