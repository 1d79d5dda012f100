"""Losses, gradients, a training and log p(x) agree with another library: pythae's VAE and IWAE.

The oracle is pythae's own networks, sampling and loss, untouched: a perceptron of one hidden layer
of 512. Ours takes over its weights, and the noise that it drew. It clips probabilities where we
compute from logits, and its "mse" is half the squared error, a Gaussian of variance 1 whose
constant is left out: that much is arithmetic, and the rest has to be equal in float64.

Chadebec et al. (2022), https://arxiv.org/abs/2206.08309
"""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pythae.models import IWAE, IWAEConfig, VAEConfig
from pythae.models import VAE as PythaeVAE
from tiny import assert_exact, make_vae
from torch import Tensor, nn

from vaebench import datasets
from vaebench.estimators import ESTIMATORS
from vaebench.metrics import importance_weighted_bound
from vaebench.seeding import seeded, stream
from vaebench.training import OPTIMIZERS, SCHEDULES, Plan, State, train
from vaebench.vae import VAE

SHAPE, LATENT_DIM = (1, 8, 8), 5
LOSSES = pytest.mark.parametrize("loss", ["bce", "mse"])
# What pythae's loss leaves out of -log p(x|z), in nats per image.
CONSTANT = {"bce": 0.0, "mse": 0.5 * math.prod(SHAPE) * math.log(2 * math.pi)}


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return datasets.load("digits").train.x.double()


def settings(loss: str) -> dict[str, Any]:
    return {"input_dim": SHAPE, "latent_dim": LATENT_DIM, "reconstruction_loss": loss}


def spread(vae: PythaeVAE) -> PythaeVAE:
    """The same in float64, with larger weights: fresh ones make every digit a flat gray."""
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.mul_(3)
    return vae.double()


def pythae_vae(loss: str) -> PythaeVAE:
    with seeded(0, "test/pythae"):
        return spread(PythaeVAE(VAEConfig(**settings(loss))))


def layers(theirs: PythaeVAE) -> list[tuple[nn.Linear, ...]]:
    """pythae's linear layers from image to image; mean and log-variance share ours."""
    encoder, decoder = theirs.encoder, theirs.decoder
    return [
        (encoder.layers[0][0],),
        (encoder.embedding, encoder.log_var),
        (decoder.layers[0][0],),
        (decoder.layers[1][0],),
    ]


def pairs(ours: VAE, theirs: PythaeVAE) -> Iterator[tuple[nn.Parameter, list[nn.Parameter]]]:
    """Each of our parameters, and those of pythae that it is made of."""
    linear = [module for module in ours.modules() if isinstance(module, nn.Linear)]
    for layer, parts in zip(linear, layers(theirs), strict=True):
        yield layer.weight, [part.weight for part in parts]
        yield layer.bias, [part.bias for part in parts]


def same_vae(loss: str, theirs: PythaeVAE) -> VAE:
    """Ours, with pythae's weights."""
    ours = make_vae(
        "fnn",
        loss,
        shape=SHAPE,
        latent_dim=LATENT_DIM,
        options={"hidden": (512,)},
        loss_options={"mse": {"sigma2": 1.0}, "bce": {}}[loss],
    )
    with torch.no_grad():
        for parameter, parts in pairs(ours, theirs):
            parameter.copy_(torch.cat(parts))
    return ours


def assert_same_gradients(ours: VAE, theirs: PythaeVAE) -> None:
    for parameter, parts in pairs(ours, theirs):
        gradient = torch.cat([part.grad for part in parts])
        assert gradient.abs().max() > 1e-3  # there is something to compare
        assert parameter.grad is not None
        assert_exact(parameter.grad, gradient)


@pytest.mark.slow
@LOSSES
@pytest.mark.parametrize("batch", [slice(0, 1), slice(1, 8), slice(8, 264)], ids=str)
def test_loss_and_gradient_are_those_of_pythae(loss: str, batch: slice, digits: Tensor) -> None:
    theirs = pythae_vae(loss)
    ours = same_vae(loss, theirs)
    x = digits[batch]

    with seeded(batch.stop, "test/pythae/noise"):
        expected = theirs({"data": x})
    expected.loss.backward()
    with seeded(batch.stop, "test/pythae/noise"):  # the draws that pythae made
        noise = torch.randn(1, len(x), LATENT_DIM, dtype=torch.float64)
    found = ESTIMATORS["kl"](ours, x, noise)
    (-found.surrogate.mean()).backward()

    assert found.rate is not None
    assert found.distortion is not None
    assert_exact(found.rate.mean(), expected.reg_loss)
    assert_exact(found.distortion.mean(), expected.recon_loss + CONSTANT[loss])
    assert_exact(-found.bound.mean(), expected.loss + CONSTANT[loss])
    assert_same_gradients(ours, theirs)


