"""The linear layer is nn.Linear, whichever library makes its products."""

import copy
import platform
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vaebench import layers
from vaebench.layers import LEAST_WORK, Linear, onednn_product
from vaebench.seeding import seeded, stream

HERE = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"} or not torch.backends.mkldnn.is_available(),
    reason="oneDNN is not used here",
)
SIZE = st.integers(1, 70)


def pair(inputs: int, outputs: int, **options: Any) -> tuple[Linear, nn.Linear]:
    """Ours, and PyTorch's with the same weights."""
    with seeded(0, "init"):
        ours, theirs = Linear(inputs, outputs, **options), nn.Linear(inputs, outputs, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def draws(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(shape, generator=stream(0, f"test/{name}"))


def outcome(layer: nn.Linear, x: Tensor, gradient: Tensor) -> list[Tensor]:
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
def test_onednn_is_used_where_pytorch_has_it() -> None:  # a later one might drop the operator
    assert layers.ONEDNN


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
        patch.setattr(layers, "LEAST_WORK", 0)
        found = outcome(ours, x, gradient)
    for value, expected in zip(found, outcome(theirs, x, gradient), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-4)


@HERE
@pytest.mark.parametrize("layout", ["transposed", "strided", "expanded"])
def test_the_layout_of_images_and_gradients_does_not_matter(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "LEAST_WORK", 0)

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
    monkeypatch.setattr(layers, "LEAST_WORK", 0)
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
    assert (len(x) * theirs.weight.numel() < LEAST_WORK) is (case == "small")
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
