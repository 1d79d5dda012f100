"""Runs that fail in real workers: recorded with the reason, tried again, the others unharmed."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_runs import in_this_process_only, numbers, results, settings, task

from vaebench.errors import ConfigError, DataError, DivergedError
from vaebench.executors import Event, in_this_process, in_workers, pool
from vaebench.grid import Options, run_grid, train
from vaebench.run import Task
from vaebench.run.failures import failed, is_out_of_memory
from vaebench.storage import RunStore

SITE = Path(__file__).parent / "faults"
Plant = Callable[..., list[Task]]


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Makes tasks of three epochs, one for each fault that workers shall meet; None: no fault."""

    def planted(*faults: str | None) -> list[Task]:
        (tmp_path / "once").mkdir()
        path = os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])])
        monkeypatch.setenv("PYTHONPATH", path)
        monkeypatch.setenv("FAULTS", json.dumps(dict(enumerate(faults))))
        monkeypatch.setenv("FAULTS_ONCE", str(tmp_path / "once"))
        return [small(tmp_path / (name or "fine"), seed) for seed, name in enumerate(faults)]

    return planted


def small(folder: Path, seed: int) -> Task:
    return task(folder, seed=seed, training__epochs=3)


def undisturbed(folder: Path, like: Task) -> RunStore:
    in_this_process([replace(like, folder=folder, retries=0)], lambda _: None)
    return RunStore(folder)


def assert_same(found: RunStore, expected: RunStore) -> None:
    """Metrics, curves and weights, bit for bit."""
    records = found.record, expected.record
    assert records[0] is not None
    assert records[1] is not None
    assert records[0]["status"] == records[1]["status"] == "complete"
    assert results(records[0]) == results(records[1])
    assert numbers(found.journal) == numbers(expected.journal)
    assert [line["epoch"] for line in found.journal] == [1, 2, 3]
    weights = found.load_tensors("weights.pt"), expected.load_tensors("weights.pt")
    assert weights[0] is not None
    assert weights[1] is not None
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())


# ---------------------------------------------------------------- in workers


@pytest.mark.slow
def test_what_may_pass_is_tried_again_from_its_checkpoint_and_the_rest_is_recorded(
    plant: Plant, tmp_path: Path
) -> None:
    names = ["killed", "crashes", "wants_memory", "loses_its_disk", "has_a_bug", None]
    tasks = plant(*names)
    events: list[Event] = []
    in_workers(tasks, events.append, jobs=2, retries=1)
    heard = {
        name or "fine": [e for e in events if e.task.config.seed == i]
        for i, name in enumerate(names)
    }
    for name, found in heard.items():
        assert [e.kind for e in found].count("started") == 1, name
        assert [e.kind for e in found].count("done") == 1, name
    told = {n: e.data["warning"] for n, es in heard.items() for e in es if e.kind == "warning"}
    assert told.keys() == {"killed", "crashes", "wants_memory", "loses_its_disk"}
    assert all(text.endswith("; it is tried again (1 of 1)") for text in told.values())
    assert "signal SIGKILL" in told["killed"]
    assert "signal SIGSEGV" in told["crashes"]
    assert "4000000000 bytes" in told["wants_memory"]
    assert "OSError: [Errno 5] Input/output error" in told["loses_its_disk"]
    for small in tasks:
        name, store = small.folder.name, RunStore(small.folder)
        record = heard[name][-1].data
        assert record == store.record
        assert record["attempt"] == 1
        epochs = [e.data["epoch"] for e in heard[name] if e.kind == "epoch"]
        if name == "has_a_bug":
            assert (record["status"], record["failure"]) == ("failed", "error")
            assert record["reason"] == ("ValueError: nobody foresaw this (see has_a_bug/error.txt)")
            assert epochs == [1]
            assert "retries" not in record
            continue
        assert record.get("retries", 0) == (name != "fine")
        assert "failure" not in record
        assert epochs == ([1, 2, 3] if name == "fine" else [1, 3]), (
            "the second was not trained twice"
        )
        assert_same(store, undisturbed(tmp_path / "again" / name, small))
    text = (tmp_path / "crashes" / "error.txt").read_text()
    assert "Segmentation fault" in text
    assert "string_at" in text
    assert "wants_memory" in (tmp_path / "wants_memory" / "error.txt").read_text()
    assert not (tmp_path / "killed" / "error.txt").exists()


