"""A trial: short, complete, marked wherever it shows, and never among results."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from small_runs import in_this_process_only, settings, task

from vaebench import report
from vaebench.cli import main
from vaebench.config import make_grid, make_run, make_single
from vaebench.errors import ConfigError, ResultsError
from vaebench.files import dump_yaml
from vaebench.grid import Options, run_grid
from vaebench.grid.evaluate import evaluate
from vaebench.grid.manifest import differing_settings, make_manifest
from vaebench.grid.merge import merge
from vaebench.grid.reference import write_reference
from vaebench.metrics import METRICS
from vaebench.report.paper import write_figures
from vaebench.run import run
from vaebench.schema.trial import MARK, MEASURED, TRAINED
from vaebench.storage import RunStore
from vaebench.tracking import describe, payload
from vaebench.tracking.models import has_model

GRID = settings(
    name="small", axes={"model": ["fnn"], "loss": ["bce", "mse"]}, seeds=3, estimator="kl"
)
WHOLE = settings(model="fnn", dataset={"name": "digits"}, training__epochs=7)


def trial_grid(**overrides: Any) -> Any:
    return make_grid(GRID, {"trial": True} | overrides)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A grid and its trial, in one results folder."""
    in_this_process_only(monkeypatch)
    options = Options(tmp_path / "results", "cpu")
    done = run_grid(make_grid(GRID, {"seeds": [0], "training.epochs": 1}), options)
    return done.folder, run_grid(trial_grid(), options).folder


def test_a_trial_is_another_run_and_what_is_none_keeps_its_identity() -> None:
    plain, trial = make_run(WHOLE), make_run(WHOLE | {"trial": True})
    assert plain.run_id != trial.run_id
    assert make_run(WHOLE | {"trial": False}).run_id == plain.run_id
    assert "trial" not in plain.to_dict()
    assert (plain.epochs, trial.epochs) == (7, 1)
    assert make_run(trial.to_dict()).run_id == trial.run_id


def test_the_grid_of_a_trial_has_another_name_one_seed_and_no_claims() -> None:
    claim = {"metric": "test/elbo", "better": {"loss": "bce"}, "than": {"loss": "mse"}}
    with_claim = GRID | {"claims": [claim]}
    assert make_grid(with_claim).claims
    trial = make_grid(with_claim, {"trial": True})
    assert (trial.name, trial.seeds, trial.claims) == ("small-trial", (0,), ())
    assert trial_grid(seeds=2).seeds == (0, 1)  # asked for beside it
    assert trial_grid(name="mine").name == "mine-trial"
    assert trial_grid(name="x" * 64).name.endswith("-trial")
    assert make_single({"trial": True}).name.endswith("-trial")
    wrong = claim | {"better": {"los": "bce"}}
    with pytest.raises(ConfigError, match=r"claims.0"):  # as of any file that is wrong
        make_grid(GRID | {"claims": [wrong]}, {"trial": True})


def test_the_manifest_of_a_trial_asks_for_the_same_trial() -> None:
    trial = trial_grid(seeds=2)
    again = make_grid(make_manifest(trial, trial.runs()))
    assert again.name == trial.name
    assert [run.run_id for run in again.runs()] == [run.run_id for run in trial.runs()]


def test_every_cell_has_a_trial_also_along_what_a_trial_cuts() -> None:
    axes = {"training.epochs": [1, 50], "dataset.train": [64, 128]}
    trial = make_grid(settings(axes=axes, model="fnn"), {"trial": True})
    assert len({run.run_id for run in trial.runs()}) == 4
    assert {run.config.epochs for run in trial.runs()} == {1}


def test_trial_is_no_axis_as_that_would_mix_them() -> None:
    with pytest.raises(ConfigError, match="trial is no axis"):
        make_grid(GRID | {"axes": {"trial": [True, False]}})


def test_a_trial_is_tuned_on_one_seed() -> None:
    tune = {"key": "training.learning_rate", "values": [0.001, 0.002], "seeds": 3}
    assert make_grid(GRID | {"tune": tune}, {"trial": True}).tune.seeds == 1  # type: ignore[union-attr]


def test_a_trial_is_cut_short_and_says_so_in_its_record(tmp_path: Path) -> None:
    dataset = {"name": "digits", "binarize": "static"}  # of which log p(x) is measured
    raw = WHOLE | {"trial": True, "dataset": dataset, "metrics": {"log_px": 5000}}
    record = run(replace(task(tmp_path / "a"), config=make_run(raw)))
    assert record["status"] == "complete", record["reason"]
    assert record["epochs"] == len(RunStore(tmp_path / "a").journal) == 1
    splits = record["environment"]["dataset"]
    assert [splits[key] for key in ("train", "validation", "test")] == [TRAINED, MEASURED, MEASURED]
    assert record["notes"][0].startswith(MARK)
    assert record["config"]["trial"] is True
    assert record["metric_declarations"]["log_px"]["samples"] == 10
    judged = {name for name, metric in METRICS.items() if metric.part == "generation"}
    measured = {name.partition("/")[2] for name in record["metrics"]}
    assert not judged & measured
    assert {"elbo", "ssim", "knn_accuracy", "log_px"} <= measured
    assert "classifier" not in record["environment"]
    assert [path.stem for path in (tmp_path / "a" / "figures").iterdir()] == ["reconstructions"]


