r"""The decoder's distributions p(x|z), each a density: summed over pixels, constants kept.

A likelihood pairs two functions that must agree: ``log_prob(x, params)``, where ``params`` is what
the decoder returned, and ``mean(params)``, the image that it stands for. The link between the two
(a sigmoid, unless the configuration says otherwise) belongs to the likelihood.

To add one: a frozen dataclass (or a module, if it has parameters of its own) with these two
methods and its ``support``, whose fields are its options (annotated with their bounds, each with a
default), and an entry in ``LIKELIHOODS`` at the bottom. One with several parameters per pixel says
``maps: ClassVar[int]``, how many images of them it needs: the decoder returns (B, maps * C, H, W).
One that is unbounded on pixels that repeat exactly says ``dequantized_only``. The configuration
(``loss.<name>.<option>``), the command line, the tables and the contract tests follow. Whenever the
same configuration would give other numbers, raise ``version: ClassVar[int]``, which is 1 where a
class has none; a class that computes with another one gets a new version together with it. What one
may have beside them (:class:`Fitted`, :class:`ImportanceFitted`, :class:`Started`, and a
``learning_rate`` for parameters of its own) is optional; :class:`FittedGaussian` has it all.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, get_args, runtime_checkable

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor

from vaebench.fitted_gaussian import FittedGaussian, Link, Support
from vaebench.layers import is_eager
from vaebench.plugins import Registry, not_callable


class Likelihood(Protocol):
    """What a VAE asks of p(x|z).

    Attributes:
        support: The pixels on which it is a normalised density, and so with respect to what:
            ``binary`` {0, 1} (counting), ``unit`` [0, 1] or ``real`` (lengths). On gray pixels a
            ``binary`` one is relaxed: trainable, but no density.
    """

    support: ClassVar[Support]

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """Log-density of images ``x`` (B, C, H, W) given ``params``: nats, (B,).

        ``params`` has the shape (B, maps * C, H, W); ``maps`` is 1 where a class has none.
        """
        ...

    def mean(self, params: Tensor) -> Tensor:
        """Images in the data's units that ``params`` stands for, shape (B, C, H, W)."""
        ...


