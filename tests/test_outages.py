"""MLflow goes away in every way that it can: training goes on, nothing is lost or sent twice."""

import base64
import logging
import shutil
import sqlite3
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import records
import small_runs
import yaml
from click.testing import CliRunner
from mlflow_servers import MLFLOWS_OWN, Faulty, RealServer, expected, of_runs, points, statuses

from vaebench.cli import main
from vaebench.errors import TrackingError
from vaebench.executors import Event, in_this_process
from vaebench.grid import Listener, Options, Results, run_grid
from vaebench.grid.folder import taking_part
from vaebench.storage import Held, RunStore
from vaebench.tracking import Window, Writer, connect, failures, replay, sync
from vaebench.tracking.failures import explain
from vaebench.tracking.publisher import Publisher
from vaebench.tracking.store import prepare_mlflow

pytestmark = MLFLOWS_OWN

GRID = "grid"
TWO_CELLS = {"model": ["fnn"], "loss": ["bce", "mse"], "estimator": ["kl"]}
SECRET = "s3cret"
RESTS = (0.05, 0.1)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of minutes are seconds here; what counts is that they end."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr("vaebench.tracking.replay.PAUSES", (0.05, 0.1))
    prepare_mlflow()


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Path:
    """An empty store of a server, and beside it a finished grid of two runs."""
    records.make_results(tmp_path / "results", axes=TWO_CELLS, seeds=(0,), pictures=True)
    (tmp_path / "server").mkdir()
    return Path(shutil.copyfile(template, tmp_path / "server" / "mlflow.db"))


@pytest.fixture
def faulty(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Faulty, Window]]:
    """MLflow's server, and the window on it, which has a password."""
    server = Faulty()
    with server.serving(store, monkeypatch) as address:
        uri = address.replace("://", f"://user:{SECRET}@")
        yield server, connect(store.parents[1] / "results", GRID, uri)


def unfinish(window: Window) -> tuple[Path, bytes]:
    """Make the first run one that trains: its folder, and the record that it will have."""
    folder = records.run_dirs(window.folder)[0]
    record = (folder / "record.json").read_bytes()
    (folder / "record.json").unlink()
    records.write_journal(folder, 2)
    return folder, record


def wait_until(true: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert true()


@pytest.mark.slow
@pytest.mark.parametrize("fault", [403, 500, "hang"])
def test_outage_in_the_middle_loses_nothing_and_is_told_once(
    faulty: tuple[Faulty, Window], store: Path, fault: int | str
) -> None:
    server, window = faulty
    folder, record = unfinish(window)
    told: list[str] = []
    writer = Writer(window, told.append, interval=0.05, rests=RESTS)
    writer.start()
    wait_until(lambda: of_runs(points(store, GRID)) == expected(window.folder))
    server.fault = fault
    seen = len(server.seen)
    seen_by_training = 0.0
    for epoch in range(3, 11):
        records.write_journal(folder, epoch)
        began = time.monotonic()
        writer.touch(folder.name)
        seen_by_training += time.monotonic() - began
        time.sleep(0.05)
    assert seen_by_training < 1  # a request that is not answered takes two seconds
    wait_until(lambda: len(told) == 1)
    wait_until(lambda: len(server.seen) > seen + 3)
    assert of_runs(points(store, GRID)) < expected(window.folder)
    server.fault = None
    wait_until(lambda: len(told) == 2)
    (folder / "record.json").write_bytes(record)
    outcome = writer.close()
    assert (outcome.sent, outcome.unsent, outcome.problem) == (2, 0, None)
    assert of_runs(points(store, GRID)) == expected(window.folder)
    assert set(statuses(store, GRID)) == {(r, "FINISHED") for r in ("grid", "cell", "run")}
    assert "training goes on" in told[0]
    assert told[1] == f"MLflow at {window.address} takes everything again"
    assert SECRET not in "".join(told)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [401, 429, 503, "hang", "drop"])
def test_server_that_is_gone_for_good_is_given_up_and_its_grid_is_sent_to_another(
    faulty: tuple[Faulty, Window], store: Path, fault: int | str
) -> None:
    server, window = faulty
    server.fault = fault
    told: list[str] = []
    began = time.monotonic()
    writer = Writer(window, told.append, interval=0.05, rests=RESTS)
    writer.start()
    outcome = writer.close(timeout=10)
    assert time.monotonic() - began < 60
    assert (outcome.sent, outcome.unsent) == (0, 2)
    assert len(told) == 1
    assert outcome.command == f"vaebench sync {window.folder} --tracking-uri {window.address!r}"
    elsewhere = connect(window.results, GRID, f"sqlite:///{store}")
    assert sync(elsewhere).unsent == 0
    assert of_runs(points(store, GRID)) == expected(window.folder)


