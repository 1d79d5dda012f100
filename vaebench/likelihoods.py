r"""The decoder's distributions p(x|z), each a density: summed over pixels, constants kept.

A likelihood pairs two functions that must agree: ``log_prob(x, params)``, where ``params`` is what
the decoder returned, and ``mean(params)``, the image that it stands for. The link between the two
(a sigmoid, unless the configuration says otherwise) belongs to the likelihood.

To add one: a frozen dataclass with these two methods and its ``support``, whose fields are its
options (annotated with their bounds, each with a default), and an entry in ``LIKELIHOODS`` at the
bottom. The configuration (``loss.<name>.<option>``), the command line, the tables and the
contract tests follow.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor


class Likelihood(Protocol):
    """What a VAE asks of p(x|z).

    Attributes:
        support: The pixels on which it is a normalised density: ``binary`` {0, 1} or ``real``.
    """

    support: ClassVar[Literal["binary", "real"]]

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """Log-density of images ``x`` (B, C, H, W) given ``params`` of that shape: nats, (B,)."""
        ...

    def mean(self, params: Tensor) -> Tensor:
        """Images in the data's units that ``params`` stands for, shape (B, C, H, W)."""
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

    support: ClassVar[Literal["binary", "real"]] = "binary"

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """Log-probability of ``x`` in [0, 1] given logits: nats, shape (B,)."""
        loss = F.binary_cross_entropy_with_logits(params, x, reduction="none")
        return -loss.flatten(1).sum(dim=1)

    def mean(self, params: Tensor) -> Tensor:
        """Pixel probabilities, the sigmoid of the logits."""
        return torch.sigmoid(params)


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

    support: ClassVar[Literal["binary", "real"]] = "real"

    sigma2: Annotated[float, Gt(0)] = 0.5
    output: Literal["sigmoid", "linear"] = "sigmoid"

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """Log-density of ``x`` given the decoder's output: nats, shape (B,)."""
        error = (x - self.mean(params)).square().flatten(1)
        constant = 0.5 * error.shape[1] * math.log(2 * math.pi * self.sigma2)
        return -error.sum(dim=1) / (2 * self.sigma2) - constant

    def mean(self, params: Tensor) -> Tensor:
        """The Gaussian's mean image."""
        return torch.sigmoid(params) if self.output == "sigmoid" else params


LIKELIHOODS: dict[str, type[Likelihood]] = {"bce": Bernoulli, "mse": Gaussian}
