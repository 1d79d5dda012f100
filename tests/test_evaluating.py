"""`vaebench evaluate`: what a finished run lacks is measured, and nothing else moves."""

import json
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from small_runs import exchange, in_this_process_only, settings, task, without_figures

from vaebench.cli import main
from vaebench.errors import ConfigError, ResultsError
from vaebench.executors import in_this_process, in_workers
from vaebench.files import dump_json
from vaebench.grid import Options, run_grid
from vaebench.grid.evaluate import Outcome, evaluate
from vaebench.metrics import METRICS
from vaebench.run import Task, close, run
from vaebench.storage import RunStore

LOG_PX = {"metrics.log_px": 3}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In this process, without figures; the command line takes over SIGTERM: give it back."""
    without_figures(monkeypatch)
    monkeypatch.setattr(
        "vaebench.grid.evaluate.in_workers",
        lambda tasks, hear, jobs: in_this_process(tasks, hear),
    )
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def record_of(folder: Path) -> dict[str, Any]:
    found = RunStore(folder).record
    assert found is not None
    return found


def strip(folder: Path, *names: str) -> None:
    """Make a record that of a time before these metrics (all: no name) were known."""
    record = record_of(folder)
    for name in names or METRICS:
        record["metric_declarations"].pop(name, None)
        for split in ("test", "train_eval"):
            record["metrics"].pop(f"{split}/{name}", None)
    (folder / "record.json").write_text(dump_json(record))


def kept(record: dict[str, Any], *names: str) -> dict[str, Any]:
    """A record without what measuring these metrics may move."""
    rest = {k: v for k, v in record.items() if k not in {"evaluated", *names}}
    for key in ("metrics", "metric_declarations"):
        rest[key] = {k: v for k, v in record[key].items() if k.split("/")[-1] not in names}
    return rest


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A small run on binarised images, which log p(x) means something for."""
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        small = task(tmp_path_factory.mktemp("run") / "run", dataset__binarize="static")
        assert run(small)["status"] == "complete"
    return small


