"""The approximate posterior q(z|x): a Gaussian with a diagonal covariance."""

import math
from typing import NamedTuple

from torch import Tensor

LOG_VAR_MIN, LOG_VAR_MAX = -30.0, 20.0


def standard_normal_log_prob(z: Tensor) -> Tensor:
    r"""Log-density of the prior, :math:`\log N(z; 0, I)`.

    Arguments:
        z: Latent codes, shape (..., Z).

    Returns:
        Nats, shape (...).
    """
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=-1)


class DiagonalGaussian(NamedTuple):
    r"""Gaussian :math:`N(\mu, \mathrm{diag}(\sigma^2))`, one per example.

    Make it with :meth:`bounded`, which keeps the log-variance in [-30, 20]: beyond that, float32
    overflows before a training could recover.

    Attributes:
        mean: :math:`\mu`, shape (B, Z).
        log_var: :math:`\log \sigma^2`, shape (B, Z).

    References:
        Kingma & Welling (2014), section 3 and appendix C.2, https://arxiv.org/abs/1312.6114
    """

    mean: Tensor
    log_var: Tensor

    @classmethod
    def bounded(cls, mean: Tensor, log_var: Tensor) -> "DiagonalGaussian":
        """Build the posterior from an encoder's raw outputs, both of shape (B, Z)."""
        return cls(mean, log_var.clamp(LOG_VAR_MIN, LOG_VAR_MAX))

    def sample(self, noise: Tensor) -> Tensor:
        r"""Reparameterised draws :math:`z = \mu + \sigma \odot \epsilon`.

        Arguments:
            noise: Standard normal :math:`\epsilon`, shape (L, B, Z).

        Returns:
            Codes of shape (L, B, Z), differentiable in ``mean`` and ``log_var``.
        """
        return self.mean + (0.5 * self.log_var).exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of codes ``z`` of shape (..., B, Z): nats, shape (..., B)."""
        squared = (z - self.mean).square() * (-self.log_var).exp()
        return -0.5 * (squared + self.log_var + math.log(2 * math.pi)).sum(dim=-1)

    def kl_per_dimension(self) -> Tensor:
        r"""Closed-form :math:`KL(q(z_j|x) \,\|\, N(0, 1))` of each latent dimension.

        .. math:: \tfrac12 (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)

        Returns:
            Nats, shape (B, Z). Never negative, up to rounding; zero iff it equals the prior.

        References:
            Kingma & Welling (2014), appendix B, https://arxiv.org/abs/1312.6114
        """
        return 0.5 * (self.mean.square() + self.log_var.exp() - 1.0 - self.log_var)

    def kl_to_standard_normal(self) -> Tensor:
        r"""Closed-form :math:`KL(q(z|x) \,\|\, N(0, I))`: nats, shape (B,)."""
        return self.kl_per_dimension().sum(dim=-1)