@runtime_checkable
class Fitted(Protocol):
    """A likelihood with something to fit to the training split once the weights are final."""

    def fit(self, decoded: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fit to batches of images and of what the decoder made of their codes."""
        ...


@runtime_checkable
class ImportanceFitted(Protocol):
    """A likelihood whose fit, of each batch and in the end, is another for importance weights.

    Optional: under ``iwae`` and ``dreg``, any other likelihood has its ``log_prob`` and ``fit``.
    """

    def importance_log_prob(self, x: Tensor, params: Tensor, log_ratio: Tensor) -> Tensor:
        """Like ``log_prob`` of L codes an image, (L * B, ...), and their log q/p, (L, B)."""
        ...

    def importance_fit(self, decoded: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Fit to batches of those three."""
        ...


@runtime_checkable
class Started(Protocol):
    """A likelihood that starts from the training images."""

    def start(self, variance: float) -> None:
        """Start from the variance of the images around their mean image, a mean over pixels."""
        ...


@dataclass(frozen=True)
class Bernoulli:
    r"""Independent Bernoulli pixels, computed from logits: the ``bce`` loss.

    .. math:: \log p(x|z) = \sum_d x_d \log \pi_d + (1 - x_d) \log (1 - \pi_d)

    On gray pixels in [0, 1] this is the *relaxed* Bernoulli: finite and trainable, but not a
    normalised density; its distortion cannot fall below the entropy of the pixels. On binarised
    data it is a real likelihood.

    References:
        Kingma & Welling (2014), appendix C.1, https://arxiv.org/abs/1312.6114
    """

    support: ClassVar[Support] = "binary"

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """Log-probability of ``x`` in [0, 1] given logits: nats, shape (B,)."""
        if not is_eager():
            return (params * x - F.softplus(params)).flatten(1).sum(dim=1)
        log_prob: Tensor = _BernoulliLogProb.apply(params, x)
        return log_prob

    def mean(self, params: Tensor) -> Tensor:
        """Pixel probabilities, the sigmoid of the logits."""
        return torch.sigmoid(params)


class _BernoulliLogProb(torch.autograd.Function):
    r"""Sum over pixels of :math:`a x - \log(1 + e^a)`, whose derivative in a is x - sigmoid(a).

    PyTorch's float32 ``log1p`` is slow on CPUs, and its cross-entropy, softplus and logsigmoid
    pay for it; ``log(1 + e)`` with e in [0, 1] has the same absolute error.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        softplus = logits.abs().neg_().exp_().add_(1.0).log_()
        return (logits * x).sub_(logits.relu()).sub_(softplus).flatten(1).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        logits, x = ctx.saved_tensors
        of_logits, of_x = ctx.needs_input_grad
        per_image = gradient.view(-1, *(1,) * (logits.dim() - 1))
        return (
            (x - logits.sigmoid()) * per_image if of_logits else None,
            logits * per_image if of_x else None,
        )


@dataclass(frozen=True)
class Gaussian:
    r"""Independent Gaussian pixels of one fixed variance: the ``mse`` loss.

    .. math:: -\log p(x|z) = \frac{\|x - \hat x\|^2}{2\sigma^2} + \frac{D}{2} \log (2\pi\sigma^2)

    With the default :math:`\sigma^2 = 1/2` this is the sum of squared errors plus a constant
    (448.73 nats for D = 784), which is kept.

    Attributes:
        sigma2: The variance, in squared pixel units. It decides how much a nat of rate buys.
        output: ``sigmoid`` (the same link as ``bce``) or ``linear``.
    """

    support: ClassVar[Support] = "real"

    sigma2: Annotated[float, Gt(0)] = 0.5
    output: Link = "sigmoid"

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """Log-density of ``x`` given the decoder's output: nats, shape (B,)."""
        error = (x - self.mean(params)).square().flatten(1)
        constant = 0.5 * error.shape[1] * math.log(2 * math.pi * self.sigma2)
        return -error.sum(dim=1) / (2 * self.sigma2) - constant

    def mean(self, params: Tensor) -> Tensor:
        """The Gaussian's mean image."""
        return torch.sigmoid(params) if self.output == "sigmoid" else params


_SMALL = 0.1  # half a logit; below it the closed forms cancel, and three terms err by 3e-13


@dataclass(frozen=True)
class ContinuousBernoulli:
    r"""Continuous Bernoulli pixels, computed from logits :math:`\eta`: the ``cb`` loss.

    .. math:: \log p(x|z) = \sum_d \eta_d x_d - A(\eta_d), \quad
        A(\eta) = \log \int_0^1 e^{\eta x} dx
        = \tfrac\eta2 + \log \frac{\sinh(\eta/2)}{\eta/2}

    What the relaxed Bernoulli lacks is its normalisation: this is a density of pixels in [0, 1].

    References:
        Loaiza-Ganem & Cunningham (2019), https://arxiv.org/abs/1907.06845
    """

    support: ClassVar[Support] = "unit"

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """Log-density of ``x`` in [0, 1] given logits: nats, shape (B,)."""
        half = params / 2
        ratio = _LogSinhRatio.apply(half) if is_eager() else _log_sinh_ratio(half)
        return (2 * half * x - half - ratio).flatten(1).sum(dim=1)

    def mean(self, params: Tensor) -> Tensor:
        r"""Mean pixels, :math:`A'(\eta) = (1 + \coth t - 1/t) / 2` with :math:`t = \eta/2`."""
        return 0.5 + 0.5 * _langevin(params / 2)


class _LogSinhRatio(torch.autograd.Function):
    r""":math:`\log (\sinh(t) / t)`, which is even and 0 at 0, without overflow or cancellation."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        ctx.save_for_backward(t)
        return _log_sinh_ratio(t)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (t,) = ctx.saved_tensors
        return gradient * _langevin(t)


def _log_sinh_ratio(t: Tensor) -> Tensor:
    is_small = t.abs() < _SMALL
    size = torch.where(is_small, 1.0, t).abs()
    large = size + ((1.0 - (-2 * size).exp()) / (2 * size)).log()  # not log1p, as above
    small = torch.where(is_small, t, 0.0)
    return torch.where(is_small, small**2 / 6 - small**4 / 180 + small**6 / 2835, large)


def _langevin(t: Tensor) -> Tensor:
    r"""Derivative of :math:`\log (\sinh(t) / t)`: :math:`\coth t - 1/t`, the Langevin function."""
    is_small = t.abs() < _SMALL
    large = torch.where(is_small, 1.0, t)  # keeps the branch that is not taken finite
    series = t / 3 - t**3 / 45 + 2 * t**5 / 945
    return torch.where(is_small, series, 1 / large.tanh() - 1 / large)


LOG_VAR_FLOOR = -math.log(12 * 256**2)  # the variance of what dequantisation adds to a pixel


@dataclass(frozen=True)
class Heteroscedastic:
    r"""Independent Gaussian pixels, each with a mean and a variance of its own.

    .. math:: \log p(x|z) = -\tfrac12 \sum_d \frac{(x_d - \mu_d)^2}{\sigma_d^2}
        + \log (2\pi\sigma_d^2)

    The decoder gives two maps per channel: first those of the means, then those of :math:`s`, of
    which :math:`\log \sigma^2 = m + \mathrm{softplus}(s - m)`: it cannot fall below the variance
    m that the noise of dequantisation has by itself, and always has a gradient. On pixels that
    repeat exactly, such as MNIST's zeros, the density is unbounded, so it takes dequantised ones.

    Attributes:
        output: ``sigmoid`` or ``linear``, the link of the means as in ``mse``.

    References:
        Nix & Weigend (1994), https://doi.org/10.1109/ICNN.1994.374138
        Mattei & Frellsen (2018), of the unbounded density, https://arxiv.org/abs/1802.04826
    """

    support: ClassVar[Support] = "real"
    maps: ClassVar[int] = 2
    dequantized_only: ClassVar[bool] = True

    output: Link = "sigmoid"

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """Log-density of ``x`` (B, C, H, W) given ``params`` (B, 2C, H, W): nats, (B,)."""
        if params.shape[1] != self.maps * x.shape[1]:  # an empty map would cost nothing, unseen
            raise ValueError(f"{params.shape[1]} maps for {x.shape[1]} channels, not twice as many")
        free = params[:, x.shape[1] :]
        log_var = LOG_VAR_FLOOR + F.softplus(free - LOG_VAR_FLOOR)
        squared = (x - self.mean(params)).square() * (-log_var).exp()
        return -0.5 * (squared + log_var + math.log(2 * math.pi)).flatten(1).sum(dim=1)

    def mean(self, params: Tensor) -> Tensor:
        """The mean image (B, C, H, W)."""
        means = params[:, : params.shape[1] // 2]
        return torch.sigmoid(means) if self.output == "sigmoid" else means


def maps_of(likelihood: object) -> int:
    """How many images of parameters a likelihood, or a class of them, needs per channel."""
    return int(getattr(likelihood, "maps", 1))


def _fault(entry: object) -> str | None:
    """What is wrong with an entry that is to be a class of likelihoods."""
    lacks = [name for name in ("log_prob", "mean", "support") if not hasattr(entry, name)]
    if not lacks and entry.support not in get_args(Support):  # type: ignore[attr-defined]
        return f"support should be one of {', '.join(get_args(Support))}"
    return f"has no {' and no '.join(lacks)}" if lacks else not_callable(entry)


LIKELIHOODS: Registry[type[Likelihood]] = Registry(
    "loss",
    {
        "bce": Bernoulli,
        "mse": Gaussian,
        "gaussian": FittedGaussian,
        "cb": ContinuousBernoulli,
        "heteroscedastic": Heteroscedastic,
    },
    _fault,
)
