"""Attempts at a run: each in its own folder, published once, by the first; none is overwritten."""

import json
import tracemalloc
from pathlib import Path

import pytest
from others import Clock, elsewhere
from small_runs import numbers, results, task, without_figures

from vaebench.errors import ResultsError
from vaebench.run import Task, publish_run, run
from vaebench.storage import (
    Late,
    Lease,
    LostError,
    RunStore,
    Taken,
    Watch,
    attempt_at,
    content_of,
    lease_of,
    publish,
    run_store,
    take_up,
)
from vaebench.storage.copying import copy_file


def begun(grid: Path, watch: Watch | None = None) -> Lease:
    found = attempt_at(grid, "a", "runs", watch or Watch())
    assert isinstance(found, Lease), found
    take_up(found)
    content_of(found).mkdir(exist_ok=True)
    return found


def superseded(grid: Path, lease: Lease) -> Lease:
    """Take over the run of a process on another machine that is not heard of any more."""
    clock = Clock()
    watch = Watch(clock)
    elsewhere(lease)
    for _ in range(100):
        found = attempt_at(grid, "a", "runs", watch)
        if isinstance(found, Lease):
            take_up(found)
            content_of(found).mkdir(exist_ok=True)
            return found
        clock.now += 10
    raise AssertionError(found)


def write(lease: Lease, text: str) -> None:
    (content_of(lease) / "record.json").write_text(json.dumps({"who": text}))


def read(folder: Path) -> str:
    said: str = json.loads((folder / "record.json").read_text())["who"]
    return said


def test_an_attempt_is_published_by_its_name_and_leaves_nothing_else(tmp_path: Path) -> None:
    lease = begun(tmp_path)
    assert run_store(tmp_path, "a").path == content_of(lease)
    assert not run_store(tmp_path, "a").is_published
    assert run_store(tmp_path, "a").within == tmp_path
    write(lease, "first")
    assert publish(lease) is None
    assert read(tmp_path / "runs" / "a") == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert run_store(tmp_path, "a").is_published


def test_of_two_results_the_first_is_published_and_the_late_one_kept(tmp_path: Path) -> None:
    sleeper = begun(tmp_path)
    write(sleeper, "late")
    second = superseded(tmp_path, sleeper)
    write(second, "first")
    assert publish(second) is None
    late = publish(sleeper)
    assert late == Late(tmp_path / "runs" / "a" / "attempts" / "late-1")
    assert read(tmp_path / "runs" / "a") == "first"
    assert read(late.kept) == "late"
    assert RunStore(tmp_path / "runs" / "a").attempt == 1, "it counts as no attempt of its own"


def test_one_that_wakes_up_before_the_other_has_ended_is_refused_all_the_same(
    tmp_path: Path,
) -> None:
    sleeper = begun(tmp_path)
    write(sleeper, "late")
    second = superseded(tmp_path, sleeper)
    late = publish(sleeper)
    assert late is not None
    assert not (tmp_path / "runs" / "a").exists()
    write(second, "first")
    assert publish(second) is None
    assert read(tmp_path / "runs" / "a") == "first"
    assert read(tmp_path / "runs" / "a" / "attempts" / "late-1") == "late"


def test_one_that_slept_between_its_last_look_and_the_rename_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = begun(tmp_path)
    write(sleeper, "late")
    second = superseded(tmp_path, sleeper)
    write(second, "first")
    assert publish(second) is None
    monkeypatch.setattr(Lease, "is_current", lambda _: True)
    late = publish(sleeper)
    assert late is not None
    assert read(tmp_path / "runs" / "a") == "first"
    assert read(late.kept) == "late"


def test_what_a_dead_attempt_left_is_copied_and_never_shared(tmp_path: Path) -> None:
    sleeper = begun(tmp_path)
    folder = content_of(sleeper)
    (folder / "images").mkdir()
    for name in ("checkpoint.pt", "journal.jsonl", "images/x-1.png", ".config.yaml.123.tmp"):
        (folder / name).write_text(name)
    second = content_of(superseded(tmp_path, sleeper))
    assert sorted(str(path.relative_to(second)) for path in second.rglob("*.*")) == [
        *("checkpoint.pt", "images/x-1.png", "journal.jsonl")
    ]
    for name in ("checkpoint.pt", "journal.jsonl", "images/x-1.png"):
        assert (second / name).stat().st_ino != (folder / name).stat().st_ino
        (folder / name).write_text("written late")
        assert (second / name).read_text() == name


def test_a_result_that_was_not_yet_published_is_taken_over_whole(tmp_path: Path) -> None:
    sleeper = begun(tmp_path)
    write(sleeper, "done")
    second = superseded(tmp_path, sleeper)
    assert publish(second) is None
    assert read(tmp_path / "runs" / "a") == "done"


