"""Workers: they die, print, and lose their parent, and the runs go on or end as they should."""

import json
import os
import queue
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from small_runs import numbers, results, settings, task, without_figures

from vaebench.config import make_run
from vaebench.config.run import RunConfig
from vaebench.executors import Event, default_jobs, in_this_process, in_workers, pool, process
from vaebench.executors.messages import from_message, to_message
from vaebench.run import Task
from vaebench.storage import RunStore

LONG = 100_000  # epochs that nobody waits for


def alive(pid: int) -> bool:
    """Whether a process runs (one that has ended and was not waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(parent: int | None = None) -> set[int]:
    """Worker processes of a process (this one, if none is given), forked from its template."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            above = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            arguments = (folder / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if b"vaebench.executors" in arguments:
            parents[int(folder.name)] = int(above)
    templates = {pid for pid, above in parents.items() if above == (parent or os.getpid())}
    return {pid for pid, above in parents.items() if above in templates}


@pytest.fixture
def mixed(tmp_path: Path) -> list[Task]:
    """Tasks of which the first never ends."""
    return [
        task(tmp_path / "long", training__epochs=LONG),
        task(tmp_path / "a", training__epochs=1),
        task(tmp_path / "b", training__epochs=1, seed=1),
    ]


def test_a_task_survives_the_way_to_a_worker_and_back(tmp_path: Path) -> None:
    small = replace(task(tmp_path / "run", loss="mse"), data_dir=tmp_path, jobs=3, retries=2)
    sent = json.loads(json.dumps(to_message(small)))
    received = from_message(sent)
    assert received.config.run_id == small.config.run_id
    assert replace(received, config=small.config) == small
    assert from_message(to_message(task(tmp_path))).data_dir is None


