"""The end of a tuning run: its score on the validation split instead of pictures and metrics."""

import math
from typing import Any

import torch
from torch import Tensor

from vaebench.config import RunConfig
from vaebench.errors import DivergedError
from vaebench.estimators import ESTIMATORS
from vaebench.run.building import fit, plan
from vaebench.run.record import Task, make_record
from vaebench.seeding import stream
from vaebench.training.scoring import trained_bound
from vaebench.vae import VAE

SCORE = "tune/bound"  # its name among the metrics of a tuning run


def scored_record(task: Task, vae: VAE, x: Tensor, validation: Tensor) -> dict[str, Any]:
    """The record of a tuning run whose training has ended.

    Arguments:
        task: The run.
        vae: With the weights of its last epoch; what its likelihood fits is fitted here.
        x: Training images as they are measured.
        validation: Images that the score is a mean over.

    Raises:
        DivergedError: The score is not finite.
    """
    config = task.config
    fit(config, vae, x)
    score = _score(config, vae, validation)
    if not math.isfinite(score):
        raise DivergedError(f"the bound on the validation split is {score} after the last epoch")
    return make_record(task, "complete", None) | {"metrics": {SCORE: score}}


def _score(config: RunConfig, vae: VAE, validation: Tensor) -> float:
    trained = plan(config)
    shape = (trained.samples, len(validation), vae.latent_dim)
    return trained_bound(
        vae,
        ESTIMATORS[config.estimator.name],
        validation,
        torch.randn(shape, generator=stream(config.seed, "tune")),
        beta=trained.beta_at(trained.epochs),  # where early stopping ends it, too
        batch_size=trained.batch_size,
    )
