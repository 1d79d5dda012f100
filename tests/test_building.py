"""What a configuration says reaches the model, its optimiser and its plan of training."""

from typing import Any

import pytest
import torch

from vaebench.config import make_run
from vaebench.estimators import ESTIMATORS
from vaebench.likelihoods import LIKELIHOODS, maps_of
from vaebench.run import build
from vaebench.run.building import plan
from vaebench.training import Plan

SHAPE = (1, 8, 8)
SETTINGS: dict[str, Any] = {
    "dataset": {"name": "digits", "binarize": "dynamic"},
    "model": {"name": "fnn", "latent_dim": 3, "fnn": {"hidden": [7]}},
    "loss": {"name": "mse", "mse": {"sigma2": 0.1, "output": "linear"}},
    "estimator": {"name": "sgvb", "samples": 4},
    "training": {
        "epochs": 6,
        "batch_size": 24,
        "optimizer": {"name": "sgd", "sgd": {"momentum": 0.3, "weight_decay": 0.2}},
        "learning_rate": 0.05,
        "schedule": {"name": "multistep", "multistep": {"milestones": [2], "gamma": 0.5}},
        "gradient_clip": 2.5,
        "beta": 3.0,
        "beta_warmup": 5,
        "early_stopping": {"patience": 9},
    },
}


def test_every_training_setting_reaches_the_plan() -> None:
    assert plan(make_run(SETTINGS)) == Plan(
        epochs=6,
        batch_size=24,
        samples=4,
        beta=3.0,
        beta_warmup=5,
        gradient_clip=2.5,
        early_stopping=9,
        dynamic=True,
    )


@pytest.mark.parametrize("binarize", ["none", "static"])
def test_only_dynamic_binarisation_draws_while_it_trains(binarize: str) -> None:
    assert not plan(make_run({"dataset": {"name": "digits", "binarize": binarize}})).dynamic


def test_options_of_model_and_loss_reach_the_model() -> None:
    vae = build(make_run(SETTINGS), SHAPE, "cpu").vae
    assert vae.latent_dim == 3
    assert [tuple(p.shape) for p in vae.decoder.parameters()] == [(7, 3), (7,), (64, 7), (64,)]
    assert vars(vae.likelihood) == {"sigma2": 0.1, "output": "linear"}


def test_options_of_optimiser_and_schedule_reach_the_training() -> None:
    state = build(make_run(SETTINGS), SHAPE, "cpu")
    group = state.optimizer.param_groups[0]
    assert isinstance(state.optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.05, 0.3, 0.2)
    rates = []
    for _ in range(3):
        rates.append(group["lr"])
        state.optimizer.step()
        state.schedule.step()
    assert rates == [0.05, 0.05, 0.025]


@pytest.mark.parametrize("model", ["fnn", "cnn"])
def test_cells_of_a_seed_start_from_the_same_weights(model: str) -> None:  # trap 11
    def start(**cell: Any) -> torch.Tensor:
        vae = build(make_run({"dataset": "digits", "model": model, **cell}), SHAPE, "cpu").vae
        networks = (*vae.encoder.parameters(), *vae.decoder.parameters())
        return torch.cat([p.detach().flatten() for p in networks])

    first = start()
    for name, likelihood in LIKELIHOODS.items():
        if maps_of(likelihood) == 1:  # more maps have more weights
            assert torch.equal(start(loss=name), first), name
    for name in ESTIMATORS:
        assert torch.equal(start(estimator=name), first), name
    assert not torch.equal(start(seed=1), first)
