"""Several GPUs, pretended: which takes the next run, what a worker sees, a run without memory.

No card was at hand: the ids are made up, and the runs are done on the CPU.
"""

import queue
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import small_runs

from vaebench.errors import ConfigError
from vaebench.executors import Event, Gpus, default_jobs, visible_gpus
from vaebench.executors.pool import Pool
from vaebench.executors.process import VISIBLE, Worker
from vaebench.grid.crew import crew_of
from vaebench.grid.options import Options
from vaebench.run import Task


@pytest.mark.parametrize(
    ("variable", "count", "names"),
    [
        (None, 2, ("0", "1")),
        ("2,3", 2, ("2", "3")),
        ("GPU-5f, MIG-7a", 2, ("GPU-5f", "MIG-7a")),
        ("3", 1, ("3",)),
        ("", 0, ()),
        ("0,9", 1, ("0",)),  # CUDA sees nothing from the first wrong one on
    ],
)
def test_gpus_are_those_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, count: int, names: tuple[str, ...]
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(VISIBLE, variable)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    assert visible_gpus() == names


def test_next_run_goes_to_the_gpu_with_the_fewest_and_to_none_that_is_full() -> None:
    gpus = Gpus(("2", "3"), 2)
    assert gpus.room([], waits=False) == (None, "2")
    assert gpus.room([("2", False)], waits=False) == (None, "3")
    assert gpus.room([("2", False), ("3", False)], waits=False) == (None, "2")
    assert gpus.room([("2", False), ("3", False)] * 2, waits=False) == (None, None)


def test_run_that_is_to_be_alone_waits_for_a_gpu_that_takes_no_other() -> None:
    gpus = Gpus(("2", "3"), 2)
    busy: list[tuple[str | None, bool]] = [("2", False), ("2", False), ("3", False)]
    assert gpus.room(busy, waits=True) == (None, None)  # 2 is full, 3 is being emptied
    assert gpus.room(busy[:2], waits=True) == ("3", None)
    assert gpus.room([("2", False), ("3", True)], waits=False) == (None, "2")
    assert gpus.room([("2", True), ("3", True)], waits=True) == (None, None)


class Card:
    """A pretended doer: each run wants a share of its GPU's memory when it is asked to go on."""

    def __init__(
        self, said: "queue.SimpleQueue[Any]", gpu: str | None, cards: list["Card"]
    ) -> None:
        self.said, self.gpu, self.cards = said, gpu, cards
        self.task: Task | None = None
        self.due = float("inf")
        self.is_late = self.alone = self.moves = False
        cards.append(self)

    def give(self, task: Task, seconds: float) -> None:
        self.task = task
        beside = [c for c in self.cards if c is not self and c.gpu == self.gpu and c.task]
        assert not any(card.alone for card in beside), "a run was given to a GPU beside one alone"
        assert not (self.alone and beside), "one alone was given to a GPU that is used"
        large = task.config.seed == 0 and not self.alone
        record = {"status": "failed", "failure": "memory", "reason": "out of memory"}
        done = record if large else {"status": "complete", "alone": self.alone, "gpu": self.gpu}
        self.said.put((self, ["done", done]))

    def expire(self) -> None:
        raise AssertionError("nothing is late")

    def kill(self) -> None:
        self.task = None

    def end(self, *, seconds: float = 0.0) -> tuple[str, str]:
        return "", ""


def test_run_without_memory_on_a_shared_gpu_is_done_again_alone_whatever_retries_are(
    tmp_path: Path,
) -> None:
    said: queue.SimpleQueue[Any] = queue.SimpleQueue()
    cards: list[Card] = []
    events: list[Event] = []
    tasks = [small_runs.task(tmp_path / str(seed), seed=seed) for seed in range(8)]
    Pool(
        tasks, events.append, lambda gpu: Card(said, gpu, cards), said, None, 0,
        gpus=Gpus(("2", "3"), 2),
    ).work(lambda: 4)  # fmt: skip
    done = {event.task.config.seed: event for event in events if event.kind == "done"}
    assert {event.data["status"] for event in done.values()} == {"complete"}
    assert [seed for seed, event in done.items() if event.data["alone"]] == [0]
    assert done[0].task.retries == 1
    (warning,) = [event.data["warning"] for event in events if event.kind == "warning"]
    assert warning == "out of memory; it is tried again alone on a GPU"
    assert set(Counter(event.data["gpu"] for event in done.values())) == {"2", "3"}


def test_run_that_finds_no_memory_alone_has_failed(tmp_path: Path) -> None:
    class Small(Card):
        def give(self, task: Task, seconds: float) -> None:
            self.task = task
            record = {"status": "failed", "failure": "memory", "reason": "out of memory"}
            said.put((self, ["done", record]))

    said: queue.SimpleQueue[Any] = queue.SimpleQueue()
    events: list[Event] = []
    Pool(
        [small_runs.task(tmp_path / "0")], events.append, lambda gpu: Small(said, gpu, []), said,
        None, 0, gpus=Gpus(("0",), 4),
    ).work(lambda: 4)  # fmt: skip
    assert [event.kind for event in events] == ["started", "warning", "done"]


def test_worker_sees_its_own_gpu_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell stands in for Python, and writes down what it sees."""
    speaker = tmp_path / "python"
    speaker.write_text(f'#!/bin/sh\necho "$CUDA_VISIBLE_DEVICES" >> {tmp_path}/seen\n')
    speaker.chmod(0o755)
    monkeypatch.setenv(VISIBLE, "2,3")
    monkeypatch.setattr("sys.executable", str(speaker))
    monkeypatch.setattr("vaebench.executors.process.begin", lambda: None)  # test_forking has those
    for gpu in ("3", None):
        Worker(queue.SimpleQueue(), gpu).end(seconds=30)
    assert (tmp_path / "seen").read_text().split() == ["3", "2,3"]


@pytest.mark.parametrize(
    ("options", "jobs", "each"),
    [
        ({}, min(8, default_jobs("cpu")), None),
        ({"jobs": 3}, 3, 2),
        ({"jobs_per_gpu": 3}, 6, 3),
        ({"jobs_per_gpu": 3, "jobs": 2}, 2, 3),
    ],
)
def test_workers_share_the_gpus_out(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], jobs: int, each: int | None
) -> None:
    monkeypatch.setattr("vaebench.grid.crew.resolve_device", lambda _: "cuda")
    monkeypatch.setattr("vaebench.grid.crew.visible_gpus", lambda: ("2", "3"))
    given: list[dict[str, Any]] = []
    monkeypatch.setattr("vaebench.grid.crew.in_workers", lambda *_, **how: given.append(how))
    with crew_of(Options(device="cuda", **options)) as crew:
        crew.do(None, print, crew.jobs())  # type: ignore[arg-type]
    (how,) = given
    assert how["jobs"] == jobs
    assert how["gpus"] == Gpus(("2", "3"), each or -(-jobs // 2))


def test_jobs_per_gpu_without_a_gpu_is_a_mistake() -> None:
    with (
        pytest.raises(ConfigError, match="--jobs-per-gpu: the runs are done on cpu"),
        crew_of(Options(device="cpu", jobs_per_gpu=2)),
    ):
        pass
