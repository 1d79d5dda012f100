"""A metric and a figure of one's own: how sharp reconstructions are.

Measure a finished grid with it, without training anything again::

    vaebench evaluate results/sharpness --plugin experiments/plugins/sharpness.py
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from vaebench import FIGURES, METRICS
from vaebench.declarations import Declaration
from vaebench.figures import Plot
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


def edge_spectrum(arrays: Mapping[str, NDArray[Any]], *, title: str) -> Figure:
    """Edges of each of the first test images, and of its reconstruction."""
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    panel = figure.add_subplot()
    shown = [edges(torch.from_numpy(arrays[name])) for name in ("originals", "reconstructions")]
    panel.scatter(*(values.numpy() for values in shown), s=12)
    panel.axline((0, 0), slope=1, color="0.6", linewidth=1)
    panel.set_xlabel("edges of the image")
    panel.set_ylabel("edges of its reconstruction")
    panel.set_title(title.replace(": ", ":\n", 1), fontsize=9)
    return figure


METRICS["sharpness"] = Metric(sharpness, Declaration("Sharpness", "", "higher", "dataset"))
FIGURES["edges"] = Plot(edge_spectrum, "edges of images and reconstructions")