def test_tasks_in_this_process_are_done_in_order_and_every_event_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    tasks = [task(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    events: list[Event] = []
    in_this_process(tasks, events.append)
    assert [(event.task.config.seed, event.kind) for event in events] == [
        (seed, kind) for seed in (0, 1) for kind in ("started", "epoch", "epoch", "done")
    ]
    assert [e.data["epoch"] for e in events if e.kind == "epoch"] == [1, 2, 1, 2]
    assert [e.data["status"] for e in events if e.kind == "done"] == ["complete", "complete"]


@pytest.mark.slow
def test_a_worker_that_is_killed_fails_its_run_and_is_replaced(mixed: list[Task]) -> None:
    """One worker for three tasks: the two others can only be done by its successor."""
    events: list[Event] = []
    pids: list[set[int]] = []

    def hear(event: Event) -> None:
        events.append(event)
        if event.kind == "epoch":
            pids.append(children())
        if event.kind == "epoch" and event.data["epoch"] == 2:
            (pid,) = children()
            os.kill(pid, signal.SIGKILL)

    in_workers(mixed, hear, jobs=1)
    done = {event.task.folder.name: event.data for event in events if event.kind == "done"}
    assert done["long"]["status"] == "failed"
    assert done["long"]["reason"] == (
        "its worker process died (signal SIGKILL; out of memory? lower --jobs or "
        "training.batch_size)"
    )
    assert done["long"]["failure"] == "died"
    assert done["long"]["epochs"] >= 2
    assert RunStore(mixed[0].folder).record == done["long"]
    assert [done[name]["status"] for name in "ab"] == ["complete", "complete"]
    assert pids[0] != pids[-1], "another process"
    assert children() == set(), "none is left"


class Enough(Exception):
    """Ends the listening."""


@pytest.mark.slow
def test_a_worker_that_dies_leaves_the_other_alone_and_whatever_ends_the_listening_ends_both(
    tmp_path: Path,
) -> None:
    tasks = [task(tmp_path / str(s), training__epochs=LONG, seed=s) for s in (0, 1)]
    epochs: dict[str, int] = {}
    killed: list[int] = []
    done: dict[str, dict[str, Any]] = {}
    at_death: dict[str, int] = {}

    def hear(event: Event) -> None:
        name = event.task.folder.name
        if event.kind == "epoch":
            epochs[name] = event.data["epoch"]
        elif event.kind == "done":
            done[name] = event.data
            at_death.update(epochs)
        if len(epochs) == 2 and not killed:
            killed.append(min(children()))
            os.kill(killed[0], signal.SIGTERM)
        if done and any(epochs[other] > at_death[other] + 5 for other in set(epochs) - set(done)):
            raise Enough

    with pytest.raises(Enough):
        in_workers(tasks, hear, jobs=2)
    (record,) = done.values()
    assert record["status"] == "failed"
    assert "signal SIGTERM" in record["reason"]
    assert children() == set()


CHATTY = """
import os, sys
print("a library prints this when it is imported")
import vaebench.run
real = vaebench.run.measure_subject
def measure(*args, **kwargs):
    print('{"epoch": 99}')
    sys.stdout.flush()
    os.system('echo "and a child process this"')
    return real(*args, **kwargs)
vaebench.run.measure_subject = measure
"""


@pytest.mark.slow
def test_what_libraries_print_is_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A sitecustomize makes the worker print while it measures; its output goes to stderr."""
    site = tmp_path / "site"
    site.mkdir()
    hook = CHATTY.replace('print("a library prints this when it is imported")\n', "")
    (site / "chatty.py").write_text(hook)
    real = process.Worker.__init__
    run_it = "import chatty, vaebench.executors.worker as w; w.work()"

    class Chatty(process.Worker):
        def __init__(self, said: "queue.SimpleQueue[Any]", gpu: str | None = None) -> None:
            popen = subprocess.Popen

            def start(command: list[str], **options: Any) -> Any:
                options["env"] = options["env"] | {"PYTHONPATH": str(site)}
                return popen([command[0], "-c", run_it], **options)

            monkeypatch.setattr(subprocess, "Popen", start)
            real(self, said)
            monkeypatch.setattr(subprocess, "Popen", popen)

    monkeypatch.setattr(pool, "Worker", Chatty)
    events: list[Event] = []
    in_workers([task(tmp_path / "run")], events.append, jobs=1)
    assert [event.kind for event in events] == ["started", "epoch", "epoch", "done"]
    assert [e.data["epoch"] for e in events if e.kind == "epoch"] == [1, 2]
    assert events[-1].data["status"] == "complete"
    shown = capfd.readouterr()
    assert '{"epoch": 99}' in shown.err
    assert "and a child process this" in shown.err
    assert shown.out == ""


PARENT = """
import json, sys
from pathlib import Path
from vaebench.executors import in_workers
from vaebench.executors.messages import from_message
tasks = [from_message(message) for message in json.load(open(sys.argv[1]))]
in_workers(tasks, lambda event: print(event.kind, flush=True), jobs=2)
"""


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    tasks = [task(tmp_path / str(s), training__epochs=LONG, seed=s) for s in (0, 1)]
    (tmp_path / "tasks.json").write_text(json.dumps([to_message(small) for small in tasks]))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "tasks.json")],
        stdout=subprocess.PIPE,
        text=True,
    )
    workers: set[int] = set()
    try:
        assert parent.stdout is not None
        while len(workers) < 2 or "epoch" not in parent.stdout.readline():
            workers = children(parent.pid)
        assert all(alive(pid) for pid in workers)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 20
        while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [pid for pid in workers if alive(pid)]
    finally:
        parent.kill()
        parent.communicate()
        for pid in workers:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_a_worker_that_cannot_start_fails_the_runs_and_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    events: list[Event] = []
    in_workers([task(tmp_path / "a"), task(tmp_path / "b", seed=1)], events.append, jobs=2)
    done = [event.data for event in events if event.kind == "done"]
    assert [record["status"] for record in done] == ["failed", "failed"]
    assert all("exit code 1" in record["reason"] for record in done)


def test_no_tasks_are_done_at_once(tmp_path: Path) -> None:
    events: list[Event] = []
    in_workers([], events.append, jobs=2)
    in_this_process([], events.append)
    assert events == []


@pytest.mark.slow
def test_a_worker_gives_the_numbers_of_this_process(tmp_path: Path) -> None:
    """Trap 11, for a cnn with batch normalisation and a static binarisation."""
    overrides = {"model": "cnn", "model__cnn__batch_norm": True, "dataset__binarize": "static"}
    here, there = (task(tmp_path / name, **overrides) for name in ("here", "there"))
    events: list[Event] = []
    in_this_process([here], events.append)
    in_workers([there], events.append, jobs=1)
    first, second = (event.data for event in events if event.kind == "done")
    assert first["status"] == second["status"] == "complete"
    assert results(first) == results(second)
    assert numbers(RunStore(here.folder).journal) == numbers(RunStore(there.folder).journal)


def test_workers_fill_the_cores_of_a_cpu_and_at_most_four_share_a_gpu() -> None:
    cores = len(os.sched_getaffinity(0))
    assert default_jobs("cpu") == cores
    assert default_jobs("cuda") == min(4, cores)


def test_a_worker_has_one_thread_per_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    environment = process.worker_environment()
    assert {environment[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")} == {"1"}


def test_a_small_task_is_a_valid_configuration() -> None:
    assert make_run(settings(model="fnn")).run_id


def test_a_worker_that_dies_in_the_middle_of_a_line_fails_its_run_and_nothing_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker = tmp_path / "python"
    speaker.write_text('#!/bin/sh\nread task\nprintf \'{"epoch": 1, "ti\'\n')
    speaker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(speaker))
    heard: list[Event] = []
    in_workers([task(tmp_path / "run")], heard.append, jobs=1)
    assert [event.kind for event in heard] == ["started", "done"]
    assert heard[-1].data["status"] == "failed"
    assert "its worker process died" in heard[-1].data["reason"]


def test_a_task_survives_its_message_with_every_option(tmp_path: Path) -> None:
    config = make_run(
        {
            "model": {"name": "cnn", "cnn": {"channels": [3, 5], "strides": [2, 2]}},
            "loss": {"name": "mse", "mse": {"sigma2": 0.1}},
            "training": {"optimizer": {"name": "adam", "adam": {"weight_decay": 0.1}}},
        }
    )
    task = Task(config, {"model": "cnn"}, tmp_path, "cpu", tmp_path, 2, 1, ("ssim",), tune=True)
    received = from_message(json.loads(json.dumps(to_message(task))))
    assert received == task
    assert received.config.to_dict() == config.to_dict()
    with pytest.raises(ValidationError, match="would drop options"):
        RunConfig.model_validate(config.to_dict())


def test_a_worker_that_cannot_begin_is_recorded_with_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text("import sys\nsys.modules['vaebench.run'] = None\n")
    monkeypatch.setenv("PYTHONPATH", f"{broken}{os.pathsep}{Path(__file__).parents[1]}")
    heard: list[Event] = []
    in_workers([task(tmp_path / "run")], heard.append, jobs=1)
    record = heard[-1].data
    assert (record["status"], record["failure"]) == ("failed", "error")
    assert "ModuleNotFoundError" in record["reason"]
    assert "vaebench.run" in record["reason"]
    assert "SIGKILL" not in record["reason"]
    assert "Traceback" in (tmp_path / "run" / "error.txt").read_text()
