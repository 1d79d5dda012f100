"""A metric and a figure of one's own: how sharp reconstructions are.

Measure a finished grid with it, without training anything again::

    vaebench evaluate results/sharpness --plugin experiments/plugins/sharpness.py
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vaebench import METRICS
from vaebench.declarations import Declaration
from vaebench.metrics import Evaluation, Metric


def edges(images: Tensor) -> Tensor:
    """Variance of the discrete Laplacian of each image, averaged over channels, float64, (N,)."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=torch.float64)
    channels = images.shape[1]
    weight = kernel.expand(channels, 1, 3, 3)
    return F.conv2d(images.double(), weight, groups=channels).flatten(2).var(dim=2).mean(dim=1)


def sharpness(e: Evaluation) -> float:
    """Edges of the clipped mean reconstructions as a share of those of their images; 1 is ideal.

    References:
        Pech-Pacheco et al. (2000), https://doi.org/10.1109/ICPR.2000.903548
    """
    return (edges(e.reconstruction).mean() / edges(e.x).mean()).item()


METRICS["sharpness"] = Metric(sharpness, Declaration("Sharpness", "", "higher", "dataset"))
