"""What is measured on a split after training, and what every number declares about itself.

``evaluate`` makes one pass over a split; each metric is a function of what that pass collected. A
declaration (unit, direction, comparability, version) is all that tables, arrows and comparisons
read. To add a metric: a function ``Evaluation -> float`` and an entry in ``METRICS`` at the bottom;
raise ``version`` whenever the same weights would get another value.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.errors import DivergedError
from vaebench.vae import VAE

PSNR_CAP = 100.0  # dB; a perfect reconstruction would be infinite
_STACK = 1000  # images that SSIM sees at a time, which bounds its memory


class Evaluation(NamedTuple):
    """One pass over a split: everything on the CPU, one row per image.

    Attributes:
        x: Images (N, C, H, W) in [0, 1].
        reconstruction: From the posterior mean, clipped to [0, 1], same shape.
        mean: Posterior means (N, Z).
        rate: KL(q(z|x) || p(z)) in closed form, nats, (N,).
        rate_per_dimension: The same by latent dimension, (N, Z).
        distortion: -log p(x|z) averaged over the noise draws, nats, (N,).
    """

    x: Tensor
    reconstruction: Tensor
    mean: Tensor
    rate: Tensor
    rate_per_dimension: Tensor
    distortion: Tensor


def evaluate(vae: VAE, x: Tensor, noise: Tensor, batch_size: int = 500) -> Evaluation:
    """Measure a split in evaluation mode, with beta 1 and L^B for every cell.

    The latent code is sampled (decoding the posterior mean would not bound the evidence), with
    noise fixed per image; the likelihood is averaged over the draws, never the decoded images.

    Arguments:
        vae: The model.
        x: Images (N, C, H, W), on the model's device.
        noise: Standard normal draws (L, N, Z), on the CPU.
        batch_size: Images at a time; it does not change the result beyond float rounding.
    """
    vae.eval()
    parts: list[Evaluation] = []
    with torch.no_grad():
        for images, draws in zip(
            torch.split(x, batch_size), torch.split(noise, batch_size, 1), strict=True
        ):
            q = vae.encoder(images)
            # one draw at a time: the decoded images of all draws need not fit in memory
            log_probs = [
                vae.likelihood.log_prob(images, vae.decoder(q.sample(draw)))
                for draw in draws.to(x.device)
            ]
            per_dimension = q.kl_per_dimension().cpu().double()
            part = Evaluation(
                x=images.cpu(),
                reconstruction=vae.decode(q.mean).clamp(0.0, 1.0).cpu(),
                mean=q.mean.cpu(),
                rate=per_dimension.sum(dim=-1),
                rate_per_dimension=per_dimension,
                distortion=-torch.stack(log_probs).cpu().double().mean(dim=0),
            )
            parts.append(part)
    return Evaluation(*(torch.cat(values) for values in zip(*parts, strict=True)))


def elbo(e: Evaluation) -> float:
    """Evidence lower bound in nats per image: -(rate + distortion)."""
    return -rate(e) - distortion(e)


def rate(e: Evaluation) -> float:
    """KL(q(z|x) || p(z)) in nats per image."""
    return e.rate.mean().item()


def distortion(e: Evaluation) -> float:
    """-E log p(x|z) in nats per image."""
    return e.distortion.mean().item()


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


def ssim(e: Evaluation) -> float:
    """Mean structural similarity of the clipped mean reconstructions."""
    return float(ssim_per_image(e.x, e.reconstruction).mean())


def _squared_error(e: Evaluation) -> Tensor:
    return (e.x.double() - e.reconstruction.double()).square().flatten(1).mean(dim=1)


def psnr(e: Evaluation) -> float:
    """Peak signal-to-noise ratio in dB, per image (capped at 100 dB), then mean."""
    noise = _squared_error(e).clamp(min=10 ** (-PSNR_CAP / 10))
    return (-10.0 * noise.log10()).mean().item()


def mse_px(e: Evaluation) -> float:
    """Mean squared error per pixel of the clipped mean reconstructions."""
    return _squared_error(e).mean().item()


def mae_px(e: Evaluation) -> float:
    """Mean absolute error per pixel of the clipped mean reconstructions."""
    return (e.x.double() - e.reconstruction.double()).abs().mean().item()


def active_units(e: Evaluation) -> float:
    """Latent dimensions whose posterior mean varies over images: variance above 0.01.

    References:
        Burda et al. (2016), section 5.2, https://arxiv.org/abs/1509.00519
    """
    return float((e.mean.double().var(dim=0) > 0.01).sum().item())


Direction = Literal["higher", "lower"] | None
Comparable = Literal["likelihood", "dataset", "machine"]


@dataclass(frozen=True)
class Declaration:
    """What a number says about itself; stored beside it in every record.

    Attributes:
        title: For table heads.
        unit: Nats, dB, ... or the empty string.
        direction: Which way is better, or None where neither is.
        comparable: Between which cells: those of one ``likelihood`` (its options, the data set and
            its binarisation included), of one ``dataset``, or of one ``machine`` and job count.
        version: Raised when the same weights would get another value.
    """

    title: str
    unit: str
    direction: Direction
    comparable: Comparable
    version: int = 1


@dataclass(frozen=True)
class Metric:
    """A function of an :class:`Evaluation`, and its declaration."""

    function: Callable[[Evaluation], float]
    declaration: Declaration


def measure(e: Evaluation, prefix: str, names: list[str] | None = None) -> dict[str, float]:
    """Values of the metrics ``names`` (all without it) as ``{"<prefix>/<name>": value}``.

    Raises:
        DivergedError: A value is not finite; its name is in the message.
    """
    values = {}
    for name in METRICS if names is None else names:
        value = METRICS[name].function(e)
        if not math.isfinite(value):
            raise DivergedError(f"{prefix}/{name} is {value}; lower training.learning_rate")
        values[f"{prefix}/{name}"] = value
    return values


METRICS: dict[str, Metric] = {
    "elbo": Metric(elbo, Declaration("ELBO", "nats", "higher", "likelihood")),
    "rate": Metric(rate, Declaration("Rate", "nats", None, "likelihood")),
    "distortion": Metric(distortion, Declaration("Distortion", "nats", "lower", "likelihood")),
    "ssim": Metric(ssim, Declaration("SSIM", "", "higher", "dataset")),
    "psnr": Metric(psnr, Declaration("PSNR", "dB", "higher", "dataset")),
    "mse_px": Metric(mse_px, Declaration("MSE per pixel", "", "lower", "dataset")),
    "mae_px": Metric(mae_px, Declaration("MAE per pixel", "", "lower", "dataset")),
    "active_units": Metric(active_units, Declaration("Active units", "", None, "dataset")),
}

COST_MEANINGS = {
    "images_per_second": "Training images per second of `seconds_per_epoch`.",
    "seconds_per_epoch": "Wall time of an epoch's draws and training steps, mean over epochs.",
    "peak_memory_mb": "Of the process while it trains; on a GPU, what PyTorch allocated there.",
    "parameters": "Trainable parameters of encoder and decoder.",
    "flops_per_image": "Two per multiply-add, one forward pass of encoder and decoder.",
}

COSTS: dict[str, Declaration] = {
    "images_per_second": Declaration("Images per second", "images/s", "higher", "machine"),
    "seconds_per_epoch": Declaration("Seconds per epoch", "s", "lower", "machine"),
    "peak_memory_mb": Declaration("Peak memory", "MB", "lower", "machine"),
    "parameters": Declaration("Parameters", "", None, "dataset"),
    "flops_per_image": Declaration("FLOPs per image", "", None, "dataset"),
}
