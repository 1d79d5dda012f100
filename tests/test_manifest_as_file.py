"""The manifest of a grid is a grid file that asks for its runs."""

import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import in_this_process_only, settings

from vaebench.config import Grid, make_grid, read_yaml
from vaebench.errors import ConfigError
from vaebench.files import dump_yaml
from vaebench.grid import Options, plan, run_grid
from vaebench.grid.manifest import make_manifest
from vaebench.schema.manifest import read_manifest

EXPERIMENTS = sorted((Path(__file__).parents[1] / "experiments").glob("*.yaml"))
TUNE: dict[str, Any] = {
    "key": "training.learning_rate",
    "values": [0.001, 0.01],
    "per": ["model.latent_dim"],
    "epochs": {"model.latent_dim": {2: 1, 3: 2}},
}


def as_file(grid: Grid) -> dict[str, Any]:
    """The manifest of a grid as it is read."""
    manifest: dict[str, Any] = yaml.safe_load(dump_yaml(make_manifest(grid, grid.runs())))
    return manifest


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_manifest_of_an_experiment_asks_for_the_same_grid(path: Path) -> None:
    grid = make_grid(read_yaml(path))
    again = make_grid(as_file(grid))
    assert [(r.run_id, r.cell) for r in again.runs()] == [(r.run_id, r.cell) for r in grid.runs()]
    for key in ("name", "question", "axes", "seeds", "claims", "published", "tune"):
        assert getattr(again, key) == getattr(grid, key), key


def test_excluded_cells_stay_excluded_and_seeds_can_be_added() -> None:
    axes = {"loss": ["bce", "mse"], "loss.mse.sigma2": [0.1, 0.5]}
    grid = make_grid({"axes": axes, "exclude": [{"loss": "bce", "loss.mse.sigma2": 0.5}]})
    again = make_grid(as_file(grid), {"seeds": 3})
    assert len(again.runs()) == 9
    assert {run.run_id for run in grid.runs()} < {run.run_id for run in again.runs()}


def test_epochs_of_tuning_by_values_that_are_numbers_are_read_back() -> None:
    grid = make_grid({"axes": {"model.latent_dim": [2, 3]}, "tune": TUNE})
    assert make_grid(as_file(grid)).tune == grid.tune


@pytest.mark.parametrize(("key", "value"), [("axes", ["x"]), ("seeds", "x"), ("tune", 3)])
def test_mistakes_in_a_manifest_are_told_as_those_of_a_file(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"grid: {key}"):
        make_grid(as_file(make_grid({})) | {key: value})


@pytest.mark.slow
def test_narrowing_a_grid_by_options_keeps_the_question_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)
    raw = settings(name="small", axes={"model.latent_dim": [2, 3]}, question="2 or 3?")
    options = Options(results=tmp_path, device="cpu", jobs=1)
    two = make_grid(raw, {"model.latent_dim": [2]})
    run_grid(two, options)
    assert read_manifest(tmp_path / "small")["question"] == ""
    run_grid(raw, options)
    run_grid(two, options)
    assert read_manifest(tmp_path / "small")["question"] == "2 or 3?"


def test_manifest_of_a_tuning_that_was_stopped_keeps_the_exclusions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)
    axes = {"model.latent_dim": [2, 3], "estimator": ["kl", "sgvb"]}
    exclude = [{"model.latent_dim": 3, "estimator": "sgvb"}]
    raw = settings(name="small", axes=axes, exclude=exclude, tune=TUNE)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    options = Options(results=tmp_path, device="cpu", jobs=1)
    with pytest.raises(KeyboardInterrupt):
        run_grid(raw, options, executor=stopped)
    path = tmp_path / "small" / "grid.yaml"
    assert read_manifest(path.parent)["runs"] == []
    assert [run.run_id for run in make_grid(read_yaml(path)).runs()] == [
        run.run_id for run in make_grid(raw).runs()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("tune", [None, TUNE])
def test_grid_is_run_again_and_extended_from_the_manifest_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune: dict[str, Any] | None
) -> None:
    in_this_process_only(monkeypatch)
    axes = {"model.latent_dim": [2, 3], "estimator": ["kl", "sgvb"]}
    exclude = [{"model.latent_dim": 3, "estimator": "sgvb"}]
    raw = settings(name="small", axes=axes, exclude=exclude)
    options = Options(results=tmp_path, device="cpu", jobs=1)
    first = run_grid(raw | ({} if tune is None else {"tune": tune}), options)
    assert len(first.done) == 3
    path = tmp_path / "small" / "grid.yaml"
    before = read_manifest(path.parent)
    again = run_grid(path, options)
    assert again.done == []
    assert read_manifest(path.parent) == before
    more = make_grid(read_yaml(path), {"seeds": 2})
    assert sorted(entry.action for entry in plan(more, options)) == ["run"] * 3 + ["skip"] * 3
    assert len(run_grid(more, options).done) == 3
    assert read_manifest(path.parent).get("tuned") == before.get("tuned")


def test_half_of_ten_thousand_cells_is_excluded_cell_by_cell() -> None:
    """Every entry names a cell; the entries are not tried on each cell in turn."""
    axes = {
        "model.latent_dim": [*range(1, 101)],
        "training.learning_rate": [0.001 * n for n in range(1, 101)],
    }
    cells = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    exclude = [*cells[1::2], {"model.latent_dim": 100}]
    grid = make_grid({"model": "fnn", "dataset": "digits", "axes": axes, "exclude": exclude})
    began = time.process_time()
    kept = [run.cell for run in grid.runs()]
    assert time.process_time() - began < 20  # 3 seconds; it took 90
    assert kept == [cell for cell in cells[::2] if cell["model.latent_dim"] != 100]
