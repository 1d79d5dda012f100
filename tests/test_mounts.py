"""Network file systems are known by their mounts, and what may be lost there is said once."""

from pathlib import Path

import pytest
from small_runs import in_this_process_only, settings

from vaebench import storage
from vaebench.grid import Listener, Options, run_grid
from vaebench.storage import network_file_system

MOUNTS = """\
21 1 254:0 / / rw,relatime - ext4 /dev/root rw
30 21 0:40 / /proc rw - proc proc rw
31 21 0:41 / /data rw shared:1 - nfs4 server:/export rw,vers=4.2
32 31 0:42 / /data/local rw - xfs /dev/sdb rw
33 21 0:43 / /with\\040space rw - fuse.sshfs me@there: rw
34 21 0:44 / /twice rw - ext4 /dev/sdc rw
35 21 0:45 / /twice rw shared:2 master:3 - lustre mds@tcp:/fs rw
"""


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of mounts to be filled in; empty: everything is local."""
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    monkeypatch.setattr(storage.mounts, "MOUNTS", path)
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
    monkeypatch.setattr(storage.mounts, "MOUNTS", tmp_path / "nothing")
    assert network_file_system(tmp_path) is None


@pytest.fixture
def shared(mounts: Path, tmp_path: Path) -> Path:
    """A folder on a network file system, as far as the table of mounts says."""
    folder = tmp_path / "shared"
    folder.mkdir()
    mounts.write_text(f"31 21 0:41 / {folder} rw - nfs4 server:/export rw\n")
    return folder


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
    assert text.startswith(f"{shared / 'small'} lies on a network file system (nfs4), ")
    assert "--tracking-uri" in text
    run_grid(grid, Options(tmp_path / "local", "cpu"), listener)
    assert said == [text]