@pytest.mark.slow
def test_runs_that_hang_are_ended_with_a_traceback_if_they_still_answer_and_go_on_later(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is put forward when both hang: nobody waits, and a slow machine changes nothing."""
    tasks = plant("hangs", "hangs_deaf")
    late = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late)
    monkeypatch.setattr(pool, "time", clock)
    events: list[Event] = []
    marks = [tmp_path / "once" / small.folder.name for small in tasks]

    def hear(event: Event) -> None:
        nonlocal late
        events.append(event)
        if sum(e.kind == "epoch" for e in events) == 2:
            deadline = time.monotonic() + 60
            while not all(mark.exists() for mark in marks):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            late = 2000.0

    in_workers(tasks, hear, jobs=2, timeout=1000)
    done = {e.task.folder.name: e.data for e in events if e.kind == "done"}
    reason = "timed out after 1000 s (--timeout)"
    assert done["hangs"]["reason"] == f"{reason} (see hangs/error.txt)"
    assert done["hangs_deaf"]["reason"] == reason
    assert {record["failure"] for record in done.values()} == {"timeout"}
    assert {record["epochs"] for record in done.values()} == {2}
    assert "in hangs\n" in (tmp_path / "hangs" / "error.txt").read_text()
    for small in tasks:
        in_this_process([small], lambda _: None)
        again = undisturbed(tmp_path / "again" / small.folder.name, small)
        assert_same(RunStore(small.folder), again)


@pytest.mark.slow
def test_a_run_that_is_in_time_is_left_alone(tmp_path: Path) -> None:
    events: list[Event] = []
    in_workers([small(tmp_path / "run", 0)], events.append, jobs=1, timeout=1e9, retries=3)
    assert [event.kind for event in events] == ["started", "epoch", "epoch", "epoch", "done"]
    assert events[-1].data["status"] == "complete"


def test_a_worker_that_can_never_start_is_tried_no_more_often_than_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    events: list[Event] = []
    in_workers([small(tmp_path / "run", 0)], events.append, jobs=1, retries=2)
    assert [event.kind for event in events] == ["started", "warning", "warning", "done"]
    record = events[-1].data
    assert (record["failure"], record["retries"]) == ("died", 2)
    assert "exit code 1" in record["reason"]


# ---------------------------------------------------------------- which kind

NO_MEMORY = [
    MemoryError(),
    MemoryError("Unable to allocate 7.45 GiB for an array with shape (1000000000,)"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
        "allocate memory: you tried to allocate 40000000000 bytes."
    ),
    RuntimeError(
        "[enforce fail] . DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."
    ),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: str(error)[:40])
def test_all_that_says_no_memory_is_told_apart(error: Exception, tmp_path: Path) -> None:
    record = failed(task(tmp_path / "run"), error)
    assert record["failure"] == "memory"
    assert record["reason"].startswith("out of memory")
    assert "; lower training.batch_size or --jobs (see run/error.txt)" in record["reason"]
    assert str(error) in (tmp_path / "run" / "error.txt").read_text()


def test_the_amount_that_was_wanted_is_told(tmp_path: Path) -> None:
    reasons = [failed(task(tmp_path / "run"), error)["reason"] for error in NO_MEMORY[1:4]]
    amounts = ["7.45 GiB", "20.00 MiB", "40000000000 bytes"]
    for reason, amount in zip(reasons, amounts, strict=True):
        assert reason.startswith(f"out of memory when it wanted {amount} more; ")


@pytest.mark.parametrize(
    ("error", "kind", "has_trace"),
    [
        (DivergedError("nan"), "diverged", False),
        (DataError("gone"), "error", False),
        (RuntimeError("shapes do not fit"), "error", True),
        (TimeoutError("no answer"), "system", True),
    ],
)
def test_what_fails_for_another_reason_is_of_another_kind(
    error: Exception, kind: str, has_trace: bool, tmp_path: Path
) -> None:
    assert not is_out_of_memory(error)
    assert failed(task(tmp_path / "run"), error)["failure"] == kind
    assert (tmp_path / "run" / "error.txt").exists() == has_trace


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0.0},
        {"timeout": -1.0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"retries": -1},
    ],
    ids=str,
)
def test_limits_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Options(**wrong)


def test_limits_reach_the_workers_and_are_none_of_a_runs_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)
    given: list[dict[str, Any]] = []

    def workers(tasks: Any, hear: Any, **how: Any) -> None:
        given.append(how)
        in_this_process(tasks, hear)

    monkeypatch.setattr("vaebench.grid.crew.in_workers", workers)
    one = settings(name="one", axes={"model": ["fnn"]})
    run_grid(one, Options(tmp_path, "cpu", timeout=60.0, retries=2))
    assert given == [{"jobs": 1, "timeout": 60.0, "retries": 2, "gpus": None}]
    assert run_grid(one, Options(tmp_path, "cpu")).done == []


@pytest.mark.parametrize("option", [{"timeout": 60.0}, {"retries": 1}], ids=str)
def test_a_run_in_this_process_takes_no_limits(option: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use run_grid"):
        train(settings(model="fnn"), Options(tmp_path, "cpu", **option))
    assert list(tmp_path.iterdir()) == []
