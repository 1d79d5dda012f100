"""``decoder.safetensors``: what is read back decodes as the model did, and nothing else is read."""

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save
from small_runs import task, without_figures
from tiny import draws, make_vae
from torch import Tensor, nn

from vaebench import datasets
from vaebench.config import make_run
from vaebench.datasets import Splits
from vaebench.errors import ResultsError
from vaebench.estimators import closed_form_kl
from vaebench.likelihoods import LIKELIHOODS, Bernoulli, maps_of
from vaebench.models import MODELS, Activation
from vaebench.run import build, load_run, run
from vaebench.run.decoder_export import decoder_bytes
from vaebench.run.decoder_file import KEY, MAX_BYTES, read_decoder
from vaebench.seeding import seeded
from vaebench.training import Plan, train
from vaebench.vae import VAE

SHAPE = (2, 9, 7)  # neither square nor a multiple of the strides
Edit = Callable[[dict[str, Any], dict[str, Tensor]], Any]


def options_of(model: str) -> list[dict[str, Any]]:
    """The options of a model that change the kinds of its layers."""
    known = inspect.signature(MODELS[model]).parameters
    found: list[dict[str, Any]] = [{}]
    found += [{"activation": a} for a in get_args(Activation) if "activation" in known]
    return found + [{"batch_norm": True}] * ("batch_norm" in known)


CASES = [(model, options) for model in MODELS for options in options_of(model)]
KNOWN = [loss for loss in LIKELIHOODS if maps_of(LIKELIHOODS[loss]) == 1]  # the others have no link
LINKS = [(loss, options) for loss in KNOWN for options in ({}, {"output": "linear"})]
LINKS = [
    (loss, options)
    for loss, options in LINKS
    if options.keys() <= inspect.signature(LIKELIHOODS[loss]).parameters.keys()
]


def small_vae(
    model: str = "cnn",
    options: dict[str, Any] | None = None,
    loss: str = "bce",
    loss_options: dict[str, Any] | None = None,
) -> VAE:
    """A model whose every parameter and running statistic has its say in an image."""
    vae = make_vae(
        model, loss, shape=SHAPE, options=options, loss_options=loss_options, dtype=torch.float32
    ).eval()
    for i, (name, tensor) in enumerate(vae.decoder.state_dict().items()):
        if tensor.is_floating_point() and tensor.dim() == 1:
            noise = draws(*tensor.shape, name=f"state/{i}", dtype=torch.float32)
            tensor.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise)
    return vae


def written(path: Path, vae: VAE, shape: tuple[int, int, int] = SHAPE) -> Path:
    path.write_bytes(decoder_bytes(vae, shape))
    return path


def contents(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()[KEY]), tensors


# ---------------------------------------------------------------- what is written is what is read


@pytest.mark.parametrize(("model", "options"), CASES)
def test_every_model_decodes_from_its_file_as_it_does_itself(
    model: str, options: dict[str, Any], tmp_path: Path
) -> None:
    vae = small_vae(model, options)
    path = written(tmp_path / "d", vae)
    decoder = read_decoder(path)
    assert (decoder.latent_dim, decoder.shape) == (3, SHAPE)
    z = draws(50, 3, dtype=torch.float32)
    with torch.no_grad():
        expected = vae.decode(z)
    found = decoder(z)
    assert found.shape == (50, *SHAPE)
    assert expected.std() > 0.02  # the images say something
    assert (found - expected).abs().max() < 0.02
    assert (found - expected).square().mean().sqrt() < 0.005
    description, tensors = contents(path)
    kinds = {layer["kind"] for layer in description["layers"]}
    assert options.get("activation", "tanh") in kinds | {"tanh"}
    assert ("batch_norm" in kinds) == options.get("batch_norm", False)
    assert {t.dtype for t in tensors.values()} <= {torch.int8, torch.int16, torch.float32}


@pytest.mark.parametrize(("loss", "options"), LINKS)
def test_every_likelihood_has_its_link(loss: str, options: dict[str, Any], tmp_path: Path) -> None:
    vae = small_vae("fnn", loss=loss, loss_options=options)
    with torch.no_grad():  # all of a link's range: its flat ends as well as its middle
        vae.decoder.get_parameter("2.weight").mul_(10)
        z = draws(50, 3, dtype=torch.float32)
        expected = vae.decode(z)
    found = read_decoder(written(tmp_path / "d", vae))(z)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0.005)
    assert (expected.min() < 0) == (options.get("output") == "linear")


