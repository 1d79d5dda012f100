r"""The exact optimum of a linear VAE with one Gaussian variance: probabilistic PCA.

The largest likelihood of the training images under :math:`x \sim N(W z + b, \sigma^2 I)` is known
from the eigenvalues of their covariance. Where the columns of W are orthogonal the exact posterior
is diagonal, so that an encoder can be exact and the ELBO equals log p(x): a baseline that no
training, seed or learning rate can move.

References:
    Tipping & Bishop (1999), https://doi.org/10.1111/1467-9868.00196
    Lucas et al. (2019), https://arxiv.org/abs/1911.02469
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.metrics.evaluation import Evaluation

MAX_PIXELS = 4096  # of an image: the covariance has their square, and takes their cube


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues, ascending, and eigenvectors (columns) of the training images' covariance."""

    mean: Tensor
    values: Tensor
    vectors: Tensor


def spectrum(x: Tensor) -> Spectrum:
    """The covariance of training images (N, C, H, W) in float64, decomposed.

    Raises:
        ValueError: They have more than 4,096 pixels.
    """
    pixels = x.flatten(1).double()
    if pixels.shape[1] > MAX_PIXELS:
        raise ValueError(f"images of {pixels.shape[1]:,} pixels, more than {MAX_PIXELS:,}")
    values, vectors = torch.linalg.eigh(torch.cov(pixels.T, correction=0))
    return Spectrum(pixels.mean(dim=0), values.clamp(min=0), vectors)


@dataclass(frozen=True)
class Ppca:
    """The maximum-likelihood fit.

    Attributes:
        bias: The mean image, (D,).
        weights: W, orthogonal columns, (D, Z).
        sigma2: The variance of the pixels' noise: the mean of the eigenvalues left out.
    """

    bias: Tensor
    weights: Tensor
    sigma2: float

    @classmethod
    def fit(cls, found: Spectrum, latent_dim: int) -> "Ppca":
        """Equations 7 and 8 of Tipping & Bishop.

        Raises:
            ValueError: ``latent_dim`` dimensions leave no noise.
        """
        kept, left = found.values[-latent_dim:], found.values[:-latent_dim]
        if not len(left) or not left.mean() > 0:
            raise ValueError(f"{latent_dim} latent dimensions leave no noise")
        weights = found.vectors[:, -latent_dim:] * (kept - left.mean()).clamp(min=0).sqrt()
        return cls(found.mean, weights, left.mean().item())

    def posterior_means(self, x: Tensor) -> Tensor:
        """E[z|x] of images (N, C, H, W): (N, Z), float64."""
        centred = x.flatten(1).double() - self.bias
        return centred @ self.weights / (self.weights.square().sum(dim=0) + self.sigma2)

    def decode(self, z: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Mean images of codes (N, Z): (N, *shape), float32."""
        return (z.double() @ self.weights.T + self.bias).float().reshape(-1, *shape)

    def evaluation(self, x: Tensor) -> Evaluation:
        """What :func:`~vaebench.metrics.evaluate` estimates by draws, in closed form.

        Arguments:
            x: Images (N, C, H, W), as the bound sees them.
        """
        signal = self.weights.square().sum(dim=0)
        variance = self.sigma2 / (signal + self.sigma2)  # of the posterior, the same for every x
        mean = self.posterior_means(x)
        rates = 0.5 * (mean.square() + variance - 1 - variance.log())
        pixels = x.flatten(1).double()
        error = (pixels - mean @ self.weights.T - self.bias).square().sum(dim=1)
        expected = error + (signal * variance).sum()
        constant = 0.5 * pixels.shape[1] * math.log(2 * math.pi * self.sigma2)
        return Evaluation(
            x=x,
            reconstruction=self.decode(mean, x.shape[1:]).clamp(0.0, 1.0),
            mean=mean.float(),
            log_var=variance.log().float().expand(len(x), -1),
            rate=rates.sum(dim=1),
            rate_per_dimension=rates,
            distortion=0.5 * expected / self.sigma2 + constant,
        )
