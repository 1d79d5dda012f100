"""The model `example`, a plugin of vaebench.

Check it, train it beside the built-in ones, look at the report::

    vaebench check example.py
    vaebench run-grid --plugin example.py --model example --model cnn --dataset digits --seeds 3
    vaebench report results/demo

In a grid file, `plugins: [example.py]` does the same as `--plugin`.
"""

from typing import Annotated

from annotated_types import Gt
from torch import Tensor, nn

from vaebench import MODELS, testing
from vaebench.models import Networks, Shape


class Encoder(nn.Module):
    """Images (B, C, H, W) to the mean and the log-variance of their codes, each (B, Z)."""

    def __init__(self, pixels: int, latent_dim: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.SiLU())
        self.mean = nn.Linear(width, latent_dim)
        self.log_var = nn.Linear(width, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Any module will do, as long as it returns this pair. It is bounded for you."""
        features = self.body(x)
        return self.mean(features), self.log_var(features)


# Keyword options are configuration keys (`model.example.width`), axes and `--set`. Give each an
# annotation, with its bounds, and a default. `maps` is how many images of parameters the likelihood
# wants for each of the data; without it, the model serves likelihoods of one map alone.
def example(
    shape: Shape, latent_dim: int, maps: int = 1, *, width: Annotated[int, Gt(0)] = 64
) -> Networks:
    """One hidden layer on each side.

    Arguments:
        shape: Image shape (C, H, W).
        latent_dim: Z, the number of latent dimensions.
        maps: Likelihood parameters per pixel.
        width: Width of the hidden layers.
    """
    channels, height, width_px = shape
    pixels = channels * height * width_px
    decoder = nn.Sequential(
        nn.Linear(latent_dim, width),
        nn.SiLU(),
        nn.Linear(width, maps * pixels),
        nn.Unflatten(-1, (maps * channels, height, width_px)),
    )
    return Networks(Encoder(pixels, latent_dim, width), decoder)


MODELS["example"] = example


def test_example() -> None:
    """`pytest example.py`."""
    testing.require(__file__)