@pytest.mark.slow
def test_slow_server_is_given_up_in_time_and_the_rest_is_sent_later(
    faulty: tuple[Faulty, Window], store: Path
) -> None:
    server, window = faulty
    server.fault = "slow"
    writer = Writer(window, rests=RESTS)
    writer.start()
    began = time.monotonic()
    outcome = writer.close(timeout=30, limit=3)
    assert time.monotonic() - began < 20  # at half a second a request, all of it takes longer
    assert "takes too long" in str(outcome.problem)
    server.fault = None
    writer._thread.join(30)  # it was told to stop, and does not go on behind our back
    assert not writer._thread.is_alive()
    assert sync(window).unsent == 0
    assert of_runs(points(store, GRID)) == expected(window.folder)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["lost", 503])
@pytest.mark.parametrize("path", ["runs/create", "runs/log-batch", "artifacts"])
def test_every_second_request_that_fails_makes_nothing_twice(
    faulty: tuple[Faulty, Window], store: Path, path: str, fault: int | str
) -> None:
    server, window = faulty
    count = Counter[bool]()

    def hits(_method: str, wanted: str) -> bool:
        count[path in wanted] += path in wanted
        return path in wanted and count[True] % 2 == 1

    server.fault, server.hits = fault, hits
    for _ in range(3):
        try:
            outcome = sync(window)
        except TrackingError:
            continue
    assert count[True] > 4
    assert (outcome.unsent, outcome.problem) == (0, None)
    assert of_runs(points(store, GRID)) == expected(window.folder)
    assert statuses(store, GRID) == {
        ("grid", "FINISHED"): 1,
        ("cell", "FINISHED"): 2,
        ("run", "FINISHED"): 2,
    }


def test_one_run_that_is_refused_does_not_keep_the_others_away(
    faulty: tuple[Faulty, Window], store: Path
) -> None:
    _, window = faulty
    bad = records.run_dirs(window.folder)[0]
    (bad / "record.json").write_text("{")
    outcome = sync(window)
    assert (outcome.sent, outcome.unsent) == (1, 1)
    assert "record.json: damaged" in str(outcome.problem)
    assert statuses(store, GRID)["run", "FINISHED"] == 1


