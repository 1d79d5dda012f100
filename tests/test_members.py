"""Who works on a grid: many who share it, or one that needs all of it and says who is there."""

import os
import signal
from pathlib import Path

import pytest
from others import elsewhere, holder_of, member_of

from vaebench.storage import Held, Watch, has_others, holders, join, members
from vaebench.storage.leases import FILE, WORK, take
from vaebench.tracking.replay import untrained


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "PATIENCE", 0.1)


def test_any_number_may_share_a_grid_and_nothing_is_left_of_them(tmp_path: Path) -> None:
    with member_of(tmp_path / "grid", "a part"), join(tmp_path / "grid") as member:
        assert has_others(tmp_path / "grid", member)
    with join(tmp_path / "grid") as member:
        assert not has_others(tmp_path / "grid", member)
    assert not list((tmp_path / "grid").iterdir())


@pytest.mark.parametrize(("theirs", "mine"), [("a part", True), ("whole", False), ("whole", True)])
def test_who_needs_all_of_a_grid_shares_it_with_nobody_and_is_told_who_is_there(
    tmp_path: Path, theirs: str, mine: bool
) -> None:
    with member_of(tmp_path, theirs) as process:
        with pytest.raises(Held) as caught, join(tmp_path, whole=mine):
            pass
        told = str(caught.value)
        assert told.startswith(f"{tmp_path}: another vaebench works on this grid (process ")
        assert f"process {process.pid} on {os.uname().nodename}, since 20" in told
        assert told.endswith("; wait for it")
    with join(tmp_path, whole=mine):
        pass


@pytest.mark.parametrize("theirs", ["a part", "whole"])
def test_one_that_is_killed_keeps_nobody_away(tmp_path: Path, theirs: str) -> None:
    with member_of(tmp_path, theirs) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with join(tmp_path, whole=True):
        pass
    assert not list(tmp_path.iterdir()), "what it left is removed"


@pytest.mark.parametrize("done", [True, False])
def test_lease_of_a_run_that_a_killed_process_had_published_is_removed(
    tmp_path: Path, *, done: bool
) -> None:
    """What it had not published stays: another process goes on with it."""
    place = tmp_path / WORK / "runs" / "abc"
    with holder_of(place) as process:
        if not done:
            (place / "1" / "abc").mkdir()
        with join(tmp_path):
            pass
        assert (place / "1" / FILE).exists(), "it lives"
        process.kill()
        process.wait()
    with join(tmp_path):
        pass
    assert place.exists() is not done


def test_who_only_looks_makes_nobody_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment's stay, as of `vaebench ui`, is waited for."""
    monkeypatch.setattr(members, "PATIENCE", 30.0)
    with member_of(tmp_path, "whole") as other:
        assert other.stdin is not None
        other.stdin.close()
        other.stdin = None
        with join(tmp_path):
            pass


def test_one_elsewhere_of_which_nothing_is_heard_is_watched_until_it_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "EXPIRES", 0.3)
    lease = take(tmp_path / WORK / "members" / "x", tmp_path, Watch(), 0.3)
    assert not isinstance(lease, tuple)
    elsewhere(lease)
    with pytest.raises(Held, match="far-away"), join(tmp_path, whole=True, waits=False):
        pass
    with join(tmp_path, whole=True):
        pass
    elsewhere(lease, seconds=0.3, beat=7)
    assert (lease.folder / FILE).exists(), "what another one left is not removed"


def test_what_a_lease_says_of_its_holder_reaches_no_terminal_as_it_stands(tmp_path: Path) -> None:
    lease = take(tmp_path / WORK / "members" / "x", tmp_path, Watch())
    assert not isinstance(lease, tuple)
    elsewhere(lease, host="\x1b[31m\n" + "h" * 2000, since=1e300)
    with pytest.raises(Held) as caught, join(tmp_path, whole=True, waits=False):
        pass
    told = str(caught.value).removeprefix(str(tmp_path))
    assert len(told) < 300
    assert "\x1b" not in told
    assert "\n" not in told


def test_a_grid_that_is_trained_is_not_untrained(tmp_path: Path) -> None:
    with untrained(tmp_path) as free:
        assert free
        with pytest.raises(Held), join(tmp_path):
            pass
    with join(tmp_path), untrained(tmp_path) as free:
        assert not free
