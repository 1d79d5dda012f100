import errno
import io
import json
import os
import signal
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vaebench import files
from vaebench.errors import ResultsError

REFUSED = r"damaged: not a file|a link, which is not followed"
SECONDS = 5  # within which a file is opened or refused: a pipe without a writer waits for ever


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"still waiting after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``grid/runs/a``, and a secret beside the grid."""
    (tmp_path / "grid" / "runs" / "a").mkdir(parents=True)
    (tmp_path / "secret").write_text('{"secret": 1}')
    return tmp_path


def png(width: int, height: int, size: int = 0) -> bytes:
    """The beginning of a picture, which may be a lie."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(size)


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only root makes devices")


def bound(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the address of a socket may be short only
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


NO_FILES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": device,
    "socket": bound,
    "folder": Path.mkdir,
    "link to a file beside it": lambda path: path.symlink_to(path.with_name("plain")),
    "link out": lambda path: path.symlink_to(path.parents[3] / "secret"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES.keys())
def test_only_a_plain_file_is_opened(folder: Path, make: Callable[[Path], object]) -> None:
    path = folder / "grid" / "runs" / "a" / "file"
    path.with_name("plain").write_text("{}")
    make(path)
    for read in (files.read_file, files.open_file, files.open_archive):
        with pytest.raises(ResultsError, match=REFUSED):
            read(path, 1000)
    for refuse in (files.read_json, files.read_picture, lambda path: files.lock(path, 1.0)):
        with pytest.raises(ResultsError, match=REFUSED):
            refuse(path)
    assert (folder / "secret").read_text() == '{"secret": 1}'


@pytest.mark.parametrize("at", ["runs", "runs/a"])
def test_no_link_is_followed_below_the_folder_that_was_named(folder: Path, at: str) -> None:
    grid = folder / "grid"
    path = grid / "runs" / "a" / "record.json"
    path.write_text("{}")
    assert files.read_json(path, grid) == {}
    (grid / at).rename(folder / "elsewhere")
    (grid / at).symlink_to(folder / "elsewhere")
    for read in (files.read_json, files.read_picture, files.names_in):
        with pytest.raises(ResultsError, match=rf"grid/{at}: a link"):
            read(path, grid)
    with pytest.raises(ResultsError, match=rf"grid/{at}: a link"):
        files.lock(grid / "runs" / "a" / ".lock", 1.0, grid)
    (folder / "named").symlink_to("grid")
    with pytest.raises(ResultsError, match=rf"named/{at}: a link"):
        files.read_json(folder / "named" / "runs" / "a" / "record.json", folder / "named")


def test_the_folder_that_was_named_may_be_reached_through_links(folder: Path) -> None:
    (folder / "named").symlink_to("grid")
    (folder / "grid" / "runs" / "a" / "record.json").write_text('{"a": 1}')
    path = folder / "named" / "runs" / "a" / "record.json"
    assert files.read_json(path, folder / "named") == {"a": 1}
    assert files.names_in(path.parent, folder / "named") == ["record.json"]


def test_no_name_leads_out_of_the_folder(folder: Path) -> None:
    path = folder / "grid" / ".." / "secret"
    with pytest.raises(ResultsError, match="not a file"):
        files.read_file(path, 1000, folder / "grid")
    with pytest.raises(ResultsError, match="not a file"):
        files.read_file(folder / "grid" / "\0", 1000, folder / "grid")


def test_what_is_not_there_is_none(folder: Path) -> None:
    grid = folder / "grid"
    for path in (grid / "file", grid / "runs" / "b" / "file"):
        assert files.read_file(path, 1000, grid) is None
        assert files.read_json(path, grid) is None
        assert files.read_picture(path, grid) is None
        assert files.open_archive(path, 1000, grid) is None
        assert files.names_in(path, grid) == []
    (grid / "plain").write_text("")
    with pytest.raises(ResultsError, match="not a file"):
        files.read_file(grid / "plain" / "file", 1000, grid)


def test_a_file_is_as_large_as_it_may_be_and_no_larger(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"x" * 1000)
    assert files.read_file(path, 1000) == b"x" * 1000
    os.truncate(path, 1001)
    with pytest.raises(ResultsError, match="larger than"):
        files.read_file(path, 1000)
    os.truncate(path, 10**12)  # a hole: it takes no place on the disk
    with pytest.raises(ResultsError, match="larger than"):
        files.open_archive(path, 10**9)


def test_the_file_that_was_checked_is_the_file_that_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = folder / "file", os.fstat
    path.write_bytes(b"ours")

    def exchanged(descriptor: int) -> os.stat_result:
        path.unlink(missing_ok=True)
        path.symlink_to("secret")
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", exchanged)
    assert files.read_file(path, 1000) == b"ours"


def test_no_descriptor_stays_open(folder: Path) -> None:
    def count() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("the system does not list them")
    path = folder / "grid" / "runs" / "a" / "file"
    before = count()
    os.mkfifo(path)
    for _ in range(3):
        with pytest.raises(ResultsError):
            files.read_file(path, 1000, folder / "grid")
    path.unlink()
    path.write_bytes(b"PK")
    files.read_file(path, 1000, folder / "grid")
    files.names_in(path.parent, folder / "grid")
    for bad in (lambda: files.read_file(path, 1), lambda: files.open_archive(path, 1000)):
        with pytest.raises(ResultsError):
            bad()
    assert count() == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a" + png(1, 1)[6:],
        b"-----BEGIN OPENSSH PRIVATE KEY-----",
        png(60_000, 60_000),
        png(0, 10),
        png(2**31, 2**31),
        png(8, 8).replace(b"IHDR", b"tEXt"),
    ],
    ids=["empty", "cut", "gif", "key", "huge", "flat", "overflow", "no header"],
)
def test_a_picture_is_png_of_a_sane_size(folder: Path, content: bytes) -> None:
    path = folder / "a.png"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=r"a\.png: damaged: (not a PNG )?"):
        files.read_picture(path)
    path.write_bytes(png(2000, 2000))
    assert files.read_picture(path) == png(2000, 2000)


def test_an_archive_is_whole_and_unpacks_to_no_more_than_it_holds(folder: Path) -> None:
    path = folder / "a.npz"
    for method, ok in ((zipfile.ZIP_STORED, True), (zipfile.ZIP_DEFLATED, False)):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("x", bytes(10_000))
        if ok:
            file = files.open_archive(path, 100_000)
            assert file is not None
            with file, zipfile.ZipFile(io.BytesIO(file.read())) as archive:
                assert archive.read("x") == bytes(10_000)
            content = bytearray(path.read_bytes())
            content[500] ^= 1
            path.write_bytes(content)
            with pytest.raises(ResultsError, match=r"BadZipFile|checksum"):
                files.open_archive(path, 100_000)
        else:
            with pytest.raises(ResultsError, match="more than it holds"):
                files.open_archive(path, 100_000)


@pytest.mark.parametrize("content", [b"[1]", b"{", b"[" * 100_000, b'"\xff"'])
def test_json_that_is_no_object_is_damaged(folder: Path, content: bytes) -> None:
    (folder / "a.json").write_bytes(content)
    with pytest.raises(ResultsError, match="damaged"):
        files.read_json(folder / "a.json")


# ---------------------------------------------------------------- writing


def test_a_write_replaces_a_link_and_leaves_its_target_alone(folder: Path) -> None:
    for make in (Path.symlink_to, os.link):
        path = folder / "grid" / "record.json"
        path.unlink(missing_ok=True)
        target = folder / "secret"
        path.symlink_to(target) if make is Path.symlink_to else os.link(target, path)
        files.write_atomic(path, "new", folder)
        assert path.read_text() == "new"
        assert not path.is_symlink()
        assert json.loads(target.read_text()) == {"secret": 1}


def test_nothing_is_written_or_removed_through_a_linked_folder(folder: Path) -> None:
    outside, grid = folder / "outside", folder / "grid"
    outside.mkdir()
    (outside / ".x.1.tmp").write_text("ours")
    (grid / "images").symlink_to(outside)
    with pytest.raises(ResultsError, match="grid/images: a link"):
        files.write_atomic(grid / "images" / "a.png", "new", grid)
    with pytest.raises(ResultsError, match="grid/images: a link"):
        files.write_atomic(grid / "images" / "more" / "a.png", "new", grid)
    with pytest.raises(ResultsError, match="grid/images: a link"):
        files.clean(grid / "images", grid)
    assert [path.name for path in outside.iterdir()] == [".x.1.tmp"]


def test_a_lock_is_refused_where_it_is_a_link_or_has_other_names(folder: Path) -> None:
    path, secret = folder / "grid" / ".lock", folder / "secret"
    path.symlink_to(secret)
    with pytest.raises(ResultsError, match=r"\.lock: a link"):
        files.lock(path, 1.0)
    path.unlink()
    os.link(secret, path)
    with pytest.raises(ResultsError, match="other names"):
        files.lock(path, 1.0)
    path.unlink()
    with files.lock(path, 1.0):
        assert path.is_file()
    with files.lock(path, 1.0):
        pass
    assert secret.read_text() == '{"secret": 1}'


def test_what_is_written_may_be_changed_by_its_owner_only(folder: Path) -> None:
    before = os.umask(0o022)
    try:
        files.write_atomic(folder / "new" / "file", "x")
        with files.lock(folder / "new" / ".lock", 1.0):
            pass
    finally:
        os.umask(before)
    for path in (folder / "new", folder / "new" / "file", folder / "new" / ".lock"):
        assert path.stat().st_mode & 0o022 == 0, path


def test_a_file_that_cannot_be_read_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ResultsError, match="cannot be read: Input/output error"):
        files.read_file(folder / "secret", 1000)
    with pytest.raises(ResultsError, match="cannot be read: Input/output error"):
        files.names_in(folder)
