"""What ``make chaos`` looks for, it finds: runs published twice, processes left behind."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chaos import __main__ as command
from chaos import launch, nodes
from chaos.disks import CannotTry
from chaos.published import Watch, watched
from click.testing import CliRunner


def publish(grid: Path, status: str, name: str = "run") -> Path:
    """Put a run in the place of the one that is there, as a rename does."""
    target, new = grid / "runs" / name, grid / ".work" / name
    new.mkdir(parents=True)
    (new / "record.json").write_text(json.dumps({"status": status}))
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        target.rename(grid / f"old-{time.time_ns()}")
    new.rename(target)
    return target


def test_a_run_that_failed_may_be_done_again_and_a_complete_one_may_not(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.look()
    for status in ("failed", "interrupted", "complete"):
        publish(tmp_path, status)
        watch.look()
        watch.look()
    publish(tmp_path, "complete", "another")
    watch.look()
    assert watch.problems == []
    publish(tmp_path, "complete")
    watch.look()
    watch.look()
    assert len(watch.problems) == 1
    assert watch.problems[0].startswith("published twice: run was ")


def test_a_complete_run_may_be_neither_changed_nor_taken_away(tmp_path: Path) -> None:
    with watched(tmp_path) as watch:
        changed = publish(tmp_path, "complete", "changed")
        gone = publish(tmp_path, "complete", "gone")
        deadline = time.monotonic() + 60
        while len(watch._known) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (changed / "record.json").write_text('{"status": "complete", "seed": 1}')
        gone.rename(tmp_path / "taken")
    assert sorted(problem.split()[2] for problem in watch.problems) == ["changed", "gone"]


def orphan(seconds: float) -> int:
    """The id of a session whose leader has ended, and left a process behind."""
    command = ["sh", "-c", f"sleep {seconds} & exec true"]
    leader = subprocess.Popen(command, start_new_session=True)
    leader.wait()
    return leader.pid


def test_a_process_that_is_left_behind_is_named_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "LINGERS", 0.3)
    session = orphan(60)
    [told] = launch._left_behind(session)
    assert "sleep 60" in told
    assert launch._left_behind(session) == []


def test_time_without_a_processor_is_no_time_of_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "LINGERS", 0.3)
    monkeypatch.setattr(launch, "_waited", lambda _: time.monotonic())
    began = time.monotonic()
    assert launch._left_behind(orphan(1)) == []
    assert time.monotonic() - began > 0.5


@pytest.mark.parametrize("options", [[], ["--short"], ["--only", "shards"]], ids=str)
def test_the_command_takes_its_options(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[object] = []
    monkeypatch.setattr(command, "_all", lambda *given: begun.append(given[-2]))
    done = CliRunner().invoke(command.main, [*options, "--seed", "1"])
    assert begun == [options[1] if "--only" in options else None]
    assert done.exit_code == 1  # nothing was killed, which proves nothing
    assert done.output.startswith("chaos: seed 1, ")


def test_two_machines_reach_each_other_and_what_runs_on_them_ends_with_them() -> None:
    address = nodes.ADDRESS[nodes.NODE]
    listen = f"import socket, time; s = socket.create_server(('{address}', 9)); time.sleep(600)"
    knock = ["bash", "-c", f": < /dev/tcp/{address}/9"]
    try:
        with nodes.two_machines():
            process = subprocess.Popen([*nodes.inside(nodes.NODE), sys.executable, "-c", listen])
            deadline = time.monotonic() + 60
            while subprocess.run(
                [*nodes.inside(nodes.HEAD), *knock], capture_output=True, check=False
            ).returncode:
                assert time.monotonic() < deadline
            assert nodes.pids(nodes.NODE) == [process.pid]
    except CannotTry as error:
        pytest.skip(str(error))
    assert process.wait(10) == -signal.SIGKILL
    assert nodes.pids(nodes.NODE) == []
