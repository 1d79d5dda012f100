"""Every model fits any image; the reference architectures and the defaults' sizes."""

import math
from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import draws, images, make_vae
from torch import nn

from vaebench.distributions import LOG_VAR_MAX, LOG_VAR_MIN
from vaebench.layers import ConvTranspose2d, Flatten, Linear, Unflatten
from vaebench.models import MODELS, Activation, cnn, fnn, odd, takes_maps
from vaebench.seeding import seeded

SIDE = st.integers(1, 30)
EACH = pytest.mark.parametrize("name", MODELS)
WITH_LAYERS = [name for name in MODELS if name != "linear"]  # hidden ones
MNIST = (1, 28, 28)

# SCIENCE: the networks of the reference curves
REFERENCE_CNN: dict[str, Any] = {
    "channels": (32, 64, 64),
    "strides": (1, 2, 2),
    "kernel_size": 3,
    "hidden": (),
    "activation": "relu",
    "batch_norm": True,
}
REFERENCE_FNN: dict[str, Any] = {"hidden": (512, 256), "activation": "relu", "batch_norm": False}


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@EACH
@given(shape=st.tuples(st.integers(1, 4), SIDE, SIDE), latent_dim=st.integers(1, 5))
def test_decoder_returns_the_shape_of_the_image_whatever_it_is(
    name: str, shape: tuple[int, int, int], latent_dim: int
) -> None:
    vae = make_vae(name, shape=shape, latent_dim=latent_dim)
    x = images(2, shape)
    q = vae.encoder(x)
    assert q.mean.shape == q.log_var.shape == (2, latent_dim)
    assert vae.decoder(q.mean).shape == x.shape


@pytest.mark.parametrize("name", [name for name in MODELS if takes_maps(name)])
@given(shape=st.tuples(st.integers(1, 4), SIDE, SIDE), maps=st.integers(1, 4))
def test_decoder_returns_as_many_maps_as_it_is_asked_for(
    name: str, shape: tuple[int, int, int], maps: int
) -> None:
    options = {"maps": maps}
    vae = make_vae(name, shape=shape, options=options)
    assert vae.decoder(draws(2, 3)).shape == (2, maps * shape[0], *shape[1:])


@given(
    shape=st.tuples(st.integers(1, 3), SIDE, SIDE),
    layers=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4),
    kernel_size=st.sampled_from([1, 3, 5, 7]),
    hidden=st.lists(st.integers(1, 6), max_size=2),
)
@settings(max_examples=60)
def test_cnn_retraces_its_sizes_for_any_strides_and_kernel(
    shape: tuple[int, int, int],
    layers: list[tuple[int, int]],
    kernel_size: int,
    hidden: list[int],
) -> None:
    channels, strides = zip(*layers, strict=True)
    options = {
        "channels": channels,
        "strides": strides,
        "kernel_size": kernel_size,
        "hidden": tuple(hidden),
    }
    vae = make_vae("cnn", shape=shape, options=options)
    x = images(2, shape)
    assert vae.decoder(vae.encoder(x).mean).shape == x.shape


@pytest.mark.parametrize("name", WITH_LAYERS)
@pytest.mark.parametrize("activation", get_args(Activation))
def test_every_activation_stands_in_encoder_and_decoder(name: str, activation: str) -> None:
    kinds = {"relu": nn.ReLU, "gelu": nn.GELU, "elu": nn.ELU, "silu": nn.SiLU, "tanh": nn.Tanh}
    vae = make_vae(name, options={"activation": activation})
    for part in (vae.encoder, vae.decoder):
        assert any(isinstance(module, kinds[activation]) for module in part.modules())
        others = [kind for key, kind in kinds.items() if key != activation]
        assert not any(isinstance(module, tuple(others)) for module in part.modules())


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_batch_normalisation_is_off_unless_asked_for(name: str) -> None:
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)

    def count(part: nn.Module) -> int:
        return sum(isinstance(module, norms) for module in part.modules())

    plain = make_vae(name)
    normed = make_vae(name, options={"batch_norm": True})
    assert count(plain) == 0
    assert count(normed.encoder) > 0
    assert count(normed.decoder) > 0


@EACH
@pytest.mark.parametrize("size", [-100.0, 100.0])
def test_log_variances_of_100_stay_finite_with_their_gradient(  # trap 6
    name: str, size: float
) -> None:
    vae = make_vae(name)
    with torch.no_grad():
        vae.encoder.head.bias[vae.latent_dim :] = size
    q = vae.encoder(images(2))
    assert ((q.log_var >= LOG_VAR_MIN) & (q.log_var <= LOG_VAR_MAX)).all()
    q.kl_to_standard_normal().sum().backward()
    for parameter in vae.encoder.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@EACH
def test_head_gives_the_mean_first_and_the_log_variance_second(name: str) -> None:
    vae = make_vae(name, latent_dim=2)
    with torch.no_grad():
        vae.encoder.head.weight.zero_()
        vae.encoder.head.bias.copy_(torch.tensor([1.0, 2.0, -3.0, -4.0]))
    q = vae.encoder(images(1))
    assert q.mean.tolist() == [[1.0, 2.0]]
    assert q.log_var.tolist() == [[-3.0, -4.0]]


