"""What the checks share: small images, a small training, a watch on global random streams."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaebench.estimators import EstimateFunction, closed_form_kl
from vaebench.models import Shape
from vaebench.seeding import stream
from vaebench.training import OPTIMIZERS, SCHEDULES, Plan, State, train
from vaebench.vae import VAE

SHAPES: tuple[Shape, ...] = ((1, 7, 5), (3, 9, 8), (2, 16, 16))
LATENT_DIM = 3
STEP = 1e-6  # of a finite difference, in float64
DIRECTIONS = 4


@contextmanager
def unmoved() -> Iterator[list[str]]:
    """Watch the global random streams; afterwards, the list holds the names of those that moved.

    They are put back: a check leaves no trace.
    """
    before, moved = _states(), list[str]()
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
    python_state = random.getstate()
    try:
        yield moved
    finally:
        after = _states()
        moved += [name for name in before if before[name] != after[name]]
        torch.random.set_rng_state(torch_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _states() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (it is what is watched)
    return {
        "torch": torch.random.get_rng_state().numpy().tobytes(),
        "numpy": (kind, np.asarray(keys).tobytes(), *rest),
        "Python's random": random.getstate(),
    }


def images(count: int, shape: Shape, dtype: torch.dtype = torch.float32) -> Tensor:
    """Gray or colour images (N, C, H, W), uniform in [0, 1]."""
    return torch.rand((count, *shape), generator=stream(0, "check/x"), dtype=dtype)


def draws(*shape: int, name: str = "noise", dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal draws."""
    return torch.randn(shape, generator=stream(0, f"check/{name}"), dtype=dtype)


def resumes(
    make: Callable[[], VAE], estimator: EstimateFunction = closed_form_kl, samples: int = 1
) -> None:
    """Make sure that a training gives the same bits if it is interrupted and resumed."""
    shape = SHAPES[0]
    x, validation = images(11, shape).round(), images(5, shape).round()

    def begin() -> State:
        vae = make()
        optimizer = OPTIMIZERS["adam"](vae, 1e-3)
        return State(vae, optimizer, SCHEDULES["constant"](optimizer, 3))

    def go_on(state: State, epochs: int) -> list[float]:
        plan = Plan(epochs, 4, samples=samples)
        return [e.train.elbo for e in train(state, estimator, x, validation, plan, seed=1)]

    whole, first, second = begin(), begin(), begin()
    expected = go_on(whole, 3)
    found = go_on(first, 1)
    second.load_state_dict(first.state_dict())
    found += go_on(second, 3)
    assert found == expected, f"epochs gave {found} after an interruption, {expected} without one"
    for name, tensor in whole.vae.state_dict().items():
        same = torch.equal(tensor, second.vae.state_dict()[name])
        assert same, f"{name} differs after an interruption"


def slope_agrees(value: Callable[[], Tensor], parameters: list[Tensor], relative: float) -> None:
    """Make sure that a gradient is what a small step along it shows, in float64.

    In the best of some directions: a step may cross the kink of a rectifier.
    """
    for parameter in parameters:
        parameter.grad = None
    value().backward()  # type: ignore[no-untyped-call]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
    errors = []
    for i in range(DIRECTIONS):
        along = [draws(*p.shape, name=f"direction/{i}", dtype=p.dtype) for p in parameters]
        sides = []
        for step in (STEP, -STEP):
            with torch.no_grad():
                for p, d in zip(parameters, along, strict=True):
                    p.add_(step * d)
                sides.append(value().item())
                for p, d in zip(parameters, along, strict=True):
                    p.sub_(step * d)
        slope = (sides[0] - sides[1]) / (2 * STEP)
        said = sum((g * d).sum().item() for g, d in zip(gradients, along, strict=True))
        errors.append((abs(slope - said) / max(1.0, abs(slope)), slope, said))
    error, slope, said = min(errors)
    assert error <= relative, f"the gradient says {said:.6g} where the value changes by {slope:.6g}"
