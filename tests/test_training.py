"""The loop: what it draws, what it reports, what it resumes, when it stops."""

import io
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import SHAPE, SMALL, draws, images, make_vae
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from vaebench.config import make_run
from vaebench.errors import DivergedError
from vaebench.estimators import ESTIMATORS, Estimate, closed_form_kl, sgvb
from vaebench.likelihoods import LIKELIHOODS
from vaebench.models import MODELS
from vaebench.run import build
from vaebench.seeding import stream
from vaebench.training import (
    OPTIMIZERS,
    SCHEDULES,
    EpochStatistics,
    Means,
    Plan,
    State,
    train,
    validate,
)
from vaebench.vae import VAE

NONE = images(0)
TRAIN, VALIDATION = images(10), images(5, name="validation")
# Options under which an optimiser or a schedule has something to remember within four epochs.
BUSY: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9},
    "plateau": {"patience": 0, "factor": 0.5},
    "multistep": {"milestones": (1, 3)},
}


def make_state(
    vae: VAE | None = None,
    *,
    optimizer: str = "adam",
    schedule: str = "constant",
    learning_rate: float = 1e-2,
    epochs: int = 4,
    **options: Any,
) -> State:
    vae = vae or make_vae(**options)
    made = OPTIMIZERS[optimizer](vae, learning_rate, **BUSY.get(optimizer, {}))
    return State(vae, made, SCHEDULES[schedule](made, epochs, **BUSY.get(schedule, {})))


def run(
    state: State,
    plan: Plan,
    *,
    estimator: Callable[[VAE, Tensor, Tensor], Estimate] = closed_form_kl,
    x: Tensor = TRAIN,
    validation: Tensor = VALIDATION,
    seed: int = 0,
) -> list[EpochStatistics]:
    return list(train(state, estimator, x, validation, plan, seed=seed))


def timeless(statistics: list[EpochStatistics]) -> list[EpochStatistics]:
    times = {"seconds": 0.0, "validation_seconds": None}
    times |= {"cpu_seconds": 0.0, "validation_cpu_seconds": None}
    return [epoch._replace(**times) for epoch in statistics]


def weights(vae: VAE) -> Tensor:
    return torch.cat([p.detach().flatten() for p in vae.parameters()])


