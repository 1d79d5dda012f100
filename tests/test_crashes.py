"""Killed, interrupted, out of disk: what is noticed, told and redone; ``make chaos`` in small."""

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from small_runs import in_this_process_only, numbers, results, settings, task, without_figures

from vaebench.config import make_grid
from vaebench.errors import ResultsError, StorageError
from vaebench.executors.messages import to_message
from vaebench.files import dump_json
from vaebench.grid import Listener, Options, plan, run_grid
from vaebench.run import Task, run
from vaebench.storage import RunStore, run_store

CELL = {"axes": {"model": ["fnn"], "loss": ["bce"], "estimator": ["kl"]}}


class Warned(Listener):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_figures(monkeypatch)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process_only(monkeypatch)


def stop_after(epoch: int) -> Callable[[dict[str, Any]], None]:
    def heard(line: dict[str, Any]) -> None:
        if line["epoch"] == epoch:
            raise KeyboardInterrupt

    return heard


def content(folder: Path) -> Any:
    """What must be the same however a run got there."""
    store = RunStore(folder)
    record, weights, arrays = store.record, store.load_tensors("weights.pt"), store.arrays()
    assert record is not None
    assert weights is not None
    assert arrays is not None
    assert record["status"] == "complete"
    bits = {name: value.numpy().tobytes() for name, value in weights.items()}
    shown = {name: value.tobytes() for name, value in arrays.items()}
    return results(record), bits, shown, numbers(store.journal)


# ---------------------------------------------------------------- 1: killed anywhere


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("file", "damage", "told", "attempt"),
    [
        ("journal.jsonl", torn, "its journal was torn; it is kept in journal.torn", 1),
        ("journal.jsonl", zeroed, "epochs are missing; it starts anew", 2),
        ("checkpoint.pt", half, "checkpoint.pt: damaged", 2),
        ("checkpoint.pt", garbled, "checkpoint.pt: damaged", 2),
        ("checkpoint.pt", zeroed, "kept in attempts/1", 2),
        ("best.pt", half, "best.pt: damaged", 2),
    ],
)
def test_what_a_crash_left_damaged_is_told_set_aside_and_redone(
    tmp_path: Path, file: str, damage: Callable[[Path], None], told: str, attempt: int
) -> None:
    whole, crashed = (
        task(tmp_path / name, training__epochs=3, evaluate="best") for name in ("whole", "crashed")
    )
    run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(crashed, stop_after(2))
    damage(crashed.folder / file)
    damaged = (crashed.folder / file).read_bytes()
    said: list[str] = []
    record = run(crashed, warn=said.append)
    assert told in said[-1]
    assert record["attempt"] == attempt
    assert content(crashed.folder) == content(whole.folder)
    if attempt == 2:
        kept = crashed.folder / "attempts" / "1"
        kept /= file if file != "journal.jsonl" else "journal.torn"
        assert kept.read_bytes() == damaged


@pytest.mark.usefixtures("quick")
def test_nothing_is_told_where_nothing_is_damaged(tmp_path: Path) -> None:
    small = task(tmp_path / "run", training__epochs=2)
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(small, stop_after(1), said.append)
    run(small, warn=said.append)
    assert said == []


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("file", "damage", "told"),
    [
        ("weights.pt", half, "its weights.pt is damaged; it is done again"),
        ("arrays.npz", garbled, "its arrays.npz is damaged; it is done again"),
        ("record.json", half, "its record is damaged; it is done again"),
        ("config.yaml", zeroed, "its stored configuration is damaged; it is done again"),
    ],
)
def test_a_finished_run_that_is_damaged_is_done_again_and_the_user_told(
    tmp_path: Path, file: str, damage: Callable[[Path], None], told: str
) -> None:
    grid, options = make_grid(settings(name="small", **CELL)), Options(tmp_path, "cpu")
    done = run_grid(grid, options)
    (entry,) = plan(grid, options)
    store = run_store(done.folder, entry.run.config.run_id)
    before = content(store.path)
    damage(store.path / file)
    listener = Warned()
    run_grid(grid, options, listener)
    assert listener.said == [f"fnn / bce / kl, seed 0 ({store.run_id}): {told}"]
    assert content(store.path) == before
    listener = Warned()
    assert [found.action for found in plan(grid, options)] == ["skip"]
    run_grid(grid, options, listener)
    assert listener.said == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("damage", [half, zeroed])
