"""From a configuration to a model, its optimiser and its plan of training."""

from functools import cache

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from vaebench.config import Choice, ModelChoice, RunConfig
from vaebench.datasets import DATASETS
from vaebench.errors import ConfigError
from vaebench.estimators import ESTIMATORS
from vaebench.likelihoods import LIKELIHOODS
from vaebench.models import MODELS, Shape
from vaebench.seeding import seeded, stream
from vaebench.training import OPTIMIZERS, SCHEDULES, Plan, State
from vaebench.vae import VAE, fit_likelihood, flops_per_image, parameter_count


def build(config: RunConfig, shape: Shape, device: torch.device | str) -> State:
    """Build the model of images (C, H, W) from the stream ``init``, on the CPU, then move it."""
    with seeded(config.seed, "init"):
        vae = build_vae(config.model, config.loss, shape)
    vae = placed(vae, device)
    training = config.training
    by, along = training.optimizer, training.schedule
    optimizer = OPTIMIZERS[by.name](vae, training.learning_rate, **by.options)
    schedule = SCHEDULES[along.name](optimizer, training.epochs, **along.options)
    return State(vae, optimizer, schedule)


def fit(config: RunConfig, vae: VAE, x: Tensor) -> None:
    """Fit what the likelihood fits (nothing, for most) to the bound that the run has trained.

    It is changed in place. ``x``: the training images as they are measured, (N, C, H, W).
    """
    weighted = ESTIMATORS[config.estimator.name].importance_weighted
    shape = (config.estimator.samples if weighted else 1, len(x), vae.latent_dim)
    noise = torch.randn(shape, generator=stream(config.seed, "fit"))
    fit_likelihood(vae, x, noise, importance_weighted=weighted)


def placed(vae: VAE, device: torch.device | str) -> VAE:
    """Move a model to where it is trained and measured, in one layout: layouts move last bits."""
    # channels last: a fifth faster for convolutions, and nothing to fully connected layers
    moved: VAE = vae.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def build_vae(model: ModelChoice, loss: Choice, shape: Shape) -> VAE:
    """Build the model, with weights drawn from PyTorch's current stream on its current device."""
    networks = MODELS[model.name](shape, model.latent_dim, **model.options)
    likelihood = LIKELIHOODS[loss.name](**loss.options)
    return VAE(networks, likelihood, model.latent_dim)


def require_trainable(vae: VAE, images: int, batch_size: int) -> None:
    """Refuse a last batch of one image, of which batch normalisation has nothing to average.

    Raises:
        ConfigError: There would be one.
    """
    norms = any(isinstance(module, _BatchNorm) for module in vae.modules())
    if norms and (images % batch_size == 1 or batch_size == 1):
        raise ConfigError(
            f"training.batch_size {batch_size} leaves a batch of one of {images} images, which "
            f"batch normalisation cannot train on; choose another"
        )


def model_cost(config: RunConfig) -> tuple[int, int]:
    """Parameters, and FLOPs per image, of a run's model, without data or memory.

    Raises:
        ValueError: The model cannot be built so.
    """
    return _model_cost(config.model, config.loss, DATASETS[config.dataset.name].shape)


@cache
def _model_cost(model: ModelChoice, loss: Choice, shape: Shape) -> tuple[int, int]:
    with torch.device("meta"):
        vae = build_vae(model, loss, shape)
    return parameter_count(vae), flops_per_image(vae, shape)


def plan(config: RunConfig) -> Plan:
    """Read the training plan off the configuration."""
    training = config.training
    return Plan(
        epochs=training.epochs,
        batch_size=training.batch_size,
        samples=config.estimator.samples,
        beta=training.beta,
        beta_warmup=training.beta_warmup,
        gradient_clip=training.gradient_clip,
        early_stopping=training.early_stopping.patience if training.early_stopping else None,
        dynamic=config.dataset.binarize == "dynamic",
        dequantize=config.dataset.dequantize == "uniform",
        precision=training.precision,
        compile=training.compile,
    )