def test_a_published_run_goes_on_in_a_folder_of_its_own(tmp_path: Path) -> None:
    first = begun(tmp_path)
    write(first, "interrupted")
    publish(first)
    second = begun(tmp_path)
    assert not (tmp_path / "runs" / "a").exists()
    assert read(content_of(second)) == "interrupted"
    write(second, "complete")
    publish(second)
    assert read(tmp_path / "runs" / "a") == "complete"


def test_one_that_slept_before_it_took_a_run_up_does_not_take_the_result_of_another(
    tmp_path: Path,
) -> None:
    sleeper = attempt_at(tmp_path, "a", "runs", Watch())
    assert isinstance(sleeper, Lease)
    second = superseded(tmp_path, sleeper)
    write(second, "first")
    publish(second)
    with pytest.raises(LostError):
        take_up(sleeper)
    assert read(tmp_path / "runs" / "a") == "first"


@pytest.mark.parametrize("where", ["runs", "runs/a", ".work/runs/a/1/a", ".work/runs/a/1/a/x"])
def test_links_are_refused_wherever_they_stand(tmp_path: Path, where: str) -> None:
    grid, secret = tmp_path / "grid", tmp_path / "secret"
    secret.mkdir()
    (secret / "record.json").write_text("{}")
    path = grid / where
    if where.startswith(".work"):
        lease = begun(grid)
        (content_of(lease) / "journal.jsonl").write_text("")
        if path.is_dir():
            (path / "journal.jsonl").unlink()
            path.rmdir()
        path.symlink_to(secret)
        with pytest.raises(ResultsError, match="link"):
            superseded(grid, lease)
    else:
        path.parent.mkdir(parents=True)
        path.symlink_to(secret)
        with pytest.raises(ResultsError, match="link"):
            begun(grid)
    assert [path.name for path in secret.iterdir()] == ["record.json"]


def in_grid(grid: Path, lease: Lease) -> Task:
    return task(content_of(lease), training__epochs=2)


def test_a_run_that_is_taken_over_goes_on_from_its_checkpoint_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    whole = task(tmp_path / "whole", training__epochs=2)
    run(whole)
    sleeper = begun(tmp_path / "grid")

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(in_grid(tmp_path / "grid", sleeper), stop)
    (content_of(sleeper) / "record.json").unlink()
    second = superseded(tmp_path / "grid", sleeper)
    said: list[str] = []
    epochs: list[int] = []
    small = in_grid(tmp_path / "grid", second)
    record = run(small, lambda line: epochs.append(line["epoch"]), said.append)
    publish_run(small)
    assert (said, epochs) == ([], [2])
    store, other = run_store(tmp_path / "grid", "a"), RunStore(whole.folder)
    assert other.record is not None
    assert results(record) == results(other.record)
    assert numbers(store.journal) == numbers(other.journal)
    # the sleeper wakes up, and ends its run as well
    late = in_grid(tmp_path / "grid", sleeper)
    run(late)
    before = (store.path / "record.json").read_bytes()
    with pytest.raises(LostError, match="the first that is published counts"):
        publish_run(late)
    assert (store.path / "record.json").read_bytes() == before
    assert results(RunStore(store.path / "attempts" / "late-1").record or {}) == results(record)


@pytest.mark.parametrize("keeps", [False, True])
def test_checkpoints_of_a_complete_run_are_dropped_unless_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, keeps: bool
) -> None:
    without_figures(monkeypatch)
    lease = begun(tmp_path)
    small = task(content_of(lease), evaluate="best")
    small = Task(**{**vars(small), "keep_checkpoints": keeps})
    run(small)
    publish_run(small)
    for name in ("checkpoint.pt", "best.pt"):
        assert (tmp_path / "runs" / "a" / name).exists() == keeps
    assert (tmp_path / "runs" / "a" / "weights.pt").exists()


def test_a_folder_that_is_no_attempts_has_no_lease(tmp_path: Path) -> None:
    assert lease_of(tmp_path / "grid" / "runs" / "a") is None
    with pytest.raises(LostError):
        lease_of(tmp_path / ".work" / "runs" / "a" / "1" / "a")


def test_a_run_that_another_process_does_is_not_begun(tmp_path: Path) -> None:
    begun(tmp_path)
    assert isinstance(attempt_at(tmp_path, "a", "runs", Watch()), Taken)


def test_a_copy_takes_the_memory_of_the_file_not_of_its_bound(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"x" * 1000)
    tracemalloc.start()
    try:
        copy_file(tmp_path / "weights.pt", tmp_path / "copy", tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "copy").read_bytes() == b"x" * 1000
    assert peak < 1_000_000
