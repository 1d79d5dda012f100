"""How a step computes: reduced precision and compilation move what they say, and nothing else."""

import shutil
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from vaebench.config import make_run
from vaebench.errors import ConfigError
from vaebench.estimators import ESTIMATORS, Estimate, closed_form_kl
from vaebench.models import MODELS
from vaebench.run.building import plan
from vaebench.training import OPTIMIZERS, SCHEDULES, Plan, State, train
from vaebench.training.steps import step_function
from vaebench.vae import VAE

CPU = torch.device("cpu")  # where autocast rounds float32, and leaves the float64 of other tests
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")


def images(n: int, **options: Any) -> Tensor:
    return tiny.images(n, **options).float()


def make_vae(*args: Any, **options: Any) -> VAE:
    return tiny.make_vae(*args, **options).float()


def trained(steps: Plan, **options: Any) -> tuple[list[float], VAE]:
    vae = make_vae(**options)
    optimizer = OPTIMIZERS["adam"](vae, 1e-2)
    state = State(vae, optimizer, SCHEDULES["constant"](optimizer, steps.epochs))
    x, validation = images(10), images(5, name="validation")
    found = list(train(state, closed_form_kl, x, validation, steps, seed=0))
    return [epoch.train.elbo for epoch in found], vae


def weights(vae: VAE) -> Tensor:
    return torch.cat([p.detach().flatten() for p in vae.parameters()])


def test_as_it_comes_an_estimator_is_called_as_it_is() -> None:
    assert step_function(closed_form_kl, CPU, "float32", compiled=False) is closed_form_kl


@pytest.mark.parametrize("model", list(MODELS))
def test_bfloat16_rounds_the_networks_and_leaves_likelihood_and_rate_in_float32(
    model: str,
) -> None:
    vae, x = make_vae(model), images(6)
    noise = torch.randn(1, 6, vae.latent_dim, generator=torch.Generator().manual_seed(0))
    exact = closed_form_kl(vae, x, noise)
    rounded = step_function(closed_form_kl, CPU, "bfloat16", compiled=False)(vae, x, noise)
    for value, other in zip(rounded, exact, strict=True):
        assert value is not None
        assert value.dtype == torch.float32
        assert other is not None
        assert not torch.equal(value, other)
        torch.testing.assert_close(value, other, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_every_estimator_trains_in_bfloat16_with_weights_and_gradients_in_float32(
    name: str,
) -> None:
    vae, x = make_vae(), images(6)
    samples = ESTIMATORS[name].samples
    noise = torch.randn(samples, 6, vae.latent_dim, generator=torch.Generator().manual_seed(0))
    estimate = step_function(ESTIMATORS[name], CPU, "bfloat16", compiled=False)(vae, x, noise)
    (-estimate.surrogate.mean()).backward()
    for parameter in vae.parameters():
        assert parameter.grad is not None
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert bool(parameter.grad.isfinite().all())


def test_a_training_in_bfloat16_is_near_that_in_float32_but_another_one() -> None:
    exact, one = trained(Plan(epochs=3, batch_size=4))
    rounded, other = trained(Plan(epochs=3, batch_size=4, precision="bfloat16"))
    assert rounded == pytest.approx(exact, rel=2e-2)
    assert rounded != exact
    assert not torch.equal(weights(one), weights(other))


def test_validation_is_in_float32_whatever_the_steps_did(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def spy(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
        seen.append(torch.is_autocast_enabled("cpu"))
        return closed_form_kl(vae, x, noise)

    monkeypatch.setattr("vaebench.training.closed_form_kl", spy)
    trained(Plan(epochs=1, batch_size=4, precision="bfloat16"))
    assert seen
    assert not any(seen)


@pytest.mark.slow
@COMPILER
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_step_is_the_same_step_up_to_rounding_partial_batches_included() -> None:
    exact, one = trained(Plan(epochs=2, batch_size=4))
    compiled, other = trained(Plan(epochs=2, batch_size=4, compile=True))
    assert compiled == pytest.approx(exact, rel=1e-5)
    torch.testing.assert_close(weights(one), weights(other), rtol=1e-3, atol=1e-4)


def test_where_nothing_can_be_compiled_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> Any:
        error = RuntimeError("No working C++ compiler found\nand much more")
        raise torch._dynamo.exc.BackendCompilerFailed(lambda: None, error, None)

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fails)
    step = step_function(closed_form_kl, CPU, "float32", compiled=True)
    with pytest.raises(ConfigError, match=r"No working C\+\+ compiler found\); install") as caught:
        step(make_vae(), images(2), torch.zeros(1, 2, 2))
    assert "\n" not in str(caught.value)


def test_the_configuration_reaches_the_steps_and_is_part_of_a_runs_identity() -> None:
    usual = make_run({})
    fast = make_run({"training": {"precision": "bfloat16", "compile": True}})
    assert (plan(fast).precision, plan(fast).compile) == ("bfloat16", True)
    assert (plan(usual).precision, plan(usual).compile) == ("float32", False)
    assert fast.run_id != usual.run_id
    assert {"precision", "compile"}.isdisjoint(usual.to_dict()["training"])
    assert make_run(fast.to_dict()) == fast
    with pytest.raises(ConfigError, match=r"training\.precision"):
        make_run({"training": {"precision": "float16"}})
