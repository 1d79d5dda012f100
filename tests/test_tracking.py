"""What MLflow shows of a results folder, and that showing it can neither fail nor delay a training.

The store is real SQLite: migrated once per session, copied per test.
"""

import base64
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import records
import yaml
from mlflow_servers import MLFLOWS_OWN

from vaebench.errors import TrackingError, redact
from vaebench.storage import RunStore
from vaebench.tracking import (
    Window,
    Writer,
    connect,
    payload,
    replay,
    server,
    staging,
    sync,
    views,
)
from vaebench.tracking.client import GridClient
from vaebench.tracking.failures import Unreachable, explain
from vaebench.tracking.publisher import Publisher
from vaebench.tracking.server import _free_port, serve
from vaebench.tracking.store import MLFLOW_SETTINGS, open_client, prepare_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

pytestmark = MLFLOWS_OWN

TWO_CELLS = {"model": ["fnn"], "loss": ["bce", "mse"], "estimator": ["kl"]}
Results = Callable[..., Window]


@pytest.fixture
def make(template: Path, tmp_path: Path) -> Results:
    """Write a synthetic grid beside an empty store."""

    def results(**changed: Any) -> Window:
        root = tmp_path / "results"
        records.make_results(
            root, **{"axes": TWO_CELLS, "seeds": (0,), "pictures": True, **changed}
        )
        shutil.copyfile(template, root / "mlflow.db")
        return connect(root, changed.get("name", "grid"))

    return results


