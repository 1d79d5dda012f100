"""The ``gaussian`` loss: a Gaussian whose variance is fitted, for each bound at its own optimum."""

import math
from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vaebench.distributions import LOG_VAR_MAX, LOG_VAR_MIN

Support = Literal["binary", "unit", "real"]
Link = Literal["sigmoid", "linear"]

START = 0.5  # the variance where no training images are known
MAX_STEPS = 1000  # of the fit to importance weights
TOLERANCE = 1e-9  # of its log-variance


class FittedGaussian(nn.Module):
    r"""Independent Gaussian pixels of one variance that is fitted: the ``gaussian`` loss.

    The density is that of ``mse``; only where :math:`\sigma^2` comes from differs.

    - ``learned``: :math:`\log \sigma^2` is a parameter, trained beside the weights with a learning
      rate of its own, from the variance of the training images around their mean image.
    - ``optimal``: each training batch has its maximum-likelihood variance, the mean squared error
      of its pixels (a constant to the gradient: at the optimum its own derivative vanishes). In
      evaluation mode it is frozen, so that no image's value depends on its neighbours: at a
      running mean over the last batches while training goes on, and at the optimum of the whole
      training split, see :meth:`fit`, before anything is measured. The optimum of a bound of
      importance weights weighs the squared errors of an image's codes by them, normalised.

    Arguments:
        sigma2: ``learned``: trained beside the weights; ``optimal``: the optimum of each batch.
        output: ``sigmoid`` or ``linear``, as in ``mse``.

    Attributes:
        log_sigma2: The logarithm of the variance in squared pixel units, a scalar.
        output: ``sigmoid`` or ``linear``, as in ``mse``.
        squared_error: Mean squared error of the pixels that :meth:`fit` has seen, None before.

    References:
        Rybkin et al. (2021), sigma-VAE, https://arxiv.org/abs/2006.13202
    """

    support: ClassVar[Support] = "real"
    log_sigma2: Tensor

    MOMENTUM = 0.05  # of the running mean: a training batch's share
    LEARNING_RATE = 0.01  # of log sigma2 at least, under Adam: a factor of 4 takes 140 steps

    def __init__(
        self, sigma2: Literal["learned", "optimal"] = "learned", output: Link = "sigmoid"
    ) -> None:
        super().__init__()
        self.optimal = sigma2 == "optimal"
        self.output = output
        self.squared_error: float | None = None
        start = torch.tensor(math.log(START))
        if self.optimal:
            self.register_buffer("log_sigma2", start)
        else:
            self.log_sigma2 = nn.Parameter(start)

    @property
    def sigma2(self) -> float:
        """The variance in squared pixel units."""
        return self._bounded(self.log_sigma2).exp().item()

    @property
    def learning_rate(self) -> float | None:
        """The smallest learning rate of its own parameters under Adam; None without parameters."""
        return None if self.optimal else self.LEARNING_RATE

    def start(self, variance: float) -> None:
        """Start a ``learned`` variance there. An ``optimal`` one is set by the first batches."""
        if not self.optimal:
            self._set(variance)

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """Log-density of ``x`` given the decoder's output: nats, shape (B,)."""
        error = (x - self.mean(params)).square().flatten(1)
        log_sigma2 = self._bounded(self.log_sigma2)
        if self.optimal and self.training:
            log_sigma2 = self._follow(error.detach().mean())
        return self._density(error, log_sigma2)

    def importance_log_prob(self, x: Tensor, params: Tensor, log_ratio: Tensor) -> Tensor:
        r"""Log-density as :meth:`log_prob`, at the optimum of the importance-weighted bound.

        .. math:: \hat\sigma^2 = \frac{1}{BD} \sum_{b,l} \tilde w_{lb} \|x_b - \hat x_{lb}\|^2

        The weights :math:`\tilde w` depend on the variance: they are those of the running mean.

        Arguments:
            x: Images (L * B, C, H, W), sample by sample.
            params: The decoder's output, likewise.
            log_ratio: :math:`\log q(z_l|x) - \log p(z_l)` in nats, (L, B).
        """
        error = (x - self.mean(params)).square().flatten(1)
        log_sigma2 = self._bounded(self.log_sigma2)
        if self.optimal and self.training:
            squares = error.detach().sum(dim=1).view_as(log_ratio)
            weighed = importance_mean(squares, log_ratio.detach(), log_sigma2)
            log_sigma2 = self._follow(weighed / error.shape[1])
        return self._density(error, log_sigma2)

    def mean(self, params: Tensor) -> Tensor:
        """The Gaussian's mean image."""
        return torch.sigmoid(params) if self.output == "sigmoid" else params

    def fit(self, decoded: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Freeze an ``optimal`` variance: the mean squared error of all pixels of all batches."""
        squares, count = 0.0, 0
        for x, params in decoded:
            squares += (x - self.mean(params)).square().double().sum().item()
            count += x.numel()
        self.squared_error = squares / count
        if self.optimal:
            self._set(self.squared_error)

    def importance_fit(self, decoded: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Freeze an ``optimal`` variance at the fixed point of :meth:`importance_log_prob`'s.

        The images are decoded once: neither squared errors nor log q/p depend on the variance. Each
        step then is one of expectation maximisation, where l is the latent variable, so that the
        bound never falls. Some 20 suffice; they are no passes over the data, and 1000 take seconds.
        """
        squares, log_ratios, pixels = [], [], 1
        for x, params, log_ratio in decoded:
            error = (x - self.mean(params)).square().flatten(1)
            squares.append(error.double().sum(dim=1).view_as(log_ratio).cpu())
            log_ratios.append(log_ratio.double().cpu())
            pixels = error.shape[1]
        known = torch.cat(squares, dim=1), torch.cat(log_ratios, dim=1)
        log_sigma2 = self._bounded(self.log_sigma2.detach().double().cpu())
        for _ in range(MAX_STEPS if self.optimal else 1):
            before, weighed = log_sigma2, importance_mean(*known, log_sigma2)
            log_sigma2 = self._bounded((weighed / pixels).log())
            if abs(log_sigma2 - before) < TOLERANCE:
                break
        self.squared_error = log_sigma2.exp().item()
        if self.optimal:
            self._set(self.squared_error)

    def _follow(self, error: Tensor) -> Tensor:
        """The log-variance of a training batch; the running mean moves towards it."""
        log_sigma2 = self._bounded(error.log())
        if torch.is_grad_enabled():
            self.log_sigma2.lerp_(log_sigma2.to(self.log_sigma2.dtype), self.MOMENTUM)
        return log_sigma2

    def _set(self, sigma2: float) -> None:
        with torch.no_grad():
            self.log_sigma2.fill_(math.log(max(sigma2, math.exp(LOG_VAR_MIN))))

    @staticmethod
    def _density(error: Tensor, log_sigma2: Tensor) -> Tensor:
        constant = 0.5 * error.shape[1] * (math.log(2 * math.pi) + log_sigma2)
        return -0.5 * error.sum(dim=1) * (-log_sigma2).exp() - constant

    @staticmethod
    def _bounded(log_sigma2: Tensor) -> Tensor:
        return log_sigma2.clamp(LOG_VAR_MIN, LOG_VAR_MAX)


def importance_mean(squares: Tensor, log_ratio: Tensor, log_sigma2: Tensor) -> Tensor:
    """Mean over images of squared errors (L, B), weighed by the normalised importance weights.

    Arguments:
        squares: Squared error of each code's decoded image, summed over pixels.
        log_ratio: Log q(z|x) - log p(z) of each code, nats, (L, B).
        log_sigma2: The Gaussian's log-variance, a scalar; what it adds to every weight cancels.
    """
    weights = (-0.5 * squares * (-log_sigma2).exp() - log_ratio).softmax(dim=0)
    return (weights * squares).sum(dim=0).mean()
