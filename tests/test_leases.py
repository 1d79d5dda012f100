"""Leases: one holder at a time, whatever the clocks say, and nobody who slept harms the next."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from others import Clock, elsewhere, holder_of

from vaebench.errors import ResultsError
from vaebench.storage import Lease, LostError, Taken, Watch, holders, leases, locked, renewed
from vaebench.storage.leases import FILE, numbers, only_one, take
from vaebench.storage.processes import life

SECONDS = 60.0


def taken(place: Path, watch: Watch | None = None) -> Lease:
    found = take(place, place.parent, watch or Watch())
    assert isinstance(found, Lease), found
    return found


def test_a_place_has_one_holder_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    lease = taken(tmp_path / "a" / "b")
    assert lease.is_current()
    second = take(tmp_path / "a" / "b", tmp_path / "a", Watch())
    assert isinstance(second, Taken)
    assert second.judgement == "alive"
    assert str(second) == f"process {os.getpid()} on {lease.holder.host}"
    lease.release()
    lease.release()
    assert not (tmp_path / "a" / "b").exists()
    assert not lease.is_current()


def test_the_lease_that_another_process_is_about_to_take_is_left_alone(tmp_path: Path) -> None:
    """Else it would hold an empty folder, onto which a third could rename its own."""
    with holder_of(tmp_path / "other") as process:
        lease = taken(tmp_path / "a")
        made, left = (tmp_path / "a" / f".1.{name}.tmp" for name in ("made", "left"))
        shutil.copytree(tmp_path / "other" / "1", made)
        lease.release()
        assert (made / FILE).exists()
        process.kill()
        process.wait()
        made.rename(left)
        taken(tmp_path / "a").release()
    assert not (tmp_path / "a").exists(), "what a killed process was about to take is removed"


@pytest.mark.parametrize("died", ["Path.unlink", "Path.rmdir"])
def test_what_a_process_left_that_died_as_it_removed_a_lease_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, died: str
) -> None:
    place = tmp_path / "a"
    with holder_of(place) as process:
        (place / "1" / "run").mkdir()
        (place / "1" / "run" / "weights.pt").write_text("0")
        process.kill()
        process.wait()
    with monkeypatch.context() as patch:
        patch.setattr(f"pathlib.{died}", Mock(side_effect=SystemExit))
        with pytest.raises(SystemExit):
            leases.forget(place, tmp_path)
    assert not list(place.rglob("weights.pt"))
    taken(place).release()
    assert not place.exists()


def test_what_lies_in_a_lease_stays_when_it_is_given_back(tmp_path: Path) -> None:
    first = taken(tmp_path / "a")
    (first.folder / "result").write_text("all of it")
    first.release()
    assert (tmp_path / "a" / "1" / "result").read_text() == "all of it"
    second = taken(tmp_path / "a")
    assert second.number == 2
    assert not first.is_current()


def test_a_holder_of_this_machine_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    with holder_of(tmp_path / "a") as process:
        assert isinstance(take(tmp_path / "a", tmp_path, Watch()), Taken)
        process.kill()
        process.wait()
        assert taken(tmp_path / "a").number == 2


def test_a_process_number_that_another_process_has_by_now_is_not_its_holder(
    tmp_path: Path,
) -> None:
    lease = taken(tmp_path / "a")
    path = lease.folder / FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started": "1", "pid": 1}))
    assert taken(tmp_path / "a").number == 2


def test_a_holder_elsewhere_is_dead_when_its_lease_was_watched_unchanged(tmp_path: Path) -> None:
    clock = Clock()
    lease, watch = taken(tmp_path / "a"), Watch(clock)
    elsewhere(lease)
    for _ in range(int(SECONDS / 5)):
        found = take(tmp_path / "a", tmp_path, watch)
        assert isinstance(found, Taken)
        assert found.judgement == "unclear"
        clock.now += 5
    assert taken(tmp_path / "a", watch).number == 2


def test_who_renews_slowly_is_alive(tmp_path: Path) -> None:
    """A lease may be renewed at any time before it has expired, however late."""
    clock = Clock()
    lease, watch = taken(tmp_path / "a"), Watch(clock)
    for beat in range(100):
        elsewhere(lease, beat=beat)
        for _ in range(11):
            found = take(tmp_path / "a", tmp_path, watch)
            assert isinstance(found, Taken), beat
            assert found.judgement == ("alive" if beat else "unclear")
            clock.now += 5


@pytest.mark.parametrize("since", [0, 1e12, -1e300, float("nan")])
def test_the_clocks_of_others_do_not_count(tmp_path: Path, since: float) -> None:
    """Stopped, ahead, or nonsense: neither what a lease says of the time, nor a file's time."""
    clock = Clock()
    lease, watch = taken(tmp_path / "a"), Watch(clock)
    elsewhere(lease, since=since)
    os.utime(lease.folder / FILE, (0, 0) if since else (2**33, 2**33))
    assert isinstance(take(tmp_path / "a", tmp_path, watch), Taken)
    clock.now += 5
    assert isinstance(found := take(tmp_path / "a", tmp_path, watch), Taken)
    assert found.holder is not None
    assert found.holder.when


def test_a_clock_of_the_watcher_that_stands_still_takes_nothing_over(tmp_path: Path) -> None:
    lease, watch = taken(tmp_path / "a"), Watch(Clock())
    elsewhere(lease)
    assert all(isinstance(take(tmp_path / "a", tmp_path, watch), Taken) for _ in range(1000))


