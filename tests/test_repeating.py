"""`vaebench repeat`: a finished run done again, and what is said of its numbers."""

import json
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fuzzing import tree
from records import edit_record
from small_runs import in_this_process_only, settings, task, without_figures

import vaebench
from vaebench import datasets
from vaebench.cli import main
from vaebench.config import NUMBERS_VERSION
from vaebench.errors import ConfigError, ResultsError
from vaebench.executors import Event, in_this_process, in_workers
from vaebench.files import dump_yaml
from vaebench.grid import Listener
from vaebench.grid.repeat import Difference, repeat
from vaebench.run import Task, run
from vaebench.storage import RunStore

RESULTS = Path(__file__).parents[1] / "results"
REPEATED = [
    *("train/elbo", "train/rate", "train/distortion", "val/elbo", "val/rate", "val/distortion"),
    *("train/beta", "train/learning_rate"),
    *("test/elbo", "test/rate", "test/distortion", "test/log_px", "test/ssim", "test/psnr"),
    *("test/mse_px", "test/mae_px", "test/active_units", "test/knn_accuracy"),
    *("test/classifier_frechet", "test/precision", "test/recall"),
    *("train_eval/elbo", "train_eval/rate", "train_eval/distortion"),
]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as it is published: no weights, no arrays; log_px was asked for later."""
    folder = tmp_path_factory.mktemp("published") / "runs" / "run"
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        assert run(task(folder, loss="mse", metrics__log_px=3))["status"] == "complete"
    for path in (*folder.glob("*.pt"), folder / "arrays.npz"):
        path.unlink()
    config = RunStore(folder).config
    assert config is not None
    assert config.pop("metrics") == {"log_px": 3}
    (folder / "config.yaml").write_text(dump_yaml(config))
    edit_record(folder, lambda record: record["config"].pop("metrics"))
    return folder


@pytest.fixture
def finished(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In this process, without figures; where temporary folders lie, which all end."""
    without_figures(monkeypatch)
    monkeypatch.setattr(
        "vaebench.grid.repeat.in_workers",
        lambda tasks, hear, jobs: in_this_process(tasks, hear),
    )
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    before = signal.getsignal(signal.SIGTERM)
    yield folder
    signal.signal(signal.SIGTERM, before)
    assert list(folder.iterdir()) == []


def edit_journal(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    lines = RunStore(folder).journal
    change(lines)
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "journal.jsonl").write_text(text)


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["repeat", *map(str, arguments)])


# ---------------------------------------------------------------- the verdict


@pytest.mark.slow
def test_a_finished_run_gives_the_same_numbers_again_and_is_left_alone(finished: Path) -> None:
    before = tree(finished)
    found = repeat(finished)
    assert tree(finished) == before
    assert (found.identical, found.differences, found.epochs) == (True, (), 2)
    assert sorted(found.metrics) == sorted(REPEATED)
    assert (found.only_then, found.only_now, found.redefined) == ((), (), ())
    assert set(found.environment) <= {"git.dirty"}
    assert found.run == "fnn / mse / kl, seed 0"


def test_every_number_that_moved_is_told_and_no_other(finished: Path) -> None:
    record, journal = RunStore(finished).record, RunStore(finished).journal
    assert record is not None
    elbo = journal[1]["metrics"]["val/elbo"]
    rates = [line["metrics"]["val/rate"] for line in journal]
    by_one_bit = math.nextafter(elbo, 0.0)

    def move(lines: list[dict[str, Any]]) -> None:
        lines[1]["metrics"]["val/elbo"] = by_one_bit
        lines[0]["metrics"]["val/rate"] = rates[0] + 0.25
        lines[1]["metrics"]["val/rate"] = rates[1] - 0.5
        lines[0]["metrics"]["train/seconds"] *= 2
        del lines[0]["metrics"]["train/beta"]

    edit_journal(finished, move)
    ssim, units = record["metrics"]["test/ssim"], record["metrics"]["test/active_units"]

    def change(record: dict[str, Any]) -> None:
        record["metrics"] |= {"test/ssim": ssim + 0.5, "test/precision": None, "test/mine": 1.0}
        record["metrics"]["test/active_units"] = int(units)  # as JSON may write it
        record["metrics"]["cost/seconds_per_epoch"] *= 2
        del record["metrics"]["test/psnr"]
        record["metric_declarations"]["recall"]["version"] = 99

    edit_record(finished, change)
    found = repeat(finished)
    assert not found.identical
    told = {each.metric: each for each in found.differences}
    assert told == {
        "val/elbo": Difference("val/elbo", 2, by_one_bit, elbo, abs(elbo - by_one_bit)),
        "val/rate": Difference("val/rate", 1, rates[0] + 0.25, rates[0], pytest.approx(0.5)),
        "train/beta": Difference("train/beta", 1, None, 1.0, None),
        "test/ssim": Difference("test/ssim", None, ssim + 0.5, ssim, pytest.approx(0.5)),
        "test/precision": Difference(
            "test/precision", None, None, record["metrics"]["test/precision"], None
        ),
    }
    assert found.only_then == ("test/mine",)
    assert found.only_now == ("test/psnr",)
    assert found.redefined == ("test/recall",)
    assert set(found.metrics) == set(REPEATED) - {"test/psnr", "test/recall"}