def test_reference_cnn_has_its_parameters() -> None:
    encoder, decoder = _built("cnn", 8, REFERENCE_CNN)
    kernel = 3 * 3
    norm = {width: 2 * width for width in (32, 64)}
    # A bias before a batch normalisation has no effect and is left out.
    body = kernel * (1 * 32 + 32 * 64 + 64 * 64) + norm[32] + norm[64] + norm[64]
    features = 64 * 7 * 7
    heads = features * 2 * 8 + 2 * 8
    assert parameters(encoder) == body + heads
    expand = 8 * features + features
    up = kernel * (64 * 64 + 64 * 32 + 32 * 1) + norm[64] + norm[32] + 1
    assert parameters(decoder) == expand + up


def test_reference_cnn_has_its_layers_in_order() -> None:
    encoder, decoder = _built("cnn", 8, REFERENCE_CNN)
    kinds = [type(module) for module in encoder.body]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 3 + [Flatten]
    assert isinstance(decoder, nn.Sequential)
    transposed = [module for module in decoder if isinstance(module, nn.ConvTranspose2d)]
    assert [type(module) for module in decoder] == [
        *[Linear, nn.ReLU, Unflatten],
        *[ConvTranspose2d, nn.BatchNorm2d, nn.ReLU] * 2,
        ConvTranspose2d,
    ]
    assert [(m.in_channels, m.out_channels) for m in transposed] == [(64, 64), (64, 32), (32, 1)]
    assert [m.stride for m in transposed] == [(2, 2), (2, 2), (1, 1)]
    assert [m.padding for m in transposed] == [(1, 1)] * 3
    assert [m.output_padding for m in transposed] == [(1, 1), (1, 1), (0, 0)]
    x = images(1, MNIST, dtype=torch.float32)
    assert encoder.body[:-1](x).shape == (1, 64, 7, 7)


def test_reference_fnn_has_its_parameters_and_mirrors_them() -> None:
    encoder, decoder = _built("fnn", 8, REFERENCE_FNN)

    def dense(*widths: int) -> int:
        return sum(a * b + b for a, b in pairwise(widths))

    assert parameters(encoder) == dense(784, 512, 256) + dense(256, 16)
    assert parameters(decoder) == dense(8, 256, 512, 784)
    linear = [m for m in decoder.modules() if isinstance(m, nn.Linear)]
    assert [m.out_features for m in linear] == [256, 512, 784]


def test_other_ancestor_is_expressible() -> None:
    encoder, _ = _built("fnn", 2, {"hidden": (128, 32, 16), "activation": "gelu"})
    linear = [m for m in encoder.modules() if isinstance(m, nn.Linear)]
    assert [m.out_features for m in linear] == [128, 32, 16, 4]


def test_default_fnn_and_cnn_have_similar_parameters_on_mnist() -> None:
    dense, convolutional = (sum(map(parameters, _built(name, 8, {}))) for name in ("fnn", "cnn"))
    assert math.isclose(dense, convolutional, rel_tol=0.03)


def test_default_fnn_is_the_reference_fnn() -> None:
    assert str(_built("fnn", 8, {})) == str(_built("fnn", 8, REFERENCE_FNN))


def test_default_cnn_is_strided_from_its_first_layer() -> None:
    encoder, _ = _built("cnn", 8, {})
    first = encoder.body[0]
    assert isinstance(first, nn.Conv2d)
    assert first.stride == (2, 2)


def test_cnn_without_a_stride_for_each_layer_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 strides for 1 channels"):
        cnn(MNIST, 2, channels=(4,), strides=(2, 2))


@given(st.integers(1, 50))
def test_kernels_are_odd_so_that_half_of_one_pads_evenly(size: int) -> None:
    assert odd(size) == (size in range(1, 51, 2))


def test_fnn_without_hidden_layers_is_linear() -> None:
    with seeded(0, "init"):
        encoder, decoder = fnn((1, 2, 2), 1, hidden=())
    assert parameters(encoder) == 4 * 2 + 2
    assert parameters(decoder) == 1 * 4 + 4


@EACH
def test_an_image_is_encoded_alone_in_evaluation_mode(name: str) -> None:  # trap 13
    vae = make_vae(name, options={"batch_norm": True} if name in WITH_LAYERS else {}).eval()
    x = images(5)
    alone, together = vae.encoder(x[:1]).mean, vae.encoder(x).mean[:1]
    torch.testing.assert_close(alone, together, rtol=1e-12, atol=1e-12)
    z = draws(5, 3)
    torch.testing.assert_close(vae.decoder(z[:1]), vae.decoder(z)[:1], rtol=1e-12, atol=1e-12)


def _built(name: str, latent_dim: int, options: dict[str, Any]) -> tuple[Any, nn.Module]:
    with seeded(0, "init"):
        encoder, decoder = MODELS[name](MNIST, latent_dim, **options)
    return encoder, decoder


def test_linear_model_is_linear_in_the_pixels_and_in_the_code() -> None:
    vae = make_vae("linear")
    x, y = images(2).split(1)
    z, w = draws(2, 3).split(1)
    for network, a, b in ((lambda v: vae.encoder(v).mean, x, y), (vae.decoder, z, w)):
        between = network(0.25 * a + 0.75 * b)
        torch.testing.assert_close(between, 0.25 * network(a) + 0.75 * network(b))
    assert parameters(vae) == (30 * 6 + 6) + (3 * 30 + 30)
