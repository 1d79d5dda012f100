"""The estimator `example`, a plugin of vaebench: a bound on log p(x), and its gradient.

Check it, train with it beside the built-in ones, look at the report::

    vaebench check example.py
    vaebench run-grid --plugin example.py --estimator example --estimator kl --dataset digits
    vaebench report results/demo

In a grid file, `plugins: [example.py]` does the same as `--plugin`.
"""

from torch import Tensor

from vaebench import ESTIMATORS, testing
from vaebench.estimators import Estimate, Estimator
from vaebench.vae import VAE


def example(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
    r"""The ELBO from antithetic pairs: each draw is used with both of its signs.

    .. math:: \frac{1}{2L} \sum_{l, \pm} \log p(x|z_{l\pm}) - KL(q(z|x) \,\|\, p(z))

    Arguments:
        vae: The model.
        x: Images (B, C, H, W).
        noise: Standard normal draws (L, B, Z): all randomness comes from here.
    """
    q = vae.encoder(x)
    log_px = []
    for draws in (*noise, *-noise):
        z = q.sample(draws)
        log_px.append(vae.likelihood.log_prob(x, vae.decoder(z).to(x.dtype)))
    distortion = -sum(log_px[1:], log_px[0]) / len(log_px)
    rate = q.kl_to_standard_normal()
    bound = -(rate + distortion)
    # `surrogate` is what training maximises, `bound` what it reports; they differ where the
    # gradient is not that of the value. Without a rate and a distortion: Estimate(..., None, None),
    # and Estimator(example, splits=False).
    return Estimate(surrogate=bound, bound=bound, rate=rate, distortion=distortion)


ESTIMATORS["example"] = Estimator(example, samples=1)


def test_example() -> None:
    """`pytest example.py`."""
    testing.require(__file__)
