r"""Estimators of the evidence lower bound (ELBO), each a function ``(vae, x, noise) -> Estimate``.

An :class:`Estimate` keeps apart what training differentiates (``surrogate``) and what it reports
(``bound``), because for some estimators the gradient is not that of the value. To add one: a
function and an entry in ``ESTIMATORS`` at the bottom. The number of samples L is the first
dimension of ``noise``; the configuration (``estimator.samples``) decides it.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from vaebench.distributions import DiagonalGaussian, standard_normal_log_prob
from vaebench.vae import VAE


class Estimate(NamedTuple):
    """One value per image, in nats, each of shape (B,).

    Attributes:
        surrogate: What training maximises: its gradient is the estimator's gradient.
        bound: The estimate of the bound itself.
        rate: Estimate of KL(q(z|x) || p(z)), or None where the bound does not split.
        distortion: Estimate of -E log p(x|z), or None where the bound does not split.
    """

    surrogate: Tensor
    bound: Tensor
    rate: Tensor | None
    distortion: Tensor | None


Estimator = Callable[[VAE, Tensor, Tensor], Estimate]


def _split(rate: Tensor, distortion: Tensor) -> Estimate:
    bound = -(rate + distortion)
    return Estimate(surrogate=bound, bound=bound, rate=rate, distortion=distortion)


def _draw(vae: VAE, x: Tensor, noise: Tensor) -> tuple[DiagonalGaussian, Tensor, Tensor]:
    """Posterior, codes (L, B, Z) and distortion (B,), the mean over L of -log p(x|z)."""
    q = vae.encoder(x)
    z = q.sample(noise)
    params = vae.decoder(z.flatten(0, 1))
    repeated = x.expand(len(noise), *x.shape).flatten(0, 1)
    log_prob = vae.likelihood.log_prob(repeated, params)
    return q, z, -log_prob.reshape(noise.shape[:2]).mean(dim=0)


def sgvb(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
    r"""Stochastic Gradient Variational Bayes, :math:`L^A`: every term is sampled.

    .. math:: \frac1L \sum_l \log p(x, z_l) - \log q(z_l|x), \quad z_l = \mu + \sigma \epsilon_l

    One and the same ``z_l`` stands in every term; gradients flow through it and through q's
    parameters. (This is not the score-function estimator, which some call by this name.)

    Arguments:
        vae: The model.
        x: Images (B, C, H, W).
        noise: Standard normal draws (L, B, Z).

    References:
        Kingma & Welling (2014), equation 6, https://arxiv.org/abs/1312.6114
    """
    q, z, distortion = _draw(vae, x, noise)
    rate = (q.log_prob(z) - standard_normal_log_prob(z)).mean(dim=0)
    return _split(rate, distortion)


def closed_form_kl(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
    r"""Closed-form KL, :math:`L^B`: only the reconstruction term is sampled.

    .. math:: -KL(q(z|x) \,\|\, p(z)) + \frac1L \sum_l \log p(x|z_l)

    Equal to :func:`sgvb` in expectation. Arguments as there.

    References:
        Kingma & Welling (2014), equations 7 and 10, https://arxiv.org/abs/1312.6114
    """
    q, _, distortion = _draw(vae, x, noise)
    return _split(q.kl_to_standard_normal(), distortion)


ESTIMATORS: dict[str, Estimator] = {"sgvb": sgvb, "kl": closed_form_kl}
