"""A grid: what runs, what is skipped, what is refused, what is left when it fails or is stopped.

One grid of eight cells is run once in two workers for this module; the tests read it, or work on
copies of its folder.
"""

import itertools
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from mlflow_servers import MLFLOWS_OWN
from others import holder_of, member_of
from records import edit_record
from small_runs import in_this_process_only, numbers, raise_version, results, settings

import vaebench
from vaebench import datasets, report
from vaebench.config import RunConfig, make_grid, make_run
from vaebench.errors import ConfigError, DataError, ResultsError
from vaebench.executors import Event, in_this_process
from vaebench.files import dump_yaml
from vaebench.grid import Listener, Options, Planned, plan, run_grid, train
from vaebench.grid.manifest import make_manifest, require_same_settings
from vaebench.run import TRANSIENT
from vaebench.schema.manifest import read_manifest
from vaebench.storage import Held, RunStore, run_store

pytestmark = MLFLOWS_OWN  # where the module's grid is tracked


def raw(**overrides: Any) -> dict[str, Any]:
    """A grid file of eight small cells."""
    return settings(**({"name": "small", "question": "Which is best?"} | overrides))


class Heard(Listener):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.plans: list[Sequence[Planned]] = []
        self.jobs = 0
        self.events: list[Event] = []
        self.warnings: list[str] = []

    def planned(self, plan: Sequence[Planned], jobs: int, device: str) -> None:
        self.plans.append(plan)
        self.jobs = jobs

    def event(self, event: Event) -> None:
        self.events.append(event)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything in a folder, with the time that it was written."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def actions(grid: dict[str, Any], options: Options) -> list[str]:
    return [entry.action for entry in plan(make_grid(grid), options)]


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Heard]:
    """The results folder, the results and what was heard of the eight cells in two workers."""
    root = tmp_path_factory.mktemp("grid") / "results"
    heard = Heard()
    done = run_grid(raw(), Options(results=root, device="cpu", jobs=2), heard)
    return root, done, heard