class Recorder:
    """An estimator that remembers what it was called with."""

    def __init__(self) -> None:
        self.x: list[Tensor] = []
        self.noise: list[Tensor] = []
        self.bound: list[Tensor] = []
        self.training: list[bool] = []

    def __call__(self, vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
        estimate = closed_form_kl(vae, x, noise)
        self.x.append(x.clone())  # the loop writes its next batch into the same memory
        self.noise.append(noise)
        self.bound.append(estimate.bound.detach())
        self.training.append(vae.training)
        return estimate


# What it learns


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("loss", LIKELIHOODS)
@pytest.mark.parametrize("model", MODELS)
def test_every_cell_learns(model: str, loss: str, estimator: str) -> None:
    state = make_state(make_vae(model, loss), learning_rate=2e-2)
    x = TRAIN.round()
    chosen = ESTIMATORS[estimator]
    plan = Plan(epochs=15, batch_size=5, samples=chosen.samples)
    found = run(state, plan, estimator=chosen, x=x)
    assert [epoch.epoch for epoch in found] == list(range(1, 16))
    first, last = (found[i].train.elbo for i in (0, -1))
    assert last > first + 0.1


def test_every_estimator_trains_differently() -> None:  # trap 5
    trained = {}
    for name, estimator in ESTIMATORS.items():
        state = make_state()
        run(state, Plan(epochs=2, batch_size=5, samples=2), estimator=estimator)
        trained[name] = weights(state.vae)
    for one, other in itertools.combinations(trained, 2):
        assert not torch.allclose(trained[one], trained[other], rtol=1e-4), f"{one} like {other}"


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
def test_a_step_follows_the_gradient_of_distortion_plus_beta_times_rate(beta: float) -> None:
    state, twin = make_state(optimizer="sgd", learning_rate=0.1), make_vae()
    recorder = Recorder()
    run(state, Plan(epochs=1, batch_size=10, beta=beta), estimator=recorder)
    estimate = closed_form_kl(twin, recorder.x[0], recorder.noise[0])
    assert estimate.rate is not None
    assert estimate.distortion is not None
    loss = (estimate.distortion + beta * estimate.rate).mean()  # a mean over images, in nats
    loss.backward()  # type: ignore[no-untyped-call]
    stepped = [p - 0.1 * p.grad for p in twin.parameters() if p.grad is not None]
    expected = torch.cat([p.detach().flatten() for p in stepped])
    torch.testing.assert_close(weights(state.vae), expected, rtol=1e-9, atol=1e-12)


def test_gradients_do_not_pile_up_over_steps() -> None:
    # against a loop in plain PyTorch that clears them
    x = TRAIN[:1]
    state, twin = make_state(optimizer="sgd", learning_rate=0.1), make_vae()
    plain = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
    run(state, Plan(epochs=2, batch_size=1), x=x)
    for epoch in (1, 2):
        noise = torch.randn((1, 1, 3), generator=stream(0, "noise", epoch))
        plain.zero_grad()
        (-closed_form_kl(twin, x, noise).bound.mean()).backward()  # type: ignore[no-untyped-call]
        plain.step()
    torch.testing.assert_close(weights(state.vae), weights(twin), rtol=1e-9, atol=1e-12)


def test_gradient_clipping_bounds_the_norm_of_the_whole_step() -> None:
    steps = {}
    for clip in (None, 1e6, 0.01):
        state = make_state(optimizer="sgd", learning_rate=1.0)
        before = weights(state.vae)
        run(state, Plan(epochs=1, batch_size=10, gradient_clip=clip))
        steps[clip] = (weights(state.vae) - before).norm().item()
    assert steps[None] > 0.1
    assert steps[1e6] == pytest.approx(steps[None], rel=1e-12)
    assert steps[0.01] == pytest.approx(0.01, rel=1e-3)


def test_an_estimator_that_does_not_split_trains_at_beta_1_only() -> None:
    def whole(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
        return closed_form_kl(vae, x, noise)._replace(rate=None, distortion=None)

    found = run(make_state(), Plan(epochs=1, batch_size=10), estimator=whole)
    assert found[0].train.rate is found[0].train.distortion is None
    assert found[0].train.elbo == run(make_state(), Plan(epochs=1, batch_size=10))[0].train.elbo
    with pytest.raises(ValueError, match="beta other than 1 needs an estimator whose bound splits"):
        run(make_state(), Plan(epochs=1, batch_size=10, beta=2.0), estimator=whole)


# What it draws


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own() -> None:
    recorder = Recorder()
    run(make_state(), Plan(epochs=2, batch_size=4), estimator=recorder)
    assert [len(x) for x in recorder.x] == [4, 4, 2] * 2  # the last partial batch is kept
    epochs = [torch.cat(recorder.x[:3]), torch.cat(recorder.x[3:])]
    whole = sorted(TRAIN.flatten(1).tolist())
    assert [sorted(epoch.flatten(1).tolist()) for epoch in epochs] == [whole, whole]
    assert not torch.equal(*epochs)
    assert not torch.equal(epochs[0], TRAIN)


def test_noise_is_standard_normal_and_new_in_every_epoch() -> None:
    recorder = Recorder()
    plan = Plan(epochs=2, batch_size=10, samples=500)
    run(make_state(learning_rate=1e-9), plan, estimator=recorder)
    first, second = recorder.noise
    assert first.shape == (500, 10, 3)
    assert not torch.equal(first, second)
    error = 1 / math.sqrt(first.numel())
    assert first.mean().item() == pytest.approx(0, abs=4 * error)
    assert first.var().item() == pytest.approx(1, abs=4 * math.sqrt(2) * error)
    assert len(torch.unique(first)) > 0.99 * first.numel()  # no draw is used for two images


def test_all_cells_see_the_same_batches_and_noise() -> None:  # trap 11
    recorders = []
    for model, loss in itertools.product(MODELS, LIKELIHOODS):
        recorders.append(Recorder())
        run(make_state(make_vae(model, loss)), Plan(2, 4), estimator=recorders[-1])
    for recorder in recorders[1:]:
        assert all(map(torch.equal, recorder.x, recorders[0].x))
        assert all(map(torch.equal, recorder.noise, recorders[0].noise))


@pytest.mark.parametrize("dynamic", [False, True])
def test_dynamic_binarisation_draws_anew_each_epoch_and_alike_in_each_run(dynamic: bool) -> None:
    seen = []
    for _ in range(2):
        recorder = Recorder()
        plan = Plan(epochs=2, batch_size=10, dynamic=dynamic)
        run(make_state(), plan, estimator=recorder)
        order = [torch.randperm(10, generator=stream(0, "order", epoch)) for epoch in (1, 2)]
        seen.append([x[o.argsort()] for x, o in zip(recorder.x, order, strict=True)])
    (first, second), again = seen
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    if dynamic:
        assert set(first.flatten().tolist()) == {0.0, 1.0}
        assert not torch.equal(first, second)
        assert torch.equal(TRAIN, images(10))  # the gray originals stay
    else:
        assert torch.equal(first, TRAIN)
        assert torch.equal(second, TRAIN)


def test_the_same_seed_gives_the_same_run_whatever_ran_before() -> None:  # trap 11
    plan = Plan(epochs=2, batch_size=4)
    first = run(make_state(), plan)
    run(make_state(model="cnn", loss="mse"), plan, seed=5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        torch.rand(7)
        again = run(make_state(), plan)
    assert timeless(first) == timeless(again)
    assert run(make_state(), plan, seed=1)[0].train != first[0].train


@pytest.mark.parametrize("model", MODELS)
def test_the_seed_is_set_before_the_model_is_built(model: str) -> None:  # trap 11
    def first_epoch(seed: int, surroundings: int) -> Means:
        config = make_run({"dataset": "digits", "model": model, "seed": seed})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(surroundings)
            state = build(config, (1, 6, 5), "cpu")
        x = TRAIN.float()
        plan = Plan(epochs=1, batch_size=10)
        # the same noise for all: what differs is the model
        return run(state, plan, x=x, validation=NONE, seed=0)[0].train

    assert first_epoch(0, surroundings=1) == first_epoch(0, surroundings=2)
    assert first_epoch(0, surroundings=1) != first_epoch(1, surroundings=1)


# What it reports


def test_training_means_weigh_by_image_and_not_by_batch() -> None:  # trap 7
    recorder = Recorder()
    found = run(make_state(), Plan(epochs=1, batch_size=4), estimator=recorder)
    bounds = torch.cat(recorder.bound)
    by_batch = torch.stack([bound.mean() for bound in recorder.bound]).mean()
    assert found[0].train.elbo == pytest.approx(bounds.mean().item(), rel=1e-12)
    assert found[0].train.elbo != pytest.approx(by_batch.item(), rel=1e-6)


@given(size=st.integers(1, 12))
def test_validation_is_the_same_for_every_batch_size(size: int) -> None:  # traps 7, 13
    vae = make_vae("cnn", options={"batch_norm": True}).train()
    noise = draws(1, 10, 3)
    whole = validate(vae, TRAIN, noise, 10)
    assert validate(vae, TRAIN, noise, size) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_validation_is_the_closed_form_bound_at_beta_1_for_every_estimator(  # trap 10
    estimator: str,
) -> None:
    state = make_state()
    splits = ESTIMATORS[estimator](state.vae, TRAIN, draws(2, 10, 3)).rate is not None
    plan = Plan(epochs=2, batch_size=4, beta=3.0 if splits else 1.0, samples=2)
    found = run(state, plan, estimator=ESTIMATORS[estimator])[-1].validation
    noise = torch.randn((1, 5, 3), generator=stream(0, "validation"))
    with torch.no_grad():
        expected = closed_form_kl(state.vae.eval(), VALIDATION, noise)
    assert expected.rate is not None
    assert expected.distortion is not None
    assert found == pytest.approx(
        tuple(term.mean().item() for term in (expected.bound, expected.rate, expected.distortion)),
        rel=1e-12,
    )


def test_beta_and_warmup_do_not_move_what_is_reported_of_the_same_weights() -> None:  # trap 10
    plans = [
        Plan(3, 4),
        Plan(3, 4, beta=0.1),
        Plan(3, 4, beta=7.0),
        Plan(3, 4, beta_warmup=5),
    ]
    still = [run(make_state(optimizer="sgd", learning_rate=0.0), plan) for plan in plans]
    reported = [[(epoch.train, epoch.validation) for epoch in found] for found in still]
    assert reported == [reported[0]] * 4
    assert [found[0].beta for found in still] == [1.0, 0.1, 7.0, pytest.approx(1 / 6)]
    trained = [make_state() for _ in plans]
    for state, plan in zip(trained, plans, strict=True):
        run(state, plan)
    ends = [weights(state.vae) for state in trained]
    assert not any(torch.allclose(ends[0], end) for end in ends[1:])  # but it does train


@pytest.mark.parametrize("estimator", [closed_form_kl, sgvb])
def test_reported_terms_add_up_at_any_beta(
    estimator: Callable[[VAE, Tensor, Tensor], Estimate],
) -> None:  # trap 10
    for epoch in run(make_state(), Plan(3, 4, beta=5.0, beta_warmup=1), estimator=estimator):
        for means in (epoch.train, epoch.validation):
            assert means is not None
            assert means.rate is not None
            assert means.distortion is not None
            assert means.elbo == pytest.approx(-(means.rate + means.distortion), rel=1e-12)


def test_validation_of_the_same_weights_does_not_change_from_epoch_to_epoch() -> None:
    found = run(make_state(optimizer="sgd", learning_rate=0.0), Plan(3, 4))
    assert found[0].validation == found[1].validation == found[2].validation
    assert found[0].train != found[1].train  # training draws new noise


def test_batch_normalisation_learns_in_training_and_not_from_validation() -> None:  # trap 13
    plan, recorder = Plan(epochs=2, batch_size=5), Recorder()
    options = {"batch_norm": True}
    with_split, without = (make_state(make_vae("cnn", options=options)) for _ in range(2))
    initial = {name: b.clone() for name, b in with_split.vae.named_buffers()}
    found = run(with_split, plan, estimator=recorder)
    run(without, plan, validation=NONE)
    assert recorder.training == [True] * 4  # after a validation, too
    buffers = dict(with_split.vae.named_buffers())
    assert buffers
    for name, value in without.vae.named_buffers():
        assert torch.equal(value, buffers[name]), name
        assert not torch.equal(value, initial[name]), name
    noise = torch.randn((1, 5, 3), generator=stream(0, "validation"))
    with_split.vae.train()  # validate puts it in evaluation mode itself
    assert validate(with_split.vae, VALIDATION, noise, 1) == pytest.approx(
        found[-1].validation, rel=1e-9
    )


def test_without_a_validation_split_there_is_no_validation() -> None:
    state = make_state()
    found = run(state, Plan(2, 4), validation=NONE)
    assert [epoch.validation for epoch in found] == [None, None]
    assert state.best_epoch == 0


def test_epochs_take_time() -> None:
    state = make_state()
    epochs = list(train(state, closed_form_kl, TRAIN, VALIDATION, Plan(2, 4), seed=0))
    assert all(epoch.seconds > 0 for epoch in epochs)
    assert all((epoch.validation_seconds or 0) > 0 for epoch in epochs)
    assert all(epoch.cpu_seconds > 0 for epoch in epochs)
    assert all((epoch.validation_cpu_seconds or 0) > 0 for epoch in epochs)


def test_cpu_time_is_that_of_its_span_and_waiting_takes_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def works_and_waits(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        time.sleep(0.2)
        return closed_form_kl(vae, x, noise)

    def waits(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
        time.sleep(0.2)
        return closed_form_kl(vae, x, noise)

    monkeypatch.setattr("vaebench.training.closed_form_kl", waits)  # of the validation
    (epoch,) = run(make_state(), Plan(1, len(TRAIN)), estimator=works_and_waits)
    assert 0.2 <= epoch.cpu_seconds < epoch.seconds - 0.1
    assert epoch.validation_seconds is not None
    assert epoch.validation_cpu_seconds is not None
    assert epoch.validation_seconds >= 0.2
    assert epoch.validation_cpu_seconds < 0.1


# Schedules


@pytest.mark.parametrize(
    ("warmup", "beta", "expected"),
    [
        (0, 1.0, [1.0, 1.0, 1.0, 1.0, 1.0]),
        (3, 1.0, [0.25, 0.5, 0.75, 1.0, 1.0]),
        (1, 4.0, [2.0, 4.0, 4.0, 4.0, 4.0]),
        (3, 0.0, [0.0] * 5),
    ],
)
def test_beta_grows_linearly_to_its_value(warmup: int, beta: float, expected: list[float]) -> None:
    plan = Plan(epochs=5, batch_size=10, beta=beta, beta_warmup=warmup)
    assert [epoch.beta for epoch in run(make_state(), plan)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("schedule", "options", "expected"),
    [
        ("constant", {}, [1, 1, 1, 1]),
        ("cosine", {}, [(1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)]),
        ("cosine", {"min_learning_rate": 0.1}, [1, None, (1 + 0.1) / 2, None]),
        ("multistep", {"milestones": (1, 3), "gamma": 0.5}, [1, 0.5, 0.5, 0.25]),
        ("multistep", {}, [1, 1, 1, 1]),
    ],
)
def test_learning_rate_follows_its_schedule(
    schedule: str, options: dict[str, Any], expected: list[float | None]
) -> None:
    vae = make_vae()
    optimizer = OPTIMIZERS["sgd"](vae, 1.0)
    state = State(vae, optimizer, SCHEDULES[schedule](optimizer, 4, **options))
    found = run(state, Plan(epochs=4, batch_size=10, gradient_clip=1e-6))
    for epoch, rate in zip(found, expected, strict=True):
        assert rate is None or epoch.learning_rate == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_plateau_follows_the_validation_elbo_at_beta_1(  # trap 10
    beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(ReduceLROnPlateau, "step", lambda _, metrics: seen.append(metrics))
    found = run(make_state(schedule="plateau"), Plan(4, 4, beta=beta, beta_warmup=2))
    assert seen == [-e.validation.elbo for e in found if e.validation is not None]
    assert len(seen) == 4


@pytest.mark.parametrize("sign", [-1, 1], ids=["negative ELBO", "positive ELBO"])
def test_plateau_lowers_the_learning_rate_when_validation_stands_still(sign: int) -> None:
    vae = make_vae(loss="mse", loss_options={"sigma2": 0.02 if sign > 0 else 0.5})
    gray = torch.full_like(TRAIN, 0.5)
    optimizer = OPTIMIZERS["sgd"](vae, 1e-6)
    options = {"patience": 1, "factor": 0.5, "min_learning_rate": 3e-7}
    state = State(vae, optimizer, SCHEDULES["plateau"](optimizer, 8, **options))
    epochs = run(state, Plan(8, 10, beta_warmup=8), x=gray, validation=gray)
    assert {math.copysign(1, e.validation.elbo) for e in epochs if e.validation} == {sign}
    rates = [epoch.learning_rate for epoch in epochs]
    assert rates == pytest.approx([1e-6] * 3 + [5e-7] * 2 + [3e-7] * 3, abs=0)


def test_plateau_keeps_the_learning_rate_while_validation_improves() -> None:
    state = make_state(learning_rate=0.1)
    schedule = SCHEDULES["plateau"](state.optimizer, 8, patience=0, factor=0.5)
    rates = []
    for negative_elbo in (9.0, 8.0, 7.0, -1.0, -2.0, -1.5):
        schedule.step(negative_elbo)  # type: ignore[arg-type]
        rates.append(state.optimizer.param_groups[0]["lr"])
    assert rates == [0.1] * 5 + [0.05]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_moves_every_parameter_at_the_given_rate(name: str) -> None:
    state = make_state(optimizer=name, learning_rate=0.01)
    before = [p.clone() for p in state.vae.parameters()]
    assert [group["lr"] for group in state.optimizer.param_groups] == [0.01]
    run(state, Plan(1, 10))
    for old, new in zip(before, state.vae.parameters(), strict=True):
        assert not torch.equal(old, new)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_shrinks_the_weights(name: str) -> None:
    ends = []
    for decay in (0.0, 0.5):
        vae = make_vae()
        optimizer = OPTIMIZERS[name](vae, 1e-2, weight_decay=decay)
        run(State(vae, optimizer, SCHEDULES["constant"](optimizer, 9)), Plan(9, 5))
        ends.append(weights(vae).norm().item())
    assert ends[1] < ends[0]


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize(("rate", "own"), [(1e-3, 0.01), (0.03, 0.03)])
def test_a_learned_variance_has_a_learning_rate_of_its_own(
    name: str, rate: float, own: float
) -> None:
    vae = make_vae(loss="gaussian")
    optimizer = OPTIMIZERS[name](vae, rate, weight_decay=0.5)
    network, likelihood = optimizer.param_groups
    assert network["lr"] == rate
    assert len(network["params"]) == len(list(vae.parameters())) - 1
    (parameter,) = likelihood["params"]
    assert parameter is vae.likelihood.get_parameter("log_sigma2")
    assert (likelihood["lr"], likelihood["weight_decay"]) == (own, 0.0)
    schedule = SCHEDULES["multistep"](optimizer, 3, milestones=(1,))
    optimizer.step()
    schedule.step()
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([rate / 10, own / 10])


@pytest.mark.parametrize("loss", ["bce", "mse", "cb"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_other_likelihoods_leave_the_optimiser_one_group(name: str, loss: str) -> None:
    assert len(OPTIMIZERS[name](make_vae(loss=loss), 1e-3).param_groups) == 1


def test_a_fixed_and_an_sgd_trained_variance_have_no_rate_of_their_own() -> None:
    optimal = make_vae(loss="gaussian", loss_options={"sigma2": "optimal"})
    assert len(OPTIMIZERS["adam"](optimal, 1e-3).param_groups) == 1
    assert len(OPTIMIZERS["sgd"](make_vae(loss="gaussian"), 1e-3).param_groups) == 1


def test_adamw_decays_apart_from_the_gradient() -> None:
    vae = make_vae()
    before = weights(vae)
    for parameter in vae.parameters():
        parameter.grad = torch.zeros_like(parameter)
    OPTIMIZERS["adamw"](vae, 0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weights(vae), (1 - 0.1 * 0.5) * before)


# Stopping


def test_early_stopping_waits_its_patience_on_validation() -> None:
    for patience, epochs in ((1, 2), (2, 3), (None, 6)):
        # at this rate it is never better than after the first epoch
        state = make_state(optimizer="sgd", learning_rate=0.0)
        found = run(state, Plan(6, 10, early_stopping=patience, beta_warmup=9))
        assert len(found) == epochs
        assert state.best_epoch == 1
        assert found[0].validation is not None
        assert state.best_elbo == found[0].validation.elbo
        # a stopped training that is taken up again stays stopped
        assert run(state, Plan(6, 10, early_stopping=patience)) == []


def test_the_best_epoch_is_that_of_the_highest_validation_elbo_at_beta_1() -> None:  # trap 10
    state = make_state(learning_rate=0.2)
    found = run(state, Plan(12, 5, beta=6.0, beta_warmup=3))
    elbos = [epoch.validation.elbo for epoch in found if epoch.validation is not None]
    assert state.best_epoch == 1 + max(range(12), key=elbos.__getitem__)
    assert state.best_elbo == max(elbos)
    assert 1 < state.best_epoch < 12  # else the first or the last would do


def test_a_diverged_training_names_epoch_terms_and_a_hint() -> None:
    steps = itertools.count(1)

    def breaks(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
        estimate = closed_form_kl(vae, x, noise)
        if next(steps) == 1:
            return estimate
        infinite = torch.full_like(estimate.bound, math.inf)
        return estimate._replace(distortion=infinite, bound=-infinite)

    state = make_state(learning_rate=0.02)
    with pytest.raises(DivergedError) as caught:
        run(state, Plan(4, 10), estimator=breaks)
    message = str(caught.value)
    assert "train elbo (-inf), train distortion (inf)" in message
    assert "train rate" not in message
    assert "validation" not in message
    assert "in epoch 2" in message
    assert "lower training.learning_rate (now 0.02) or set training.gradient_clip" in message
    assert state.epoch == 1  # the last epoch that was


def test_weights_that_are_not_finite_any_more_are_noticed_at_once() -> None:
    state = make_state(optimizer="sgd", learning_rate=1e300)
    with pytest.raises(DivergedError, match=r"validation elbo .* in epoch 1"):
        run(state, Plan(4, 10))


# Resuming


def interrupted(make: Callable[[], State], plan: Plan, at: int, **more: Any) -> Any:
    """Train to epoch ``at``, save, load into a fresh state of other weights, and go on."""
    first = make()
    statistics = list(itertools.islice(train(first, plan=plan, **more), at))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make()
    with torch.no_grad():
        for tensor in second.vae.state_dict().values():
            tensor.zero_()
    second.load_state_dict(torch.load(file, weights_only=True))
    return second, statistics + list(train(second, plan=plan, **more))


def assert_same(one: Any, other: Any, where: str = "state") -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{i}]")
    else:
        assert one == other, where


RESUMED_PLAN = Plan(
    epochs=4, batch_size=4, samples=2, beta=2.0, beta_warmup=2, gradient_clip=5.0, dynamic=True
)


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_equals_uninterrupted_bit_for_bit(  # trap 12
    optimizer: str, schedule: str, at: int
) -> None:
    def make() -> State:
        vae = make_vae("cnn", options={"batch_norm": True}, dtype=torch.float32)
        return make_state(vae, optimizer=optimizer, schedule=schedule, learning_rate=0.1)

    more: dict[str, Any] = {
        "estimator": sgvb,
        "x": TRAIN.float(),
        "validation": VALIDATION.float(),
        "seed": 0,
    }
    whole = make()
    expected = list(train(whole, plan=RESUMED_PLAN, **more))
    state, found = interrupted(make, RESUMED_PLAN, at, **more)
    assert timeless(found) == timeless(expected)
    assert len(found) == 4
    assert_same(state.state_dict(), whole.state_dict())


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("loss", LIKELIHOODS)
@pytest.mark.parametrize("model", MODELS)
def test_every_cell_resumes_bit_for_bit(model: str, loss: str, estimator: str) -> None:  # trap 12
    options = {model: SMALL[model]} if model in SMALL else {}
    wants = getattr(LIKELIHOODS[loss], "dequantized_only", False)
    dequantize = "uniform" if wants else "none"
    config = make_run(
        {
            "dataset": {"name": "mnist", "dequantize": dequantize},
            "model": {"name": model, "latent_dim": 3, **options},
            "loss": loss,
            "estimator": estimator,
            "seed": 3,
        }
    )

    def make() -> State:
        return build(config, SHAPE, "cpu")

    more: dict[str, Any] = {
        "estimator": ESTIMATORS[estimator],
        "x": TRAIN.float(),
        "validation": VALIDATION.float(),
        "seed": 3,
    }
    plan, whole = Plan(3, 4, samples=config.estimator.samples), make()
    expected = list(train(whole, plan=plan, **more))
    state, found = interrupted(make, plan, 1, **more)
    assert timeless(found) == timeless(expected)
    assert_same(state.state_dict(), whole.state_dict())


def test_early_stopping_counts_on_over_an_interruption() -> None:  # trap 12
    def make() -> State:
        return make_state(optimizer="sgd", learning_rate=0.0)

    plan = Plan(9, 10, early_stopping=3)
    more: dict[str, Any] = {"estimator": sgvb, "x": TRAIN, "validation": VALIDATION, "seed": 0}
    state, found = interrupted(make, plan, 2, **more)
    assert [epoch.epoch for epoch in found] == [1, 2, 3, 4]
    assert state.best_epoch == 1


def test_weights_that_the_last_step_of_an_epoch_ruined_are_noticed_without_validation() -> None:
    """One step of one batch: no term of the epoch has seen the weights that it left."""

    def steep(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
        estimate = closed_form_kl(vae, x, noise)
        return estimate._replace(surrogate=math.inf * estimate.surrogate)

    plan = Plan(1, len(TRAIN))
    with pytest.raises(DivergedError, match=r"^weights stopped being finite in epoch 1"):
        run(make_state(optimizer="sgd"), plan, estimator=steep, validation=TRAIN[:0])
