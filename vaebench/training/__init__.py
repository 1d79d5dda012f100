"""The training loop: a generator of epoch statistics; what to do with them is its caller's.

The data live as one tensor on the device; there is no DataLoader. Whatever an epoch draws (order,
noise, binarisation) comes from streams named after ``(seed, name, epoch)``, drawn on the CPU a
whole epoch at a time, so that a training resumes at any epoch, on any device.

Beside the loop: ``optimizers`` and ``schedules``, two dicts that the configuration follows;
``steps``, how a step computes; ``epochs``, what an epoch was; and ``gradient_variance``, which
watches a training without touching it.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from vaebench.datasets.pixels import binarize, dequantized
from vaebench.errors import DivergedError
from vaebench.estimators import Estimate, EstimateFunction, closed_form_kl
from vaebench.seeding import seeded, stream
from vaebench.training.epochs import EpochStatistics, Means
from vaebench.training.optimizers import OPTIMIZERS
from vaebench.training.schedules import SCHEDULES
from vaebench.training.steps import Precision, step_function
from vaebench.vae import VAE

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "EpochStatistics",
    "Means",
    "Plan",
    "Precision",
    "State",
    "objective",
    "train",
    "validate",
]


@dataclass
class State:
    """Everything that changes while a training runs, and that a resumed one needs.

    Attributes:
        vae: The model, on its device.
        optimizer: Over the model's parameters.
        schedule: The learning rate's schedule, stepped once an epoch.
        epoch: Epochs done.
        best_epoch: The epoch of the best validation ELBO, 0 before the first.
        best_elbo: That ELBO in nats.
    """

    vae: VAE
    optimizer: Optimizer
    schedule: LRScheduler
    epoch: int = 0
    best_epoch: int = 0
    best_elbo: float = field(default=-math.inf)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only: loadable with ``weights_only=True``."""
        return {
            "model": self.vae.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_elbo": self.best_elbo,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` returned, in place."""
        self.vae.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch = state["epoch"]
        self.best_epoch = state["best_epoch"]
        self.best_elbo = state["best_elbo"]


@dataclass(frozen=True)
class Plan:
    """How to train: the plain values of the configuration's ``training`` section.

    Attributes:
        epochs: Total number of epochs, those before an interruption included.
        batch_size: Images per step; the last, partial batch is kept.
        samples: L, noise draws per image and step.
        beta: Weight of the rate, 1 for the ELBO (beta-VAE, Higgins et al. 2017).
        beta_warmup: Epochs over which beta grows linearly from beta / (warm-up + 1).
        gradient_clip: Largest norm of the whole gradient; None: unlimited.
        early_stopping: Epochs without a better validation ELBO before stopping, or None.
        dynamic: Binarise the training images anew each epoch.
        dequantize: Dequantise the training images anew each epoch.
        precision: Precision of matrix products and convolutions in a training step.
        compile: Compile the training step first (10 to 20 seconds).
    """

    epochs: int
    batch_size: int
    samples: int = 1
    beta: float = 1.0
    beta_warmup: int = 0
    gradient_clip: float | None = None
    early_stopping: int | None = None
    dynamic: bool = False
    dequantize: bool = False
    precision: Precision = "float32"
    compile: bool = False

    def beta_at(self, epoch: int) -> float:
        """Beta of an epoch (the first is 1)."""
        return self.beta * min(1.0, epoch / (self.beta_warmup + 1))

    def stops_early(self, state: State) -> bool:
        """Whether early stopping ends the training in ``state``."""
        patience = self.early_stopping
        return patience is not None and state.epoch - state.best_epoch >= patience


class _Sums:
    """Sums of estimates over images, kept on the device so that no step waits for it."""

    def __init__(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no doubles
        self.totals = torch.zeros(3, dtype=dtype, device=device)
        self.splits = True

    def add(self, estimate: Estimate) -> None:
        parts = (estimate.bound, estimate.rate, estimate.distortion)
        self.splits = estimate.rate is not None
        sums = [torch.zeros_like(parts[0][0]) if p is None else p.detach().sum() for p in parts]
        self.totals += torch.stack(sums)

    def means(self, count: int) -> Means:
        elbo, rate, distortion = (self.totals / count).tolist()
        return Means(elbo, rate, distortion) if self.splits else Means(elbo, None, None)


def validate(vae: VAE, x: Tensor, noise: Tensor, batch_size: int = 500) -> Means:
    """ELBO of a split in evaluation mode, with L^B for every estimator and beta 1.

    Arguments:
        vae: The model.
        x: Images (N, C, H, W), on the model's device.
        noise: Standard normal draws (L, N, Z), fixed per image.
        batch_size: Images at a time; it does not change the result beyond float rounding.
    """
    sums = _Sums(x.device)
    vae.eval()
    with torch.no_grad():
        for images, draws in zip(
            torch.split(x, batch_size), torch.split(noise, batch_size, 1), strict=True
        ):
            sums.add(closed_form_kl(vae, images, draws))
    return sums.means(len(x))


def objective(estimate: Estimate, beta: float) -> Tensor:
    """Mean over the batch of what training minimises, at this beta."""
    loss = -estimate.surrogate
    if beta != 1.0:
        if estimate.rate is None:
            raise ValueError("beta other than 1 needs an estimator whose bound splits")
        loss = loss + (beta - 1.0) * estimate.rate
    return loss.mean()


def _require_finite(
    epoch: int, learning_rate: float, parts: dict[str, Means | None], vae: VAE
) -> None:
    bad = [
        f"{name} {term} ({value})"
        for name, means in parts.items()
        if means is not None
        for term, value in means._asdict().items()
        if value is not None and not math.isfinite(value)
    ]
    if not all(bool(p.isfinite().all()) for p in vae.parameters()):
        bad.append("weights")  # the last step's doing, which no term has seen yet
    if bad:
        raise DivergedError(
            f"{', '.join(bad)} stopped being finite in epoch {epoch}; lower "
            f"training.learning_rate (now {learning_rate:g}) or set training.gradient_clip"
        )


def train(
    state: State,
    estimator: EstimateFunction,
    x: Tensor,
    validation: Tensor,
    plan: Plan,
    *,
    seed: int,
) -> Iterator[EpochStatistics]:
    """Train ``state`` in place, epoch by epoch, and yield what each epoch was.

    Arguments:
        state: The model and its optimiser; training goes on after ``state.epoch``.
        estimator: Its ``surrogate`` is maximised. The memory of its images is the next step's, too.
        x: Training images (N, C, H, W), on the model's device.
        validation: Validation images, likewise; empty for none.
        plan: How to train.
        seed: The seed of all random streams (order, noise, pixels, validation).

    Raises:
        DivergedError: A term was NaN or infinite; the epoch, the terms and a hint are in it.
    """
    vae, optimizer, device = state.vae, state.optimizer, x.device
    latent_dim, count = vae.latent_dim, len(x)
    shape = (1, len(validation), latent_dim)
    validation_noise = torch.randn(shape, generator=stream(seed, "validation")).to(device)
    estimate_bound = step_function(estimator, device, plan.precision, compiled=plan.compile)
    batch = x.new_empty((min(plan.batch_size, count), *x.shape[1:]))
    while state.epoch < plan.epochs and not plan.stops_early(state):
        epoch = state.epoch + 1
        beta = plan.beta_at(epoch)
        learning_rate = optimizer.param_groups[0]["lr"]

        started, cpu_started = time.perf_counter(), time.process_time()
        order = torch.randperm(count, generator=stream(seed, "order", epoch)).to(device)
        noise_shape = (plan.samples, count, latent_dim)
        noise = torch.randn(noise_shape, generator=stream(seed, "noise", epoch)).to(device)
        images = binarize(x, stream(seed, "binarize", epoch)) if plan.dynamic else x
        if plan.dequantize:
            images = dequantized(x, stream(seed, "dequantize", epoch))
        sums = _Sums(device)
        vae.train()
        size = plan.batch_size
        batches = zip(torch.split(order, size), torch.split(noise, size, 1), strict=True)
        with seeded(seed, "layers", epoch, device):  # dropout, say, and a run resumes at any epoch
            for indices, draws in batches:
                torch.index_select(images, 0, indices, out=batch[: len(indices)])
                estimate = estimate_bound(vae, batch[: len(indices)], draws)
                objective(estimate, beta).backward()  # type: ignore[no-untyped-call]
                if plan.gradient_clip is not None:
                    nn.utils.clip_grad_norm_(vae.parameters(), plan.gradient_clip)
                optimizer.step()
                optimizer.zero_grad()
                sums.add(estimate)
        trained = sums.means(count)  # waits for the device
        seconds = time.perf_counter() - started
        cpu_seconds = time.process_time() - cpu_started

        validated, validation_seconds, validation_cpu_seconds = None, None, None
        if len(validation):
            validated = validate(vae, validation, validation_noise)
            validation_seconds = time.perf_counter() - started - seconds
            validation_cpu_seconds = time.process_time() - cpu_started - cpu_seconds
        _require_finite(epoch, learning_rate, {"train": trained, "validation": validated}, vae)
        if isinstance(state.schedule, ReduceLROnPlateau):
            state.schedule.step(-(validated or trained).elbo)
        else:
            state.schedule.step()
        state.epoch = epoch
        if validated is not None and validated.elbo > state.best_elbo:
            state.best_elbo, state.best_epoch = validated.elbo, epoch
        yield EpochStatistics(
            epoch=epoch,
            train=trained,
            validation=validated,
            beta=beta,
            learning_rate=learning_rate,
            seconds=seconds,
            validation_seconds=validation_seconds,
            cpu_seconds=cpu_seconds,
            validation_cpu_seconds=validation_cpu_seconds,
        )
