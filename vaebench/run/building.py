"""From a configuration to a model, its optimiser and its plan of training."""

import torch

from vaebench.config import RunConfig
from vaebench.datasets import DATASETS
from vaebench.likelihoods import LIKELIHOODS
from vaebench.models import MODELS, Shape
from vaebench.seeding import seeded
from vaebench.training import OPTIMIZERS, SCHEDULES, Plan, State
from vaebench.vae import VAE, flops_per_image, parameter_count


def build(config: RunConfig, shape: Shape, device: torch.device | str) -> State:
    """Build the model from the stream ``init`` of its seed, on the CPU, then move it.

    Arguments:
        config: Of the run.
        shape: Of the images, (C, H, W).
        device: Where the model is to live.
    """
    with seeded(config.seed, "init"):
        vae = build_vae(config, shape)
    # channels last: a fifth faster for convolutions, and nothing to fully connected layers
    vae = vae.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    training = config.training
    optimizer = OPTIMIZERS[training.optimizer.name](
        vae, training.learning_rate, **training.optimizer.options
    )
    schedule = SCHEDULES[training.schedule.name](
        optimizer, training.epochs, **training.schedule.options
    )
    return State(vae, optimizer, schedule)


def build_vae(config: RunConfig, shape: Shape) -> VAE:
    """Build the model, with weights drawn from PyTorch's current stream on its current device."""
    latent_dim = config.model.latent_dim
    networks = MODELS[config.model.name](shape, latent_dim, **config.model.options)
    likelihood = LIKELIHOODS[config.loss.name](**config.loss.options)
    return VAE(networks, likelihood, latent_dim)


def model_cost(config: RunConfig) -> tuple[int, int]:
    """Parameters, and FLOPs per image, of a run's model, without data or memory.

    Raises:
        ValueError: The model cannot be built so.
    """
    shape = DATASETS[config.dataset.name].shape
    with torch.device("meta"):
        vae = build_vae(config, shape)
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
    )
