r"""Estimators of the evidence lower bound (ELBO), each a function ``(vae, x, noise) -> Estimate``.

An :class:`Estimate` keeps apart what training differentiates (``surrogate``) and what it reports
(``bound``), because for some estimators the gradient is not that of the value. To add one: a
function and an entry in ``ESTIMATORS`` at the bottom, which also declares what the configuration
must know. Raise its ``version`` there whenever the same configuration would give other numbers.
The number of samples L is the first dimension of ``noise``; the configuration
(``estimator.samples``) decides it.

All are built from the log-weights :math:`\log w_l = \log p(x, z_l) - \log q(z_l|x)`:

========= =================================== ================================================
name      bound                               gradient of the encoder
========= =================================== ================================================
``sgvb``  mean of log w                       total derivative
``kl``    the same, its rate in closed form   total derivative
``stl``   mean of log w                       through z only
``iwae``  log of the mean of w                total derivative
``dreg``  log of the mean of w                through z only, by squared normalised weights
``score`` mean of log w                       never through z: log w times the score of q
========= =================================== ================================================
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from vaebench.distributions import DiagonalGaussian, standard_normal_log_prob
from vaebench.plugins import Registry, no_instance
from vaebench.vae import VAE


class Estimate(NamedTuple):
    """One value per image, in nats, each of shape (B,).

    Attributes:
        surrogate: What training maximises: its gradient is the estimator's gradient.
        bound: The estimate of the bound itself.
        rate: Estimate of KL(q(z|x) || p(z)), or None where the bound does not split. Its gradient
            is an estimate of that of the KL, so that beta can weigh it.
        distortion: Estimate of -E log p(x|z), or None where the bound does not split; likewise.
    """

    surrogate: Tensor
    bound: Tensor
    rate: Tensor | None
    distortion: Tensor | None


EstimateFunction = Callable[[VAE, Tensor, Tensor], Estimate]


@dataclass(frozen=True)
class Estimator:
    """An estimator, to be called like its function, and what a configuration must know of it.

    Attributes:
        function: ``(vae, x, noise) -> Estimate``, with images (B, C, H, W) and standard normal
            draws (L, B, Z).
        splits: Whether the bound is a rate and a distortion, which beta could weigh.
        samples: L, unless the configuration says otherwise.
        min_samples: The smallest L for which it is defined.
        version: Raised whenever the same configuration would give other numbers.
        importance_weighted: Whether the bound is the log of the mean of L importance weights.
    """

    function: EstimateFunction
    splits: bool = True
    samples: int = 1
    min_samples: int = 1
    version: int = 1
    importance_weighted: bool = False

    def __call__(self, vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
        """Estimate the bound.

        Raises:
            ValueError: ``noise`` has fewer than ``min_samples`` draws.
        """
        if len(noise) < self.min_samples:
            raise ValueError(f"needs at least {self.min_samples} samples, not {len(noise)}")
        return self.function(vae, x, noise)


def sgvb(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
    r"""Stochastic Gradient Variational Bayes, :math:`L^A`: every term is sampled.

    .. math:: \frac1L \sum_l \log p(x, z_l) - \log q(z_l|x), \quad z_l = \mu + \sigma \epsilon_l

    One and the same ``z_l`` stands in every term; gradients flow through it and through q's
    parameters. (This is not the score-function estimator, which some call by this name: that is
    :func:`score`.)

    Arguments:
        vae: The model.
        x: Images (B, C, H, W).
        noise: Standard normal draws (L, B, Z).

    References:
        Kingma & Welling (2014), equation 6, https://arxiv.org/abs/1312.6114
    """
    q, z, log_px = _draw(vae, x, noise)
    return _split(rate=_log_ratio(q, z).mean(dim=0), distortion=-log_px.mean(dim=0))


def closed_form_kl(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
    r"""Closed-form KL, :math:`L^B`: only the reconstruction term is sampled.

    .. math:: -KL(q(z|x) \,\|\, p(z)) + \frac1L \sum_l \log p(x|z_l)

    Equal to :func:`sgvb` in expectation. Arguments as there.

    References:
        Kingma & Welling (2014), equations 7 and 10, https://arxiv.org/abs/1312.6114
    """
    q, _, log_px = _draw(vae, x, noise)
    return _split(rate=q.kl_to_standard_normal(), distortion=-log_px.mean(dim=0))


def stl(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
    r"""Sticking the landing: :func:`sgvb` without the score of q in its gradient.

    .. math:: \nabla_\phi = \frac1L \sum_l
        \frac{\partial \log w_l}{\partial z_l} \frac{\partial z_l}{\partial \phi}

    The value is that of :func:`sgvb`, draw by draw. What the gradient leaves out,
    :math:`-\partial_\phi \log q_\phi(z_l|x)` at a fixed ``z_l``, has the expectation zero; without
    it, the encoder's gradient at the exact posterior is zero for every draw. Arguments as there.

    References:
        Roeder, Wu & Duvenaud (2017), https://arxiv.org/abs/1703.09194
    """
    q, z, log_px = _draw(vae, x, noise)
    return _split(rate=_log_ratio(_frozen(q), z).mean(dim=0), distortion=-log_px.mean(dim=0))


def iwae(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
    r"""Importance-weighted autoencoder: a bound that rises with L towards log p(x).

    .. math:: \log \frac1L \sum_l w_l, \quad w_l = \frac{p(x, z_l)}{q(z_l|x)}

    With L = 1 it is :func:`sgvb`. It is no sum of a rate and a distortion. Arguments as there.

    References:
        Burda, Grosse & Salakhutdinov (2016), section 3, https://arxiv.org/abs/1509.00519
    """
    q, z, log_px = _draw(vae, x, noise, importance_weighted=True)
    bound = _log_mean_exp(log_px - _log_ratio(q, z))
    return Estimate(surrogate=bound, bound=bound, rate=None, distortion=None)


def dreg(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
    r"""Doubly reparameterised gradient of the bound of :func:`iwae`.

    .. math:: \nabla_\phi = \sum_l \tilde w_l^2
        \frac{\partial \log w_l}{\partial z_l} \frac{\partial z_l}{\partial \phi},
        \quad \nabla_\theta = \sum_l \tilde w_l \, \partial_\theta \log w_l,
        \quad \tilde w_l = \frac{w_l}{\sum_k w_k}

    The value and the decoder's gradient are those of :func:`iwae`; the encoder's gradient equals
    its in expectation and keeps its signal as L grows. With L = 1 it is :func:`stl`. Arguments as
    there.

    References:
        Tucker, Lawson, Gu & Maddison (2019), https://arxiv.org/abs/1810.04152
    """
    q, z, log_px = _draw(vae, x, noise, importance_weighted=True)
    log_weights = log_px - _log_ratio(_frozen(q), z)
    normalised = log_weights.detach().softmax(dim=0)
    if z.requires_grad:  # the encoder's second factor; all its gradient comes through z
        z.register_hook(lambda g: normalised.unsqueeze(-1) * g)  # type: ignore[no-untyped-call]
    return Estimate(
        surrogate=(normalised * log_weights).sum(dim=0),
        bound=_log_mean_exp(log_weights.detach()),
        rate=None,
        distortion=None,
    )


def score(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
    r"""Score-function estimator (REINFORCE) with a leave-one-out baseline.

    .. math:: \nabla_\phi = \frac1L \sum_l (\log w_l - b_l) \, \partial_\phi \log q_\phi(z_l|x),
        \quad b_l = \frac{1}{L-1} \sum_{k \ne l} \log w_k

    No gradient flows through ``z``, so that p(x|z) need not be differentiable in it; the decoder's
    gradient is the plain one of :math:`\log p(x|z_l)`. Rate and distortion carry their own parts
    of the gradient. The value is that of :func:`sgvb`. Arguments as there, with L at least 2.

    References:
        Kingma & Welling (2014), section 2.2, https://arxiv.org/abs/1312.6114
        Mnih & Rezende (2016), https://arxiv.org/abs/1602.06725
        Kool, van Hoof & Welling (2019), https://openreview.net/forum?id=r1lgTGL5DE
    """
    q = vae.encoder(x)
    z = q.sample(noise).detach()
    log_px = _log_likelihood(vae, x, z)
    log_q = q.log_prob(z)
    rate = (log_q - standard_normal_log_prob(z)).detach()
    return _split(rate=_score_mean(rate, log_q), distortion=_score_mean(-log_px, log_q))


def _draw(
    vae: VAE, x: Tensor, noise: Tensor, *, importance_weighted: bool = False
) -> tuple[DiagonalGaussian, Tensor, Tensor]:
    """Posterior, reparameterised codes (L, B, Z) and log p(x|z) of each (L, B)."""
    q = vae.encoder(x)
    z = q.sample(noise)
    return q, z, _log_likelihood(vae, x, z, q if importance_weighted else None)


def _log_likelihood(vae: VAE, x: Tensor, z: Tensor, q: DiagonalGaussian | None = None) -> Tensor:
    """Log p(x|z) of codes (L, B, Z): (L, B). ``q``: given if they get importance weights."""
    params = vae.decoder(z.flatten(0, 1)).to(x.dtype)  # reduced precision ends with the networks
    repeated = x.expand(len(z), *x.shape).flatten(0, 1)
    weighted = getattr(vae.likelihood, "importance_log_prob", None)
    if q is None or weighted is None:
        return vae.likelihood.log_prob(repeated, params).reshape(z.shape[:2])
    log_ratio = _log_ratio(_frozen(q), z.detach())
    log_px: Tensor = weighted(repeated, params, log_ratio).reshape(z.shape[:2])
    return log_px


def _log_ratio(q: DiagonalGaussian, z: Tensor) -> Tensor:
    """Log q(z|x) - log p(z) of codes (L, B, Z): (L, B)."""
    return q.log_prob(z) - standard_normal_log_prob(z)


def _frozen(q: DiagonalGaussian) -> DiagonalGaussian:
    """The same density without its parameters' gradient."""
    return DiagonalGaussian(q.mean.detach(), q.log_var.detach())


