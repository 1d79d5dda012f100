"""The loss `example`, a plugin of vaebench: p(x|z), a density of pixels.

Check it, train with it beside the built-in ones, look at the report::

    vaebench check example.py
    vaebench run-grid --plugin example.py --loss example --loss mse --dataset digits --seeds 3
    vaebench report results/demo

In a grid file, `plugins: [example.py]` does the same as `--plugin`.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from vaebench import LIKELIHOODS, testing
from vaebench.fitted_gaussian import Support


# Fields are configuration keys (`loss.example.scale`). Give each an annotation, with its bounds,
# and a default.
@dataclass(frozen=True)
class Example:
    r"""Independent Laplace pixels of one fixed scale.

    .. math:: \log p(x|z) = -\sum_d |x_d - \mu_d| / b + \log (2 b)

    Attributes:
        scale: The scale b, in pixel units.
    """

    # The pixels on which it is a density: binary ({0, 1}), unit ([0, 1]) or real.
    support: ClassVar[Support] = "real"
    # How many images of parameters it needs for each of the data: 2 for a location and a scale.
    maps: ClassVar[int] = 1

    scale: Annotated[float, Gt(0)] = 0.1

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """Log-density of ``x`` (B, C, H, W) given what the decoder returned: nats, (B,).

        A sum over pixels, constants kept: else no ELBO compares with that of another loss.
        """
        density = -(x - self.mean(params)).abs() / self.scale - math.log(2 * self.scale)
        return density.flatten(1).sum(dim=1)

    def mean(self, params: Tensor) -> Tensor:
        """The image that ``params`` stands for, (B, C, H, W)."""
        return torch.sigmoid(params)


LIKELIHOODS["example"] = Example


def test_example() -> None:
    """`pytest example.py`."""
    testing.require(__file__)