def test_the_trial_of_a_run_that_can_be_trained_can_be_trained(tmp_path: Path) -> None:
    cnn = {"name": "cnn", "latent_dim": 2, "cnn": {"channels": [2], "strides": [2]}}
    cnn["cnn"]["batch_norm"] = True  # type: ignore[index]
    raw = WHOLE | {"model": cnn, "trial": True, "training": {"batch_size": 73}}  # 512 = 7 x 73 + 1
    record = run(replace(task(tmp_path / "a"), config=make_run(raw)))
    assert record["status"] == "complete", record["reason"]


@pytest.mark.parametrize("format_", report.FORMATS)
def test_every_report_of_a_trial_says_so_and_no_other_does(
    folders: tuple[Path, Path], format_: str
) -> None:
    plain, trial = (report.render(report.load(folder), format_) for folder in folders)
    mark = {"csv": '"true"'}.get(format_, MARK)
    assert mark in trial
    assert mark not in plain


def test_a_trial_is_set_against_no_result(folders: tuple[Path, Path]) -> None:
    plain, trial = map(report.load, folders)
    found = report.compare(plain, trial).outcomes
    assert found
    assert {(its.outcome, its.reason) for its in found} == {
        ("not comparable", "one of them is a trial")
    }
    among_trials = report.compare(trial, trial).outcomes
    assert "not comparable" not in {its.outcome for its in among_trials}


def test_a_trial_is_merged_into_no_grid_whatever_it_is_called(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    plain, trial = folders
    renamed = shutil.copytree(trial, tmp_path / "other" / plain.name)
    manifest = yaml.safe_load((renamed / "grid.yaml").read_text())
    (renamed / "grid.yaml").write_text(yaml.safe_dump(manifest | {"name": plain.name}))
    [merged] = merge([renamed], plain.parent)
    assert merged.took == 0
    assert "trial: False there, True here" in merged.refused[0][1]
    full = make_manifest(make_grid(GRID), make_grid(GRID).runs())
    assert differing_settings(manifest, full) == ["trial: True there, False here"]


def test_a_trial_has_no_reference_rows_figures_for_papers_or_model(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    _, trial = folders
    assert not (trial / "reference.json").exists()
    configs = [run.config for run in trial_grid().runs()]

    def refuse(*_: object) -> None:
        raise AssertionError("it measures")

    listener: Any = type("L", (), {"measuring": refuse, "warning": refuse})()
    assert not write_reference(trial, configs, None, listener)
    with pytest.raises(ResultsError, match="is a trial"):
        write_figures(report.load(trial), tmp_path / "paper", lambda _: None)
    runs = payload.seeds(trial, yaml.safe_load((trial / "grid.yaml").read_text()))
    assert runs
    assert not any(map(has_model, runs))


def test_evaluating_a_trial_finds_nothing_missing(folders: tuple[Path, Path]) -> None:
    assert evaluate(folders[1], device="cpu") == {"current": 2}


def test_mlflow_is_told_of_trials(folders: tuple[Path, Path]) -> None:
    for folder, told in zip(folders, (False, True), strict=True):
        manifest = yaml.safe_load((folder / "grid.yaml").read_text())
        runs = payload.seeds(folder, manifest)
        config, record = runs[0].store.config or {}, runs[0].store.record or {}
        assert ("vaebench.trial" in payload.run_tags(runs[0], config, 1, "")) is told
        texts = [
            describe.describe_run(runs[0], config, None),
            describe.describe_run(runs[0], config, record),
            describe.describe_cell(runs[0].cell, [0], [record], [], None),
            describe.describe_grid(manifest, {}, []),
        ]
        assert [MARK.lower() in text.lower() for text in texts] == [told] * 4
        assert payload.params(runs[0].cell, 0, config)["epochs"] == "1"


def test_the_command_line_marks_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process_only(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(dump_yaml(GRID))

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(main, [*arguments, "--trial", "--device", "cpu"])
        assert done.exit_code == 0, done.output
        return done.output

    assert MARK in call("run-grid", "small.yaml", "--dry-run")
    assert not (tmp_path / "results").exists()
    said = call("run-grid", "small.yaml")
    assert said.count(MARK) == 2  # before and after
    assert "results/small-trial/report.md" in said
    lines = [json.loads(line) for line in call("run-grid", "small.yaml", "--json").splitlines()]
    assert [line["event"] for line in lines if line.get("trial")] == ["planned", "end"]
    assert MARK in call("train", "results/small-trial/runs/" + only_run(tmp_path, "bce"))


def only_run(root: Path, loss: str) -> str:
    records = map(RunStore, root.glob("results/small-trial/runs/*"))
    [found] = [store for store in records if (store.record or {})["cell"]["loss"] == loss]
    return f"{found.run_id}/config.yaml"


def test_a_data_frame_says_which_runs_are_trials(folders: tuple[Path, Path]) -> None:
    plain, trial = (report.to_frame(report.load(folder).records) for folder in folders)
    assert "trial" not in plain
    assert trial["trial"].all()