def descend(theirs: PythaeVAE, x: Tensor, plan: Plan, *, seed: int, rate: float) -> list[float]:
    """Train pythae's VAE by a plain loop over the harness's draws; each epoch's mean loss."""
    losses = []
    for epoch in range(1, plan.epochs + 1):
        order = torch.randperm(len(x), generator=stream(seed, "order", epoch))
        noise = torch.randn(len(x), LATENT_DIM, generator=stream(seed, "noise", epoch))
        total = 0.0
        for indices, eps in zip(
            order.split(plan.batch_size), noise.split(plan.batch_size), strict=True
        ):
            theirs._sample_gauss = lambda mean, std, eps=eps: (mean + eps * std, eps)
            loss = theirs({"data": x[indices]}).loss
            parameters = list(theirs.parameters())
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= rate * gradient
            total += loss.item() * len(indices)
        losses.append(total / len(x))
    return losses


@pytest.mark.slow
@LOSSES
def test_training_ends_where_a_plain_loop_on_the_loss_of_pythae_ends(
    loss: str, digits: Tensor
) -> None:
    # Batches of 40 and a last one of 20; a step is the mean over its images, whatever their number.
    x, plan, seed = digits[:100], Plan(epochs=2, batch_size=40), 3
    rate = {"bce": 1e-3, "mse": 1e-2}[loss]
    theirs = pythae_vae(loss)
    ours = same_vae(loss, theirs)
    start = [parameter.detach().clone() for parameter in ours.parameters()]

    optimizer = OPTIMIZERS["sgd"](ours, rate)
    state = State(ours, optimizer, SCHEDULES["constant"](optimizer, plan.epochs))
    bounds = [e.train.elbo for e in train(state, ESTIMATORS["kl"], x, x[:0], plan, seed=seed)]
    losses = descend(theirs, x, plan, seed=seed, rate=rate)

    assert bounds == pytest.approx([-(value + CONSTANT[loss]) for value in losses], rel=1e-9)
    for before, (parameter, parts) in zip(start, pairs(ours, theirs), strict=True):
        assert (parameter - before).abs().max() > 1e-3  # it went somewhere
        assert_exact(parameter.detach(), torch.cat(parts).detach())


@LOSSES
def test_importance_weighted_gradient_is_that_of_pythae(loss: str, digits: Tensor) -> None:
    x, samples = digits[:20], 7
    with seeded(0, "test/pythae"):
        theirs = spread(IWAE(IWAEConfig(number_samples=samples, **settings(loss))))
    ours = same_vae(loss, theirs)
    with seeded(1, "test/pythae/noise"):
        theirs({"data": x}).loss.backward()  # its value is another: a weighted mean of log-weights
    with seeded(1, "test/pythae/noise"):  # image by image there, sample by sample here
        noise = torch.randn(len(x), samples, LATENT_DIM, dtype=torch.float64).transpose(0, 1)
    (-ESTIMATORS["iwae"](ours, x, noise).surrogate.mean()).backward()
    assert_same_gradients(ours, theirs)


@LOSSES
def test_log_px_is_the_likelihood_that_pythae_estimates(loss: str, digits: Tensor) -> None:
    x, samples, seed = digits[:6], 40, 2
    theirs = pythae_vae(loss)
    found = importance_weighted_bound(same_vae(loss, theirs), x, seed=seed, samples=samples).bound

    shape = (len(x), LATENT_DIM)
    draws = [torch.randn(shape, generator=stream(seed, "log_px", k)) for k in range(samples)]
    noise = iter(torch.stack(draws, dim=1).double())  # an image at a time, all its samples
    theirs._sample_gauss = lambda mean, std: (mean + (eps := next(noise)) * std, eps)
    with torch.no_grad():  # here pythae keeps the Gaussian's constant
        expected = theirs.get_nll(x, n_samples=samples, batch_size=samples)
    assert found.mean().item() == pytest.approx(expected, rel=1e-9)
