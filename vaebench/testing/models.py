"""Checks of a model: an encoder and a decoder of any class."""

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vaebench.estimators import closed_form_kl, sgvb
from vaebench.likelihoods import Bernoulli, Heteroscedastic, Likelihood
from vaebench.models import MODELS, Networks, Shape, takes_maps
from vaebench.run.building import require_shapes
from vaebench.seeding import seeded
from vaebench.tensors import misfit
from vaebench.testing.common import (
    LATENT_DIM,
    SHAPES,
    draws,
    images,
    resumes,
    slope_agrees,
)
from vaebench.vae import VAE

Options = Mapping[str, Any]


def build(name: str, options: Options, shape: Shape, loss: Likelihood | None = None) -> VAE:
    """Build a model with a likelihood, from the named stream that a run uses."""
    likelihood = loss or Bernoulli()
    maps = {"maps": 2} if isinstance(likelihood, Heteroscedastic) else {}
    with seeded(0, "init"):
        return VAE(
            Networks(*MODELS[name](shape, LATENT_DIM, **maps, **options)), likelihood, LATENT_DIM
        )


def shapes(name: str, options: Options) -> None:
    """Odd sizes, several channels, and as many maps as a likelihood needs."""
    for shape in SHAPES:
        losses: list[Likelihood] = [Bernoulli()]
        losses += [Heteroscedastic()] if takes_maps(name) else []
        for loss in losses:
            vae = build(name, options, shape, loss)
            try:
                require_shapes(vae, shape)
            except Exception as error:
                maps = getattr(loss, "maps", 1)
                error.add_note(f"images of {shape}, {maps} map(s)")
                raise


def same_weights(name: str, options: Options) -> None:
    """The weights depend on the seed alone."""
    one, other = (build(name, options, SHAPES[0]).state_dict() for _ in range(2))
    for key, tensor in one.items():
        assert torch.equal(tensor, other[key]), f"{key} differs when the model is built again"


def gradients_reach_all(name: str, options: Options) -> None:
    """Every parameter gets a finite gradient, or is of no use."""
    vae = build(name, options, SHAPES[1]).train()
    x = images(6, SHAPES[1])
    with seeded(0, "layers"):
        sgvb(vae, x, draws(1, 6, LATENT_DIM)).surrogate.mean().backward()  # type: ignore[no-untyped-call]
    for key, parameter in vae.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"no gradient reaches {key}"
            assert parameter.grad.isfinite().all(), f"the gradient of {key} is not finite"


def gradients_are_right(name: str, options: Options) -> str | None:
    """The gradient is that of the bound."""
    vae = build(name, options, SHAPES[0]).eval()
    closed_form_kl(vae, images(4, SHAPES[0]), draws(1, 4, LATENT_DIM))
    x, noise = images(4, SHAPES[0], torch.float64), draws(1, 4, LATENT_DIM, dtype=torch.float64)
    vae = vae.double()

    def value() -> Tensor:
        return closed_form_kl(vae, x, noise).bound.mean()

    try:
        value()
    except RuntimeError as error:
        return f"not checked, as it does not compute in float64: {error}"
    slope_agrees(value, [p for p in vae.parameters() if p.requires_grad], 1e-4)
    return None


def evaluation_by_image(name: str, options: Options) -> None:
    """What an image gets in evaluation mode depends on no other, and on no draw."""
    vae = build(name, options, SHAPES[1]).eval()
    x, z = images(6, SHAPES[1]), draws(6, LATENT_DIM)
    with torch.no_grad():
        for what, function, batch in (("encoder", vae.encoder, x), ("decoder", vae.decoder, z)):
            whole = _tensor(function(batch))
            again = _tensor(function(batch))
            assert torch.equal(whole, again), f"the {what} gives another value each time"
            alone = torch.cat([_tensor(function(part)) for part in torch.split(batch, 1)])
            furthest = (whole - alone).abs().max().item()
            assert furthest <= 1e-4 * (1 + whole.abs().max().item()), (
                f"the {what}'s value of an image moves by {furthest:.2g} with its batch"
            )


def _tensor(made: Any) -> Tensor:
    return torch.stack(tuple(made), dim=1) if isinstance(made, tuple) else made


def is_stored(name: str, options: Options) -> None:
    """The weights are written, and read again without running anything."""
    vae = build(name, options, SHAPES[0])
    buffer = io.BytesIO()
    torch.save(vae.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    fault = misfit(state, build(name, options, SHAPES[0]).state_dict())
    assert fault is None, f"its weights are not read back: {fault}"


def resumes_bit_for_bit(name: str, options: Options) -> None:
    """A training that is interrupted goes on with the numbers of one that was not."""
    resumes(lambda: build(name, options, SHAPES[0]))


CHECKS = {
    "shapes fit, of odd sizes and several channels": shapes,
    "the same seed gives the same weights": same_weights,
    "gradients reach every parameter": gradients_reach_all,
    "gradients agree with finite differences": gradients_are_right,
    "evaluation depends neither on the batch nor on a draw": evaluation_by_image,
    "weights are stored and read back": is_stored,
    "training resumes bit for bit": resumes_bit_for_bit,
}