def peak_signal_to_noise(x: Tensor, y: Tensor) -> float:
    errors = (x - y.clamp(0, 1)).square().flatten(1).mean(dim=1)
    return (-10 * errors.log10()).mean().item()


@pytest.fixture(scope="module")
def digits() -> Splits:
    return datasets.load("digits")


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "options"), LINKS)
@pytest.mark.parametrize("model", MODELS)
def test_reconstructions_of_a_trained_model_keep_their_psnr(
    model: str, loss: str, options: dict[str, Any], digits: Splits, tmp_path: Path
) -> None:
    raw: dict[str, Any] = {"dataset": {"name": "digits"}, "model": model, "loss": {"name": loss}}
    raw["loss"] |= {loss: options} if options else {}
    state = build(make_run(raw), digits.shape, "cpu")
    x, plan = digits.train.x, Plan(epochs=15, batch_size=64)
    assert len(list(train(state, closed_form_kl, x, x[:0], plan, seed=0))) == 15
    path = written(tmp_path / "d", state.vae.eval(), digits.shape)
    with torch.no_grad():
        z = state.vae.encoder(digits.test.x).mean
        expected = state.vae.decode(z)
    found = read_decoder(path)(z)
    before, after = (peak_signal_to_noise(digits.test.x, y) for y in (expected, found))
    assert before > 10  # it has learned something
    assert abs(after - before) < 0.02  # dB
    assert (found - expected).abs().max() < 0.05


@pytest.mark.parametrize(("model", "most"), [("fnn", 600_000), ("cnn", 600_000)])
def test_the_default_decoders_of_mnist_take_half_a_megabyte(model: str, most: int) -> None:
    with seeded(0, "init"):
        vae = VAE(MODELS[model]((1, 28, 28), 16), Bernoulli(), 16).eval()
    content = decoder_bytes(vae, (1, 28, 28))
    weights = sum(p.numel() for p in vae.decoder.parameters())
    assert weights < len(content) < most


def test_int16_takes_over_where_int8_would_change_the_images(tmp_path: Path) -> None:
    vae = small_vae("fnn")
    assert contents(written(tmp_path / "d", vae))[1]["0.weight"].dtype == torch.int8
    with torch.no_grad():  # logits of thousands, and what is rounded of them beside gray pixels
        vae.decoder.get_parameter("2.weight").mul_(1000)
        z = draws(200, 3, dtype=torch.float32)
        path = written(tmp_path / "d", vae)
        assert contents(path)[1]["0.weight"].dtype == torch.int16
        assert (read_decoder(path)(z) - vae.decode(z)).abs().max() < 0.1


def test_each_output_row_has_the_scale_of_its_largest_weight(tmp_path: Path) -> None:
    vae = small_vae("cnn")
    _, tensors = contents(written(tmp_path / "d", vae))
    found = 0
    for name, layer in vae.decoder.named_children():
        if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
            rows = layer.weight if isinstance(layer, nn.Linear) else layer.weight.transpose(0, 1)
            expected = rows.flatten(1).abs().amax(dim=1) / 127
            torch.testing.assert_close(tensors[f"{name}.scale"], expected.detach())
            found += 1
    assert found == 4


def test_a_row_of_zeros_stays_zero(tmp_path: Path) -> None:
    vae = small_vae("fnn")
    with torch.no_grad():
        vae.decoder.get_parameter("2.weight")[5] = 0
        vae.decoder.get_parameter("2.bias")[5] = 0
    images = read_decoder(written(tmp_path / "d", vae))(draws(3, 3, dtype=torch.float32))
    assert (images.flatten(1)[:, 5] == 0.5).all()


def test_the_same_decoder_gives_the_same_bytes() -> None:
    assert decoder_bytes(small_vae(), SHAPE) == decoder_bytes(small_vae(), SHAPE)
    trained = small_vae().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert decoder_bytes(trained, SHAPE) == decoder_bytes(small_vae(), SHAPE)