def shown(window: Window) -> "tuple[MlflowClient, list[Run]]":
    """What a user of MLflow's own client finds, oldest first."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=window.uri)
    experiment = client.get_experiment_by_name(window.experiment)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return client, list(found)


def of_role(found: "list[Run]", role: str) -> "list[Run]":
    return [run for run in found if run.data.tags["vaebench.role"] == role]


def rows(window: Window) -> dict[str, int]:
    """Number of rows of every table of the store."""
    connection = sqlite3.connect(window.results / "mlflow.db")
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    counted = {
        t: connection.execute(f"SELECT count(*) FROM [{t}]").fetchone()[0] for (t,) in tables
    }
    connection.close()
    return counted


def write_journal(folder: Path, epochs: int, keys: int = 2) -> None:
    lines = [
        {
            "epoch": epoch,
            "time": records.START + 1000 * epoch,
            "metrics": {f"train/m{k}": -epoch / (k + 3) for k in range(keys)},
        }
        for epoch in range(1, epochs + 1)
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "journal.jsonl").write_text(text, encoding="utf-8")


# where to


def test_first_uri_that_was_said_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert connect(tmp_path, "g").uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert connect(tmp_path, "g", None, "http://file:1").uri == "http://file:1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment:1")
    assert connect(tmp_path, "g", None, "http://file:1").uri == "http://environment:1"
    assert connect(tmp_path, "g", "http://flag:1", "http://file:1").uri == "http://flag:1"


def test_experiment_is_named_after_the_grid_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connect(tmp_path, "g").experiment == "g"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    window = connect(tmp_path, "g")
    assert (window.experiment, window.grid) == ("mine", "g")


def test_files_lie_beside_the_store_unless_a_server_keeps_them(tmp_path: Path) -> None:
    assert connect(tmp_path, "g").artifacts == (tmp_path / "artifacts" / "g").as_uri()
    other = tmp_path / "elsewhere"
    uri = f"sqlite:///{other}/my.db"
    assert connect(tmp_path, "g", uri).artifacts == (other / "artifacts" / "g").as_uri()
    assert connect(tmp_path, "g", "http://server:5000").artifacts is None


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("./mlruns", "sqlite:///"),
        ("file:///tmp/mlruns", "migrate-filestore"),
        ("htp://user:secret@host", "no store 'htp'; choose from sqlite"),
        ("http://", "names no host"),
    ],
)
def test_wrong_uri_is_refused_with_what_to_do(tmp_path: Path, uri: str, said: str) -> None:
    with pytest.raises(TrackingError, match="tracking URI") as caught:
        connect(tmp_path, "g", uri)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert str(caught.value).count("\n") <= 1


@pytest.mark.parametrize("driver", ["", "+psycopg", "+psycopg2"])
def test_a_database_without_its_driver_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    uri = f"postgresql{driver}://me:secret@host/db"
    monkeypatch.setattr("vaebench.tracking.store.find_spec", lambda _: None)
    with pytest.raises(TrackingError, match=r"pip install 'vaebench\[postgres\]'") as caught:
        connect(tmp_path, "g", uri)
    assert "secret" not in str(caught.value)
    wanted = driver.removeprefix("+") or "psycopg"
    monkeypatch.setattr("vaebench.tracking.store.find_spec", lambda name: name == wanted or None)
    assert connect(tmp_path, "g", uri).uri == uri


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://user:secret@host:5000/x", "http://***@host:5000/x"),
        ("postgresql://u:p@ss@host/db failed", "postgresql://***@host/db failed"),
        ("mysql://host/db?user=u&password=secret&x=1", "mysql://host/db?user=u&password=***&x=1"),
        ("http://user:se/cret@x@host:1/y", "http://***@host:1/y"),
        ("http://host/a@b", "http://***@b"),  # rather too much than a password
        ("sqlite:////a@b/c.db", "sqlite:////a@b/c.db"),
    ],
)
def test_passwords_are_not_shown(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("(sqlite3.OperationalError) database is locked", "is locked by another program"),
        ("Detected out-of-date database schema (found version x)", "mlflow db upgrade"),
        ("endpoint failed with error code 401", "refuses the credentials"),
        ("endpoint failed with error code 503", "answers with errors (HTTP 503)"),
        ("The file lock '/a b/.lock' could not be acquired.", "waits for /a b/.lock, which"),
        ("RESOURCE_LIMIT: too much\nof everything", "RESOURCE_LIMIT: too much"),
    ],
)
def test_refusals_of_mlflow_say_what_to_do(error: str, said: str) -> None:
    uri = "postgresql://user:secret@host/db"
    from mlflow.exceptions import MlflowException

    message = str(explain(MlflowException(f"{error} {uri}"), uri))
    assert message.startswith("MLflow at postgresql://***@host/db")
    assert said in message
    assert "secret" not in message
    assert "\n" not in message


def test_importing_and_connecting_leave_mlflow_alone(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, vaebench.tracking as t; t.connect(pathlib.Path(sys.argv[1]), 'g');"
        "print([m for m in ('mlflow', 'torch', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_processes_that_open_a_new_store_at_once_all_succeed(tmp_path: Path) -> None:
    grid = records.make_results(tmp_path, axes={"model": ["fnn"]}, seeds=(0,))
    program = (
        "import sys, pathlib, vaebench.tracking as t;"
        f"print(t.sync(t.connect(pathlib.Path({str(tmp_path)!r}), {grid.name!r})).unsent)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in started] == [b"0"] * 2
    _, found = shown(connect(tmp_path, grid.name))
    assert Counter(run.data.tags["vaebench.role"] for run in found) == {
        "grid": 1,
        "cell": 1,
        "run": 1,
    }


def test_store_is_made_whole_or_not_at_all(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlflow.MlflowClient.__init__", killed)
    with pytest.raises(KeyboardInterrupt):
        open_client(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert not (tmp_path / "mlflow.db").exists()
    # what a killed process had left beside the template was no hindrance
    with sqlite3.connect(template) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    connection.close()


# what is shown


def test_grid_cells_and_seeds_are_three_levels(make: Results) -> None:
    window = make(seeds=(0, 1))
    outcome = sync(window)
    assert (outcome.sent, outcome.unsent, outcome.problem) == (4, 0, None)
    _, found = shown(window)
    (grid,) = of_role(found, "grid")
    cells, seeds = of_role(found, "cell"), of_role(found, "run")
    assert {run.data.tags["mlflow.parentRunId"] for run in cells} == {grid.info.run_id}
    parents = Counter(run.data.tags["mlflow.parentRunId"] for run in seeds)
    assert parents == dict.fromkeys([cell.info.run_id for cell in cells], 2)
    assert {run.info.run_name for run in seeds} == {
        f"fnn-{loss}-kl-s{seed}" for loss in ("bce", "mse") for seed in (0, 1)
    }
    assert {run.info.status for run in found} == {"FINISHED"}


def test_run_shows_its_record(make: Results) -> None:
    window = make()
    folder = records.run_dirs(window.folder)[1]
    record = json.loads((folder / "record.json").read_text())
    sync(window)
    client, found = shown(window)
    (run,) = [r for r in found if r.data.tags.get("vaebench.run_id") == folder.name]
    assert run.data.params == {
        **{"model": "fnn", "loss": "mse", "estimator": "kl", "seed": "0"},
        **{"dataset": "digits", "latent_dim": "8", "epochs": "10", "batch_size": "256"},
    }
    for key in ("test/elbo", "test/ssim", "cost/parameters", "train_eval/rate"):
        (point,) = client.get_metric_history(run.info.run_id, key)
        assert (point.value, point.step) == (record["metrics"][key], 0)
        assert point.timestamp == record["finished"]
    curve = client.get_metric_history(run.info.run_id, "train/elbo")
    lines = RunStore(folder).journal
    assert [(p.step, p.timestamp, p.value) for p in curve] == [
        (line["epoch"], line["time"], line["metrics"]["train/elbo"]) for line in lines
    ]
    assert run.info.end_time == record["finished"]
    tags = run.data.tags
    assert tags["vaebench.cell"] == "fnn / mse / kl"
    assert tags["vaebench.likelihood"] == "mse sigma2=0.5 output=sigmoid"
    assert tags["mlflow.source.git.commit"] == "0123abc"
    assert tags["mlflow.source.name"] == "vaebench run-grid"
    assert "SSIM 0.85" in tags["mlflow.note.content"]
    assert run.inputs is not None
    data = {d.dataset.name: (d.dataset.digest, d.tags[0].value) for d in run.inputs.dataset_inputs}
    assert data == {f"digits-{split}": ("d1", split) for split in ("train", "validation", "test")}
    files = {f.path for f in client.list_artifacts(run.info.run_id, "run")}
    names = ("config.yaml", "environment.json", "journal.jsonl", "record.json")
    assert files == {f"run/{name}" for name in names}


def test_metrics_of_plugins_are_columns_of_the_leaderboard(make: Results) -> None:
    window = make()
    before = Publisher(window)
    before.send_views()
    ours = {"title": "Sharpness", "plugin": "sharpness.py", "source": "0" * 12}
    for folder in records.run_dirs(window.folder):
        records.edit_record(folder, lambda r: r["metric_declarations"].update(sharpness=ours))
        records.edit_record(folder, lambda r: r["metrics"].update({"test/sharpness": 0.5}))
    after = Publisher(window)
    after.send_views()
    for old, new in zip(before._views[:1], after._views[:1], strict=True):
        columns, added = old.state["selectedColumns"], "metrics.`test/sharpness`"
        assert [name for name in new.state["selectedColumns"] if name != added] == columns
        assert added in new.state["selectedColumns"]
        assert new.state["columnWidths"].keys() == set(new.state["selectedColumns"])
        assert not [name for name in columns if "own" in name]


def test_figures_of_plugins_stand_among_the_plots_of_their_run_and_of_the_grid(
    make: Results,
) -> None:
    window = make()
    picture = (window.folder / "comparison.png", *window.folder.rglob("*.png"))[-1].read_bytes()
    folders = records.run_dirs(window.folder)
    for folder, name in ((window.folder, "own-bars.png"), (folders[0], "own-codes.png")):
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "figures" / name).write_bytes(picture)
    sync(window)

    def plots(run: "Run") -> set[str]:
        return {file.path for file in client.list_artifacts(run.info.run_id, "plots")}

    client, found = shown(window)
    [grid] = of_role(found, "grid")
    assert "plots/own-bars.png" in plots(grid)
    [run] = [r for r in found if r.data.tags.get("vaebench.run_id") == folders[0].name]
    assert "plots/own-codes.png" in plots(run)


def test_cell_shows_means_once_all_its_seeds_are_complete(make: Results) -> None:
    window = make(seeds=(0, 1, 2), axes={"model": ["fnn"], "loss": ["bce"], "estimator": ["kl"]})
    folders = records.run_dirs(window.folder)
    values = [RunStore(f).record["metrics"]["test/ssim"] for f in folders]  # type: ignore[index]
    kept = (folders[2] / "record.json").read_bytes()
    (folders[2] / "record.json").unlink()
    sync(window)
    (cell,) = of_role(shown(window)[1], "cell")
    assert "test/ssim" not in cell.data.metrics
    assert (cell.data.tags["vaebench.n"], cell.info.status) == ("2", "KILLED")
    (folders[2] / "record.json").write_bytes(kept)
    sync(window)
    (cell,) = of_role(shown(window)[1], "cell")
    assert cell.data.metrics["test/ssim"] == pytest.approx(sum(values) / 3)
    assert cell.data.params == {"model": "fnn", "loss": "bce", "estimator": "kl"}
    assert (cell.data.tags["vaebench.n"], cell.info.status) == ("3", "FINISHED")


@pytest.mark.parametrize(("status", "there"), [("failed", "FAILED"), ("interrupted", "KILLED")])
def test_run_that_did_not_complete_says_why(make: Results, status: str, there: str) -> None:
    window = make()
    folders = records.run_dirs(window.folder)
    records.fail(folders[0], "rate stopped being finite in epoch 3", status)
    sync(window)
    _, found = shown(window)
    by_id = {run.data.tags.get("vaebench.run_id"): run for run in found}
    bad = by_id[folders[0].name]
    assert bad.info.status == there
    assert "rate stopped being finite in epoch 3" in bad.data.tags["mlflow.note.content"]
    assert by_id[folders[1].name].info.status == "FINISHED"
    (grid,) = of_role(found, "grid")
    assert grid.info.status == there


def test_at_most_nine_params_with_further_axes_before_the_rest() -> None:
    cell = {
        "model": "fnn",
        "loss": "bce",
        "estimator": "kl",
        "model.latent_dim": 2,
        "training.x": 1,
    }
    config = {
        **records.make_config(cell, 3),
        "training": {"epochs": 5, "batch_size": 2, "learning_rate": 0.1},
    }
    params = payload.params(cell, 3, config)
    assert list(params) == [
        *(
            "model",
            "loss",
            "estimator",
            "latent_dim",
            "x",
            "seed",
            "dataset",
            "epochs",
            "batch_size",
        )
    ]
    assert params["latent_dim"] == "2"


def test_axes_of_one_last_name_keep_their_whole_names() -> None:
    params = payload.cell_params({"model.width": 1, "loss.width": 2, "seed.z": 3})
    assert params == {"model.width": "1", "loss.width": "2", "z": "3"}


def test_names_keep_the_seed_and_twenty_characters() -> None:
    assert (
        payload.run_name({"model": "fnn", "loss": "bce", "estimator": "sgvb"}, 0)
        == "fnn-bce-sgvb-s0"
    )
    name = payload.run_name({"model": "transformer", "loss": "gaussian"}, 123)
    assert (len(name), name[-5:]) == (20, "-s123")


# again and again


@pytest.mark.slow
def test_replay_adds_nothing(make: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    window = make()
    for folder in records.run_dirs(window.folder):
        write_journal(folder, epochs=50, keys=12)
    sync(window)
    before = rows(window)
    finals = len(records.make_metrics({}, 0))
    assert before["metrics"] == 2 * (50 * 12 + finals) + 2 * finals  # two runs, two cells
    assert before["runs"] == 5
    files = sorted(p.name for p in window.results.glob("artifacts/**/*.*"))
    monkeypatch.setattr(Publisher, "is_sent", lambda self, run_id: False)
    sync(window)
    assert rows(window) == before
    assert sorted(p.name for p in window.results.glob("artifacts/**/*.*")) == files


def test_finished_run_is_not_sent_again(make: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    window = make()
    sync(window)
    monkeypatch.setattr(GridClient, "files", _fail)
    monkeypatch.setattr(GridClient, "images", _fail)
    grid = Publisher(window)
    assert grid.unsent() == []
    for run_id in grid.started():
        grid.run(run_id)


def _fail(*_: Any, **__: Any) -> None:
    raise AssertionError("called")


def test_growing_journal_is_sent_line_by_line_and_a_torn_line_waits(make: Results) -> None:
    window = make()
    folder = records.run_dirs(window.folder)[0]
    record = (folder / "record.json").read_bytes()
    (folder / "record.json").unlink()
    write_journal(folder, epochs=4)
    whole = (folder / "journal.jsonl").read_bytes()
    (folder / "journal.jsonl").write_bytes(whole[:-20])

    grid = Publisher(window)
    grid.run(folder.name)
    client, found = shown(window)
    (run,) = of_role(found, "run")
    assert run.info.status == "RUNNING"
    assert [p.step for p in client.get_metric_history(run.info.run_id, "train/m1")] == [1, 2, 3]

    (folder / "journal.jsonl").write_bytes(whole)
    grid.run(folder.name)
    assert [p.step for p in client.get_metric_history(run.info.run_id, "train/m1")] == [1, 2, 3, 4]

    (folder / "record.json").write_bytes(record)
    grid.run(folder.name)
    assert client.get_run(run.info.run_id).info.status == "FINISHED"
    assert grid.is_sent(folder.name)


def test_params_are_sent_before_and_apart_from_metrics(
    make: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = make()
    prepare_mlflow()
    from mlflow import MlflowClient

    calls: list[tuple[str, list[str]]] = []
    send = MlflowClient.log_batch

    def spy(self: "MlflowClient", run_id: str, **sent: Any) -> Any:
        calls.append((run_id, [kind for kind in ("params", "metrics", "tags") if sent.get(kind)]))
        return send(self, run_id, **sent)

    monkeypatch.setattr(MlflowClient, "log_batch", spy)
    sync(window)
    (run, _) = of_role(shown(window)[1], "run")
    kinds = [kinds for run_id, kinds in calls if run_id == run.info.run_id]
    assert kinds[:2] == [["params"], ["metrics"]]
    assert all(len(sent) == 1 for sent in kinds)


def test_run_that_goes_on_is_running_again(make: Results) -> None:
    window = make()
    folder = records.run_dirs(window.folder)[0]
    write_journal(folder, epochs=3)
    records.fail(folder, "interrupted from the keyboard", "interrupted")
    records.edit_record(folder, lambda r: r.update(finished=records.START + 3500))
    sync(window)
    write_journal(folder, epochs=5)  # the interrupted record still lies there
    grid = Publisher(window)
    assert folder.name in grid.unsent()
    grid.run(folder.name)
    client, found = shown(window)
    (run,) = [r for r in found if r.data.tags.get("vaebench.run_id") == folder.name]
    assert run.info.status == "RUNNING"
    assert len(client.get_metric_history(run.info.run_id, "train/m0")) == 5


def test_new_attempt_is_a_new_run_and_supersedes_the_old(make: Results) -> None:
    window = make()
    folder = records.run_dirs(window.folder)[0]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    record = RunStore(folder).record
    assert record is not None
    sync(window)
    RunStore(folder).set_aside()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    write_journal(folder, epochs=2)
    (folder / "record.json").write_text(json.dumps({**record, "attempt": 2}))
    sync(window)
    client, found = shown(window)
    attempts = [r for r in found if r.data.tags.get("vaebench.run_id") == folder.name]
    tags = {r.data.tags["vaebench.attempt"]: r.data.tags for r in attempts}
    assert tags["1"]["vaebench.superseded"] == "true"
    assert "vaebench.superseded" not in tags["2"]
    view = views.build("grid", [], ["bce"], 10, 1)[0].state["searchFilter"]
    listed = client.search_runs([found[0].info.experiment_id], view)
    assert [
        r.data.tags["vaebench.attempt"]
        for r in listed
        if r.data.tags["vaebench.run_id"] == folder.name
    ] == ["2"]


@pytest.mark.parametrize("when", ["killed before it was marked", "told late"])
def test_of_several_attempts_one_is_shown_whoever_was_killed_when(
    when: str, make: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = make()
    folder = records.run_dirs(window.folder)[0]
    config, record = (folder / "config.yaml").read_text(), RunStore(folder).record
    assert record is not None
    if when == "killed before it was marked":
        sync(window)
    RunStore(folder).set_aside()
    (folder / "config.yaml").write_text(config)
    write_journal(folder, epochs=2)
    (folder / "record.json").write_text(json.dumps({**record, "attempt": 2}))
    with monkeypatch.context() as killed:
        if when == "killed before it was marked":

            def supersede(*_: object) -> None:
                raise SystemExit

            killed.setattr(GridClient, "supersede", supersede)
            with pytest.raises(SystemExit):
                sync(window)
        else:  # by a process that has read the first attempt, and sends it when the second is shown
            sync(window)
            client, found = shown(window)
            (run,) = [r for r in found if r.data.tags.get("vaebench.run_id") == folder.name]
            tags = {k: v for k, v in run.data.tags.items() if k.startswith("vaebench.")}
            first = {**tags, "vaebench.attempt": "1", "vaebench.call": "another"}
            client.create_run(run.info.experiment_id, tags=first, run_name="late")
    sync(window)
    _, found = shown(window)
    roles = {
        r.data.tags["vaebench.attempt"]: r.data.tags["vaebench.role"]
        for r in found
        if r.data.tags.get("vaebench.run_id") == folder.name
    }
    assert roles == {"1": "superseded", "2": "run"}


def test_twin_runs_of_a_lost_answer_do_not_multiply(make: Results) -> None:
    window = make()
    sync(window)
    client, found = shown(window)
    run = of_role(found, "run")[0]
    tags = {k: v for k, v in run.data.tags.items() if k.startswith("vaebench.")}
    client.create_run(
        run.info.experiment_id, start_time=run.info.start_time + 1, tags=tags, run_name="t"
    )
    before = rows(window)
    sync(window)
    assert rows(window)["runs"] == before["runs"]
    assert rows(window)["metrics"] == before["metrics"]


# pictures and files


def test_pictures_have_the_names_and_tags_of_log_image(make: Results) -> None:
    window = make()
    folder = records.run_dirs(window.folder)[0]
    sync(window)
    client, found = shown(window)
    (ours,) = [r for r in found if r.data.tags.get("vaebench.run_id") == folder.name]
    theirs = client.create_run(ours.info.experiment_id, run_name="theirs")
    for line in RunStore(folder).journal:
        for key in ("reconstruction", "samples"):
            if (folder / "images" / f"{key}-{line['epoch']:04d}.png").exists():
                pixels = np.zeros((8, 8), np.uint8)
                client.log_image(
                    theirs.info.run_id, pixels, key=key, step=line["epoch"], timestamp=line["time"]
                )

    def masked(run: "Run") -> list[str]:
        names = [f.path for f in client.list_artifacts(run.info.run_id, "images")]
        parts = [name.replace(".", "+").split("+") for name in names]
        assert all(len(part[5]) == 36 for part in parts)
        return sorted("+".join([*part[:5], "uuid", *part[6:]]) for part in parts)

    assert len(masked(ours)) == 12
    assert masked(ours) == masked(theirs)
    tag = "mlflow.loggedImages"
    assert ours.data.tags[tag] == client.get_run(theirs.info.run_id).data.tags[tag]


@pytest.mark.parametrize(
    ("side", "full", "preview"), [(82, 492, 246), (242, 484, 242), (600, 512, 256)]
)
def test_pictures_are_enlarged_by_whole_factors(side: int, full: int, preview: int) -> None:
    from PIL import Image

    picture = Image.fromarray(np.arange(side * side, dtype=np.uint8).reshape(side, side))
    assert staging.sized(picture, staging.FULL).size == (full, full)
    assert staging.sized(picture, staging.PREVIEW).size == (preview, preview)


# what must not happen


def test_no_global_state_of_mlflow_is_touched(
    make: Results, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    window = make()
    prepare_mlflow()
    import mlflow

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    uri, environment = mlflow.get_tracking_uri(), dict(os.environ)
    sync(window)
    assert mlflow.get_tracking_uri() == uri
    assert mlflow.active_run() is None
    assert dict(os.environ) == environment
    assert list(elsewhere.iterdir()) == []


def test_settings_of_the_user_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    prepare_mlflow()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert (
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]
        == MLFLOW_SETTINGS["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]
    )


def test_moved_results_are_noticed(make: Results, tmp_path: Path) -> None:
    window = make()
    sync(window)
    moved = tmp_path / "moved"
    window.results.rename(moved)
    with pytest.raises(TrackingError, match=r"was moved.*\n.*delete mlflow.db"):
        sync(connect(moved, "grid"))


def test_deleted_experiment_is_not_written_to(make: Results) -> None:
    window = make()
    sync(window)
    client, found = shown(window)
    client.delete_experiment(found[0].info.experiment_id)
    with pytest.raises(TrackingError, match="was deleted in MLflow; bring it back"):
        sync(window)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_server_that_is_away_costs_a_warning_and_no_time(make: Results, tmp_path: Path) -> None:
    results = make().results
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    window = connect(results, "grid", f"http://user:secret@127.0.0.1:{port}")
    warnings: list[str] = []
    started = time.monotonic()
    writer = Writer(window, warnings.append, interval=0.05)
    writer.start()
    for folder in records.run_dirs(window.folder):
        writer.touch(folder.name)
    outcome = writer.close(timeout=20)
    assert time.monotonic() - started < 60
    assert (outcome.sent, outcome.unsent, outcome.links) == (0, 2, [])
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{outcome.problem}; training goes on")
    assert f"http://***@127.0.0.1:{port} does not answer" in warnings[0]
    with pytest.raises(TrackingError, match="does not answer") as caught:
        sync(window)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("patience", [{"timeout": 0.5}, {"timeout": 60.0, "limit": 0.5}], ids=str)
def test_server_that_hangs_does_not_hold_the_end_up(
    make: Results, silent_server: int, patience: dict[str, float]
) -> None:
    prepare_mlflow()
    window = connect(make().results, "grid", f"http://127.0.0.1:{silent_server}")
    writer = Writer(window, interval=0.05)
    writer.start()
    started = time.monotonic()
    outcome = writer.close(**patience)
    assert time.monotonic() - started < 30
    assert outcome.unsent == 2
    assert "takes too long" in str(outcome.problem)


@pytest.mark.parametrize("work", [0.0, 0.3])
def test_who_traces_a_model_is_not_taken_for_one_who_waits_for_a_server(
    work: float, make: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``work``: seconds of processor time in a second."""
    done = threading.Event()

    class Clock:
        looks = 0

        def monotonic(self) -> float:
            self.looks += 1
            if self.looks == 40:
                done.set()
            return float(self.looks)

        def process_time(self) -> float:
            return work * self.looks

    writer = Writer(make())
    monkeypatch.setattr(writer, "_thread", threading.Thread(target=done.wait, daemon=True))
    writer._thread.start()
    monkeypatch.setattr("vaebench.tracking.writer.time", Clock())
    outcome = writer.close(timeout=30.0)
    assert ("takes too long" in str(outcome.problem)) == (work == 0)
    done.set()


