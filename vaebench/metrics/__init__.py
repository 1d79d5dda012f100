"""What is measured after training, and what every number declares about itself.

A metric is a function of one part of a :class:`~vaebench.metrics.subject.Subject`: of the
``evaluation`` (one pass over the measured split), the ``similarity``, the ``evidence``, the
``latents`` or the ``generation``. Its declaration (unit, direction, comparability, version) is all
that tables, arrows and comparisons read. To add a metric: a function in the module of its part (a
new part is a cached property of ``Subject``), and an entry in :data:`METRICS` at the bottom; raise
``version`` whenever the same weights would get another value.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from vaebench.declarations import Declaration
from vaebench.errors import DivergedError
from vaebench.metrics.classifier import Reference, reference
from vaebench.metrics.evaluation import Evaluation, bits_per_dim, distortion, elbo, evaluate, rate
from vaebench.metrics.generation import Generation, classifier_frechet, precision, recall
from vaebench.metrics.images import (
    mae_px,
    mse_px,
    psnr,
    squared_error_per_image,
    ssim,
    ssim_per_image,
    ssim_window,
)
from vaebench.metrics.latents import Latents, active_units, knn_accuracy
from vaebench.metrics.log_px import Evidence, importance_weighted_bound, log_px
from vaebench.metrics.subject import Part, Subject
from vaebench.plugins import Registry, no_instance

__all__ = [
    "METRICS",
    "ON_TRAIN",
    "Evaluation",
    "Evidence",
    "Generation",
    "Latents",
    "Metric",
    "Part",
    "Reference",
    "Subject",
    "active_units",
    "classifier_frechet",
    "distortion",
    "elbo",
    "evaluate",
    "importance_weighted_bound",
    "knn_accuracy",
    "log_px",
    "mae_px",
    "measure",
    "mse_px",
    "precision",
    "psnr",
    "rate",
    "recall",
    "reference",
    "squared_error_per_image",
    "ssim",
    "ssim_per_image",
    "ssim_window",
]


@dataclass(frozen=True)
class Metric:
    """A function of a part of a :class:`Subject`, and its declaration.

    Attributes:
        function: From the part to the value; its docstring explains the metric wherever needed.
        declaration: What the value says about itself.
        part: The part of the subject that the function takes.
        opt_in: Measured only if the configuration has a number of samples for it,
            ``metrics.<name>``.
        needs_labels: Not measured of images without labels.
    """

    function: Callable[[Any], float]
    declaration: Declaration
    part: Part = "evaluation"
    opt_in: bool = False
    needs_labels: bool = False

    def __call__(self, subject: Subject) -> float:
        """The metric's value for a trained model."""
        return self.function(getattr(subject, self.part))


def measure(subject: Subject, prefix: str, names: Iterable[str]) -> dict[str, float]:
    """Values of the metrics ``names`` as ``{"<prefix>/<name>": value}``.

    Raises:
        DivergedError: A value is not finite; its name is in the message.
    """
    values = {}
    for name in names:
        value = METRICS[name](subject)
        if not math.isfinite(value):
            raise DivergedError(f"{prefix}/{name} is {value}; lower training.learning_rate")
        values[f"{prefix}/{name}"] = value
    return values


ON_TRAIN = ("elbo", "rate", "distortion")
"""Those that are measured on training images as well, as ``train_eval/elbo``."""

METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "elbo": Metric(elbo, Declaration("ELBO", "nats", "higher", "likelihood")),
        "rate": Metric(rate, Declaration("Rate", "nats", None, "likelihood")),
        "distortion": Metric(distortion, Declaration("Distortion", "nats", "lower", "likelihood")),
        "bits_per_dim": Metric(
            bits_per_dim, Declaration("Bits per dimension", "bits", "lower", "likelihood")
        ),
        "log_px": Metric(
            log_px, Declaration("log p(x)", "nats", "higher", "likelihood"), "evidence", opt_in=True
        ),
        "ssim": Metric(ssim, Declaration("SSIM", "", "higher", "dataset"), "similarity"),
        "psnr": Metric(psnr, Declaration("PSNR", "dB", "higher", "dataset")),
        "mse_px": Metric(mse_px, Declaration("MSE per pixel", "", "lower", "dataset")),
        "mae_px": Metric(mae_px, Declaration("MAE per pixel", "", "lower", "dataset")),
        "active_units": Metric(active_units, Declaration("Active units", "", None, "dataset")),
        "knn_accuracy": Metric(
            knn_accuracy,
            Declaration("5-NN accuracy", "", "higher", "dataset"),
            "latents",
            needs_labels=True,
        ),
        "classifier_frechet": Metric(
            classifier_frechet,
            Declaration("Classifier Fréchet", "", "lower", "dataset"),
            "generation",
            needs_labels=True,
        ),
        "precision": Metric(
            precision,
            Declaration("Precision", "", "higher", "dataset"),
            "generation",
            needs_labels=True,
        ),
        "recall": Metric(
            recall,
            Declaration("Recall", "", "higher", "dataset"),
            "generation",
            needs_labels=True,
        ),
    },
    no_instance(Metric),
)