def _log_mean_exp(log_weights: Tensor) -> Tensor:
    """Log of the mean over L of weights (L, B): (B,)."""
    return log_weights.logsumexp(dim=0) - math.log(len(log_weights))


def _score_mean(values: Tensor, log_q: Tensor) -> Tensor:
    """Mean over L of ``values`` (L, B), with the score-function gradient in q's parameters.

    What gradient ``values`` carry themselves, in the decoder's weights, they keep.
    """
    samples, mean = len(values), values.mean(dim=0)
    # a value less the mean of the others is L / (L - 1) times the value less the mean of all
    advantages = (values - mean).detach() * (samples / (samples - 1))
    gradient = (advantages * log_q).mean(dim=0)
    return mean + (gradient - gradient.detach())


def _split(rate: Tensor, distortion: Tensor) -> Estimate:
    bound = -(rate + distortion)
    return Estimate(surrogate=bound, bound=bound, rate=rate, distortion=distortion)


ESTIMATORS: Registry[Estimator] = Registry(
    "estimator",
    {
        "sgvb": Estimator(sgvb),
        "kl": Estimator(closed_form_kl),
        "stl": Estimator(stl),
        "iwae": Estimator(iwae, splits=False, samples=5, importance_weighted=True),
        "dreg": Estimator(dreg, splits=False, samples=5, importance_weighted=True),
        "score": Estimator(score, samples=5, min_samples=2),
    },
    no_instance(Estimator),
)
