"""What a run watches beyond its loss, after each epoch: numbers for the journal."""

import math

from torch import Tensor

from vaebench.config import RunConfig
from vaebench.run.measuring import drawn_once
from vaebench.training import EpochStatistics
from vaebench.training.gradient_variance import gradient_variance
from vaebench.vae import VAE


def diagnose(
    config: RunConfig, vae: VAE, x: Tensor, statistics: EpochStatistics
) -> dict[str, float]:
    """Metrics of the diagnostics that the configuration asks for, as the journal names them.

    ``grad/<part>_variance/<estimator>`` and ``grad/<part>_snr/<estimator>``, see
    :class:`~vaebench.training.gradient_variance.GradientVariance`; on the first batch of the
    training images. What is not finite is left out.
    """
    if not config.diagnostics.gradient_variance:
        return {}
    found = gradient_variance(
        vae,
        drawn_once(config, x[: config.training.batch_size]),
        samples=config.estimator.samples,
        beta=statistics.beta,
        seed=config.seed,
        epoch=statistics.epoch,
    )
    return {
        f"grad/{name}/{estimator}": value
        for estimator, values in found.items()
        for name, value in values._asdict().items()
        if math.isfinite(value)
    }