@pytest.fixture
def copy(eight: tuple[Path, Any, Heard], tmp_path: Path) -> Path:
    """A copy of the results folder to do things to (without the pictures and MLflow's store)."""
    leave = shutil.ignore_patterns("*.png", "mlflow*", "artifacts", "mlartifacts", "*.npz")
    return Path(shutil.copytree(eight[0], tmp_path / "results", ignore=leave))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process, without figures and without MLflow."""
    in_this_process_only(monkeypatch)


# ---------------------------------------------------------------- a grid that has run


def test_every_cell_is_run_once_and_heard_of(eight: tuple[Path, Any, Heard]) -> None:
    root, done, heard = eight
    runs = make_grid(raw()).runs()
    assert len(runs) == 8
    assert [record["status"] for record in done.records] == ["complete"] * 8
    assert [record["cell"] for record in done.records] == [run.cell for run in runs]
    assert {record["run_id"] for record in done.done} == {run.config.run_id for run in runs}
    assert done.failed == []
    assert done.folder == root / "small"
    assert heard.jobs == 2
    assert [entry.action for entry in heard.plans[0]] == ["run"] * 8
    for run in runs:
        mine = [e for e in heard.events if e.task.config.run_id == run.config.run_id]
        assert [event.kind for event in mine] == ["started", "epoch", "epoch", "done"]
    for record in done.records:
        assert record["environment"]["jobs"] == 2
        assert record["environment"]["threads"] == 1


def test_the_records_on_disk_are_those_that_were_returned(
    eight: tuple[Path, Any, Heard],
) -> None:
    root, done, _ = eight
    for record in done.records:
        store = run_store(root / "small", record["run_id"])
        assert store.record == record
        assert store.config == record["config"]
        assert make_run(record["config"]).run_id == record["run_id"]


def test_the_manifest_says_what_the_grid_is(eight: tuple[Path, Any, Heard]) -> None:
    manifest = read_manifest(eight[0] / "small")
    assert manifest["name"] == "small"
    assert manifest["question"] == "Which is best?"
    assert manifest["seeds"] == [0]
    assert manifest["axes"] == {
        "model": ["fnn", "cnn"],
        "loss": ["bce", "mse"],
        "estimator": ["sgvb", "kl"],
    }
    runs = make_grid(raw()).runs()
    assert manifest["runs"] == [
        {"run_id": run.config.run_id, "cell": run.cell, "seed": 0} for run in runs
    ]
    shared = manifest["settings"]
    assert shared["training"]["epochs"] == 2
    assert shared["dataset"] == {
        "name": "digits",
        "binarize": "none",
        "train": 64,
        "validation": 32,
    }
    assert shared["model"]["latent_dim"] == 2
    assert "name" not in shared["model"]
    assert "seed" not in shared


def test_reports_are_written_in_every_format_with_the_same_numbers(
    eight: tuple[Path, Any, Heard],
) -> None:
    folder, done = eight[0] / "small", eight[1]
    texts = {name: (folder / format_.file).read_text() for name, format_ in report.FORMATS.items()}
    assert all(texts.values())
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "comparison.png" in texts["md"]
    told = json.loads(texts["json"])
    assert told["grid"]["name"] == "small" if isinstance(told["grid"], dict) else told["grid"]
    assert {run["run_id"]: run["metrics"] for run in told["runs"]} == {
        record["run_id"]: record["metrics"] for record in done.records
    }
    ssim = f"{done.records[0]['metrics']['test/ssim']:.3f}"
    assert all(ssim in text for text in (texts["md"], texts["latex"]))


def test_the_frame_has_a_row_for_each_run(eight: tuple[Path, Any, Heard]) -> None:
    frame = eight[1].to_frame()
    assert len(frame) == 8
    assert set(frame["status"]) == {"complete"}
    values = [record["metrics"]["test/elbo"] for record in eight[1].records]
    assert list(frame["test/elbo"]) == values


def test_mlflow_has_every_run(eight: tuple[Path, Any, Heard]) -> None:
    outcome = eight[1].tracking
    assert (outcome.sent, outcome.unsent, outcome.problem) == (8, 0, None)
    assert eight[2].warnings == []
    assert (eight[0] / "mlflow.db").exists()


def test_a_second_call_skips_everything_and_does_nothing(eight: tuple[Path, Any, Heard]) -> None:
    root, first, _ = eight
    before = files(root / "small" / "runs")
    heard = Heard()
    again = run_grid(raw(), Options(results=root, device="cpu", jobs=2), heard)
    assert again.done == []
    assert [entry.action for entry in heard.plans[0]] == ["skip"] * 8
    assert {entry.why for entry in heard.plans[0]} == {"complete"}
    assert heard.events == []
    assert list(again.records) == list(first.records)
    assert files(root / "small" / "runs") == before
    assert (again.tracking.sent, again.tracking.unsent) == (8, 0)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("cell", [0, 7])
def test_a_run_does_not_depend_on_the_other_cells_the_order_or_the_workers(
    eight: tuple[Path, Any, Heard], tmp_path: Path, cell: int
) -> None:
    """Trap 11: the cell alone, in this process, gives what it gave in a grid of two workers."""
    root, done, _ = eight
    record = done.records[cell]
    alone = train(record["config"], Options(results=tmp_path, device="cpu"))
    assert alone.record["run_id"] == record["run_id"]
    assert alone.record["environment"]["jobs"] == 1
    assert results(alone.record) == results(record)
    assert alone.record["rate_per_dimension"] == record["rate_per_dimension"]
    (folder,) = (tmp_path / report.load(tmp_path).name / "runs").iterdir()
    there = run_store(root / "small", record["run_id"])
    assert numbers(RunStore(folder).journal) == numbers(there.journal)
    ours, theirs = RunStore(folder).load_tensors("weights.pt"), there.load_tensors("weights.pt")
    assert ours is not None
    assert theirs is not None
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


def test_a_run_of_the_grid_is_loaded_from_python(eight: tuple[Path, Any, Heard]) -> None:
    root, done, _ = eight
    for record in (done.records[0], done.records[-1]):
        loaded = vaebench.load_run(root / "small" / "runs" / record["run_id"])
        assert loaded.metrics == record["metrics"]
        assert repr(loaded).startswith(f"<LoadedRun {record['run_id']}: ")
        assert len(repr(loaded)) < 80
        images = datasets.load("digits").test.x[:3]
        assert loaded.model.reconstruct(images).shape == (3, 1, 8, 8)


# ---------------------------------------------------------------- planning


def test_planning_writes_nothing_and_says_why(copy: Path) -> None:
    options = Options(results=copy, device="cpu")
    folder = copy / "small"
    records = [run_store(folder, entry["run_id"]) for entry in read_manifest(folder)["runs"]]
    (records[0].path / "record.json").unlink()
    fail(records[1], "failed", "too hot")
    (records[2].path / "record.json").write_text("{")
    (records[3].path / "config.yaml").write_text("model: cnn\n")
    fail(records[4], "interrupted", "Ctrl-C")
    shutil.rmtree(records[5].path)
    before = files(copy)
    found = plan(make_grid(raw(seeds=2)), options)
    by_id = {entry.run.config.run_id: entry for entry in found}
    told = [(by_id[store.run_id].action, by_id[store.run_id].why) for store in records]
    assert told == [
        ("resume", "after epoch 2 of 2"),
        ("rerun", "failed: too hot"),
        ("rerun", "its record is damaged"),
        ("rerun", "its stored configuration is damaged"),
        ("resume", "after epoch 2 of 2"),
        ("run", "new"),
        ("skip", "complete"),
        ("skip", "complete"),
    ]
    assert [entry.action for entry in found if entry.run.config.seed == 1] == ["run"] * 8
    quick = {e.run.run_id: e for e in plan(make_grid(raw(seeds=2)), options, thorough=False)}
    told_quickly = [(quick[store.run_id].action, quick[store.run_id].why) for store in records]
    assert told_quickly[:3] == told[:3]
    assert told_quickly[3] == ("skip", "complete")  # its record is believed
    assert told_quickly[4:] == told[4:]
    assert files(copy) == before
    assert plan(make_grid(raw()), Options(results=copy / "nowhere"))[0].action == "run"
    assert not (copy / "nowhere").exists()


@pytest.mark.parametrize(
    "later",
    [
        {"training": {"precision": "bfloat16"}},
        {"training": {"compile": True}},
        {"diagnostics": {"gradient_variance": True}},
    ],
)
def test_a_setting_that_a_dump_leaves_out_at_its_default_makes_another_grid(
    later: dict[str, Any], tmp_path: Path
) -> None:
    usual = raw()
    changed = usual | {key: usual.get(key, {}) | value for key, value in later.items()}
    for first, second in ((usual, changed), (changed, usual)):
        grid = make_grid(first)
        (tmp_path / "grid.yaml").write_text(dump_yaml(make_manifest(grid, grid.runs())))
        require_same_settings(tmp_path, make_manifest(grid, grid.runs()))
        other = make_grid(second)
        with pytest.raises(ConfigError, match="with other settings"):
            require_same_settings(tmp_path, make_manifest(other, other.runs()))


def test_a_record_without_its_configuration_is_not_believed(copy: Path) -> None:
    folder = copy / "small"
    store = run_store(folder, read_manifest(folder)["runs"][0]["run_id"])
    record = store.record
    assert record is not None
    del record["config"]
    (store.path / "record.json").write_text(json.dumps(record))
    options = Options(results=copy, device="cpu")
    for thorough in (False, True):
        found = plan(make_grid(raw()), options, thorough=thorough)
        (entry,) = (e for e in found if e.run.run_id == store.run_id)
        assert entry.action in ("skip", "rerun")  # by its stored configuration; never an error


def test_a_finished_run_stays_where_it_is_when_its_data_are_gone(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy / "small"
    store = run_store(folder, read_manifest(folder)["runs"][0]["run_id"])
    (store.path / "weights.pt").write_bytes(b"half")  # what only a thorough look finds
    before = (store.path / "record.json").read_bytes()

    def gone(*_: object, **__: object) -> None:
        raise DataError("no data")

    monkeypatch.setattr("vaebench.grid.tasks.datasets.load", gone)
    with pytest.raises(DataError, match="no data"):
        run_grid(raw(), Options(results=copy, device="cpu"))
    assert (store.path / "record.json").read_bytes() == before


def fail(store: RunStore, status: str, reason: str) -> None:
    record = store.record
    assert record is not None
    text = json.dumps(record | {"status": status, "reason": reason, "metrics": {}})
    (store.path / "record.json").write_text(text)


@pytest.mark.parametrize(
    ("rerun", "expected"),
    [
        (None, ["run", "rerun", "skip"]),
        ("missing", ["run", "skip", "skip"]),
        ("failed", ["skip", "rerun", "skip"]),
        ("all", ["run", "rerun", "rerun"]),
    ],
)
def test_rerun_chooses_what_is_done_again(copy: Path, rerun: Any, expected: list[str]) -> None:
    stores = [run_store(copy / "small", e["run_id"]) for e in read_manifest(copy / "small")["runs"]]
    shutil.rmtree(stores[0].path)
    fail(stores[1], "failed", "why")
    found = actions(raw(), Options(results=copy, rerun=rerun))
    assert found == [*expected, *[expected[2]] * 5]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"training__batch_size": 32}, "training.batch_size: 24 there, 32 here"),
        ({"training__optimizer": "sgd"}, "training.optimizer.name: adam there, sgd here"),
        ({"dataset__train": 65}, "dataset.train: 64 there, 65 here"),
        ({"model__fnn__hidden": [9]}, "model.fnn.hidden: [8] there, [9] here"),
        ({"training__early_stopping": {"patience": 3}}, "training.early_stopping"),
        ({"training__gradient_clip": 1.0}, "training.gradient_clip: None there, 1.0 here"),
        ({"evaluate": "best"}, "evaluate: last there, best here"),
    ],
)
def test_other_settings_under_the_same_name_are_refused_and_named(
    copy: Path, overrides: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        actions(raw(**overrides), Options(results=copy))
    message = str(caught.value)
    assert told in message
    assert "--name" in message
    assert "--rerun all" in message
    replaced = actions(raw(**overrides), Options(results=copy, rerun="all"))
    assert replaced[:4] == ["run"] * 4
    assert actions(raw(**overrides, name="other"), Options(results=copy)) == ["run"] * 8


def test_other_axes_under_the_same_name_are_refused(copy: Path) -> None:
    other = raw(axes={"model": ["fnn", "cnn"], "loss": ["bce", "mse"]})
    with pytest.raises(ConfigError, match="axes: model, loss, estimator there, model, loss here"):
        actions(other, Options(results=copy))


def test_runs_of_a_version_with_other_numbers_are_not_mixed(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy / "small" / "grid.yaml"
    manifest = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(manifest | {"numbers_version": 0}, sort_keys=False))
    for rerun in (None, "missing", "failed"):
        with pytest.raises(ConfigError, match="gives other numbers: --rerun stale"):
            actions(raw(), Options(results=copy, rerun=rerun))
    with pytest.raises(ConfigError, match="learning_rate"):  # another grid stays one
        actions(raw(training__learning_rate=0.5), Options(results=copy, rerun="stale"))


@pytest.mark.usefixtures("here")
def test_a_superseded_grid_is_trained_anew_and_extended_in_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = {"loss": ["bce", "mse"]}
    first = run_grid(raw(axes=axes), Options(results=tmp_path, device="cpu"))
    folder, before = first.folder, files(first.folder / "runs")
    for module in ("config.run", "grid.manifest"):
        monkeypatch.setattr(f"vaebench.{module}.NUMBERS_VERSION", 99)
    options = Options(results=tmp_path, device="cpu", rerun="stale")
    planned = plan(make_grid(raw(axes=axes, seeds=2)), options)
    assert {(entry.action, entry.why) for entry in planned} == {
        ("run", "superseded: its code has changed")
    }

    shutil.copytree(folder, tmp_path / "at once" / "small")
    elsewhere = replace(options, results=tmp_path / "at once")
    whole = run_grid(raw(axes=axes, seeds=2), elsewhere, executor=in_this_process)
    assert [record["versions"]["numbers"] for record in whole.records] == [99] * 4

    def stops(tasks: Iterable[Any], hear: Any) -> None:
        in_this_process(itertools.islice(tasks, 1), hear)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_grid(raw(axes=axes, seeds=2), options, executor=stops)
    # the same command goes on: what is superseded is known although the manifest is renewed
    assert actions(raw(axes=axes, seeds=2), options).count("run") >= 1
    run_grid(raw(axes=axes, seeds=2), options, executor=in_this_process)
    done = run_grid(raw(axes=axes, seeds=2), replace(options, rerun=None))
    assert [record["versions"]["numbers"] for record in done.records] == [99] * 4
    assert read_manifest(folder)["superseded"] == [
        {"run_id": record["run_id"], "cell": record["cell"], "seed": 0} for record in first.records
    ]
    after = files(folder / "runs")
    assert {name: after[name] for name in before} == before
    old, new = report.load(folder, superseded=True), report.load(folder)
    outcomes = report.compare(old, new).outcomes
    assert {its.versions for its in outcomes} == {"numbers 3 → 99"}
    assert {its.seeds for its in outcomes} == {(0,)}


@pytest.mark.usefixtures("here")
def test_rerun_stale_renews_what_has_an_older_component_and_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_grid(raw(axes={"loss": ["bce", "mse"]}), Options(results=tmp_path, device="cpu"))
    raise_version(monkeypatch, "loss", "mse")
    grid = make_grid(raw(axes={"loss": ["bce", "mse"]}, seeds=2))
    planned = plan(grid, Options(results=tmp_path, rerun="stale"))
    assert [(entry.run.cell["loss"], entry.run.config.seed, entry.why) for entry in planned] == [
        ("bce", 0, "complete; --rerun stale leaves it"),
        ("bce", 1, "missing; --rerun stale leaves it"),
        ("mse", 0, "superseded: its code has changed"),
        ("mse", 1, "missing; --rerun stale leaves it"),
    ]


@pytest.mark.usefixtures("here")
def test_runs_of_other_data_are_stale_and_trained_anew_only_when_asked(copy: Path) -> None:
    folder = next(iter((copy / "small" / "runs").iterdir()))
    trained_on = RunStore(folder).record["environment"]["dataset"]["digest"]
    edit_record(folder, lambda r: r["environment"]["dataset"].update(digest="another"))
    stale = [e for e in plan(make_grid(raw()), Options(results=copy)) if "stale" in e.why]
    assert [(e.run.run_id, e.action) for e in stale] == [(folder.name, "skip")]
    assert actions(raw(), Options(results=copy, rerun="stale")).count("rerun") == 1
    done = run_grid(raw(), Options(results=copy, device="cpu", rerun="stale")).done
    assert [record["run_id"] for record in done] == [folder.name]
    assert RunStore(folder).record["environment"]["dataset"]["digest"] == trained_on
    assert (
        RunStore(folder / "attempts" / "1").record["environment"]["dataset"]["digest"] == "another"
    )


def test_a_network_that_cannot_be_built_is_an_error_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"cnn: 2 .* 1 "):
        run_grid(raw(model__cnn__strides=[2, 2]), Options(results=tmp_path, device="cpu"))
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- running on


@pytest.mark.usefixtures("here")
def test_added_seeds_and_values_extend_a_grid_and_keep_its_runs(copy: Path) -> None:
    options = Options(results=copy, device="cpu")
    cell = {"axes": {"model": ["fnn"], "loss": ["bce"], "estimator": ["kl"]}}
    before = files(copy / "small" / "runs")
    more = run_grid(raw(**cell, seeds=3), options)
    assert [record["seed"] for record in more.done] == [1, 2]
    manifest = read_manifest(copy / "small")
    assert manifest["seeds"] == [0, 1, 2]
    assert len(manifest["runs"]) == 10
    assert manifest["axes"]["model"] == ["fnn", "cnn"]
    assert manifest["runs"] == sorted(
        manifest["runs"],
        key=lambda e: (
            *(manifest["axes"][axis].index(value) for axis, value in e["cell"].items()),
            e["seed"],
        ),
    )
    assert len(more.records) == 10
    after = files(copy / "small" / "runs")
    assert {name: after[name] for name in before} == before


def cells_of(folder: Path) -> list[tuple[str, int]]:
    return [(entry["cell"]["loss"], entry["seed"]) for entry in read_manifest(folder)["runs"]]


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_new_version_of_a_loss_trains_its_runs_anew_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(results=tmp_path, device="cpu")
    axes = {"model": ["fnn"], "loss": ["bce", "mse"], "estimator": ["kl"]}
    first = run_grid(raw(axes=axes, seeds=3), options)
    assert len(first.done) == 6
    folder, before = first.folder, files(first.folder / "runs")
    bce, _ = report.load(folder).cells
    raise_version(monkeypatch, "loss", "mse")

    # fewer seeds than there were: those that are left out have no numbers until they are done
    second = run_grid(raw(axes=axes, seeds=2), options, executor=in_this_process)
    assert [(r["cell"]["loss"], r["seed"]) for r in second.done] == [("mse", 0), ("mse", 1)]
    everything = [(loss, seed) for loss in ("bce", "mse") for seed in range(3)]
    assert cells_of(folder) == everything
    read = report.load(folder)
    assert [(run.cell["loss"], run.seed) for run in read.missing] == [("mse", 2)]
    kept, renewed = read.cells
    assert kept == bce
    assert (renewed.progress, renewed.summaries) == ("incomplete (2 of 3 seeds)", {})

    # a call that has nothing to do with them leaves the list as it is
    other = {"model": ["fnn"], "loss": ["bce"], "estimator": ["kl"]}
    assert run_grid(raw(axes=other, seeds=3), options).done == []
    assert report.load(folder).planned == read.planned

    third = run_grid(raw(axes=axes, seeds=3), options)
    assert [(r["cell"]["loss"], r["seed"]) for r in third.done] == [("mse", 2)]
    assert cells_of(folder) == everything
    kept, renewed = report.load(folder).cells
    assert kept == bce
    assert renewed.complete
    assert [record["versions"]["loss"] for record in renewed.records] == [2, 2, 2]
    assert run_grid(raw(axes=axes, seeds=3), options).done == []
    after = files(folder / "runs")
    assert {name: after[name] for name in before} == before


@pytest.mark.usefixtures("here")
def test_cells_that_a_call_leaves_out_are_missing_when_their_loss_has_a_new_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(results=tmp_path, device="cpu")
    axes = {"loss": ["bce", "mse"]}
    first = run_grid(raw(axes=axes), options)
    raise_version(monkeypatch, "loss", "mse")
    done = run_grid(raw(axes={"loss": ["bce"]}), options)
    assert done.done == []
    assert cells_of(done.folder) == [("bce", 0), ("mse", 0)]
    (missing,) = report.load(done.folder).missing
    assert missing.cell == {"loss": "mse"}
    assert missing.run_id != first.records[1]["run_id"]


@pytest.mark.usefixtures("here")
def test_a_run_that_never_began_is_listed_once_when_its_loss_has_a_new_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(results=tmp_path, device="cpu")
    first = run_grid(raw(axes={"loss": ["bce", "mse"]}), options)
    shutil.rmtree(run_store(first.folder, first.records[1]["run_id"]).path)
    raise_version(monkeypatch, "loss", "mse")
    done = run_grid(raw(axes={"loss": ["bce", "mse"]}), options)
    assert [record["cell"] for record in done.done] == [{"loss": "mse"}]
    assert cells_of(done.folder) == [("bce", 0), ("mse", 0)]
    assert report.load(done.folder).missing == ()


@pytest.mark.usefixtures("here")
def test_a_rerun_is_a_new_attempt_with_the_same_numbers(copy: Path) -> None:
    cell = {"axes": {"model": ["fnn"], "loss": ["mse"], "estimator": ["kl"]}}
    options = Options(results=copy, device="cpu", rerun="all")
    first = [r for r in report.load(copy).records if r["cell"]["loss"] == "mse"]
    done = run_grid(raw(**cell), options)
    (record,) = done.done
    assert record["attempt"] == 2
    (old,) = [r for r in first if r["run_id"] == record["run_id"]]
    assert results(record) == results(old)
    aside = run_store(done.folder, record["run_id"]).path / "attempts" / "1"
    assert json.loads((aside / "record.json").read_text()) == old


DIVERGES: dict[str, Any] = {
    "axes": {"loss": ["mse", "bce"], "training.learning_rate": [1e10, 1e-3]},
    "model": {"name": "fnn", "latent_dim": 2, "fnn": {"hidden": [8]}},
    "loss": {"mse": {"output": "linear", "sigma2": 0.01}},
    "training__optimizer": "sgd",
    "training__gradient_clip": None,
    "training__epochs": 3,
}


@pytest.mark.usefixtures("here")
def test_a_failed_run_is_kept_and_the_others_go_on(tmp_path: Path) -> None:
    done = run_grid(raw(**DIVERGES), Options(results=tmp_path, device="cpu"))
    statuses = {
        (r["cell"]["loss"], r["cell"]["training.learning_rate"]): r["status"] for r in done.records
    }
    assert len(statuses) == 4
    assert statuses["mse", 1e10] == "failed"
    assert statuses["bce", 1e-3] == "complete"
    assert "failed" in (done.folder / "report.md").read_text()
    assert [r["run_id"] for r in done.failed] == [
        r["run_id"] for r in done.records if r["status"] == "failed"
    ]
    again = actions(raw(**DIVERGES), Options(results=tmp_path, rerun="failed"))
    assert again.count("rerun") == len(done.failed)


@pytest.mark.usefixtures("here")
def test_fail_fast_stops_at_the_first_failure(tmp_path: Path) -> None:
    done = run_grid(raw(**DIVERGES), Options(results=tmp_path, device="cpu", fail_fast=True))
    assert [record["status"] for record in done.done][-1] == "failed"
    assert len(done.done) < 4
    assert len(done.failed) == 1
    assert (done.folder / "report.md").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_an_interrupted_grid_marks_its_runs_and_goes_on_where_it_was(tmp_path: Path) -> None:
    class Interrupts(Heard):
        def event(self, event: Event) -> None:
            super().event(event)
            started = sum(e.kind == "started" for e in self.events)
            if started == 2 and event.kind == "epoch":
                raise KeyboardInterrupt

    one = {"axes": {"model": ["fnn"], "loss": ["bce", "mse"], "estimator": ["sgvb", "kl"]}}
    options = Options(results=tmp_path / "torn", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        run_grid(raw(**one), options, Interrupts())
    found = report.load(tmp_path / "torn")
    assert sorted(record["status"] for record in found.records) == ["complete", "interrupted"]
    (torn,) = [record for record in found.records if record["status"] == "interrupted"]
    assert torn["epochs"] == 1
    assert torn["reason"]
    assert (tmp_path / "torn" / "small" / "report.md").exists()
    assert sorted(actions(raw(**one), options)) == ["resume", "run", "run", "skip"]
    resumed = run_grid(raw(**one), options)
    assert [record["status"] for record in resumed.records] == ["complete"] * 4
    whole = run_grid(raw(**one), Options(results=tmp_path / "whole", device="cpu"))
    assert [results(r) for r in resumed.records] == [results(r) for r in whole.records]
    assert {record["attempt"] for record in resumed.records} == {1}


@pytest.mark.usefixtures("here")
def test_a_grid_goes_on_when_nobody_reads_its_progress_any_more(tmp_path: Path) -> None:
    class Broken(Heard):
        def event(self, event: Event) -> None:
            super().event(event)
            raise BrokenPipeError("nobody reads")

    one = {"axes": {"model": ["fnn"], "loss": ["bce"], "estimator": ["kl"]}}
    listener = Broken()
    done = run_grid(raw(**one), Options(results=tmp_path, device="cpu"), listener)
    assert [record["status"] for record in done.records] == ["complete"]
    assert [event.kind for event in listener.events] == ["started"]


@pytest.mark.usefixtures("here")
def test_a_run_whose_worker_was_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    one = {"axes": {"model": ["fnn"], "loss": ["bce"], "estimator": ["kl"]}}
    options = Options(results=tmp_path / "torn", device="cpu")

    class Interrupts(Heard):
        def event(self, event: Event) -> None:
            if event.kind == "epoch":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_grid(raw(**one), options, Interrupts())
    path = next((tmp_path / "torn").glob("*/runs/*/record.json"))
    record = json.loads(path.read_text())
    for failure, action in (
        *((passing, "resume") for passing in TRANSIENT),
        *((lasting, "rerun") for lasting in ("diverged", "error", None, ["died"])),
    ):
        path.write_text(json.dumps(record | {"status": "failed", "failure": failure}))
        assert actions(raw(**one), options) == [action]
    path.write_text(json.dumps(record | {"status": "failed", "failure": "died"}))
    (resumed,) = run_grid(raw(**one), options).records
    (whole,) = run_grid(raw(**one), Options(results=tmp_path / "whole", device="cpu")).records
    assert (resumed["status"], resumed["attempt"]) == ("complete", 1)
    assert results(resumed) == results(whole)


@pytest.mark.usefixtures("here")
def test_no_fingerprint_is_made_while_a_run_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pydantic would swallow an interrupt that arrives there, and the run would count as failed."""
    made = RunConfig.run_id.fget  # type: ignore[attr-defined]

    class Watches(Heard):
        training = False

        def event(self, event: Event) -> None:
            Watches.training = event.kind == "epoch" and event.data["epoch"] == 1

    def watched(config: Any) -> str:
        assert not Watches.training
        return str(made(config))

    monkeypatch.setattr(RunConfig, "run_id", property(watched))
    one = {"axes": {"model": ["fnn"], "loss": ["bce"], "estimator": ["kl"]}}
    done = run_grid(raw(**one), Options(results=tmp_path, device="cpu"), Watches())
    assert [record["status"] for record in done.records] == ["complete"]