def test_a_damaged_manifest_is_set_aside_and_written_anew(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    grid, options = make_grid(settings(name="small", **CELL)), Options(tmp_path, "cpu")
    folder = run_grid(grid, options).folder
    whole = (folder / "grid.yaml").read_bytes()
    damage(folder / "grid.yaml")
    damaged = (folder / "grid.yaml").read_bytes()
    listener = Warned()
    assert [entry.action for entry in plan(grid, options)] == ["skip"]
    assert run_grid(grid, options, listener).done == []
    assert (folder / "grid.yaml").read_bytes() == whole
    assert (folder / "grid.yaml.damaged").read_bytes() == damaged
    (said,) = listener.said
    assert "grid.yaml: damaged" in said
    assert "grid.yaml.damaged" in said


@pytest.mark.usefixtures("here")
def test_what_killed_writers_left_in_a_grids_folder_is_removed(tmp_path: Path) -> None:
    grid, options = make_grid(settings(name="small", **CELL)), Options(tmp_path, "cpu")
    folder = run_grid(grid, options).folder
    (folder / ".report.md.123.tmp").write_bytes(b"ha")
    run_grid(grid, options)
    assert not list(folder.rglob("*.tmp"))


def worker() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", "vaebench.executors"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def give(process: "subprocess.Popen[bytes]", small: Task) -> None:
    assert process.stdin is not None
    process.stdin.write(dump_json(to_message(small)).replace("\n", "").encode() + b"\n")
    process.stdin.flush()


@pytest.mark.slow
def test_a_worker_that_nobody_hears_ends_and_its_run_has_not_failed(tmp_path: Path) -> None:
    """The parent was killed: the worker may notice it when it speaks, before its input ends."""
    small = task(tmp_path / "run", training__epochs=100_000)
    with worker() as process:
        assert process.stdout is not None
        process.stdout.close()
        give(process, small)
        assert process.wait(300) == 0
    store = RunStore(small.folder)
    assert len(store.journal) == 1
    assert store.record is None
    assert not (small.folder / "error.txt").exists()


# ---------------------------------------------------------------- 2: interrupted

ENDLESS = """
import time
from vaebench import cli
@cli.main.command()
def wait() -> None:
    try:
        print("waits", flush=True)
        time.sleep(60)
    finally:
        print("closes", flush=True)
        time.sleep(60)
cli.main(["wait"])
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_interrupt_ends_at_once(sent: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        # what a shell starts in the background, these tests perhaps, is told to ignore SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"waits\n"
            process.send_signal(sent)
            assert process.stdout.readline() == b"closes\n"
            began = time.monotonic()
            process.send_signal(sent)
            assert process.wait(20) == code
            assert time.monotonic() - began < 5
            assert process.communicate()[1] == b""
        finally:
            process.kill()


# ---------------------------------------------------------------- 5: the disk


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """What stands in for a full disk: no file may grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("size", "file"), [(2000, "checkpoint.pt"), (60_000, "arrays.npz")])
def test_a_full_disk_stops_a_run_and_it_goes_on_from_its_last_good_state(
    tmp_path: Path, size: int, file: str
) -> None:
    whole, full = task(tmp_path / "whole"), task(tmp_path / "full")
    run(whole)
    with no_file_above(size), pytest.raises(StorageError, match="File too large") as caught:
        run(full)
    assert str(full.folder) in str(caught.value)
    assert "run the same command" in str(caught.value)
    store = RunStore(full.folder)
    assert store.record is None
    assert len(store.journal) == (0 if file == "checkpoint.pt" else 2)
    assert not list(full.folder.rglob("*.tmp"))
    said: list[str] = []
    assert run(full, warn=said.append)["attempt"] == 1
    assert said == []
    assert content(full.folder) == content(whole.folder)


@pytest.mark.usefixtures("here")
def test_a_full_disk_stops_a_grid_with_one_message(tmp_path: Path) -> None:
    grid, options = make_grid(settings(name="small", **CELL)), Options(tmp_path, "cpu")
    with no_file_above(5000), pytest.raises(StorageError, match="cannot be written"):
        run_grid(grid, options)
    assert [entry.action for entry in plan(grid, options)] == ["run"]
    assert run_grid(grid, options).records[0]["status"] == "complete"


@pytest.mark.slow
def test_a_worker_that_cannot_write_says_so_and_no_traceback(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with worker() as process:
        give(process, task(blocked / "run"))
        assert process.stdout is not None
        line = process.stdout.readline()
        process.kill()
    assert b"unwritable" in line
    assert str(blocked).encode() in line


@pytest.mark.parametrize("number", [1, 13, 27, 28, 30, 122])  # EPERM ... EDQUOT
def test_errors_of_the_disk_are_told_as_such(number: int) -> None:
    told = StorageError.of(OSError(number, "why", "there/a.pt"))
    assert str(told).startswith("there/a.pt: cannot be written: why; ")
    assert StorageError.of(OSError(2, "No such file")) is None
    assert "here: cannot" in str(StorageError.of(OSError(28, "full"), "here"))


def test_a_run_whose_disk_is_full_is_no_damaged_run() -> None:
    assert not issubclass(StorageError, ResultsError)
