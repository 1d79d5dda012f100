"""Tuning: what is asked, how a value is scored, what is picked, kept, refused and told."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from records import edit_record
from small_runs import NoWriter, in_this_process_only, settings, task, without_figures
from tiny import draws, images, make_vae

from vaebench import datasets, report
from vaebench.cli import main
from vaebench.config import make_grid, make_single
from vaebench.errors import ConfigError, ResultsError
from vaebench.estimators import ESTIMATORS
from vaebench.executors import Event
from vaebench.executors.messages import from_message, to_message
from vaebench.files import dump_yaml
from vaebench.grid import Listener, Options, Planned, Results, plan, run_grid
from vaebench.run import SCORE, build, run
from vaebench.run.scoring import trained_bound
from vaebench.schema.manifest import read_manifest
from vaebench.seeding import stream
from vaebench.storage import RunStore
from vaebench.vae import fit_likelihood

KEY = "training.learning_rate"
TUNE: dict[str, Any] = {"key": KEY, "values": [1e-2, 1e-3], "per": ["loss"], "seeds": 2}


def raw(**overrides: Any) -> dict[str, Any]:
    """A grid file of four cells in two groups: sgvb is trained for both estimators."""
    axes = {"loss": ["bce", "mse"], "estimator": ["sgvb", "kl"]}
    return settings(**({"name": "tuned", "axes": axes, "training__epochs": 1} | overrides)) | {
        "tune": TUNE | overrides.get("tune", {})
    }


class Heard(Listener):
    def __init__(self) -> None:
        self.tables: list[Sequence[dict[str, Any]]] = []
        self.plans: list[Sequence[Planned]] = []
        self.events: list[Event] = []
        self.warnings: list[str] = []

    def planned(self, plan: Sequence[Planned], jobs: int, device: str) -> None:
        self.plans.append(plan)

    def actions(self, stage: int) -> list[str]:
        return [entry.action for entry in self.plans[stage]]

    def tuned(self, tune: Mapping[str, Any], entries: Sequence[dict[str, Any]]) -> None:
        self.tables.append(entries)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process_only(monkeypatch)


def do(root: Path, file: dict[str, Any], heard: Listener | None = None, **how: Any) -> Results:
    return run_grid(file, Options(results=root, device="cpu", **how), heard)


def tuned(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_manifest(root / "tuned")["tuned"]
    return found


def learning_rates(root: Path) -> dict[tuple[str, str, int], float]:
    """What the runs of the manifest were trained with, by loss, estimator and seed."""
    records = report.load(root / "tuned").records
    return {
        (*r["cell"].values(), r["seed"]): r["config"]["training"]["learning_rate"] for r in records
    }


def tuning_runs(root: Path) -> list[Path]:
    return sorted((root / "tuned" / "tuning").iterdir())


def times(root: Path) -> dict[str, int]:
    return {str(path): (path / "record.json").stat().st_mtime_ns for path in tuning_runs(root)}


def set_scores(root: Path, score: Callable[[dict[str, Any]], float]) -> None:
    """Let tuning runs have had other scores, and forget what was picked."""
    for folder in tuning_runs(root):
        edit_record(folder, lambda r: r["metrics"].__setitem__(SCORE, score(r)))
    (root / "tuned" / "grid.yaml").unlink(missing_ok=True)


def prefer(bce: float, mse: float) -> Callable[[dict[str, Any]], float]:
    """Scores by which each loss has the learning rate that it prefers."""

    def score(record: dict[str, Any]) -> float:
        preferred = {"bce": bce, "mse": mse}[record["cell"]["loss"]]
        return -abs(math.log10(record["cell"][KEY] / preferred)) - 0.1 * record["seed"] / 1000

    return score


# ---------------------------------------------------------------- what is asked


def test_values_are_sorted_numbers_and_seeds_count_from_1000() -> None:
    grid = make_grid(raw(tune={"values": ["3e-3", 1e-2, 1e-3]}))
    assert grid.tune is not None
    assert grid.tune.values == (1e-3, 3e-3, 1e-2)
    assert grid.tune.seeds_beside({0, 1}) == (1000, 1001)
    assert grid.tune.seeds_beside({0, 1000}) == (1001, 1002)


def test_values_that_are_no_numbers_keep_their_order() -> None:
    grid = make_grid(raw(tune={"key": "training.optimizer", "values": ["sgd", "adam"]}))
    assert grid.tune is not None
    assert grid.tune.values == ("sgd", "adam")
    switch = make_grid(raw(tune={"key": "model.fnn.batch_norm", "values": [True, False]}))
    assert switch.tune is not None
    assert switch.tune.values == (True, False)


@pytest.mark.parametrize(
    ("tune", "told"),
    [
        ({"values": [1e-3]}, "tune.values: "),
        ({"values": [1e-3, "1e-3"]}, "tune.values: a value is named twice"),
        ({"values": [1e-3, -1]}, "-1: training.learning_rate: "),
        ({"key": "training.learning"}, "'learning_rate'"),
        ({"key": "loss"}, "tune.key: loss is an axis"),
        ({"key": "loss.name"}, "tune.key: loss is an axis"),
        ({"key": "training.batch_size"}, "training.batch_size: is tuned; leave it out"),
        ({"key": "training.beta"}, "bounds that do not compare"),
        ({"key": "estimator.samples"}, "bounds that do not compare"),
        ({"key": "dataset.binarize"}, "bounds that do not compare"),
        ({"key": "training.epochs"}, "training.epochs cannot be tuned"),
        ({"key": "seed"}, "it changes no training"),
        ({"per": ["model"]}, "tune.per: 'model' is no axis"),
        ({"seeds": [7, 0]}, "tune.seeds: 0 is a seed of the runs"),
        ({"seeds": [7, 7]}, "tune.seeds: names one twice"),
        ({"seeds": 0}, "tune.seeds: "),
        ({"seeds": True}, "tune.seeds: Input should not be true or false"),
        ({"epochs": 0}, "tune.epochs: "),
        ({"epochs": {"loss": {"bce": 3}}}, "tune.epochs.loss: names no epochs for 'mse'"),
        ({"epochs": {"estimator": {"kl": 3}}}, "'estimator' is no axis of tune.per"),
        ({"value": 3}, "tune.value: "),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(tune: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=r"^grid: ") as caught:
        make_grid(raw(tune=tune))
    assert told in str(caught.value)


def test_no_more_tuning_runs_than_runs() -> None:
    axes = {"loss": ["bce", "mse"], "model.latent_dim": [1, 2, 3, 4, 5, 6]}
    tune = {"seeds": 100, "values": [*range(1, 101)], "per": [*axes]}
    with pytest.raises(ConfigError, match=r"^grid: .*100,000 tuning runs"):
        make_grid(raw(axes=axes, tune=tune))


@pytest.mark.parametrize(
    ("validation", "told"), [(0, "needs a validation split"), ("test", "on the test images")]
)
def test_nothing_is_tuned_without_a_validation_split(validation: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_grid(raw(dataset__validation=validation))


def test_a_single_run_cannot_be_tuned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tune: picks a value for the cells of a grid; use"):
        make_single(settings() | {"tune": TUNE})
    with pytest.raises(ConfigError, match="the grid has no tune"):
        do(tmp_path, settings(name="plain"), tune_only=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_tuning_epochs_may_differ_by_an_axis(tmp_path: Path) -> None:
    file = raw(tune={"epochs": {"loss": {"bce": 3, "mse": 2}}, "seeds": [7]})
    found = plan(make_grid(file), Options(results=tmp_path, device="cpu"))
    epochs = {(e.run.cell["loss"], e.run.config.training.epochs) for e in found}
    assert epochs == {("bce", 3), ("mse", 2)}
    assert {entry.run.config.seed for entry in found} == {7}


# ---------------------------------------------------------------- the score


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_score_is_the_bound_that_is_trained(name: str) -> None:
    vae, x, noise = make_vae(), images(10), draws(3, 10, 3)
    found = trained_bound(vae, ESTIMATORS[name], x, noise, beta=1.0, batch_size=4)
    with torch.no_grad():
        expected = ESTIMATORS[name](vae.eval(), x, noise).bound.mean().item()
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_score_weighs_the_rate_as_the_training_does() -> None:
    vae, x, noise = make_vae(), images(10), draws(2, 10, 3)
    sgvb = ESTIMATORS["sgvb"]
    found = trained_bound(vae, sgvb, x, noise, beta=4.0, batch_size=4)
    with torch.no_grad():
        estimate = sgvb(vae, x, noise)
    assert estimate.rate is not None
    assert estimate.distortion is not None
    assert found == pytest.approx(-(estimate.distortion + 4 * estimate.rate).mean().item())
    with pytest.raises(ValueError, match="splits"):
        trained_bound(vae, ESTIMATORS["iwae"], x, noise, beta=4.0, batch_size=4)


def test_the_score_is_measured_in_evaluation_mode() -> None:
    vae, x, noise = make_vae(options={"batch_norm": True}), images(10), draws(1, 10, 3)
    vae.train()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    whole = trained_bound(vae, ESTIMATORS["kl"], x, noise, beta=1.0, batch_size=10)
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    parts = trained_bound(vae, ESTIMATORS["kl"], x, noise, beta=1.0, batch_size=3)
    assert parts == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize(
    "overrides",
    [
        {"estimator": {"name": "iwae", "samples": 4}},
        {"estimator": "sgvb", "training__beta": 8.0, "training__beta_warmup": 3},
        {"loss": {"name": "gaussian", "gaussian": {"sigma2": "optimal"}}},
        {
            "loss": {"name": "gaussian", "gaussian": {"sigma2": "optimal"}},
            "estimator": {"name": "iwae", "samples": 4},
        },
    ],
)
def test_a_tuning_run_is_scored_on_validation_by_its_own_bound(
    tmp_path: Path, overrides: dict[str, Any]
) -> None:
    small = task(tmp_path / "run", **overrides)
    small = type(small)(**{**vars(small), "tune": True})
    assert from_message(json.loads(json.dumps(to_message(small)))).tune
    record = run(small)
    assert record["status"] == "complete"
    assert set(record["metrics"]) == {SCORE}
    kept = {path.name for path in small.folder.iterdir()}
    assert kept.isdisjoint({"images", "figures", "weights.pt", "arrays.npz"})

    config, splits = small.config, datasets.load("digits", train=64, validation=32)
    state = build(config, splits.shape, "cpu")
    checkpoint = RunStore(small.folder).load_tensors("checkpoint.pt")
    assert checkpoint is not None
    state.load_state_dict(checkpoint)
    vae, x = state.vae.eval(), splits.validation.x
    weighted = config.estimator.name == "iwae"
    fitted = torch.randn(4 if weighted else 1, 64, 2, generator=stream(config.seed, "fit"))
    fit_likelihood(vae, splits.train.x, fitted, importance_weighted=weighted)
    noise = torch.randn(config.estimator.samples, 32, 2, generator=stream(config.seed, "tune"))
    with torch.no_grad():
        estimate = ESTIMATORS[config.estimator.name](vae, x, noise)
    bound = estimate.bound
    if estimate.rate is not None:
        beta = config.training.beta * 2 / 4 if config.training.beta_warmup else 1.0
        bound = bound - (beta - 1.0) * estimate.rate
    assert record["metrics"][SCORE] == pytest.approx(bound.mean().item(), rel=1e-5)


# ---------------------------------------------------------------- what is picked


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_the_best_mean_is_picked_for_each_group_and_used_by_all_its_cells(tmp_path: Path) -> None:
    heard = Heard()
    do(tmp_path, raw(), tune_only=True)
    set_scores(tmp_path, prefer(bce=1e-3, mse=1e-2))
    results = do(tmp_path, raw(), heard)
    assert {entry["group"]["loss"]: entry["pick"] for entry in tuned(tmp_path)} == {
        "bce": 1e-3,
        "mse": 1e-2,
    }
    assert learning_rates(tmp_path) == {
        ("bce", "sgvb", 0): 1e-3,
        ("bce", "kl", 0): 1e-3,
        ("mse", "sgvb", 0): 1e-2,
        ("mse", "kl", 0): 1e-2,
    }
    assert heard.tables == [tuned(tmp_path)] == [results.tuned]
    assert len(heard.warnings) == 2
    assert all("tune: " in text and "widen values" in text for text in heard.warnings)
    manifest = read_manifest(tmp_path / "tuned")
    assert "learning_rate" not in manifest["settings"]["training"]
    assert len(manifest["runs"]) == len(results.records) == 4
    assert {record["seed"] for record in results.records} == {0}


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_the_table_says_what_every_tuning_run_scored(tmp_path: Path) -> None:
    do(tmp_path, raw(), tune_only=True)
    scores = {}
    for folder in tuning_runs(tmp_path):
        record = RunStore(folder).record
        assert record is not None
        assert record["cell"]["estimator"] == "sgvb"
        scores[record["cell"]["loss"], record["cell"][KEY], record["seed"]] = record["metrics"]
    for entry in tuned(tmp_path):
        loss = entry["group"]["loss"]
        assert entry["cell"] == {"loss": loss, "estimator": "sgvb"}
        assert (entry["epochs"], entry["seeds"], entry["edge"]) == (1, [1000, 1001], True)
        for tried in entry["values"]:
            expected = [scores.pop((loss, tried["value"], seed))[SCORE] for seed in (1000, 1001)]
            assert tried["scores"] == expected
            assert tried["mean"] == pytest.approx(sum(expected) / 2, abs=1e-12)
            assert tried["failed"] == []
        best = max(entry["values"], key=lambda tried: tried["mean"])
        assert entry["pick"] == best["value"]
        assert best["mean"] > min(tried["mean"] for tried in entry["values"])
    assert not scores


@pytest.mark.usefixtures("here")
def test_a_value_that_fails_is_shown_and_never_picked(tmp_path: Path) -> None:
    file = raw(tune={"values": [1e-3, 1e30], "per": []})
    do(tmp_path, file, tune_only=True)
    [entry] = tuned(tmp_path)
    assert [tried["failed"] for tried in entry["values"]] == [[], [1000, 1001]]
    assert entry["values"][1] == {
        "value": 1e30,
        "scores": [None, None],
        "mean": None,
        "failed": [1000, 1001],
    }
    assert entry["pick"] == 1e-3
    assert entry["group"] == {}
    text = report.render(report.load(tmp_path / "tuned"), "md")
    assert "failed (2 of 2)" in text


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_one_failed_seed_is_enough_for_the_worst_rank(tmp_path: Path) -> None:
    do(tmp_path, raw(), tune_only=True)
    set_scores(tmp_path, prefer(bce=1e-3, mse=1e-3))
    for folder in tuning_runs(tmp_path):
        record = RunStore(folder).record
        assert record is not None
        if (record["cell"][KEY], record["seed"]) == (1e-3, 1000):
            edit_record(folder, lambda r: r["metrics"].pop(SCORE))
    do(tmp_path, raw(), tune_only=True)
    assert [entry["pick"] for entry in tuned(tmp_path)] == [1e-2, 1e-2]
    assert [entry["values"][0]["failed"] for entry in tuned(tmp_path)] == [[1000], [1000]]


@pytest.mark.usefixtures("here")
def test_where_every_value_fails_nothing_is_picked(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"tune: bce: no value of training.learning_rate"):
        do(tmp_path, raw(tune={"values": [1e29, 1e30], "seeds": 1}))
    assert "tuned" not in read_manifest(tmp_path / "tuned")
    assert read_manifest(tmp_path / "tuned")["runs"] == []


@pytest.mark.usefixtures("here")
def test_of_equals_the_first_is_picked(tmp_path: Path) -> None:
    """A value that the cell does not have makes the same run: it is trained once."""
    tune = {"key": "model.cnn.kernel_size", "values": [3, 5], "seeds": 1, "per": []}
    do(tmp_path, raw(model__name="fnn", tune=tune), tune_only=True)
    [entry] = tuned(tmp_path)
    assert entry["pick"] == 3
    assert entry["values"][0]["mean"] == entry["values"][1]["mean"]
    assert len(tuning_runs(tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_the_pick_in_the_middle_has_no_warning(tmp_path: Path) -> None:
    file, heard = raw(tune={"values": [1e-4, 1e-3, 1e-2], "seeds": 1}), Heard()
    do(tmp_path, file, tune_only=True)
    set_scores(tmp_path, prefer(bce=1e-3, mse=1e-4))
    do(tmp_path, file, heard, tune_only=True)
    assert [entry["edge"] for entry in tuned(tmp_path)] == [False, True]
    [text] = heard.warnings
    assert "mse" in text
    assert "0.0001, is the lowest tried" in text


# ---------------------------------------------------------------- kept, added, refused


@pytest.mark.slow
def test_mlflow_hears_of_no_tuning_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process_only(monkeypatch)
    touched: set[str] = set()

    class Writer(NoWriter):
        def touch(self, run_id: str) -> None:
            touched.add(run_id)

    monkeypatch.setattr("vaebench.grid.Writer", Writer)
    results = do(tmp_path, raw(tune={"seeds": 1}))
    assert touched == {record["run_id"] for record in results.records}
    assert len(touched) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_picks_are_used_again_for_more_seeds_and_found_again_where_they_are_lost(
    tmp_path: Path,
) -> None:
    do(tmp_path, raw())
    before, kept, heard = tuned(tmp_path), times(tmp_path), Heard()
    do(tmp_path, raw(seeds=3), heard)
    assert len(heard.plans) == 1
    assert heard.actions(0).count("run") == 8
    assert len(learning_rates(tmp_path)) == 12
    assert (tuned(tmp_path), times(tmp_path)) == (before, kept)

    path = tmp_path / "tuned" / "grid.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest["tuned"][0]["pick"] = 0.5  # is no value
    path.write_text(dump_yaml(manifest))
    with pytest.raises(ResultsError, match=r"damaged: .*tuned\.0: "):
        read_manifest(tmp_path / "tuned")
    do(tmp_path, raw(seeds=3), heard)
    assert any("kept as grid.yaml.damaged" in text for text in heard.warnings)
    assert (tuned(tmp_path), times(tmp_path)) == (before, kept)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_tuning_seeds_stay_apart_from_the_seeds_that_are_added(tmp_path: Path) -> None:
    do(tmp_path, raw(seeds=[0, 1000], tune={"seeds": 1}), tune_only=True)
    assert [entry["seeds"] for entry in tuned(tmp_path)] == [[1001], [1001]]
    do(tmp_path, raw(seeds=[0], tune={"seeds": 1}), tune_only=True)
    assert [entry["seeds"] for entry in tuned(tmp_path)] == [[1001], [1001]]
    with pytest.raises(ConfigError, match="seed 1001 has served for tuning"):
        do(tmp_path, raw(seeds=[0, 1001], tune={"seeds": 1}))
    with pytest.raises(ConfigError, match="seed 1000 has served for tuning"):
        do(tmp_path, raw(seeds=[0], tune={"seeds": [1000]}))  # it is a run of the first call


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_added_values_are_trained_alone_and_a_new_pick_needs_runs_that_are_not_there(
    tmp_path: Path,
) -> None:
    do(tmp_path, raw(), tune_only=True)
    kept, old = times(tmp_path), {e["run_id"] for e in read_manifest(tmp_path / "tuned")["runs"]}
    wider, heard = raw(tune={"values": [1e-3, 1e-2, 5e-2]}), Heard()
    do(tmp_path, wider, heard, tune_only=True)
    assert heard.actions(0) == ["skip", "skip", "skip", "skip", "run", "run"] * 2
    assert kept.items() <= times(tmp_path).items()
    assert len(times(tmp_path)) == 12
    assert [entry["pick"] for entry in tuned(tmp_path)] == [5e-2, 5e-2]
    new = [entry["run_id"] for entry in read_manifest(tmp_path / "tuned")["runs"]]
    assert len(new) == 4
    assert old.isdisjoint(new)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_another_pick_for_cells_that_have_been_run_is_refused(tmp_path: Path) -> None:
    do(tmp_path, raw(tune={"seeds": 1}))
    before = (tmp_path / "tuned" / "grid.yaml").read_bytes()
    wider = raw(tune={"values": [1e-3, 1e-2, 5e-2], "seeds": 1})
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"--name for a new grid, or --rerun all") as caught:
            do(tmp_path, wider)
        assert "0.05 is best" in str(caught.value)
    assert (tmp_path / "tuned" / "grid.yaml").read_bytes() == before
    heard = Heard()
    do(tmp_path, wider, heard, rerun="all")
    assert heard.actions(0) == ["rerun"] * 6
    assert set(learning_rates(tmp_path).values()) == {5e-2}
    assert len(read_manifest(tmp_path / "tuned")["runs"]) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_pick_that_stays_when_values_are_added_keeps_its_runs(tmp_path: Path) -> None:
    do(tmp_path, raw(tune={"seeds": 1}))
    heard = Heard()
    do(tmp_path, raw(tune={"values": [1e-4, 1e-3, 1e-2], "seeds": 1}), heard)
    assert sorted(heard.actions(0)) == ["run"] * 2 + ["skip"] * 4
    assert heard.actions(1) == ["skip"] * 4


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_cells_that_are_added_share_the_pick_or_are_tuned(tmp_path: Path) -> None:
    part = {"loss": ["bce"], "estimator": ["kl"]}
    do(tmp_path, raw(axes=part), tune_only=True)
    [entry] = tuned(tmp_path)
    kept = times(tmp_path)
    do(tmp_path, raw(), tune_only=True)
    assert tuned(tmp_path)[0] == entry  # trained with kl, though sgvb comes first by now
    assert [entry["cell"]["estimator"] for entry in tuned(tmp_path)] == ["kl", "sgvb"]
    assert kept.items() <= times(tmp_path).items()
    do(tmp_path, raw(axes=part), tune_only=True)
    assert len(tuned(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "change",
    [
        lambda file: file["tune"].update(per=[]),
        lambda file: file["tune"].update(key="training.gradient_clip"),
        lambda file: file.pop("tune"),
        lambda file: file["training"].update(batch_size=32),
    ],
)
def test_a_grid_of_other_settings_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    do(tmp_path, raw(tune={"seeds": 1}), tune_only=True)
    other = raw(tune={"seeds": 1})
    change(other)
    with pytest.raises(ConfigError, match=r"tuned.*\(.+\)"):
        do(tmp_path, other)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(tuned={}),
        lambda m: m.update(tune=[]),
        lambda m: m.pop("tune"),
        lambda m: m["tune"].update(per=None),
        lambda m: m["tune"].update(values=3),
        lambda m: m["tuned"].append(3),
        lambda m: m["tuned"][0].update(group={}),
        lambda m: m["tuned"][0].update(cell=None),
        lambda m: m["tuned"][0].update(epochs=True),
        lambda m: m["tuned"][0].update(seeds=[]),
        lambda m: m["tuned"][0].update(edge="no"),
        lambda m: m["tuned"][0].pop("values"),
        lambda m: m["tuned"][0]["values"][0].update(scores=[1.0]),
        lambda m: m["tuned"][0]["values"][0].update(scores=["x", 1.0]),
        lambda m: m["tuned"][0]["values"][0].update(mean=math.inf),
        lambda m: m["tuned"][0]["values"][0].update(failed=[1000]),
        lambda m: m["tuned"][0].update(
            values=[{**m["tuned"][0]["values"][0], "value": i} for i in range(2000)], pick=1
        ),
    ],
)
def test_a_damaged_table_is_reported_like_other_damage(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    do(tmp_path, raw(), tune_only=True)
    path = tmp_path / "tuned" / "grid.yaml"
    manifest = yaml.safe_load(path.read_text())
    change(manifest)
    path.write_text(dump_yaml(manifest))
    with pytest.raises(ResultsError, match=r"grid\.yaml: damaged"):
        read_manifest(tmp_path / "tuned")
    assert [row.problem is not None for row in report.status(tmp_path)] == [True]


# ---------------------------------------------------------------- killed and resumed


class Stopped(Listener):
    """Interrupts the grid at its fifth epoch."""

    def __init__(self) -> None:
        self.epochs = 0

    def event(self, event: Event) -> None:
        self.epochs += event.kind == "epoch"
        if self.epochs == 5:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_tuning_resumes_in_workers_to_the_same_picks(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    file = raw(tune={"epochs": 2})
    do(whole, file, tune_only=True, jobs=2)
    with pytest.raises(KeyboardInterrupt):
        do(stopped, file, Stopped(), tune_only=True, jobs=2)
    assert "tuned" not in read_manifest(stopped / "tuned")
    statuses = [(RunStore(path).record or {}).get("status") for path in tuning_runs(stopped)]
    assert "interrupted" in statuses
    [row] = report.status(stopped)
    ended = sum(status is not None for status in statuses)
    assert (row.planned, row.tuning) == (0, ended)
    assert f"tuning: {ended} runs done; the picks are not yet known" in report.status_text([row])
    kept = times(stopped) if None not in statuses else {}
    complete = {
        path: time
        for (path, time), status in zip(kept.items(), statuses, strict=True)
        if status == "complete"
    }
    heard = Heard()
    do(stopped, file, heard, tune_only=True, jobs=2)
    assert "resume" in heard.actions(0)
    assert complete.items() <= times(stopped).items()
    assert tuned(stopped) == tuned(whole)
    manifests = [(root / "tuned" / "grid.yaml").read_bytes() for root in (whole, stopped)]
    assert manifests[0] == manifests[1]


@pytest.mark.slow
def test_a_killed_tuning_resumes_to_the_same_picks(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    file = raw(tune={"epochs": 20, "values": [1e-2, 1e-3, 1e-4]})
    do(whole, file, tune_only=True, jobs=2)
    (tmp_path / "grid.yaml").write_text(dump_yaml(file))
    command = [sys.executable, "-m", "vaebench", "run-grid", str(tmp_path / "grid.yaml")]
    command += ["--results", str(killed), "--device", "cpu", "--jobs", "1", "--tune-only"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, process_group=0, env=dict(os.environ)
    ) as process:
        while len(list(killed.glob("tuned/tuning/*/record.json"))) < 2:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert "tuned" not in read_manifest(killed / "tuned")
    do(killed, file, tune_only=True, jobs=2)
    assert tuned(killed) == tuned(whole)


# ---------------------------------------------------------------- told


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_the_report_shows_the_table_and_no_single_value(tmp_path: Path) -> None:
    do(tmp_path, raw(), tune_only=True)
    set_scores(tmp_path, lambda r: -100.0 - 900 * r["cell"][KEY] - (r["seed"] - 1000))
    do(tmp_path, raw())
    found = report.load(tmp_path / "tuned")
    text = report.render(found, "md")
    assert "## Tuning of training.learning_rate" in text
    shown = (
        "| bce | **-101.40 (-101.90 to -100.90)** | -109.50 (-110.00 to -109.00) | 1 | 1000, 1001 |"
    )
    assert shown in text
    assert "widen values: bce (0.001), mse (0.001)" in text
    assert "learning_rate: tuned per loss" in text
    assert "training.learning_rate tuned per loss" in text.split("##")[0]
    assert r"\textbf{-101.40 (-101.90 to -100.90)}" in report.render(found, "latex")
    assert json.loads(report.render(found, "json"))["manifest"]["tuned"] == tuned(tmp_path)
    assert len(found.planned) == 4
    assert not found.foreign


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_grid_without_tune_says_nothing_of_it(tmp_path: Path) -> None:
    file = raw()
    del file["tune"]
    do(tmp_path, file)
    manifest = read_manifest(tmp_path / "tuned")
    assert not {"tune", "tuned"} & manifest.keys()
    text = report.render(report.load(tmp_path / "tuned"), "md")
    assert "Tuning" not in text
    assert "tuned per" not in text


@pytest.mark.slow
def test_the_commands_show_what_will_be_and_what_was_tuned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)
    (tmp_path / "grid.yaml").write_text(dump_yaml(raw()))
    command = ["run-grid", str(tmp_path / "grid.yaml"), "--results", str(tmp_path / "results")]
    command += ["--device", "cpu"]
    told = CliRunner().invoke(main, [*command, "--dry-run"])
    assert told.exit_code == 0
    assert "8 of 8 runs to do" in told.output
    assert "2 values x 2 seeds for 2 of 2 groups (per loss)" in told.output
    assert "The 4 runs of the grid follow with what is picked" in told.output
    assert not (tmp_path / "results").exists()

    done = CliRunner().invoke(main, [*command, "--tune-only"])
    assert done.exit_code == 0, done.output
    assert "tuned per loss (* = picked" in done.output
    picked = [line for line in done.output.splitlines() if " *" in line]
    assert [line.split()[0] for line in picked] == ["bce", "mse"]
    assert not (tmp_path / "results" / "tuned" / "runs").exists()

    told = CliRunner().invoke(main, [*command, "--dry-run"])
    assert "tuned per loss (* = picked" in told.output
    assert "4 of 4 runs to do" in told.output
    again = CliRunner().invoke(main, [*command, "--rerun", "all", "--dry-run"])
    assert "These are tuning runs" in again.output

    (tmp_path / "run.yaml").write_text(dump_yaml(settings() | {"tune": TUNE}))
    single = CliRunner().invoke(main, ["train", str(tmp_path / "run.yaml")])
    assert single.exit_code == 2
    assert "use `vaebench run-grid`" in single.output


@pytest.mark.slow
def test_a_run_with_a_pick_is_repeated_by_its_own_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaebench.grid.repeat import repeat

    in_this_process_only(monkeypatch)
    without_figures(monkeypatch)
    axes = {"loss": ["bce"], "estimator": ["kl"]}
    results = do(tmp_path, raw(axes=axes, tune={"seeds": 1}))
    [record] = results.records
    assert "tune" not in record["config"]
    monkeypatch.undo()
    done = repeat(results.folder / "runs" / record["run_id"], device="cpu")
    assert done.identical