# ---------------------------------------------------------------- refusing


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_grid_of_which_another_process_needs_all_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    with member_of(folder, "whole"):
        for second in (run_grid, train):
            with pytest.raises(ResultsError, match=re.escape(f"{folder}: ")):
                second(raw(axes={"model": ["fnn"]}), Options(results=tmp_path, device="cpu"))
        assert not (folder / "grid.yaml").exists()
    assert not list(folder.iterdir())


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("rerun", ["all", "stale"])
def test_what_replaces_results_needs_the_whole_grid_and_says_who_else_is_in_it(
    tmp_path: Path, rerun: Literal["all", "stale"]
) -> None:
    folder = tmp_path / "small"
    options = Options(results=tmp_path, device="cpu", rerun=rerun)
    with (
        member_of(folder, "a part") as other,
        pytest.raises(Held, match=f"process {other.pid} on "),
    ):
        run_grid(raw(axes={"model": ["fnn"]}), options)
    assert not (folder / "grid.yaml").exists()


@pytest.mark.usefixtures("here")
def test_runs_that_another_process_does_are_left_to_it_and_those_of_a_dead_one_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaebench.grid.taking.POLL", 0.01)
    grid, options = make_grid(raw(axes={"model": ["fnn", "cnn"]})), Options(tmp_path, "cpu")
    first = grid.runs()[0]
    held = tmp_path / grid.name / ".work" / "runs" / first.run_id
    heard = Heard()
    with holder_of(held, held.parents[2]) as other:
        (entry,) = [entry for entry in plan(grid, options) if entry.run == first]
        assert entry.action == "run"
        assert entry.why.startswith(f"new; process {other.pid} on ")
        done = run_grid(grid, options, heard)
        assert [record["run_id"] for record in done.done] == [grid.runs()[1].run_id]
        assert [run.run_id for run in done.analysis.missing] == [first.run_id]
    done = run_grid(grid, options)
    assert [record["run_id"] for record in done.done] == [first.run_id]
    assert not (tmp_path / grid.name / ".work").exists()


