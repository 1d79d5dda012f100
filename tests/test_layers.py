"""Our layers are PyTorch's, however their products are made."""

import copy
import importlib.util
import platform
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vaebench import layers
from vaebench.cpu import cpu_kind
from vaebench.layers import (
    FEW_CHANNELS,
    MIN_WORK,
    ConvTranspose2d,
    Flatten,
    Linear,
    Unflatten,
    onednn_product,
)
from vaebench.seeding import seeded, stream

HERE = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"} or not torch.backends.mkldnn.is_available(),
    reason="oneDNN is not used here",
)
SIZE = st.integers(1, 70)


@pytest.fixture(autouse=True)
def onednn_on_any_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let oneDNN make the products on Intel's CPUs, too, where PyTorch's own are faster."""
    monkeypatch.setattr(layers, "ONEDNN", layers.AVAILABLE)


def pair(inputs: int, outputs: int, **options: Any) -> tuple[Linear, nn.Linear]:
    """Ours, and PyTorch's with the same weights."""
    with seeded(0, "init"):
        ours, theirs = Linear(inputs, outputs, **options), nn.Linear(inputs, outputs, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def draws(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(shape, generator=stream(0, f"test/{name}"))


def outcome(layer: nn.Module, x: Tensor, gradient: Tensor) -> list[Tensor]:
    """Its output, and the gradients of its input and of its parameters."""
    x = x.detach().clone().requires_grad_()
    y = layer(x)
    y.backward(gradient)
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the products that oneDNN is given from here on."""
    seen: list[tuple[int, ...]] = []

    def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
        seen.append((len(a), *b.shape))
        return onednn_product(a, b, bias)

    monkeypatch.setattr(layers, "onednn_product", product)
    return seen


@HERE
def test_pytorch_has_onednns_operator() -> None:  # a later one might drop it
    assert layers.AVAILABLE


@pytest.mark.parametrize(("vendor", "expected"), [("GenuineIntel", True), ("AuthenticAMD", False)])
def test_an_intel_cpu_is_known_by_its_vendor(
    vendor: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t: avx2\n")
    monkeypatch.setattr(layers, "cpu_kind", lambda: cpu_kind(cpuinfo))
    assert layers.is_intel() is expected
    monkeypatch.setattr(layers, "cpu_kind", lambda: None)
    monkeypatch.setattr(platform, "processor", lambda: f"x64 Family 6, {vendor}")
    assert layers.is_intel() is expected


def test_it_begins_as_pytorchs_layer_does() -> None:
    with seeded(3, "init"):
        ours = Linear(5, 4).state_dict()
    with seeded(3, "init"):
        theirs = nn.Linear(5, 4).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@HERE
@pytest.mark.parametrize("bias", [True, False])
def test_large_products_are_onednns_and_those_of_float64_to_rounding(
    bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = used(monkeypatch)
    ours, _ = pair(784, 512, bias=bias)
    x, gradient = draws(100, 784), draws(100, 512, name="gradient")
    found = outcome(ours, x, gradient)
    assert seen == [(100, 512, 784), (100, 784, 512), (512, 784, 100)]
    exact = outcome(copy.deepcopy(ours).double(), x.double(), gradient.double())
    for value, expected in zip(found, exact, strict=True):
        scale = expected.abs().max()
        torch.testing.assert_close(value.double() / scale, expected / scale, rtol=0, atol=1e-6)


@HERE
@given(rows=SIZE, inputs=SIZE, outputs=SIZE)
def test_products_of_any_shape_are_pytorchs(rows: int, inputs: int, outputs: int) -> None:
    ours, theirs = pair(inputs, outputs)
    x, gradient = draws(rows, inputs), draws(rows, outputs, name="gradient")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "MIN_WORK", 0)
        found = outcome(ours, x, gradient)
    for value, expected in zip(found, outcome(theirs, x, gradient), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-4)


@HERE
@pytest.mark.parametrize("layout", ["transposed", "strided", "expanded"])
def test_the_layout_of_images_and_gradients_does_not_matter(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "MIN_WORK", 0)

    def laid_out(rows: int, columns: int, name: str) -> Tensor:
        if layout == "transposed":
            return draws(columns, rows, name=name).t()
        if layout == "strided":
            return draws(2 * rows, 3 * columns, name=name)[::2, ::3]
        return draws(1, columns, name=name).expand(rows, columns)

    ours, theirs = pair(40, 30)
    x, gradient = laid_out(20, 40, "x"), laid_out(20, 30, "gradient")
    results = []
    for layer in (ours, theirs):
        y = layer(x)
        y.backward(gradient)
        results.append([y, layer.weight.grad, layer.bias.grad])
    for value, expected in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-4)


@HERE
def test_only_the_gradients_that_are_needed_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = used(monkeypatch)
    ours, _ = pair(784, 512)
    ours(draws(100, 784)).sum().backward()
    assert seen == [(100, 512, 784), (512, 784, 100)]  # none of the images
    seen.clear()
    ours.weight.requires_grad_(False)
    x = draws(100, 784).requires_grad_()
    ours(x).sum().backward()
    assert seen == [(100, 512, 784), (100, 784, 512)]  # none of frozen weights


@HERE
def test_the_same_products_give_the_same_bits() -> None:
    ours, _ = pair(784, 512)
    x, gradient = draws(100, 784), draws(100, 512, name="gradient")
    first = outcome(copy.deepcopy(ours), x, gradient)
    for value, expected in zip(outcome(ours, x, gradient), first, strict=True):
        assert torch.equal(value, expected)


@HERE
def test_gradients_can_be_differentiated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MIN_WORK", 0)
    ours, theirs = pair(6, 4)
    found = []
    for layer in (ours, theirs):
        x = draws(5, 6).requires_grad_()
        (slope,) = torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), [x, layer.weight, layer.bias]))
    for value, expected in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)


def test_transforms_of_functions_work_as_on_pytorchs_layer() -> None:
    ours, theirs = pair(784, 512)
    x = draws(100, 784)
    for transform in (
        lambda layer: torch.func.grad(lambda y: layer(y).square().sum())(x),
        lambda layer: torch.func.vmap(layer)(x),
    ):
        assert torch.equal(transform(ours), transform(theirs))


@pytest.mark.parametrize("case", ["small", "float64", "three dimensions", "bfloat16", "no oneDNN"])
def test_everything_else_is_pytorchs_own_to_the_last_bit(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = used(monkeypatch)
    ours, theirs = pair(784, 512)
    x = draws(5 if case == "small" else 100, 784)
    assert (len(x) * theirs.weight.numel() < MIN_WORK) is (case == "small")
    if case == "float64":
        ours, theirs, x = ours.double(), theirs.double(), x.double()
    if case == "three dimensions":
        x = x.view(4, 25, 784)
    if case == "no oneDNN":
        monkeypatch.setattr(layers, "ONEDNN", False)
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "bfloat16"):
        assert torch.equal(ours(x), theirs(x))
    assert seen == []


def test_an_exported_program_knows_pytorchs_operators_only() -> None:
    ours, _ = pair(784, 512)
    batch = {"x": {0: torch.export.Dim("batch")}}
    program = torch.export.export(ours, (draws(100, 784),), dynamic_shapes=batch)
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert targets == {"aten.linear.default"}


GEOMETRY = [
    # kernel, stride, padding, output padding
    (3, 2, 1, 1),
    (3, 2, 1, 0),
    (3, 1, 1, 0),
    (5, 3, 2, (2, 1)),
    ((3, 5), (2, 1), (1, 2), 0),
]


def transposed_pair(channels: int, **options: Any) -> tuple[ConvTranspose2d, nn.ConvTranspose2d]:
    with seeded(0, "init"):
        ours = ConvTranspose2d(8, channels, **options)
        theirs = nn.ConvTranspose2d(8, channels, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("channels", [1, 3, FEW_CHANNELS, FEW_CHANNELS + 1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("geometry", GEOMETRY, ids=str)
@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
def test_transposed_convolutions_are_pytorchs(
    channels: int, bias: bool, geometry: tuple[Any, ...], last: bool
) -> None:
    kernel, stride, padding, output_padding = geometry
    options = {"stride": stride, "padding": padding, "output_padding": output_padding}
    ours, theirs = transposed_pair(channels, kernel_size=kernel, bias=bias, **options)
    x = draws(5, 8, 6, 7)
    if last:
        x = x.to(memory_format=torch.channels_last)
        ours = ours.to(memory_format=torch.channels_last)
    gradient = draws(*theirs(x).shape, name="gradient")
    exact = outcome(copy.deepcopy(theirs).double(), x.double(), gradient.double())
    for value, expected in zip(outcome(ours, x, gradient), exact, strict=True):
        assert value.shape == expected.shape
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-4)


def test_an_image_is_one_product_away(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bool] = []
    product = layers._transposed_by_product

    def seen(*arguments: Any) -> Tensor:
        used.append(True)
        return product(*arguments)

    monkeypatch.setattr(layers, "_transposed_by_product", seen)
    for channels, expected in ((1, 1), (FEW_CHANNELS + 1, 0)):
        used.clear()
        transposed_pair(channels, kernel_size=3)[0](draws(2, 8, 4, 4))
        assert len(used) == expected


def test_only_the_gradients_that_are_needed_are_made_of_transposed_convolutions() -> None:
    ours, _ = transposed_pair(1, kernel_size=3)
    x = draws(2, 8, 4, 4)
    ours.weight.requires_grad_(False)
    ours(x).sum().backward()
    assert ours.weight.grad is None
    assert ours.bias is not None
    assert ours.bias.grad is not None


def test_gradients_of_transposed_convolutions_can_be_differentiated_again() -> None:
    found = []
    for layer in transposed_pair(1, kernel_size=3, stride=2):
        x = draws(2, 8, 4, 4).requires_grad_()
        (slope,) = torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), [x, layer.weight]))
    for value, expected in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("case", ["float64", "groups", "dilation", "output size", "bfloat16"])
def test_other_transposed_convolutions_are_pytorchs_own_to_the_last_bit(case: str) -> None:
    options = {"groups": {"groups": 2}, "dilation": {"dilation": 2}}.get(case, {})
    ours, theirs = transposed_pair(2, kernel_size=3, stride=2, **options)
    x = draws(2, 8, 4, 4)
    if case == "float64":
        ours, theirs, x = ours.double(), theirs.double(), x.double()
    size = [[10, 10]] if case == "output size" else []
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "bfloat16"):
        assert torch.equal(ours(x, *size), theirs(x, *size))


def test_flattening_channels_last_copies_nothing_and_is_undone() -> None:
    x = draws(4, 3, 5, 6).to(memory_format=torch.channels_last)
    flat = Flatten()(x)
    assert flat.shape == (4, 90)
    assert flat.data_ptr() == x.data_ptr()
    assert torch.equal(flat[0].view(5, 6, 3)[2, 4], x[0, :, 2, 4])
    back = Unflatten((3, 5, 6))(flat)
    assert torch.equal(back, x)
    assert back.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(Unflatten((3, 5, 6))(Flatten()(x.contiguous())), x)


def test_layers_work_where_pytorch_does_not_tell_of_its_transforms() -> None:
    assert layers.__file__ is not None
    spec = importlib.util.spec_from_file_location("layers_without_transforms", layers.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(torch._C, "_are_functorch_transforms_active")
        spec.loader.exec_module(module)
    assert module.is_eager()
    with seeded(0, "init"):
        mine, theirs = module.Linear(64, 32), nn.Linear(64, 32)
    theirs.load_state_dict(mine.state_dict())
    x = draws(5, 64)
    torch.testing.assert_close(mine(x), theirs(x))
