"""Arrays and tensors of others: refused before memory is taken, kept as they are when whole."""

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile.shapes import npy, npz

from vaebench.seeding import seeded
from vaebench.tensors import misfit, read_arrays, require_tensors

ROOM = 1_000_000


@pytest.mark.parametrize(
    "array",
    [
        np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(5, dtype=np.int64),
        np.array([True, False]),
        np.array([1.0, np.nan, -np.inf]),  # what was measured of each image may be anything
        np.zeros((0, 8, 8), np.float32),
        np.float64(3.5),
    ],
    ids=["images", "fortran", "labels", "truth", "measured", "none", "number"],
)
def test_arrays_come_back_as_they_were_written(array: Any) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, a=array, b=array)
    found = read_arrays(io.BytesIO(buffer.getvalue()))
    assert found.keys() == {"a", "b"}
    np.testing.assert_array_equal(found["a"], array)
    assert found["a"].dtype == array.dtype
    assert found["a"].flags.writeable


@pytest.mark.parametrize(
    "content",
    [
        npy("<U1", (2, 8), bytes(64)),
        npy("|S4", (16,), bytes(64)),
        npy("|V0", (10**9, 8, 8)),
        npy("|V8", (8,), bytes(64)),
        npy("|O", (8,), bytes(64)),
        npy("<c8", (8,), bytes(64)),
        npy("<M8[s]", (8,), bytes(64)),
        npy("<f4", (10**6, 10**3, 8)),
        npy("<f4", (16,), bytes(63)),
        npy("<f4", (16,), bytes(68)),
        npy("<f4", (-1, 8), bytes(64)),
        npy("<f8", (2**31, 2**31, 2**31)),
        npy("<f4", (1,) * 30, bytes(4)),
        npy("<f4", (2, 2), np.array([1, np.nan, 0, 0], "<f4").tobytes()),
        npy("<f4", (1, 1), np.array([-np.inf], "<f4").tobytes()),
        b"\x93NUMPY\x02\x00" + npy("<f4", (16,), bytes(64))[8:],
        b"\x93NUMPY\x01\x00\xff\xff",
        b"",
    ],
)
def test_what_is_no_array_of_numbers_is_refused_before_memory_is_taken(content: bytes) -> None:
    good = npy("<f4", (16,), bytes(64))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):
            read_arrays(io.BytesIO(npz(good=good, bad=content)))
        assert tracemalloc.get_traced_memory()[1] < ROOM
    finally:
        tracemalloc.stop()


def test_a_checkpoint_is_what_it_was() -> None:
    with seeded(0, "init"):
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "x": None,
    }
    assert require_tensors(state, ROOM) is state


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"in": value}
    return value


def itself() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = [value]
    return value


def laughs() -> dict[str, Any]:
    value: list[Any] = []
    for _ in range(15):
        value = [value] * 10
    return {"ha": value}


BAD: dict[str, Callable[[], Any]] = {
    "a list": lambda: [torch.zeros(1)],
    "a key that is no name": lambda: {(1, 2): torch.zeros(1)},
    "complex": lambda: {"a": torch.zeros(1, dtype=torch.complex64)},
    "sparse": lambda: {"a": torch.eye(2).to_sparse()},
    "meta": lambda: {"a": torch.zeros(10**12, device="meta")},
    "stretched": lambda: {"a": torch.zeros(1).expand(10**12)},
    "large in all": lambda: {"a": [torch.zeros(1).expand(ROOM // 8), torch.zeros(ROOM // 8 + 1)]},
    "set": lambda: {"a": {1, 2}},
    "nested": lambda: nested(100),
    "itself": itself,
    "laughs": laughs,
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
def test_a_file_of_tensors_holds_dense_tensors_and_plain_values(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"holds|names|tensor"):
        require_tensors(make(), ROOM)


def test_weights_have_the_names_shapes_and_types_of_their_model_and_are_finite() -> None:
    with seeded(0, "init"):
        expected = torch.nn.Linear(3, 2).state_dict()
    assert misfit(dict(expected), expected) is None
    weight, bias = expected["weight"], expected["bias"]
    for changed, why in [
        ({"weight": weight}, "other names"),
        ({"weight": weight, "bias": bias, 7: bias}, "other names"),
        ({"weight": "x", "bias": bias}, "weight is no tensor"),
        ({"weight": weight[:1], "bias": bias}, r"weight is torch.float32 \(1, 3\)"),
        ({"weight": weight.double(), "bias": bias}, "weight is torch.float64"),
        ({"weight": weight * torch.nan, "bias": bias}, "weight is not finite"),
    ]:
        with pytest.raises(AssertionError, match=why):
            raise AssertionError(misfit(changed, expected))


def test_nothing_is_left_of_the_archive_but_its_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros((2, 2)))
    with path.open("rb") as file:
        assert read_arrays(file)["a"].shape == (2, 2)