# ---------------------------------------------------------------- what is not known


class Doubled(nn.Module):
    """A layer of a user's own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class Odd(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return -super().forward(x)


class Own(Bernoulli):
    """A likelihood with another mean."""

    def mean(self, params: Tensor) -> Tensor:
        return params.exp()


def with_layer(layer: nn.Module) -> Callable[[VAE], Any]:
    return lambda vae: vae.decoder.insert(1, layer)  # type: ignore[operator]


def hook(vae: VAE) -> None:
    vae.decoder.get_submodule("0").register_forward_hook(lambda _m, _x, y: -y)


@pytest.mark.parametrize(
    "change",
    [
        with_layer(Doubled()),
        with_layer(nn.ELU(alpha=0.5)),
        with_layer(nn.GELU(approximate="tanh")),
        with_layer(nn.BatchNorm1d(12, track_running_stats=False)),
        lambda vae: vae.decoder.__setitem__(0, Odd(3, 12)),
        lambda vae: setattr(vae, "decoder", Doubled()),
        lambda vae: setattr(vae, "likelihood", Own()),
        hook,
    ],
)
def test_what_is_not_known_leaves_the_tensors_in_float16_and_no_layers(
    change: Callable[[VAE], Any], tmp_path: Path
) -> None:
    with seeded(0, "layer"):
        vae = small_vae("fnn")
        change(vae)
    path = written(tmp_path / "d", vae)
    description, tensors = contents(path)
    assert (description["layers"], description["link"]) == (None, None)
    assert (description["latent_dim"], description["image_shape"]) == (3, list(SHAPE))
    state = vae.decoder.state_dict()
    assert tensors.keys() == state.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == (torch.float16 if state[name].is_floating_point() else torch.int64)
        torch.testing.assert_close(tensor.float(), state[name].float(), atol=1e-3, rtol=1e-3)
    with pytest.raises(ResultsError, match="its layers or its link are not known"):
        read_decoder(path)


def test_what_float16_cannot_hold_is_kept_in_float32(tmp_path: Path) -> None:
    vae = small_vae("fnn")
    vae.decoder = nn.Sequential(*vae.decoder, Doubled())  # type: ignore[misc]
    with torch.no_grad():
        vae.decoder.get_parameter("0.bias")[0] = 1e5
    _, tensors = contents(written(tmp_path / "d", vae))
    assert tensors["0.bias"].dtype == torch.float32
    assert tensors["0.bias"][0] == 1e5


# ---------------------------------------------------------------- wrong files


def edited(path: Path, edit: Edit) -> Path:
    description, tensors = contents(path)
    edit(description, tensors)
    path.write_bytes(save(tensors, {KEY: json.dumps(description)}))
    return path


def layer(description: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(e for e in description["layers"] if e["kind"] == kind)
    return found


def change(of: str, **values: Any) -> Edit:
    return lambda description, _: layer(description, of).update(values)


WRONG: dict[str, tuple[Edit, str]] = {
    "version": (lambda d, _: d.update(format_version=2), "format version 2, not 1"),
    "link": (lambda d, _: d.update(link="softmax"), "link are not known"),
    "no layers": (lambda d, _: d.update(layers=[]), "its layers make"),
    "many layers": (lambda d, _: d.update(layers=[{"kind": "relu"}] * 1001), "1001 layers"),
    "latent size": (lambda d, _: d.update(latent_dim=4), "linear: it is given"),
    "true": (lambda d, _: d.update(latent_dim=True), "whole numbers"),
    "image": (lambda d, _: d.update(image_shape=[2, 7, 9]), "its layers make"),
    "a huge image": (lambda d, _: d.update(image_shape=[2, 2**40, 7]), "whole numbers"),
    "kind": (change("relu", kind="softplus"), "KeyError"),
    "geometry": (change("linear", out_features=11), "is torch.int8 of shape"),
    "no geometry": (lambda d, _: layer(d, "linear").pop("in_features"), "KeyError"),
    "stride": (change("conv_transpose2d", stride=[1, 2]), "output padding|its layers make"),
    "a huge stride": (change("conv_transpose2d", stride=[10_000, 10_000]), "a layer makes"),
    "huge weights": (
        change("conv_transpose2d", out_channels=2**26, kernel=[2**26, 2**26]),
        "it is given|a layer makes",
    ),
    "a huge kernel": (
        change("conv_transpose2d", kernel=[2000, 2000], padding=[999, 999]),
        "too much memory",
    ),
    "no stride": (change("conv_transpose2d", stride=[0, 0]), "whole numbers"),
    "output padding": (change("conv_transpose2d", output_padding=[2, 2]), "output padding"),
    "padding": (change("conv_transpose2d", padding=[9, 9]), "it is given"),
    "channels": (change("conv_transpose2d", in_channels=5), "it is given"),
    "rank": (
        lambda d, _: d["layers"].insert(1, {"kind": "reshape", "shape": [1, 10]}),
        "it is given",
    ),
    "kernel": (change("conv_transpose2d", kernel=[3]), "whole numbers"),
    "unflatten": (change("unflatten", shape=[5, 5, 5]), "unflatten"),
    "order": (lambda d, _: d["layers"].reverse(), "it is given"),
    "no object": (lambda d, _: d.update(layers="relu"), "TypeError"),
    "a tensor twice": (
        lambda d, _: layer(d, "linear")["tensors"].update(bias="0.weight"),
        "KeyError",
    ),
    "a tensor too few": (lambda _, t: t.pop("0.bias"), "KeyError"),
    "a tensor too many": (lambda _, t: t.update(more=torch.zeros(1)), "no layer uses more"),
    "float weights": (lambda _, t: t.update({"0.weight": t["0.weight"].float()}), "not torch.int8"),
    "half biases": (lambda _, t: t.update({"0.bias": t["0.bias"].half()}), "not torch.float32"),
    "not finite": (lambda _, t: t["0.scale"].fill_(float("nan")), "0.scale is not finite"),
    "shape of a scale": (lambda _, t: t.update({"0.scale": torch.ones(3)}), "of shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_description_and_tensors_that_do_not_fit_are_refused(name: str, tmp_path: Path) -> None:
    edit, said = WRONG[name]
    path = edited(written(tmp_path / "decoder.safetensors", small_vae("cnn")), edit)
    with pytest.raises(ResultsError, match=said) as error:
        read_decoder(path)
    assert str(error.value).startswith(f"{path}: no decoder that can be read: ")


def test_what_is_no_file_of_a_decoder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "decoder.safetensors"
    with pytest.raises(ResultsError, match="no such file"):
        read_decoder(path)
    path.mkdir()
    with pytest.raises(ResultsError, match="not a file"):
        read_decoder(path)
    path.rmdir()
    path.write_bytes(save({"a": torch.zeros(1)}))
    with pytest.raises(ResultsError, match=r"no vaebench\.decoder in its metadata"):
        read_decoder(path)
    path.write_bytes(save({"a": torch.zeros(1)}, {KEY: "[" * 100_000}))
    with pytest.raises(ResultsError, match="no decoder that can be read"):
        read_decoder(path)
    written(path, small_vae())
    os.truncate(path, MAX_BYTES + 1)
    with pytest.raises(ResultsError, match="larger than 256 MB"):
        read_decoder(path)


@given(st.binary(max_size=40), st.integers(0, 3000), st.integers(0, 3000))
def test_any_damage_is_an_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, start: int, length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "decoder.safetensors"
    whole = decoder_bytes(small_vae("cnn"), SHAPE)
    path.write_bytes(whole[:start] + content + whole[start + length :])
    try:
        decoder = read_decoder(path)
    except ResultsError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:  # what was hit are weights
        assert decoder(torch.zeros(1, 3)).shape == (1, *SHAPE)


# ---------------------------------------------------------------- a run


def test_a_run_leaves_the_decoder_of_its_measured_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    run(task(tmp_path, model="cnn", loss="cb", evaluate="best", training__epochs=3))
    vae, z = load_run(tmp_path).model, draws(20, 2, dtype=torch.float32)
    decoder = read_decoder(tmp_path / "decoder.safetensors")
    with torch.no_grad():
        assert (decoder(z) - vae.decode(z)).abs().max() < 0.02
    assert decoder_bytes(vae, (1, 8, 8)) == (tmp_path / "decoder.safetensors").read_bytes()
