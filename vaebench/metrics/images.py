"""Reconstructions against their images: SSIM, PSNR, errors per pixel, image by image, then mean."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.metrics.evaluation import Evaluation

PSNR_CAP = 100.0  # dB; a perfect reconstruction would be infinite
_STACK = 100  # images at a time: few enough that what is computed of them stays in the cache


class SsimWindow(NamedTuple):
    """How scikit-image's SSIM looks at images of a size.

    Attributes:
        description: For reports.
        radius: Pixels from a window's centre to its edge.
        options: For ``skimage.metrics.structural_similarity``.
    """

    description: str
    radius: int
    options: dict[str, Any]


def ssim_window(height: int, width: int) -> SsimWindow:
    """Choose the window: Wang et al.'s 11x11 Gaussian, or uniform 7x7 for smaller images.

    Raises:
        ValueError: The images are smaller than 7x7.
    """
    if min(height, width) >= 11:
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        return SsimWindow("Gaussian 11x11, sigma 1.5 (Wang et al. 2004)", 5, options)
    if min(height, width) >= 7:
        description = f"uniform 7x7, a smoke value: {height}x{width} images hold few such windows"
        return SsimWindow(description, 3, {"win_size": 7})
    raise ValueError(f"SSIM needs images of at least 7x7 pixels, not {height}x{width}")


def ssim_per_image(x: Tensor, y: Tensor) -> NDArray[np.float64]:
    """Structural similarity of pairs of images (N, C, H, W) in [0, 1], shape (N,).

    scikit-image on one tall stack: no window of an image's interior crosses a border, so the mean
    over each interior equals the value of that pair alone. Channels are averaged.

    References:
        Wang et al. (2004), https://doi.org/10.1109/TIP.2003.819861
    """
    from skimage.metrics import structural_similarity

    _, channels, height, width = x.shape
    window = ssim_window(height, width)
    inside = slice(window.radius, -window.radius)
    values: list[NDArray[np.float64]] = []
    for pair in zip(torch.split(x, _STACK), torch.split(y, _STACK), strict=True):
        tall = [t.permute(0, 2, 3, 1).reshape(-1, width, channels).double().numpy() for t in pair]
        _, full = structural_similarity(
            *tall, data_range=1.0, channel_axis=-1, full=True, **window.options
        )
        interior = full.reshape(-1, height, width, channels)[:, inside, inside]
        values.append(interior.mean(axis=(1, 2, 3)))
    return np.concatenate(values)


def ssim(similarity: NDArray[np.float64]) -> float:
    """Mean structural similarity of the clipped mean reconstructions."""
    return float(similarity.mean())


def _mean_per_image(error: Callable[[Tensor], Tensor], e: Evaluation) -> Tensor:
    """The mean over an image's pixels of a function of their differences, float64, (N,)."""
    pairs = zip(torch.split(e.x, _STACK), torch.split(e.reconstruction, _STACK), strict=True)
    return torch.cat([error(x.double() - y.double()).flatten(1).mean(dim=1) for x, y in pairs])


def squared_error_per_image(e: Evaluation) -> Tensor:
    """Mean squared error per pixel of each clipped mean reconstruction, float64, (N,)."""
    return _mean_per_image(torch.square, e)


def psnr(e: Evaluation) -> float:
    """Peak signal-to-noise ratio in dB, per image (capped at 100 dB), then mean."""
    noise = squared_error_per_image(e).clamp(min=10 ** (-PSNR_CAP / 10))
    return (-10.0 * noise.log10()).mean().item()


def mse_px(e: Evaluation) -> float:
    """Mean squared error per pixel of the clipped mean reconstructions."""
    return squared_error_per_image(e).mean().item()


def mae_px(e: Evaluation) -> float:
    """Mean absolute error per pixel of the clipped mean reconstructions."""
    return _mean_per_image(torch.abs, e).mean().item()
