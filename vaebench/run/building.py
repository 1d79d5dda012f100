"""From a configuration to a model, its optimiser and its plan of training."""

import sys
from contextlib import redirect_stdout
from functools import cache

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from vaebench.config import Choice, ModelChoice, RunConfig
from vaebench.datasets import DATASETS
from vaebench.errors import ConfigError
from vaebench.estimators import ESTIMATORS
from vaebench.likelihoods import LIKELIHOODS, maps_of
from vaebench.models import MODELS, Networks, Shape
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
    schedule = SCHEDULES[along.name](optimizer, config.epochs, **along.options)
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
    """Build the model, with weights drawn from PyTorch's current stream on its current device.

    Raises:
        TypeError: The model is no pair of modules.
    """
    maps = maps_of(LIKELIHOODS[loss.name])
    given = model.options | ({} if maps == 1 else {"maps": maps})
    networks = MODELS[model.name](shape, model.latent_dim, **given)
    if not isinstance(networks, tuple | list) or len(networks) != 2:
        raise TypeError(
            f"{model.name} returns a {type(networks).__name__}, not Networks(encoder, decoder)"
        )
    likelihood = LIKELIHOODS[loss.name](**loss.options)
    return VAE(Networks(*networks), likelihood, model.latent_dim)


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
    shape = DATASETS[config.dataset.name].shape_with(config.dataset.options)
    return _model_cost(config.model, config.loss, shape)


@cache
def _model_cost(model: ModelChoice, loss: Choice, shape: Shape) -> tuple[int, int]:
    with redirect_stdout(sys.stderr):  # the standard output is the command's
        try:
            with torch.device("meta"):
                vae = build_vae(model, loss, shape)
            require_shapes(vae, shape)
        except Exception:
            if MODELS.plugin(model.name) is None and LIKELIHOODS.plugin(loss.name) is None:
                raise
            with seeded(0, "cost"):  # a plugin's code may need numbers
                vae = build_vae(model, loss, shape)
            require_shapes(vae, shape)
        return parameter_count(vae), flops_per_image(vae, shape)


def require_shapes(vae: VAE, shape: Shape) -> None:
    """Make sure that what encoder, decoder and likelihood return fits together.

    Arguments:
        vae: The model; it is left in evaluation mode.
        shape: The shape of its images, (C, H, W).

    Raises:
        ValueError: Something has another shape than it should.
        Exception: What the model raises.
    """
    first = next(vae.parameters(), None)
    if first is None:
        raise ValueError("the model has no parameters")
    x = torch.zeros(2, *shape, device=first.device, dtype=first.dtype)
    params_shape = (2, maps_of(vae.likelihood) * shape[0], *shape[1:])
    vae.eval()
    with torch.no_grad():
        q = vae.encoder(x)
        params = vae.decoder(q.mean) if q.mean.shape == (2, vae.latent_dim) else q.mean
        made = {
            "its encoder's mean": (q.mean, (2, vae.latent_dim)),
            "its encoder's log_var": (q.log_var, (2, vae.latent_dim)),
            "its decoder's output": (params, params_shape),
        }
        for what, (tensor, expected) in made.items():
            if tensor.shape != expected:
                raise ValueError(
                    f"{what} of 2 images has the shape {tuple(tensor.shape)}, not {expected}"
                )
        if (mean := vae.likelihood.mean(params)).shape != x.shape:
            raise ValueError(f"the likelihood's mean image has the shape {tuple(mean.shape[1:])}")


def plan(config: RunConfig) -> Plan:
    """Read the training plan off the configuration."""
    training = config.training
    return Plan(
        epochs=config.epochs,
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
