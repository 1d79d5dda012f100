"""The VAE's shapes, its cost, and a floating-point count worked by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import SHAPE, draws, images, make_vae
from torch import Tensor, nn

from vaebench.distributions import LOG_VAR_MAX, DiagonalGaussian
from vaebench.estimators import closed_form_kl
from vaebench.likelihoods import LIKELIHOODS, Bernoulli
from vaebench.models import MODELS, Encoder, Networks
from vaebench.seeding import seeded
from vaebench.training import OPTIMIZERS, SCHEDULES, Plan, State, train
from vaebench.vae import VAE, fit_likelihood, flops_per_image, parameter_count


@pytest.mark.parametrize("loss", LIKELIHOODS)
@pytest.mark.parametrize("model", MODELS)
def test_decode_keeps_the_leading_dimensions_of_the_codes(model: str, loss: str) -> None:
    vae = make_vae(model, loss).eval()
    z = draws(2, 4, 3)
    decoded = vae.decode(z)
    assert decoded.shape == (2, 4, *SHAPE)
    for i in range(2):
        torch.testing.assert_close(decoded[i], vae.likelihood.mean(vae.decoder(z[i])))


@pytest.mark.parametrize("loss", LIKELIHOODS)
def test_reconstruct_decodes_the_posterior_mean_without_a_draw(loss: str) -> None:
    vae, x = make_vae(loss=loss), images(4)
    expected = vae.likelihood.mean(vae.decoder(vae.encoder(x).mean))
    torch.testing.assert_close(vae.reconstruct(x), expected)


def test_reconstruct_clips_what_a_linear_output_oversteps() -> None:
    vae = make_vae(loss="mse", loss_options={"output": "linear"})
    x = 100 * images(4)
    raw = vae.decode(vae.encoder(x).mean)
    assert raw.min() < 0
    assert raw.max() > 1
    assert torch.equal(vae.reconstruct(x), raw.clamp(0, 1))


def test_optimal_variance_is_fitted_to_sampled_codes_as_they_are_measured() -> None:
    vae = make_vae(loss="gaussian", loss_options={"sigma2": "optimal"})
    x, noise = images(7), draws(1, 7, 3)
    fit_likelihood(vae, x, noise, batch_size=3)
    q = vae.encoder(x)
    sampled, means = (
        (x - vae.decode(z)).square().mean().item() for z in (q.sample(noise)[0], q.mean)
    )
    assert means != pytest.approx(sampled, rel=1e-3)
    assert vae.likelihood.sigma2 == pytest.approx(sampled, rel=1e-9)


def test_parameters_are_those_of_the_layers_by_hand() -> None:
    vae = make_vae("fnn", shape=(1, 4, 4), latent_dim=2, options={"hidden": (10,)})
    assert parameter_count(vae) == (16 * 10 + 10) + (10 * 4 + 4) + (2 * 10 + 10) + (10 * 16 + 16)


def test_frozen_parameters_and_running_averages_do_not_count() -> None:
    vae = make_vae("fnn", shape=(1, 4, 4), latent_dim=2, options={"hidden": (10,)})
    before = parameter_count(vae)
    normed = make_vae(
        "fnn", shape=(1, 4, 4), latent_dim=2, options={"hidden": (10,), "batch_norm": True}
    )
    assert parameter_count(normed) == before + 2 * 2 * 10  # scale and shift, twice
    vae.encoder.head.bias.requires_grad_(False)
    assert parameter_count(vae) == before - 4


def test_fnn_takes_two_operations_per_multiply_add() -> None:
    options = {"hidden": (10,)}
    vae = make_vae("fnn", shape=(1, 4, 4), latent_dim=2, options=options, dtype=torch.float32)
    assert flops_per_image(vae, (1, 4, 4)) == 2 * (16 * 10 + 10 * 4 + 2 * 10 + 10 * 16)


def test_cnn_takes_two_operations_per_multiply_add() -> None:
    options = {"channels": (4,), "strides": (2,), "hidden": ()}
    vae = make_vae("cnn", shape=(1, 6, 6), latent_dim=2, options=options, dtype=torch.float32)
    convolution = 3 * 3 * (1 * 4 * 3 * 3)  # 3x3 outputs of 4 channels, each over 3x3x1 inputs
    head, expand = 36 * 4, 2 * 36
    # a transposed convolution multiplies every input pixel (3x3) with its whole kernel
    assert flops_per_image(vae, (1, 6, 6)) == 2 * (convolution + head + expand + convolution)


@pytest.mark.parametrize("model", MODELS)
def test_counting_needs_no_memory_and_leaves_the_mode_alone(model: str) -> None:
    vae = make_vae(model, dtype=torch.float32)
    counted = flops_per_image(vae, SHAPE)
    assert counted > 0
    assert vae.training
    vae.eval()
    assert flops_per_image(vae.to("meta"), SHAPE) == counted
    assert not vae.training


def test_flops_of_a_large_layer_are_counted_whichever_library_makes_its_product() -> None:
    options = {"hidden": (4096,)}
    vae = make_vae("fnn", shape=(1, 28, 28), latent_dim=8, dtype=torch.float32, options=options)
    expected = 2 * (784 * 4096 + 4096 * 16 + 8 * 4096 + 4096 * 784)
    assert flops_per_image(vae, (1, 28, 28)) == expected
    assert next(vae.parameters()).device.type == "cpu"  # the model itself stays where it is
    assert vae.training


class Pair(nn.Module):
    """An encoder as somebody else writes one, with dropout."""

    def __init__(self, kind: Callable[..., object] = tuple, log_var: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(SHAPE), 3), nn.Dropout())
        self.kind, self.log_var = kind, log_var

    def forward(self, x: Tensor) -> object:
        mean = self.layers(x)
        return self.kind((mean, torch.full_like(mean, self.log_var)))


def own(encoder: nn.Module) -> VAE:
    decoder = nn.Sequential(nn.Linear(3, math.prod(SHAPE)), nn.Unflatten(-1, SHAPE))
    return VAE(Networks(encoder, decoder), Bernoulli(), 3).double().eval()


@pytest.mark.parametrize("kind", [tuple, list, lambda made: DiagonalGaussian(*made)])
def test_an_encoder_of_any_class_gives_a_bounded_posterior(kind: Callable[..., object]) -> None:
    with seeded(0, "init"):
        q = own(Pair(kind, log_var=100.0)).encoder(images(4))
    assert isinstance(q, DiagonalGaussian)
    assert q.mean.shape == (4, 3)
    assert (q.log_var == LOG_VAR_MAX).all()


def test_a_class_derived_from_the_encoder_may_return_a_pair() -> None:
    class Derived(Encoder):
        def forward(self, x: Tensor) -> Any:
            return tuple(super().forward(x))

    with seeded(0, "init"):
        encoder = Derived(nn.Sequential(nn.Flatten()), math.prod(SHAPE), 3)
        assert isinstance(own(encoder).encoder(images(2)), DiagonalGaussian)


@pytest.mark.parametrize("kind", [sum, lambda made: made[0], lambda made: (*made, made[0])])
def test_an_encoder_that_returns_no_pair_is_refused(kind: Callable[..., object]) -> None:
    with seeded(0, "init"):
        vae = own(Pair(kind))
    with pytest.raises(TypeError, match=r"returns \(mean, log_var\)"):
        vae.encoder(images(4))


def test_a_model_that_needs_numbers_is_counted_where_it_is() -> None:
    class Counting(Pair):
        def forward(self, x: Tensor) -> object:
            assert x.sum().item() >= 0
            return super().forward(x)

    with seeded(0, "init"):
        plain, counting = own(Pair()), own(Counting())
    assert flops_per_image(counting, SHAPE) == flops_per_image(plain, SHAPE) > 0


def test_dropout_is_drawn_anew_in_each_epoch_and_alike_after_an_interruption() -> None:
    def make() -> State:
        with seeded(0, "init"):
            vae = own(Pair())
        optimizer = OPTIMIZERS["adam"](vae, 1e-2)
        return State(vae, optimizer, SCHEDULES["constant"](optimizer, 3))

    def elbos(state: State, epochs: int) -> list[float]:
        steps = train(state, closed_form_kl, images(9), images(0), Plan(epochs, 4), seed=1)
        return [epoch.train.elbo for epoch in steps]

    whole, first, second = make(), make(), make()
    expected = elbos(whole, 3)
    begun = elbos(first, 1)
    second.load_state_dict(first.state_dict())
    with seeded(5, "elsewhere"):  # whatever else this process has drawn
        assert [*begun, *elbos(second, 3)] == expected
    assert len(set(expected)) == 3