@pytest.mark.usefixtures("here")
def test_what_another_process_finished_just_before_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look at the folder and its lock, a whole grid may pass."""
    grid, options = raw(axes={"model": ["fnn"]}), Options(results=tmp_path, device="cpu")
    load = datasets.load
    others = []

    def loaded(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr("vaebench.datasets.load", load)
        others.append(run_grid(grid, options))
        return load(*args, **kwargs)

    monkeypatch.setattr("vaebench.datasets.load", loaded)
    heard = Heard()
    second = run_grid(grid, options, heard)
    (first,) = others
    assert [record["status"] for record in first.done] == ["complete"]
    assert second.done == []
    assert second.records == first.records
    assert [[entry.action for entry in plan] for plan in heard.plans] == [["skip"]]
    assert {record["attempt"] for record in second.records} == {1}


def test_a_corrupt_data_file_is_found_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAEBENCH_MNIST_MIRROR", raising=False)
    data = tmp_path / "data" / "MNIST" / "raw"
    data.mkdir(parents=True)
    broken = data / "train-images-idx3-ubyte.gz"
    broken.write_bytes(b"torn")
    heard = Heard()
    options = Options(results=tmp_path / "results", device="cpu", data_dir=tmp_path / "data")
    with pytest.raises(DataError) as caught:
        run_grid({"training": {"epochs": 1}}, options, heard)
    assert str(broken) in str(caught.value)
    assert "md5" in str(caught.value)
    assert heard.events == []
    assert not list(tmp_path.rglob("runs"))
    assert broken.read_bytes() == b"torn"


def test_a_results_folder_that_cannot_be_written_is_an_error_that_names_it() -> None:
    with pytest.raises(ResultsError, match=r"/proc/nowhere/small: cannot be written"):
        run_grid(raw(), Options(results=Path("/proc/nowhere"), device="cpu"))


def test_a_single_run_that_describes_several_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="describes 2 runs; use `vaebench run-grid`"):
        train(settings(seeds=2), Options(results=tmp_path, device="cpu"))


@pytest.mark.usefixtures("here")
def test_a_single_run_that_fails_raises_its_reason(tmp_path: Path) -> None:
    diverges = settings(
        loss={"name": "mse", "mse": {"output": "linear", "sigma2": 0.01}},
        training__learning_rate=1e10,
        training__optimizer="sgd",
    )
    with pytest.raises(ResultsError, match="in epoch 1"):
        train(diverges, Options(results=tmp_path, device="cpu"))


@pytest.mark.usefixtures("here")
def test_a_grid_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    one = {"axes": {"model": ["fnn"]}, "training__epochs": 1}
    path.write_text(yaml.safe_dump(raw(**one)))
    done = run_grid(path, Options(results=tmp_path / "results", device="cpu"))
    assert [record["cell"] for record in done.records] == [{"model": "fnn"}]
    path.write_text("modle: fnn\n")
    with pytest.raises(ConfigError, match=f"{path}: modle: unknown key"):
        run_grid(path, Options(results=tmp_path / "results", device="cpu"))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("size", "warnings"), [(64, 0), (65, 1)])
def test_a_batch_larger_than_the_training_split_is_one_warning(
    tmp_path: Path, size: int, warnings: int
) -> None:
    heard = Heard()
    grid = raw(axes={"model": ["fnn"], "loss": ["bce", "mse"]}, training__batch_size=size)
    done = run_grid(grid, Options(results=tmp_path, device="cpu", jobs=1), heard)
    assert [record["status"] for record in done.done] == ["complete"] * 2
    told = [text for text in heard.warnings if text.startswith("training.batch_size is 65, but")]
    assert len(told) == len(heard.warnings) == warnings
