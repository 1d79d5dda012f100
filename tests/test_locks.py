"""Who holds a grid's folder: told, kept from others, and free again however the holder ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_runs import in_this_process_only, settings

from vaebench.errors import ResultsError
from vaebench.grid import Listener, Options, run_grid
from vaebench.storage import Held, hold, locks, network_file_system
from vaebench.tracking.replay import untrained

HOLDER = """
import sys
from pathlib import Path
from vaebench.storage import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
MOUNTS = """\
21 1 254:0 / / rw,relatime - ext4 /dev/root rw
30 21 0:40 / /proc rw - proc proc rw
31 21 0:41 / /data rw shared:1 - nfs4 server:/export rw,vers=4.2
32 31 0:42 / /data/local rw - xfs /dev/sdb rw
33 21 0:43 / /with\\040space rw - fuse.sshfs me@there: rw
34 21 0:44 / /twice rw - ext4 /dev/sdc rw
35 21 0:45 / /twice rw shared:2 master:3 - lustre mds@tcp:/fs rw
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.1)


@contextmanager
def held_by_another(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.communicate("")


def test_who_comes_second_is_told_who_holds_a_folder_and_since_when(tmp_path: Path) -> None:
    with held_by_another(tmp_path / "grid") as other:
        with pytest.raises(Held) as caught, hold(tmp_path / "grid"):
            pass
        told = str(caught.value)
        assert told.startswith(f"{tmp_path / 'grid'}: another vaebench works on this grid (")
        assert (
            f"process {other.pid} on {socket.gethostname()}, since {time.strftime('%Y-')}" in told
        )
        assert told.endswith("; wait for it")
    with hold(tmp_path / "grid"):
        assert json.loads((tmp_path / "grid" / ".holder").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "grid" / ".holder").exists()


def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    with held_by_another(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert json.loads((tmp_path / ".holder").read_text())["pid"] == other.pid
    with hold(tmp_path):
        assert json.loads((tmp_path / ".holder").read_text())["pid"] == os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize(
    "note",
    [
        "",
        "{",
        "[]",
        '{"host": 3}',
        '{"host": "a", "pid": "x", "since": 1}',
        '{"host": "a", "pid": 1, "since": 1e400}',
    ],
)
def test_a_note_that_says_nothing_of_use_stops_nobody(tmp_path: Path, note: str) -> None:
    with held_by_another(tmp_path):
        (tmp_path / ".holder").write_text(note)
        with pytest.raises(Held, match=re.escape(f"{tmp_path}: ")), hold(tmp_path):
            pass
    with hold(tmp_path):
        pass


def test_who_only_looks_makes_nobody_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment's hold, as of `vaebench ui`, is waited for."""
    monkeypatch.setattr(locks, "PATIENCE", 30.0)
    with held_by_another(tmp_path) as other:
        assert other.stdin is not None
        other.stdin.close()
        other.stdin = None
        with hold(tmp_path):
            pass


def test_a_grid_that_is_held_is_not_untrained(tmp_path: Path) -> None:
    with untrained(tmp_path) as free:
        assert free
        with pytest.raises(Held, match=re.escape(f"{tmp_path}: ")), hold(tmp_path):
            pass
    with hold(tmp_path), untrained(tmp_path) as free:
        assert not free


# ---------------------------------------------------------------- network file systems


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of mounts to be filled in; empty: everything is local."""
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    monkeypatch.setattr(locks, "MOUNTS", path)
    return path


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home", None),
        ("/data", "nfs4"),
        ("/data/results/grid", "nfs4"),
        ("/database", None),
        ("/data/local/results", None),
        ("/with space/x", "fuse.sshfs"),
        ("/twice/x", "lustre"),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(path: str, kind: str | None) -> None:
    assert network_file_system(Path(path)) == kind


def test_where_mounts_cannot_be_read_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "MOUNTS", tmp_path / "nothing")
    assert network_file_system(tmp_path) is None


@pytest.fixture
def shared(mounts: Path, tmp_path: Path) -> Path:
    """A folder on a network file system, as far as the table of mounts says."""
    folder = tmp_path / "shared"
    folder.mkdir()
    mounts.write_text(f"31 21 0:41 / {folder} rw - nfs4 server:/export rw\n")
    return folder


def note_of(host: str, folder: Path, age: float) -> None:
    note = folder / ".holder"
    note.write_text(json.dumps({"host": host, "pid": 77, "since": time.time() - 5000}))
    os.utime(note, (time.time() - age,) * 2)


def test_another_machine_that_was_heard_of_lately_is_not_disturbed(shared: Path) -> None:
    """Its lock does not reach this machine; its note does."""
    note_of("far-away", shared, age=20)
    with pytest.raises(Held, match="process 77 on far-away, since"), hold(shared):
        pass
    assert json.loads((shared / ".holder").read_text())["pid"] == 77, "it keeps its note"
    note_of("far-away", shared, age=100)
    with hold(shared):
        pass
    note_of(socket.gethostname(), shared, age=20)
    with hold(shared):  # of this machine the lock tells the truth
        pass


def test_on_a_local_disk_the_lock_alone_counts(tmp_path: Path) -> None:
    note_of("an-old-name-of-this-machine", tmp_path, age=20)
    with hold(tmp_path):
        assert json.loads((tmp_path / ".holder").read_text())["pid"] == os.getpid()


def test_a_holder_keeps_its_note_fresh(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.01)
    with hold(shared):
        os.utime(shared / ".holder", (0, 0))
        deadline = time.monotonic() + 60
        while (shared / ".holder").stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not (shared / ".holder").exists()


@pytest.mark.slow
def test_what_cannot_be_promised_there_is_said_once(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)
    said: list[str] = []
    listener = Listener()
    monkeypatch.setattr(listener, "warning", said.append)
    grid = settings(name="small", axes={"model": ["fnn"]})
    run_grid(grid, Options(shared, "cpu"), listener)
    (text,) = said
    assert text.startswith(f"{shared / 'small'} lies on a network file system (nfs4): ")
    assert "from one machine at a time" in text
    assert "--tracking-uri" in text
    run_grid(grid, Options(tmp_path / "local", "cpu"), listener)
    assert said == [text]


def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(ResultsError, match="knows no locks; choose --results"), hold(tmp_path):
        pass