@pytest.fixture
def folder(finished: Task, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished grid of three runs."""
    in_this_process_only(monkeypatch)
    axes = {"model": ["fnn"], "loss": ["bce", "mse", "cb"], "estimator": ["kl"]}
    run_grid(settings(name="small", axes=axes), Options(results=tmp_path, device="cpu"))
    return tmp_path / "small"


def runs_of(grid: Path) -> list[Path]:
    return sorted((grid / "runs").iterdir())


# ---------------------------------------------------------------- one run


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        {"model": "fnn", "metrics__log_px": 2, "loss": "mse"},
        {"model": "cnn", "model__cnn__batch_norm": True, "evaluate": "best"},
        {"dataset__binarize": "dynamic", "metrics__log_px": 2},
        {"loss": {"name": "gaussian", "gaussian": {"sigma2": "optimal"}}},
    ],
    ids=lambda overrides: "-".join(overrides),
)
def test_measuring_again_gives_the_same_bits(tmp_path: Path, overrides: dict[str, Any]) -> None:
    before = run(task(tmp_path / "run", **overrides))
    assert before["status"] == "complete", before["reason"]
    strip(tmp_path / "run")
    assert evaluate(tmp_path / "run", device="cpu") == {"measured": 1}
    after = record_of(tmp_path / "run")
    assert after.pop("evaluated") >= before["finished"]
    assert after == before


def test_what_is_up_to_date_is_left_alone(folder: Path) -> None:
    before = (folder / "record.json").read_bytes()
    assert evaluate(folder, device="cpu") == {"current": 1}
    assert (folder / "record.json").read_bytes() == before


def test_a_new_version_is_measured_again_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, old = record_of(folder), METRICS["ssim"]
    newer = replace(old.declaration, version=2)
    new = replace(old, function=lambda _: 0.125, declaration=newer)
    exchange(monkeypatch, METRICS, "ssim", new)
    heard: list[Outcome] = []
    assert evaluate(folder, heard.append, device="cpu") == {"measured": 1}
    assert heard == [Outcome("measured", "fnn / bce / kl, seed 0", {"ssim": 0.125})]
    after = record_of(folder)
    assert after["metrics"]["test/ssim"] == 0.125
    assert after["metric_declarations"]["ssim"]["version"] == 2
    assert kept(after, "ssim") == kept(before, "ssim")

    exchange(monkeypatch, METRICS, "ssim", old)  # an older vaebench does not turn it back
    assert evaluate(folder, device="cpu") == {"current": 1}


def test_log_px_can_be_asked_for_later_and_says_its_k(folder: Path) -> None:
    before = record_of(folder)
    assert "test/log_px" not in before["metrics"]
    values = []
    for k, expected in ((3, "measured"), (3, "current"), (400, "measured")):
        asked = {"metrics.log_px": k}
        assert evaluate(folder, assignments=asked, device="cpu") == {expected: 1}
        after = record_of(folder)
        values.append(after["metrics"]["test/log_px"])
        assert after["metric_declarations"]["log_px"]["title"] == f"log p(x), K = {k}"
        assert after["metric_declarations"]["log_px"]["samples"] == k
        assert kept(after, "log_px") == kept(before, "log_px")
        beside = after["log_px"]
        assert beside["samples"] == k
        assert 1 <= beside["ess_low"] <= beside["ess"] <= k
        assert beside["curve"][str(k)] == values[-1]
    assert "log_px" not in before
    assert list(beside["curve"]) == [*"125", "10", "20", "50", "100", "200", "400"]
    assert values[2] > values[0] > before["metrics"]["test/elbo"] - 1  # trap 9
    assert evaluate(folder, device="cpu") == {"current": 1}  # K need not be said again


def test_a_run_measures_at_its_end_what_its_configuration_asks_for(
    folder: Path, tmp_path: Path
) -> None:
    evaluate(folder, assignments=LOG_PX, device="cpu")
    record = run(task(tmp_path / "other", dataset__binarize="static", metrics__log_px=3))
    assert record["run_id"] == record_of(folder)["run_id"]
    assert record["metrics"]["test/log_px"] == record_of(folder)["metrics"]["test/log_px"]
    assert record["metric_declarations"] == record_of(folder)["metric_declarations"]
    assert record["log_px"] == record_of(folder)["log_px"]


def test_log_px_is_never_measured_of_the_relaxed_bernoulli(tmp_path: Path) -> None:
    small = task(tmp_path / "run", metrics__log_px=3)
    record = run(small)
    why = "log p(x) is not measured: bce on gray pixels is not a normalised density."
    assert why in record["notes"]
    assert "test/log_px" not in record["metrics"]
    assert "log_px" not in record
    assert "log_px" not in record["metric_declarations"]
    record["notes"].remove(why)
    (tmp_path / "run" / "record.json").write_text(dump_json(record))
    for expected in ("measured", "current"):
        heard: list[Outcome] = []
        evaluate(tmp_path / "run", heard.append, assignments=LOG_PX, device="cpu")
        assert [(outcome.kind, outcome.values, outcome.remark) for outcome in heard] == [
            (expected, {}, why)
        ]
    after = record_of(tmp_path / "run")
    assert after["notes"].count(why) == 1
    assert after["metrics"] == record["metrics"]


def test_the_record_names_the_classifier(folder: Path) -> None:
    found = record_of(folder)["environment"]["classifier"]
    assert set(found) == {"recipe", "weights", "test_accuracy"}
    assert found["test_accuracy"] > 0.93


def test_a_run_of_other_images_is_not_measured(folder: Path) -> None:
    record = record_of(folder)
    record["environment"]["dataset"]["digest"] = "another"
    (folder / "record.json").write_text(dump_json(record))
    strip(folder, "ssim")
    before = (folder / "record.json").read_bytes()
    heard: list[Outcome] = []
    assert evaluate(folder, heard.append, device="cpu") == {"failed": 1}
    assert "another digits" in heard[0].remark
    assert (folder / "record.json").read_bytes() == before


def test_a_worker_that_dies_while_it_measures_leaves_the_record(folder: Path) -> None:
    small = replace(task(folder), metrics=("ssim",))
    before = (folder / "record.json").read_bytes()
    said = close(small, "failed", "process died")
    assert (said["status"], said["reason"]) == ("failed", "process died")
    assert (folder / "record.json").read_bytes() == before


@pytest.mark.slow
def test_workers_measure_as_this_process_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = record_of(folder)
    strip(folder, "ssim", "elbo")
    monkeypatch.setattr("vaebench.grid.evaluate.in_workers", in_workers)
    assert evaluate(folder, device="cpu", jobs=1) == {"measured": 1}
    assert record_of(folder)["metrics"] == before["metrics"]


# ---------------------------------------------------------------- a grid, from the command line


def call(*arguments: Any) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["evaluate", *map(str, arguments), "--device", "cpu"])
    return done.exit_code, done.output


def test_a_grid_is_measured_and_its_report_written_anew(grid: Path) -> None:
    before = {folder: record_of(folder) for folder in runs_of(grid)}
    for folder in before:
        strip(folder, "knn_accuracy", "recall")
    (grid / "report.md").write_text("old")
    code, text = call(grid, "--metric", "recall")
    assert code == 0
    assert "fnn / mse / kl, seed 0: recall 0" in text
    assert text.endswith("3 measured\n")
    assert "Recall" in (grid / "report.md").read_text()
    for folder, record in before.items():
        after = record_of(folder)
        assert after["metrics"]["test/recall"] == record["metrics"]["test/recall"]
        assert "test/knn_accuracy" not in after["metrics"]
    assert call(grid.parent, "--metric", "recall") == (
        0,
        "".join(f"fnn / {loss} / kl, seed 0: up to date\n" for loss in ("bce", "mse", "cb"))
        + "3 current\n",
    )


def test_a_run_of_a_grid_takes_its_report_along(grid: Path) -> None:
    (grid / "report.md").write_text("old")
    folder = runs_of(grid)[0]
    strip(folder, "ssim")
    assert call(folder)[0] == 0
    assert "SSIM" in (grid / "report.md").read_text()


def test_a_grid_of_the_time_before_reference_rows_gets_them(grid: Path) -> None:
    (grid / "reference.json").unlink()
    for folder in runs_of(grid):
        (folder / "weights.pt").unlink()  # as published ones
    (grid / "report.md").write_text("old")
    code, text = call(grid)
    assert (code, text.splitlines()[-1]) == (0, "3 current")
    assert "real images" in (grid / "report.md").read_text()
    (grid / "report.md").write_text("mine")
    assert call(grid)[0] == 0
    assert (grid / "report.md").read_text() == "mine"  # nothing was new


def test_runs_without_weights_are_named_and_the_others_measured(grid: Path) -> None:
    runs = runs_of(grid)
    for folder in runs:
        strip(folder, "ssim")
    (runs[0] / "weights.pt").unlink()
    untouched = (runs[0] / "record.json").read_bytes()
    code, text = call(grid)
    assert code == 1
    assert "failed (" in text
    assert f"{runs[0]}: weights.pt is not there" in text
    assert "2 measured" in text
    assert (runs[0] / "record.json").read_bytes() == untouched


def test_runs_that_are_not_finished_are_left_alone(grid: Path) -> None:
    first, second, third = runs_of(grid)
    record = record_of(first)
    (first / "record.json").write_text(dump_json(record | {"status": "interrupted"}))
    (second / "record.json").unlink()
    (third / "record.json").write_text("{")
    assert evaluate(grid) == Counter(unfinished=2, failed=1)
    assert json.loads((first / "record.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "sism"], "'ssim'"),
        (["--metric", "log_px"], "say how many samples with --set metrics.log_px=K"),
        (["--set", "training.epochs=3"], "only metrics.* can be set after training"),
        (["--set", "metrics.log_px=0"], "metrics.log_px"),
        (["--set", "metrics.logpx=5"], "metrics.logpx"),
        (["--jobs", "many"], "--jobs: 'many'"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    folder: Path, arguments: list[str], message: str
) -> None:
    code, text = call(folder, *arguments)
    assert code == 2
    assert message in text
    assert text.count("\n") <= 2


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=re.escape(f"{tmp_path}: ")):
        evaluate(tmp_path)
    with pytest.raises(ConfigError, match="unknown name"):
        evaluate(tmp_path, device="abacus")
    assert torch.get_num_threads() == 1
