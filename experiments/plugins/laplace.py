"""A likelihood of one's own with two maps: Laplace pixels with a location and a scale each.

Run it against a Gaussian of one variance::

    vaebench run-grid experiments/plugins/laplace.yaml
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor

from vaebench import LIKELIHOODS
from vaebench.fitted_gaussian import Support


@dataclass(frozen=True)
class Laplace:
    r"""Independent Laplace pixels: the decoder gives a location and a scale for each.

    .. math:: \log p(x|z) = -\sum_d \frac{|x_d - \mu_d|}{b_d} + \log (2 b_d)

    Scales have a least value: a pixel that always has the same value, as the corners of digits
    have, would otherwise make the density unbounded.

    Attributes:
        least_scale: The smallest scale, in pixel units; half a gray level of the digits is 1/32.
    """

    support: ClassVar[Support] = "real"
    maps: ClassVar[int] = 2

    least_scale: Annotated[float, Gt(0)] = 1 / 32

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """Log-density of ``x`` (B, C, H, W) given ``params`` (B, 2C, H, W): nats, (B,)."""
        location, free = params.chunk(2, dim=1)
        scale = self.least_scale + F.softplus(free)
        density = -(x - torch.sigmoid(location)).abs() / scale - scale.log() - math.log(2)
        return density.flatten(1).sum(dim=1)

    def mean(self, params: Tensor) -> Tensor:
        """The mean image (B, C, H, W)."""
        return torch.sigmoid(params.chunk(2, dim=1)[0])


LIKELIHOODS["laplace"] = Laplace