def test_locked_database_is_an_outage_like_any_other(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.store.db.utils.sql.text", _hasty)
    window = connect(store.parents[1] / "results", GRID, f"sqlite:///{store}")
    folder, record = unfinish(window)
    told: list[str] = []
    writer = Writer(window, told.append, interval=0.05, rests=RESTS)
    writer.start()
    wait_until(lambda: of_runs(points(store, GRID)) == expected(window.folder))
    other = sqlite3.connect(store)
    other.execute("BEGIN IMMEDIATE")
    records.write_journal(folder, 10)
    writer.touch(folder.name)
    wait_until(lambda: len(told) == 1)
    assert str(store) in told[0]
    other.rollback()
    other.close()
    (folder / "record.json").write_bytes(record)
    writer.touch(folder.name)
    wait_until(lambda: len(told) == 2)
    assert writer.close().unsent == 0
    assert of_runs(points(store, GRID)) == expected(window.folder)


@pytest.mark.parametrize("held", ["from the start", "at the first step"])
def test_sync_tries_a_locked_database_again_however_long_that_took(
    held: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow waits 20 seconds for it: longer than the patience with a server that hangs."""
    monkeypatch.setattr("mlflow.store.db.utils.sql.text", _hasty)
    monkeypatch.setattr(replay, "PATIENCE", 0.0)
    window = connect(store.parents[1] / "results", GRID, f"sqlite:///{store}")
    other = sqlite3.connect(store, check_same_thread=False)
    pauses: list[float] = []

    def rest(seconds: float) -> None:
        pauses.append(seconds)
        other.rollback()

    def opened(window: Window, *, watches: bool) -> Publisher:
        if held == "from the start" and not pauses:
            raise explain(sqlite3.OperationalError("database is locked"), window.uri)
        made = Publisher(window, watches=watches)
        if held == "at the first step":
            other.execute("BEGIN IMMEDIATE")
        return made

    monkeypatch.setattr(replay, "Publisher", opened)
    monkeypatch.setattr(replay, "time", SimpleNamespace(monotonic=time.monotonic, sleep=rest))
    assert sync(window).problem is None
    other.close()
    assert pauses == [0.05]
    assert of_runs(points(store, GRID)) == expected(window.folder)


def _hasty(text: str) -> Any:
    import sqlalchemy

    return sqlalchemy.text(text.replace("busy_timeout = 20000", "busy_timeout = 100"))


# what lies in the folder, in the store


def window_on(store: Path) -> Window:
    return connect(store.parents[1] / "results", GRID, f"sqlite:///{store}")


def test_metrics_that_were_measured_later_are_added(store: Path) -> None:
    window = window_on(store)
    folder = records.run_dirs(window.folder)[0]
    sync(window)
    records.edit_record(folder, lambda r: r["metrics"].update({"test/new": 0.25}))
    records.edit_record(folder, lambda r: r.update(evaluated=records.START + 90_000))
    assert Publisher(window).unsent() == [folder.name]
    for _ in range(2):
        assert sync(window).unsent == 0
        assert of_runs(points(store, GRID)) == expected(window.folder)


def test_metric_that_was_measured_anew_is_what_is_shown(store: Path) -> None:
    window = window_on(store)
    folder = records.run_dirs(window.folder)[0]
    sync(window)
    before = points(store, GRID)
    old = RunStore(folder).record
    assert old is not None
    new = old["metrics"]["test/ssim"] - 0.5  # of two with one time stamp MLflow shows the larger
    records.edit_record(folder, lambda r: r["metrics"].update({"test/ssim": new}))
    for evaluated in (records.START + 90_000, records.START + 95_000):
        records.edit_record(folder, lambda r, at=evaluated: r.update(evaluated=at))
        sync(window)
        added = points(store, GRID) - before
        assert added == {
            (who, "test/ssim", 0, records.START + 90_000, new): 1
            for who in (f"{folder.name}/1", "cell fnn / bce / kl")
        }
    shown = Publisher(window).client
    run = shown.mlflow.get_run(shown.runs["run", folder.name, "1"].id)
    assert run.data.metrics["test/ssim"] == new


def test_grid_of_the_same_name_elsewhere_is_left_alone(store: Path) -> None:
    """Two people, one server, one grid: the same run ids, and other time stamps."""
    window = window_on(store)
    sync(window)
    other = connect(window.results.with_name("theirs"), GRID, window.uri)
    shutil.copytree(window.folder, other.folder)
    (other.folder / ".mlflow.id").unlink()
    for folder in records.run_dirs(other.folder):
        lines = (folder / "journal.jsonl").read_text().replace('"time": 17', '"time": 18')
        (folder / "journal.jsonl").write_text(lines)
    for each in (other, window, other):
        assert sync(each).unsent == 0
    assert of_runs(points(store, GRID)) == expected(window.folder) + expected(other.folder)


def test_damaged_picture_does_not_keep_its_run_away(store: Path) -> None:
    window = window_on(store)
    images = sorted(records.run_dirs(window.folder)[0].glob("images/*.png"))
    images[0].write_bytes(b"no picture")
    images[1].write_bytes(images[1].read_bytes()[:60])
    outcome = sync(window)
    assert (outcome.sent, outcome.unsent) == (2, 0)
    assert outcome.problem == f"{images[0]}: damaged: not a PNG picture"


# runs that nobody will finish


def test_runs_of_a_process_that_was_killed_are_closed_by_the_next_start(store: Path) -> None:
    window = window_on(store)
    folder, _ = unfinish(window)
    killed = Publisher(window)
    killed.run(folder.name)
    killed.grid()
    assert statuses(store, GRID)["run", "RUNNING"] == 1
    writer = Writer(window, interval=0.05)
    writer.start()  # and trains another run
    wait_until(lambda: statuses(store, GRID)["run", "KILLED"] == 1)
    writer.touch(folder.name)  # now it is the turn of this one
    wait_until(lambda: statuses(store, GRID)["run", "RUNNING"] == 1)
    writer.close()
    assert {status for _, status in statuses(store, GRID)} == {"KILLED", "FINISHED"}


@pytest.mark.slow
def test_sync_closes_what_nobody_trains_and_nothing_that_trains(store: Path) -> None:
    window = window_on(store)
    folder, _ = unfinish(window)
    Publisher(window).run(folder.name)
    with taking_part(window.folder):
        sync(window)
        assert statuses(store, GRID)["run", "RUNNING"] == 1
        assert statuses(store, GRID)["grid", "RUNNING"] == 1
    sync(window)
    assert {status for _, status in statuses(store, GRID)} == {"KILLED", "FINISHED"}
    assert of_runs(points(store, GRID)) == expected(window.folder)


@pytest.mark.slow
def test_sync_beside_a_training_opens_nothing_that_the_training_has_closed(store: Path) -> None:
    """The grid may end while it is sent: who closes it for good is the one that trains it."""
    window = window_on(store)
    sync(window)
    closed = statuses(store, GRID)
    assert {status for _, status in closed} == {"FINISHED"}
    with taking_part(window.folder):
        sync(window)
    assert statuses(store, GRID) == closed


def test_nobody_trains_a_grid_while_sync_closes_its_runs(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = window_on(store)
    tried: list[str] = []

    def step(*_: Any) -> None:
        with pytest.raises(Held) as caught, taking_part(window.folder):
            pass
        tried.append(str(caught.value))

    monkeypatch.setattr("vaebench.tracking.replay.carry_out", step)
    sync(window)
    (told,) = tried
    assert told.startswith(f"{window.folder}: ")


@pytest.mark.parametrize("status", ["failed", None])
def test_attempt_that_was_set_aside_is_closed_as_it_ended(store: Path, status: str | None) -> None:
    window = window_on(store)
    folder, record = unfinish(window)
    Publisher(window).run(folder.name)
    if status:
        (folder / "record.json").write_bytes(record)
        records.fail(folder, "it broke", status)
    RunStore(folder).set_aside()
    sync(window)
    shown = Publisher(window).client.runs["run", folder.name, "1"]
    assert shown.status == ("FAILED" if status else "KILLED")
    assert ("run", "RUNNING") not in statuses(store, GRID)


def test_run_that_is_of_the_grid_no_more_is_closed(store: Path) -> None:
    window = window_on(store)
    folder, _ = unfinish(window)
    Publisher(window).run(folder.name)
    manifest = yaml.safe_load((window.folder / "grid.yaml").read_text())
    manifest["runs"] = manifest["runs"][1:]
    (window.folder / "grid.yaml").write_text(yaml.safe_dump(manifest))
    sync(window)
    assert {status for _, status in statuses(store, GRID)} == {"KILLED", "FINISHED"}


# the command


def test_sync_command_sends_every_grid_and_says_so(store: Path) -> None:
    results = store.parents[1] / "results"
    records.make_results(results, name="other", axes={"model": ["fnn"]}, seeds=(0,))
    (results / "damaged").mkdir()
    (results / "damaged" / "grid.yaml").write_text("[]")
    uri = f"sqlite:///{store}"
    done = CliRunner().invoke(main, ["sync", str(results), "--tracking-uri", uri])
    assert done.exit_code == 1
    assert "grid: 2 runs are shown: sqlite" in done.output
    assert "other: 1 runs are shown: sqlite" in done.output
    assert f"Error: damaged: {results}/damaged/grid.yaml: damaged" in done.output
    before = points(store, GRID)
    assert CliRunner().invoke(
        main, ["sync", str(results / GRID), "--tracking-uri", uri]
    ).output == (f"grid: 2 runs are shown: {uri}\n")
    assert points(store, GRID) == before
    assert set(points(store, "other"))


def test_sync_command_without_a_grid_says_what_is_wrong(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["sync", str(tmp_path)])
    assert (done.exit_code, done.output) == (1, f"Error: {tmp_path} holds no grid to send\n")


# credentials


def leaks(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("fault", [401, 500, "drop", None])
def test_password_is_in_no_output_and_in_no_file(
    faulty: tuple[Faulty, Window],
    fault: int | str | None,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, window = faulty
    server.fault = fault
    monkeypatch.setattr("vaebench.tracking.failures.QUIET", {"mlflow": logging.DEBUG})
    told: list[str] = []
    writer = Writer(window, told.append)
    writer.start()
    outcome = writer.close()
    assert bool(outcome.unsent) == bool(fault)
    done = CliRunner().invoke(main, ["sync", str(window.folder), "--tracking-uri", window.uri])
    assert window.address in done.output
    if fault:
        with pytest.raises(TrackingError) as caught:
            sync(window)
        told += traceback.format_exception(caught.value)
    said = "".join((*told, str(outcome), done.output, *capfd.readouterr()))
    assert SECRET not in said
    assert base64.b64encode(f"user:{SECRET}".encode()).decode() not in said
    assert leaks(window.results) == []
    assert leaks(window.results.with_name("server")) == []


@pytest.mark.parametrize(
    ("password", "written"),
    [
        ("p@ss/w:rd", "p@ss/w:rd"),
        ("p%40ss%20x", "p@ss x"),
        ("with space", "with space"),
        ("it's\"quoted", "it's\"quoted"),
    ],
)
def test_password_is_hidden_however_it_is_written(password: str, written: str) -> None:
    uri = f"http://user:{password}@host:1/x"
    assert failures.hide(uri, uri) == "http://***@host:1/x"
    for text in (f"no {uri}", f"denied: {written!s} is wrong", f"user:{written}"):
        hidden = failures.hide(text, uri)
        assert password not in hidden
        assert written not in hidden


def test_password_in_a_traceback_that_mlflow_logs_is_hidden(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failures.quiet()
    log = logging.getLogger("mlflow.store")
    try:
        raise ValueError(f"postgresql://user:{SECRET}@host/db is away")
    except ValueError:
        log.exception("at %s", f"http://user:{SECRET}@host")
    written = capsys.readouterr().err
    assert "postgresql://***@host/db is away" in written
    assert "at http://***@host" in written
    assert SECRET not in written


# a real server


@pytest.fixture(scope="module")
def real(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """``mlflow server``; a test starts it, and may stop it."""
    folder = tmp_path_factory.mktemp("real")
    shutil.copyfile(template, folder / "mlflow.db")
    server = RealServer(folder)
    yield server
    server.stop()


class Saboteur(Listener):
    """Does something to the server when a run of a grid has ended its second epoch."""

    def __init__(self, acts: Sequence[Callable[["Saboteur"], None]]) -> None:
        self.acts = iter(acts)
        self.told: list[str] = []

    def event(self, event: Event) -> None:
        if event.kind == "epoch" and event.data["epoch"] == 2:
            next(self.acts, lambda _: None)(self)

    def warning(self, text: str) -> None:
        self.told.append(text)


def grid_on(
    server: RealServer, folder: Path, listener: Saboteur, monkeypatch: pytest.MonkeyPatch
) -> Results:
    small_runs.without_figures(monkeypatch)
    monkeypatch.setattr(
        "vaebench.grid.crew.in_workers", lambda tasks, hear, **_: in_this_process(tasks, hear)
    )
    monkeypatch.setattr("vaebench.grid.Writer", partial(Writer, interval=0.05, rests=RESTS))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    uri = server.address.replace("://", f"://user:{SECRET}@")
    raw = small_runs.settings(training__epochs=4)
    axes = {"model": ["fnn"], "loss": ["bce"]}
    grid = {**raw, "name": folder.name, "seeds": 3, "axes": axes, "tracking_uri": uri}
    grid["model"] = {**small_runs.MODEL}
    return run_grid(grid, Options(results=folder.parent, device="cpu"), listener)


@pytest.mark.slow
def test_real_server_that_is_stopped_and_started_again_misses_nothing(
    real: RealServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real.start()

    def stop(listener: Saboteur) -> None:
        wait_until(lambda: bool(points(real.database, "restarted")))
        real.stop()

    def start(listener: Saboteur) -> None:
        wait_until(lambda: len(listener.told) == 1)
        real.start()

    listener = Saboteur([stop, start])
    results = grid_on(real, tmp_path / "restarted", listener, monkeypatch)
    assert (results.tracking.sent, results.tracking.unsent, results.tracking.problem) == (
        3,
        0,
        None,
    )
    assert of_runs(points(real.database, "restarted")) == expected(results.folder)
    assert {status for _, status in statuses(real.database, "restarted")} == {"FINISHED"}
    assert [text.partition("; ")[0].partition(" takes")[0] for text in listener.told] == [
        f"MLflow at {real.address.replace('://', '://***@')} does not answer",
        f"MLflow at {real.address.replace('://', '://***@')}",
    ]
    assert leaks(tmp_path) == leaks(real.folder) == []


@pytest.mark.slow
def test_real_server_that_is_stopped_for_good_is_replaced_by_a_new_store(
    real: RealServer,
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not real.running:
        real.start()
    listener = Saboteur([lambda _: real.stop()])
    results = grid_on(real, tmp_path / "lost", listener, monkeypatch)
    assert {record["status"] for record in results.records} == {"complete"}
    assert results.tracking.unsent == 3
    assert len(listener.told) == 1
    assert leaks(tmp_path) == leaks(real.folder) == []
    new = Path(shutil.copyfile(template, tmp_path / "new.db"))
    command = ["sync", str(results.folder), "--tracking-uri", f"sqlite:///{new}"]
    for _ in range(2):
        done = CliRunner().invoke(main, command)
        assert (done.exit_code, done.output.partition(":")[0]) == (0, "lost")
        assert of_runs(points(new, "lost")) == expected(results.folder)
    assert {status for _, status in statuses(new, "lost")} == {"FINISHED"}