def test_time_in_which_the_watcher_slept_is_no_time_of_watching(tmp_path: Path) -> None:
    """Both machines may have been suspended for the night."""
    clock = Clock()
    lease, watch = taken(tmp_path / "a"), Watch(clock)
    elsewhere(lease)
    for _ in range(int(SECONDS / holders.MAX_LOOK)):
        assert isinstance(take(tmp_path / "a", tmp_path, watch), Taken)
        clock.now += 30_000
    assert taken(tmp_path / "a", watch).number == 2


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"host": 3}', b"\xff" * 20, b"[" * 5000, b"x" * 20_000]
)
def test_a_lease_that_says_nothing_of_use_is_watched_like_any_other(
    tmp_path: Path, content: bytes
) -> None:
    clock = Clock()
    lease, watch = taken(tmp_path / "a"), Watch(clock)
    (lease.folder / FILE).write_bytes(content)
    for _ in range(7):
        found = take(tmp_path / "a", tmp_path, watch)
        clock.now += 10
    assert isinstance(found, Lease)


def test_no_lease_is_good_for_ever(tmp_path: Path) -> None:
    lease = taken(tmp_path / "a")
    elsewhere(lease, seconds=1e300)
    holder = holders.parse((lease.folder / FILE).read_bytes())
    assert holder is not None
    assert holder.seconds == holders.MAX_SECONDS


def test_a_lease_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(ResultsError, match="a link"):
        take(tmp_path / "grid" / "a", tmp_path / "grid", Watch())
    assert not list((tmp_path / "secret").iterdir())


def test_who_slept_until_another_took_over_learns_it_and_renews_nothing(tmp_path: Path) -> None:
    clock = Clock()
    first, watch = taken(tmp_path / "a"), Watch(clock)
    elsewhere(first)
    for _ in range(7):
        found = take(tmp_path / "a", tmp_path, watch)
        clock.now += 10
    assert isinstance(found, Lease)
    before = (found.folder / FILE).read_bytes()
    with pytest.raises(LostError):
        first.renew()
    assert not first.is_current()
    first.release()
    assert found.is_current()
    assert (found.folder / FILE).read_bytes() == before


def test_the_last_lease_is_remembered_for_one_who_still_sleeps(tmp_path: Path) -> None:
    """Else the sleeper would find its own to be the last, and count as the holder."""
    clock = Clock()
    first, watch = taken(tmp_path / "a"), Watch(clock)
    elsewhere(first)
    for _ in range(7):
        second = take(tmp_path / "a", tmp_path, watch)
        clock.now += 10
    assert isinstance(second, Lease)
    second.release(done=True)
    assert numbers(tmp_path / "a", tmp_path) == [1, 2]
    assert not first.is_current()
    assert taken(tmp_path / "a").number == 3


@pytest.mark.slow
def test_a_process_that_is_stopped_loses_its_lease_and_learns_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "EXPIRES", 1.0)
    with holder_of(tmp_path / "a") as process:
        path = tmp_path / "a" / "1" / FILE
        watch, deadline = Watch(), time.monotonic() + 60
        while json.loads(path.read_text())["beat"] < 1:  # the next is ten seconds away
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        while life(process.pid, "") != "stopped":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 1.0}))
        deadline = time.monotonic() + 60
        while isinstance(found := take(tmp_path / "a", tmp_path, watch), Taken):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert found.number == 2
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate("", timeout=60)
    assert said == "False\n"
    assert found.is_current()


def test_a_lease_is_renewed_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.01)
    lease = taken(tmp_path / "a")
    path = lease.folder / FILE
    with renewed(lease) as lost:
        deadline = time.monotonic() + 60
        while json.loads(path.read_text())["beat"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not lost.is_set()
        (lease.place / "2").mkdir()  # another one takes over
        assert lost.wait(60)
    assert not lease.is_current()


RACER = """
import sys, time
from pathlib import Path
from vaebench.storage import Lease, Watch
from vaebench.storage.leases import take
folder, turns, begin = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
won = []
for turn in range(turns):
    at = begin + turn * 0.012
    while time.monotonic() < at:
        pass
    if isinstance(take(folder / str(turn), folder, Watch()), Lease):
        won.append(turn)
print(won)
"""


@pytest.mark.slow
def test_of_two_that_begin_in_the_same_millisecond_one_gets_it_a_thousand_times(
    tmp_path: Path,
) -> None:
    turns, begin = 1000, time.monotonic() + 3.0
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), str(turns), str(begin)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    won = [json.loads(racer.communicate(timeout=120)[0]) for racer in racers]
    assert sorted(won[0] + won[1]) == list(range(turns))
    assert won[0], "the race is one"
    assert won[1], "the race is one"
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_lock_is_waited_for_unless_one_is_enough(tmp_path: Path) -> None:
    with locked(tmp_path, "reports"), only_one(tmp_path, "reports") as mine:
        assert not mine
    with only_one(tmp_path, "reports") as mine:
        assert mine
    assert not list(tmp_path.iterdir())


COUNTER = """
import sys
from pathlib import Path
from vaebench.storage import locked
folder = Path(sys.argv[1])
for _ in range(50):
    with locked(folder, "count"):
        path = folder / "count"
        path.write_text(str(int(path.read_text()) + 1))
"""


def test_what_killed_holders_of_a_lock_left_is_removed(tmp_path: Path) -> None:
    for _ in range(2):
        with holder_of(tmp_path / ".work" / "reports", tmp_path) as process:
            process.kill()
            process.wait()
    with locked(tmp_path, "reports") as lease:
        assert lease.number == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_is_done_under_a_lock_is_done_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    counters = [subprocess.Popen([sys.executable, "-c", COUNTER, str(tmp_path)]) for _ in range(3)]
    assert [counter.wait(300) for counter in counters] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "150"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]