def test_a_run_that_trained_longer_then_is_not_the_same(finished: Path) -> None:
    edit_journal(finished, lambda lines: lines.append({**lines[1], "epoch": 3}))
    edit_record(finished, lambda record: record.update(epochs=3))
    found = repeat(finished)
    assert found.epochs == 2
    assert found.differences == (Difference("epochs", None, 3, 2, 1),)


def test_what_differs_around_the_run_is_told(finished: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        record["versions"] |= {"numbers": NUMBERS_VERSION - 1, "loss": 7}
        environment = record["environment"]
        environment |= {"cpu": "another", "jobs": 7, "git": {"commit": "0123abc", "dirty": True}}
        environment["packages"]["torch"] = "0.1"
        del environment["arithmetic"], environment["packages"]["scipy"]  # an older record

    edit_record(finished, change)
    found = repeat(finished).environment
    found = {key: value for key, value in found.items() if not key.startswith("git.")}
    assert {key: then for key, (then, _) in found.items()} == {
        "versions.numbers": str(NUMBERS_VERSION - 1),
        "versions.loss": "7",
        "cpu": "another",
        "packages.torch": "0.1",
    }
    assert found["versions.numbers"][1] == str(NUMBERS_VERSION)
    assert found["versions.loss"][1] == "1"


def test_uncommitted_changes_are_told_though_both_had_some(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dirty = {"commit": "0123abc", "dirty": True}
    monkeypatch.setattr("vaebench.environment.git_state", lambda: dirty)
    edit_record(finished, lambda record: record["environment"].update(git=dirty))
    assert repeat(finished).environment["git.dirty"] == ("True", "True")


@pytest.mark.slow
def test_it_is_done_on_the_device_of_the_run_unless_another_is_named(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "vaebench.grid.repeat.resolve_device", lambda name: asked.append(name) or "cpu"
    )
    repeat(finished)
    edit_record(finished, lambda record: record["environment"].update(device="cuda"))
    repeat(finished)
    found = repeat(finished, device="cpu")
    assert asked == ["cpu", "cuda", "cpu"]
    assert found.environment["device"] == ("cuda", "cpu")


@pytest.mark.slow
def test_every_published_run_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the training: its record is whole, and its configuration is what it was."""
    tasks: list[Task] = []

    def taken_down(given: list[Task], hear: Any, jobs: int) -> None:
        tasks.extend(given)
        hear(Event("started", given[0], {}))
        hear(Event("done", given[0], {"status": "interrupted", "reason": "enough"}))

    monkeypatch.setattr("vaebench.grid.repeat.in_workers", taken_down)
    monkeypatch.setattr("vaebench.grid.repeat._require_same_data", lambda *_: None)
    folders = sorted(path.parent for path in RESULTS.glob("*/runs/*/record.json"))
    for folder in folders:
        with pytest.raises(ResultsError, match="enough"):
            repeat(folder, device="cpu")
    configs = [RunStore(folder).config or {} for folder in folders]
    for config in configs:
        config.pop("metrics", None)
    assert [task.config.identity() for task in tasks] == configs
    assert len(folders) > 100


# ---------------------------------------------------------------- what cannot be repeated


def renamed(folder: Path) -> None:
    (folder / "config.yaml").write_text("modle: fnn\n")
    edit_record(folder, lambda r: r.update(config={"modle": "fnn"}, versions={"numbers": 0}))


WRONG: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: shutil.rmtree(folder), "not the folder of a finished run"),
    (lambda folder: (folder / "record.json").write_text("{}"), "not the record of a run"),
    (
        lambda folder: edit_record(folder, lambda r: r.update(status="failed", reason="why")),
        "the run is failed: why",
    ),
    (lambda folder: (folder / "journal.jsonl").unlink(), "damaged: 0 of 2 epochs are left"),
    (
        lambda folder: edit_record(folder, lambda r: r["config"].update(seed=5)),
        "config.yaml and record.json are not of one run",
    ),
    (
        renamed,
        f"modle: unknown key.* (of NUMBERS_VERSION 0, this is {NUMBERS_VERSION})",
    ),
    (
        lambda folder: edit_record(
            folder, lambda r: r["environment"]["dataset"].update(digest="other")
        ),
        "was trained on another digits (digest other) than lies here",
    ),
    (
        lambda folder: edit_record(folder, lambda r: r["environment"].update(device="gpu")),
        "unknown name 'gpu'",
    ),
]


@pytest.mark.parametrize(("spoil", "told"), WRONG, ids=[told for _, told in WRONG])
def test_a_run_that_cannot_be_repeated_says_why_with_exit_code_2(
    finished: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object], told: str
) -> None:
    monkeypatch.setattr("vaebench.grid.repeat.in_workers", pytest.fail)
    spoil(finished)
    done = cli(finished)
    assert (done.exit_code, done.stdout) == (2, "")
    first, _, last = told.partition(".* ")
    assert first in done.stderr
    assert last in done.stderr
    assert str(finished) in done.stderr or "device" in done.stderr
    assert done.stderr.count("\n") == 1
    with pytest.raises(ConfigError) as caught:
        vaebench.repeat(finished)
    assert done.stderr == f"Error: {caught.value}\n"


@pytest.mark.parametrize("where", ["grid", "results"])
def test_the_folder_of_many_runs_is_refused_with_their_names(tmp_path: Path, where: str) -> None:
    grid = tmp_path / "results" / "g"
    for name in "abcde":
        (grid / "runs" / name).mkdir(parents=True)
        (grid / "runs" / name / "config.yaml").touch()
    (grid / "grid.yaml").touch()
    done = cli(grid if where == "grid" else grid.parent)
    assert done.exit_code == 2
    named = ", ".join(str(grid / "runs" / name) for name in "abc")
    assert f"name one run, of {named} and 2 more" in done.stderr


def test_a_repetition_that_fails_is_an_error_with_its_reason(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(tasks: Any, hear: Any, jobs: int) -> None:
        hear(Event("started", tasks[0], {}))
        hear(Event("done", tasks[0], {"status": "failed", "reason": "too hot"}))

    monkeypatch.setattr("vaebench.grid.repeat.in_workers", failing)
    with pytest.raises(ResultsError, match="the repetition failed: too hot"):
        repeat(finished)
    assert cli(finished).exit_code == 1


def test_an_interrupt_leaves_nothing_behind(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(tasks: Any, hear: Any, jobs: int) -> None:
        tasks[0].folder.mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr("vaebench.grid.repeat.in_workers", interrupted)
    assert cli(finished).exit_code == 130


# ---------------------------------------------------------------- the command


def test_the_command_says_that_the_numbers_are_identical(finished: Path) -> None:
    done = cli(finished)
    assert done.exit_code == 0, done.output
    verdict = f"fnn / mse / kl, seed 0: identical: {len(REPEATED)} metrics, 2 epochs"
    assert verdict in done.stdout.splitlines()
    assert "epoch 2/2" in done.stdout
    told = cli(finished, "--json", "--device", "cpu")
    assert told.exit_code == 0
    values = json.loads(told.stdout)
    assert (values["identical"], values["differences"], values["epochs"]) == (True, [], 2)
    assert "epoch 2/2" in told.stderr


def test_the_command_lists_what_differs_and_exits_with_3(finished: Path) -> None:
    edit_journal(finished, lambda lines: lines[1]["metrics"].update({"val/elbo": -1.0}))
    edit_record(finished, lambda r: r["metrics"].update({"test/[b]": 1.0}))
    edit_record(finished, lambda r: r["versions"].update(loss=0))
    done = cli(finished)
    assert done.exit_code == 3, done.output
    lines = done.stdout.splitlines()
    verdict = f"not identical: 1 of {len(REPEATED)} metrics differ, 2 epochs"
    assert f"fnn / mse / kl, seed 0: {verdict}" in lines
    [row] = [line.split() for line in lines if line.startswith("val/elbo")]
    assert row[:4] == ["val/elbo", "epoch", "2", "-1.0"]
    assert float(row[5]) == abs(float(row[4]) + 1.0)
    assert "only in the finished run: test/[b]" in lines
    assert "versions.loss 0 then, 1 now" in done.stdout
    assert "vaebench has changed its numbers since" in done.stdout
    [difference] = json.loads(cli(finished, "--json").stdout)["differences"]
    assert (difference["metric"], difference["epoch"], difference["then"]) == ("val/elbo", 2, -1.0)


@pytest.mark.slow
def test_a_run_of_a_grid_is_repeated_by_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)
    path = tmp_path / "small.yaml"
    axes = {"model": ["cnn"], "loss": ["mse"], "estimator": ["sgvb"]}
    path.write_text(dump_yaml(settings(name="small", axes=axes, seeds=[4])))
    vaebench.run_grid(path, vaebench.Options(results=tmp_path / "results", device="cpu"))
    [folder] = (tmp_path / "results" / "small" / "runs").iterdir()
    monkeypatch.setattr("vaebench.grid.repeat.in_workers", in_workers)
    heard: list[Event] = []

    class Ear(Listener):
        def event(self, event: Event) -> None:
            heard.append(event)

    found = vaebench.repeat(folder, listener=Ear())
    assert found.identical, found.differences
    assert found.run == "cnn / mse / sgvb, seed 4"
    assert [event.kind for event in heard] == ["started", "epoch", "epoch", "done"]


@pytest.mark.slow
def test_data_that_lie_elsewhere_can_be_named(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    load = datasets.load

    def watched(*arguments: Any, data_dir: Path | None = None, **dataset: Any) -> Any:
        asked.append(data_dir)
        return load(*arguments, data_dir=data_dir, **dataset)

    monkeypatch.setattr(datasets, "load", watched)
    assert cli(finished, "--data-dir", tmp_path / "data").exit_code == 0
    assert set(asked) == {tmp_path / "data"}