@pytest.mark.slow
def test_writer_follows_a_training(make: Results) -> None:
    window = make()
    folder = records.run_dirs(window.folder)[0]
    record = (folder / "record.json").read_bytes()
    (folder / "record.json").unlink()
    write_journal(folder, epochs=1)
    writer = Writer(window, interval=0.05)
    writer.start()

    def epochs() -> int:
        try:
            client, found = shown(window)
        except (AssertionError, IndexError):
            return 0
        runs = [r for r in found if r.data.tags.get("vaebench.run_id") == folder.name]
        return len(client.get_metric_history(runs[0].info.run_id, "train/m0")) if runs else 0

    def wait_for(wanted: int) -> None:
        deadline = time.monotonic() + 30
        while epochs() != wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        assert epochs() == wanted

    wait_for(1)
    write_journal(folder, epochs=3)
    writer.touch(folder.name)
    wait_for(3)
    (folder / "record.json").write_bytes(record)
    outcome = writer.close()
    assert (outcome.sent, outcome.unsent, outcome.problem) == (2, 0, None)
    assert [link.title for link in outcome.links][:1] == ["leaderboard"]
    assert {run.info.status for run in shown(window)[1]} == {"FINISHED"}


def test_run_that_nobody_finished_is_closed_as_killed(make: Results) -> None:
    window = make()
    folder = records.run_dirs(window.folder)[0]
    (folder / "record.json").unlink()
    writer = Writer(window)
    writer.start()
    outcome = writer.close()
    assert (outcome.sent, outcome.unsent) == (1, 1)
    _, found = shown(window)
    (run,) = [r for r in found if r.data.tags.get("vaebench.run_id") == folder.name]
    assert run.info.status == "KILLED"
    assert run.info.end_time == RunStore(folder).journal[-1]["time"]


def test_fault_in_one_run_reaches_neither_the_training_nor_the_other_runs(
    make: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = make()
    bad = records.run_dirs(window.folder)[0].name
    send = Publisher.run

    def run(self: Publisher, run_id: str, **more: bool) -> None:
        if run_id == bad:
            raise RuntimeError("boom")
        send(self, run_id, **more)

    monkeypatch.setattr(Publisher, "run", run)
    warnings: list[str] = []
    writer = Writer(window, warnings.append)
    writer.start()
    outcome = writer.close()
    assert (outcome.sent, outcome.unsent) == (1, 1)
    assert warnings == [outcome.problem] == ["RuntimeError: boom"]


def test_step_is_tried_again_only_while_mlflow_is_away() -> None:
    done: list[str] = []
    refused: list[tuple[str, str]] = []

    def step(what: str, *errors: Exception) -> replay.Step:
        left = list(errors)

        def do() -> None:
            done.append(what)
            if left:
                raise left.pop(0)

        return replay.Step(what, do)

    steps = [
        step("away twice", Unreachable("away"), Unreachable("away")),
        step("wrong", TrackingError("wrong"), TrackingError("wrong")),
        step("gone", *[Unreachable("gone")] * 3),
        step("never"),
    ]
    with pytest.raises(Unreachable, match="gone"):
        replay.carry_out(steps, "sqlite:///x", lambda *told: refused.append(told), (0, 0))
    assert done == ["away twice"] * 3 + ["wrong"] + ["gone"] * 3
    assert refused == [("wrong", "wrong")]


# views


@pytest.mark.slow
def test_views_are_tags_that_hold_their_state_and_links_open_them(make: Results) -> None:
    window = make(seeds=(0, 1))
    outcome = sync(window)
    client, found = shown(window)
    tags = client.get_experiment(found[0].info.experiment_id).tags
    titles = [link.title for link in outcome.links]
    assert titles == ["leaderboard", "means over seeds", "curves, bce", "curves, mse", "every run"]
    for link in outcome.links:
        assert link.url == f"http://127.0.0.1:5000/{link.relative}"
        assert "workflowType=machine_learning" in link.url
        key = link.url.rpartition("viewStateShareKey=")[2]
        value = json.loads(tags[f"mlflow.sharedViewState.{key}"])
        packed = value["state"].removeprefix("deflate;")
        state = json.loads(zlib.decompress(base64.b64decode(packed)))
        listed = client.search_runs([found[0].info.experiment_id], state["searchFilter"])
        wanted = 4 if "curves" not in link.title and "means" not in link.title else 2
        assert len(listed) == wanted, link.title
    leaderboard = tags["mlflow.sharedViewState.grid-leaderboard"]
    assert json.loads(leaderboard)["name"] == "grid: leaderboard"
    note = tags["mlflow.note.content"]
    assert f"[leaderboard]({outcome.links[0].relative})" in note


def test_elbos_of_two_likelihoods_never_share_a_page_of_curves() -> None:
    names = ["bce", "mse sigma2=0.5 output=sigmoid", "mse sigma2=0.02 output=sigmoid"]
    built = {v.title: v.state["searchFilter"] for v in views.build("g", [], names, 1, 1)}
    pages = {title: state for title, state in built.items() if title.startswith("curves")}
    assert list(pages) == [
        *("curves, bce", "curves, mse sigma2=0.5 output=sigmoid"),
        "curves, mse sigma2=0.02 output=sigmoid",
    ]
    for name, state in zip(names, pages.values(), strict=True):
        assert state.endswith(f"tags.`vaebench.likelihood` = '{name}'")


def test_unknown_version_of_mlflow_gets_a_plain_link(
    make: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = make()
    prepare_mlflow()
    monkeypatch.setattr("mlflow.__version__", "4.0.0")
    outcome = sync(window)
    assert [link.title for link in outcome.links] == ["runs"]
    assert outcome.links[0].url.endswith("/runs?workflowType=machine_learning")


# models


@pytest.mark.slow
def test_model_and_run_load_again_from_mlflow(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from vaebench.config import make_grid
    from vaebench.run import Task, load_run, run

    raw = {
        "name": "tiny",
        "dataset": {"name": "digits", "train": 64},
        # a cell whose name MLflow would not take for a model: "cnn-0.5"
        "axes": {"model": ["cnn"], "training.beta": [0.5]},
        "seeds": 2,
        "training": {"epochs": 1},
    }
    (one, other) = make_grid(raw).runs()
    folder = tmp_path / "tiny"
    planned = [
        {"run_id": r.config.run_id, "cell": r.cell, "seed": r.config.seed} for r in (one, other)
    ]
    folder.mkdir()
    manifest = {"name": "tiny", "axes": raw["axes"], "seeds": [0, 1], "runs": planned}
    (folder / "grid.yaml").write_text(yaml.safe_dump(manifest))
    for r in (one, other):
        done = run(Task(r.config, r.cell, folder / "runs" / r.config.run_id, device="cpu"))
        assert done["status"] == "complete", done["reason"]
    shutil.copyfile(template, tmp_path / "mlflow.db")
    window = connect(tmp_path, "tiny")
    sync(window)
    before = rows(window)
    sync(window)
    assert rows(window) == before

    client, found = shown(window)
    (cell,) = of_role(found, "cell")
    client.delete_tag(cell.info.run_id, "vaebench.model_run")  # as if killed before it was written
    sync(window)
    assert rows(window) == before
    (cell,) = of_role(shown(window)[1], "cell")
    model_id = cell.data.tags["vaebench.model_id"]
    logged = client.get_logged_model(model_id)
    assert str(logged.status) == "READY"
    (source,) = [r for r in found if r.info.run_id == logged.source_run_id]
    journals = {
        i: RunStore(folder / "runs" / i).journal for i in (one.config.run_id, other.config.run_id)
    }
    # of two the lower is the median
    median = min(journals, key=lambda i: journals[i][-1]["metrics"]["val/elbo"])
    assert source.data.tags["vaebench.run_id"] == median
    assert {m.key: m.value for m in logged.metrics or []}["test/ssim"] == source.data.metrics[
        "test/ssim"
    ]

    # as a user would: MLflow's loader without pickle, and any batch size
    monkeypatch.setenv("MLFLOW_TRACKING_URI", window.uri)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    import mlflow.pytorch

    model = mlflow.pytorch.load_model(f"models:/{model_id}")
    reference = load_run(folder / "runs" / median).model
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(x), reference.decode(reference.encoder(x).mean))

    target = tmp_path / "download"
    target.mkdir()
    fetched = load_run(Path(client.download_artifacts(source.info.run_id, "run", str(target))))
    assert fetched.metrics == load_run(folder / "runs" / median).metrics


def test_published_runs_without_weights_get_no_model(make: Results) -> None:
    window = make(arrays=True)
    sync(window)
    (cell, _) = of_role(shown(window)[1], "cell")
    assert "vaebench.model_id" not in cell.data.tags


# serving


def test_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert _free_port(port) > port
        with pytest.raises(TrackingError, match=r"are all taken; choose another --port"):
            _free_port(65536)


def test_what_serving_finds_unsent_is_sent_first(make: Results) -> None:
    window = make()
    folder = records.run_dirs(window.folder)[0]
    (folder / "record.json").unlink()  # still training, for all that the page knows
    told: list[str] = []
    assert next(link.title for link in replay.fill(window, told.append)) == "leaderboard"
    assert told == ["grid: sending 1 run to MLflow ..."]
    runs = of_role(shown(window)[1], "run")
    assert [run.info.status for run in runs] == ["FINISHED"]
    assert runs[0].data.tags["vaebench.run_id"] != folder.name
    before = rows(window)
    replay.fill(window, pytest.fail)
    assert rows(window) == before


def test_two_people_with_one_grid_name_stay_apart_and_are_told(
    make: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = make()
    monkeypatch.setattr("vaebench.tracking.payload._user", lambda: "ada")
    sync(theirs)
    assert not Publisher(theirs).client.others
    mine = records.make_results(tmp_path / "mine", name="grid", axes=TWO_CELLS, seeds=(0,))
    window = connect(mine.parent, "grid", theirs.uri)
    told: list[str] = []
    writer = Writer(window, warn=told.append)
    writer.start()
    outcome = writer.close()
    assert (outcome.sent, outcome.unsent, outcome.problem) == (2, 0, None)
    [line] = told
    assert "experiment 'grid' also holds a grid of this name from another folder (of ada)" in line
    assert len(of_role(shown(theirs)[1], "grid")) == 2
    assert len(of_role(shown(theirs)[1], "run")) == 4


@pytest.mark.parametrize("there", [True, False])
def test_data_of_a_run_that_another_process_has_named_first_is_no_problem(
    make: Results, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    real = MlflowClient.log_inputs

    def late(self: MlflowClient, run_id: str, inputs: Any) -> None:
        if there:
            real(self, run_id, inputs)
        raise MlflowException("duplicate key")

    monkeypatch.setattr(MlflowClient, "log_inputs", late)
    assert (sync(make()).problem is None) == there


def test_serving_sends_nothing_to_a_server_that_only_the_environment_names(
    make: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = make().results
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team:5000")
    monkeypatch.setattr(server, "fill", lambda *_: pytest.fail("it was not asked to"))
    told: list[str] = []
    server.ui(results, say=told.append)
    assert "nothing is sent to http://team:5000, which only MLFLOW_TRACKING_URI names" in told[1]
    assert f"`vaebench sync {results}` fills it" in told[1]
    assert told[2] == "MLflow: http://team:5000"
    sent: list[str] = []
    monkeypatch.setattr(server, "fill", lambda window, _: sent.append(window.grid) or [])
    server.ui(results, "http://team:5000", say=told.append)  # asked to
    assert sent == ["grid"]


def unreadable(name: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes(b"\0{[")


def edited(**values: Any) -> Callable[[Path], object]:
    return lambda run: records.edit_record(run, lambda record: record.update(values))


def journal_without_times(run: Path) -> None:
    path = run / "journal.jsonl"
    path.write_text(path.read_text().replace('"time"', '"when"'))


BROKEN: dict[str, Callable[[Path], object]] = {  # by what is said of it
    "record.json: damaged: ": unreadable("record.json"),
    "record.json: damaged: not the record of a run": edited(status=["complete"]),
    "damaged: not the record": edited(finished="yesterday", metrics=[]),
    "metrics.test/elbo: Input should be a valid number": edited(metrics={"test/elbo": 10**400}),
    "config.yaml: damaged": unreadable("config.yaml"),
    "journal.jsonl: damaged: 0 of 10 epochs are left": lambda run: (
        edited(epochs=10)(run),
        unreadable("journal.jsonl")(run),
    ),
    "KeyError: 'time'": journal_without_times,
}


def test_serving_leaves_out_what_is_damaged_or_foreign_and_says_so(
    make: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = make(seeds=range(1 + len(BROKEN)), axes={"model": ["fnn"]}, pictures=False)
    whole, *damaged = records.run_dirs(window.folder)
    for run, damage in zip(damaged, BROKEN.values(), strict=True):
        damage(run)
    (window.folder / "runs" / "notes.txt").write_text("mine")
    (window.results / "foreign" / "grid.yaml").mkdir(parents=True)
    (window.results / "torn").mkdir()
    (window.results / "torn" / "grid.yaml").write_text("name: torn\nruns: [{")
    monkeypatch.setattr(Window, "on_server", True)  # as if one were there
    told: list[str] = []
    with serve(window.results, say=told.append) as page:
        assert page.links.keys() == {"grid"}
    runs = of_role(shown(window)[1], "run")
    ended = {run.data.tags["vaebench.run_id"] for run in runs if run.info.status == "FINISHED"}
    assert ended == {whole.name}
    assert not any("\n" in line for line in told)
    for run, what in zip(damaged, BROKEN, strict=True):
        [line] = [line for line in told if run.name in line]
        assert line.startswith("grid: fnn, seed ")
        assert " is left out: " in line
        assert what in line
    others = [line for line in told if not line.startswith("grid: ")]
    assert [line.split(" is left out: ")[0] for line in others] == ["foreign", "torn"]
    sync(window)  # not fatal there either


@pytest.mark.slow
def test_page_is_told_by_one_address_and_the_links_of_the_newest_grid(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(template, tmp_path / "mlflow.db")
    for grid in ("older", "newest", "torn"):
        records.make_results(tmp_path, name=grid, axes={"model": ["fnn"]}, seeds=(0,))
    (tmp_path / "torn" / "grid.yaml").write_text("[")
    os.utime(tmp_path / "older" / "grid.yaml", (1, 1))
    monkeypatch.setattr(Window, "on_server", True)  # as if one were there
    told: list[str] = []
    server.ui(tmp_path, say=told.append)
    assert told[0].startswith("Opening ")
    start = next(i for i, line in enumerate(told) if line.startswith("MLflow: "))
    assert told[start + 1] == "newest:"
    assert all(line.startswith("  ") for line in told[start + 2 : -1])
    assert told[-1].endswith("GRID is older")
    assert len(told) < 14


def test_another_port_than_the_wanted_one_is_said(
    make: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = make()
    monkeypatch.setattr(server, "_fill_all", lambda *_: {"grid": []})
    monkeypatch.setattr(server, "_start", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(server, "_wait", lambda *_: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told: list[str] = []
        with serve(window.results, port=port, say=told.append) as page:
            used = page.address.rpartition(":")[2]
        assert told == [f"port {port} is taken, using {used}"]


def test_serving_nothing_but_damaged_grids_says_why(tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "grid.yaml").write_text("[")
    why = r"no grid can be shown\ntorn is left out: .*damaged"
    with pytest.raises(TrackingError, match=why), serve(tmp_path):
        pass


def test_nothing_to_serve_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="holds no grid to show"), serve(tmp_path):
        pass


@pytest.mark.parametrize("name", ["was?", "a#b", "a%20b"])
def test_a_folder_that_a_uri_cannot_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrackingError, match="choose another --results"):
        connect(tmp_path / name, "grid")
    assert connect(tmp_path / "50% of it", "grid").grid == "grid"
