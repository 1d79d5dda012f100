"""The data sets: what they hold, how they are cut and drawn, and every way a download can fail."""

import gzip
import hashlib
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_runs import exchange

from vaebench.datasets import (
    DATASETS,
    Arrays,
    Dataset,
    Splits,
    download,
    fetch,
    files,
    idx,
    load,
)
from vaebench.datasets.files import RemoteFiles, data_directory
from vaebench.datasets.idx_format import decode_idx
from vaebench.datasets.pixels import binarize
from vaebench.errors import DataError
from vaebench.seeding import stream

NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
SHARED_MNIST = Path(__file__).parents[2] / "shared" / "mnist"
REAL_MIRROR = os.environ.get("VAEBENCH_MNIST_MIRROR") or (
    str(SHARED_MNIST) if SHARED_MNIST.is_dir() else None
)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the tests from the user's own data, and the user's data from the tests."""
    monkeypatch.delenv("VAEBENCH_DATA", raising=False)
    monkeypatch.delenv("VAEBENCH_MNIST_MIRROR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


# --- a tiny data set of IDX files, on a mirror that can misbehave ---------------------------------


def idx_file(array: NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes(), mtime=0)


def tiny_files(seed: int = 0) -> dict[str, bytes]:
    """20 training and 6 test images of 5x4 pixels; the labels count."""
    draw = np.random.default_rng(seed)
    arrays = []
    for count in (20, 6):
        arrays.append(draw.integers(0, 256, (count, 5, 4), dtype=np.uint8))
        arrays.append(np.arange(count, dtype=np.uint8))
    return dict(zip(NAMES, map(idx_file, arrays), strict=True))


@dataclass
class Mirror:
    """An HTTP server on loopback: what it serves, what it was asked for."""

    served: dict[str, bytes]
    truncated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    delay: float = 0.0
    pause: float | None = None  # seconds between two bytes; None: all at once
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, mirror: Mirror, *args: object) -> None:
        self.mirror = mirror
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.mirror.requests.append(name)
        time.sleep(self.mirror.delay)
        if name not in self.mirror.served:
            self.send_error(404)
            return
        body = self.mirror.served[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up: as intended
            if self.mirror.pause is None:
                self.wfile.write(body[: len(body) // 2] if name in self.mirror.truncated else body)
                return
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(self.mirror.pause)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    mirror = Mirror(served=tiny_files())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, mirror))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    mirror.url = f"http://127.0.0.1:{server.server_port}/data/"
    yield mirror
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, mirror: Mirror) -> Mirror:
    """Register the data set ``tiny``, whose only mirror is the loopback server."""
    md5 = {name: hashlib.md5(body).hexdigest() for name, body in tiny_files().items()}
    remote = RemoteFiles("tiny", "Tiny/raw", (mirror.url,), md5, "VAEBENCH_MNIST_MIRROR")
    monkeypatch.setitem(
        DATASETS, "tiny", Dataset(read=idx, shape=(1, 4, 4), validation=4, files=lambda: remote)
    )
    return mirror


def fill(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in contents.items():
        (folder / name).write_bytes(body)
    return folder


def silent(_: str) -> None:
    pass


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    return message


def same(a: Splits, b: Splits) -> bool:
    pairs = [(a.train, b.train), (a.validation, b.validation), (a.test, b.test)]
    return all(torch.equal(p.x, q.x) and torch.equal(p.y, q.y) for p, q in pairs)


# --- what the data sets hold ----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_data_set_gives_float_images_in_the_unit_interval(name: str, tmp_path: Path) -> None:
    if DATASETS[name].state:
        pytest.skip("of one's own, see test_own.py")
    if name != "digits":
        if name != "mnist" or REAL_MIRROR is None:
            pytest.skip(f"no local mirror of {name}")
        fetch(name, data_dir=tmp_path, mirror=REAL_MIRROR, report=silent)
    splits = load(name, data_dir=tmp_path)
    for split in (splits.train, splits.validation, splits.test):
        assert split.x.dtype == torch.float32
        assert split.y.dtype == torch.int64
        assert split.x.shape == (len(split.y), *splits.shape)
        assert len(split.y) > 0
        assert split.x.min() == 0
        assert split.x.max() == 1
        assert set(split.y.tolist()) == set(range(10))
    assert splits.name == name
    assert len(splits.digest) == 12


def test_digits_are_cut_into_disjoint_splits_that_never_change() -> None:
    from sklearn.datasets import load_digits

    splits = load("digits")
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part.x) for part in parts] == [1200, 297, 300]
    assert splits.shape == (1, 8, 8)
    images = Counter(image.numpy().tobytes() for part in parts for image in part.x)
    source = load_digits().images
    assert images == Counter((image / 16).astype(np.float32).tobytes() for image in source)
    assert [part.y[:5].tolist() for part in parts] == [
        [2, 8, 9, 2, 5],
        [0, 3, 6, 3, 0],
        [2, 1, 8, 9, 5],
    ]
    assert splits.digest == "c13e34c2a443"
    assert same(splits, load("digits"))


@pytest.mark.skipif(REAL_MIRROR is None, reason="no MNIST: set VAEBENCH_MNIST_MIRROR")
def test_real_mnist_has_its_known_sizes_labels_and_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEBENCH_MNIST_MIRROR", str(REAL_MIRROR))
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path))
    splits = load("mnist", validation=0)
    assert splits.train.x.shape == (60_000, 1, 28, 28)
    assert splits.validation.x.shape == (0, 1, 28, 28)
    assert splits.test.x.shape == (10_000, 1, 28, 28)
    assert splits.train.y[0] == 5
    assert splits.test.y[0] == 7
    assert splits.train.x.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert (tmp_path / "MNIST/raw" / NAMES[0]).is_file()

    monkeypatch.setenv("VAEBENCH_MNIST_MIRROR", "/nowhere")  # what is there needs no mirror
    default = load("mnist")
    assert [len(part.y) for part in (default.train, default.validation, default.test)] == [
        50_000,
        10_000,
        10_000,
    ]
    assert torch.equal(default.validation.x, splits.train.x[50_000:])
    assert default.digest == splits.digest

    damaged = tmp_path / "MNIST/raw" / NAMES[2]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    message = error_of(lambda: load("mnist"))
    assert str(damaged) in message
    assert "9fb629c4189551a2d022fa330f9573f3" in message


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")]
)
def test_downloaded_data_sets_take_addresses_and_md5_from_torchvision(
    name: str, folder: str
) -> None:
    import torchvision

    describe = DATASETS[name].files
    assert describe is not None
    remote, source = describe(), getattr(torchvision.datasets, folder)
    assert remote.folder == f"{folder}/raw"
    assert list(remote.mirrors) == source.mirrors
    assert list(remote.digests.items()) == source.resources
    assert tuple(remote.digests) == NAMES


def packed_again(contents: dict[str, bytes]) -> dict[str, bytes]:
    """The same contents, compressed at another level: other bytes, another md5."""
    return {
        name: gzip.compress(gzip.decompress(body), compresslevel=1, mtime=7)
        for name, body in contents.items()
    }


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tiny: Mirror) -> Mirror:
    """The data set ``tiny`` with the digests of its unpacked content."""
    describe = DATASETS["tiny"].files
    assert describe is not None
    unpacked = {
        name: hashlib.sha256(gzip.decompress(body)).hexdigest()
        for name, body in tiny_files().items()
    }
    remote = replace(describe(), unpacked=unpacked)
    exchange(monkeypatch, DATASETS, "tiny", replace(DATASETS["tiny"], files=lambda: remote))
    return tiny


@pytest.mark.parametrize("place", [".", "Tiny/raw"])
def test_files_that_were_packed_again_are_known_by_their_content(
    place: str, known: Mirror, tmp_path: Path
) -> None:
    fill(tmp_path / place, packed_again(tiny_files()))
    expected = load("tiny", data_dir=tmp_path / "from the mirror").test.x
    assert torch.equal(load("tiny", data_dir=tmp_path).test.x, expected)
    said: list[str] = []
    fetch("tiny", data_dir=tmp_path, report=said.append)
    assert ["packed again" in line for line in said] == [True] * 4 + [False]


@pytest.mark.parametrize("place", [".", "Tiny/raw"])
def test_files_that_were_unpacked_are_known_by_their_content(
    place: str, known: Mirror, tmp_path: Path
) -> None:
    unpacked = {name[:-3]: gzip.decompress(body) for name, body in tiny_files().items()}
    folder = fill(tmp_path / place, unpacked)
    expected = load("tiny", data_dir=tmp_path / "from the mirror").test.x
    requests = list(known.requests)
    assert torch.equal(load("tiny", data_dir=tmp_path).test.x, expected)
    assert known.requests == requests, "nothing is downloaded"
    said: list[str] = []
    fetch("tiny", data_dir=tmp_path, report=said.append)
    assert [", unpacked)" in line for line in said] == [True] * 4 + [False]
    damaged = folder / NAMES[0][:-3]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert "corrupt" in error_of(lambda: load("tiny", data_dir=tmp_path))


def test_a_mirror_may_have_packed_again(known: Mirror, tmp_path: Path) -> None:
    known.served = packed_again(tiny_files())
    assert len(load("tiny", data_dir=tmp_path).test.x)


@pytest.mark.parametrize("damage", ["a byte", "truncated"])
def test_other_content_is_refused_however_it_is_packed(
    damage: str, known: Mirror, tmp_path: Path
) -> None:
    contents = packed_again(tiny_files())
    body = gzip.decompress(contents[NAMES[0]])
    if damage == "a byte":
        contents[NAMES[0]] = gzip.compress(body[:-1] + bytes([body[-1] ^ 1]))
    if damage == "truncated":
        contents[NAMES[0]] = contents[NAMES[0]][:-9]
    fill(tmp_path / "Tiny/raw", contents)
    assert "corrupt" in error_of(lambda: load("tiny", data_dir=tmp_path))


def test_what_unpacks_to_too_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    small = gzip.compress(bytes(10_000))
    assert files._sha256_unpacked(small) == hashlib.sha256(bytes(10_000)).hexdigest()
    monkeypatch.setattr(files, "MAX_BYTES", 9_999)
    assert files._sha256_unpacked(small) is None


DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist_is_the_published_one(tmp_path: Path) -> None:
    splits = load("fashion-mnist", data_dir=DEBIAN)
    assert [len(split.x) for split in (splits.train, splits.validation, splits.test)] == [
        50_000,
        10_000,
        10_000,
    ]
    assert splits.test.y.bincount().tolist() == [1000] * 10
    contents = {name: (DEBIAN / name).read_bytes() for name in NAMES}
    labels = gzip.decompress(contents[NAMES[3]])
    contents[NAMES[3]] = gzip.compress(labels[:-1] + bytes([labels[-1] ^ 1]))
    folder = fill(tmp_path / "FashionMNIST/raw", contents)
    message = error_of(lambda: load("fashion-mnist", data_dir=tmp_path))
    assert str(folder / NAMES[3]) in message
    assert hashlib.md5(contents[NAMES[3]]).hexdigest() in message


def test_images_keep_height_and_width_and_are_scaled_by_255(tiny: Mirror, tmp_path: Path) -> None:
    splits = load("tiny", data_dir=tmp_path, validation=0)
    assert splits.shape == (1, 5, 4)
    raw = decode_idx(tiny.served[NAMES[0]], NAMES[0], dimensions=3)
    torch.testing.assert_close(splits.train.x[:, 0], torch.tensor(raw) / 255, rtol=0, atol=0)


def test_colour_images_keep_their_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.full((7, 3, 2, 5), 255, np.uint8)
    arrays = Arrays(x, np.arange(7), x[:2], np.arange(2))
    monkeypatch.setitem(
        DATASETS, "colour", Dataset(read=lambda _: arrays, shape=(3, 4, 4), validation=1)
    )
    splits = load("colour")
    assert splits.shape == (3, 2, 5)
    assert torch.equal(splits.test.x, torch.ones(2, 3, 2, 5))


# --- once per process -----------------------------------------------------------------------------


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch, tiny: Mirror) -> list[int]:
    """The number of files that each reading of ``tiny`` got."""
    readings: list[int] = []

    def read(contents: Mapping[str, bytes]) -> Arrays:
        readings.append(len(contents))
        return idx(contents)

    exchange(monkeypatch, DATASETS, "tiny", replace(DATASETS["tiny"], read=read))
    return readings


def test_a_data_set_is_read_once_whatever_the_cut(readings: list[int], tmp_path: Path) -> None:
    fill(tmp_path, tiny_files())
    first = load("tiny", data_dir=tmp_path)
    before = first.test.x.clone()
    first.test.x.zero_()  # the caller's own
    second = load("tiny", data_dir=tmp_path, train=3, binarize="static")
    assert readings == [4]
    assert second.digest == first.digest
    assert len(second.train.x) == 3
    assert torch.equal(load("tiny", data_dir=tmp_path).test.x, before)
    load("tiny", data_dir=fill(tmp_path / "elsewhere", tiny_files()))
    assert readings == [4, 4]


def test_a_file_that_changes_is_read_and_verified_again(
    readings: list[int], tmp_path: Path
) -> None:
    path = fill(tmp_path, tiny_files()) / NAMES[0]
    load("tiny", data_dir=tmp_path)
    status, content = path.stat(), bytearray(path.read_bytes())
    path.write_bytes(content)
    load("tiny", data_dir=tmp_path)
    assert readings == [4, 4]
    content[-5] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # of the same size and time
    assert NAMES[0] in error_of(partial(load, "tiny", data_dir=tmp_path))


# --- splits ---------------------------------------------------------------------------------------


@given(
    pool=st.integers(1, 12),
    train=st.none() | st.integers(-1, 14),
    validation=st.integers(-1, 14) | st.just("test"),
)
def test_splits_are_the_first_and_the_last_images_or_an_error(
    pool: int, train: int | None, validation: int | Literal["test"]
) -> None:
    x = np.zeros((pool + 3, 2, 2), np.float32)
    arrays = Arrays(x[:pool], np.arange(pool), x[pool:], np.arange(100, 103))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            DATASETS, "counting", Dataset(read=lambda _: arrays, shape=(3, 4, 4), validation=0)
        )
        call = partial(load, "counting", train=train, validation=validation)
        held_out = 0 if validation == "test" else validation
        possible = 0 <= held_out < pool and (train is None or 1 <= train <= pool - held_out)
        if not possible:
            assert "counting: " in error_of(call)
            return
        splits = call()
    rest = list(range(pool - held_out))
    assert splits.train.y.tolist() == rest[:train]
    assert splits.test.y.tolist() == [100, 101, 102]
    last = list(range(pool - held_out, pool))
    assert splits.validation.y.tolist() == (
        splits.test.y.tolist() if validation == "test" else last
    )
    assert len(splits.validation.x) == len(splits.validation.y)


def test_test_images_can_serve_as_validation_split() -> None:
    splits = load("digits", validation="test")
    assert len(splits.train.x) == 1497
    assert torch.equal(splits.validation.x, splits.test.x)


def test_impossible_sizes_say_what_is_possible() -> None:
    message = error_of(lambda: load("digits", train=1201))
    assert "train must be from 1 to 1200" in message
    assert "not 1201" in message
    message = error_of(lambda: load("digits", validation=1497))
    assert "validation must be from 0 to 1496" in message


@pytest.mark.parametrize("call", [load, partial(fetch, report=silent)])
def test_unknown_data_set_lists_the_known_ones(call: Callable[[str], object]) -> None:
    message = error_of(lambda: call("mnits"))
    assert "'mnits'" in message
    assert ", ".join(sorted(DATASETS)) in message


# --- binarisation ---------------------------------------------------------------------------------


def test_binarised_pixels_are_bernoulli_draws_with_the_gray_value_as_probability() -> None:
    p, n = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]), 40_000
    draws = binarize(p.expand(n, 1, 1, 5), stream(0, "test"))
    assert set(draws.flatten().tolist()) == {0.0, 1.0}
    mean = draws.mean(dim=(0, 1, 2))
    assert mean[0] == 0
    assert mean[4] == 1
    assert ((mean - p).abs() <= 4 * (p * (1 - p) / n).sqrt()).all()


def test_binarisation_depends_on_the_generator_only() -> None:
    x = torch.rand(50, 1, 3, 4, generator=stream(1, "x"))
    before = torch.get_rng_state()
    first = binarize(x, stream(0, "a", 1))
    assert torch.equal(first, binarize(x, stream(0, "a", 1)))
    assert not torch.equal(first, binarize(x, stream(0, "a", 2)))
    assert binarize(x.double(), stream(0, "a", 1)).dtype == torch.float64
    assert torch.equal(torch.get_rng_state(), before)


def test_static_binarisation_is_drawn_once_for_all_splits() -> None:
    gray, static = load("digits"), load("digits", binarize="static")
    assert same(static, load("digits", binarize="static"))
    for before, after in ((gray.train, static.train), (gray.test, static.test)):
        assert set(after.x.flatten().tolist()) == {0.0, 1.0}
        certain = (before.x == 0) | (before.x == 1)
        assert torch.equal(before.x[certain], after.x[certain])
        # Drawn, not thresholded: a middle gray comes out both ways, in the right proportion.
        middle = after.x[before.x == 0.5]
        assert middle.mean().item() == pytest.approx(0.5, abs=4 * 0.5 / len(middle) ** 0.5)
        assert torch.equal(before.y, after.y)
    assert static.digest == gray.digest


def test_dynamic_binarisation_leaves_the_training_split_gray() -> None:
    gray, static = load("digits"), load("digits", binarize="static")
    dynamic = load("digits", binarize="dynamic")
    assert torch.equal(dynamic.train.x, gray.train.x)
    assert torch.equal(dynamic.validation.x, static.validation.x)
    assert torch.equal(dynamic.test.x, static.test.x)


def test_an_image_is_drawn_alike_however_the_set_is_cut() -> None:
    whole = load("digits", binarize="static", validation=0)
    cut = load("digits", binarize="static", train=10, validation=30)
    assert torch.equal(cut.train.x, whole.train.x[:10])
    assert torch.equal(cut.validation.x, whole.train.x[-30:])


def test_unknown_binarisation_lists_the_known_ones() -> None:
    call = partial(load, "digits", binarize="statc")  # type: ignore[arg-type]
    assert "none, static, dynamic" in error_of(call)


# --- downloads that succeed -----------------------------------------------------------------------


def test_load_downloads_what_is_missing_without_a_word(
    tiny: Mirror, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    splits = load("tiny", data_dir=tmp_path)
    assert splits.train.y.tolist() == list(range(16))
    assert splits.validation.y.tolist() == [16, 17, 18, 19]
    assert splits.test.y.tolist() == list(range(6))
    assert sorted(path.name for path in (tmp_path / "Tiny/raw").glob("*.gz*")) == sorted(NAMES)
    assert tiny.requests == list(NAMES)
    assert same(splits, load("tiny", data_dir=tmp_path))
    assert tiny.requests == list(NAMES)  # the second time nothing was asked for
    assert capfd.readouterr() == ("", "")


def test_fetch_explains_every_file(tiny: Mirror, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = fetch("tiny", data_dir=tmp_path, report=lines.append)
    assert folder == tmp_path / "Tiny/raw"
    for name in NAMES:
        assert any(line.startswith(f"{name}: missing, downloading") for line in lines)
        assert any(line.startswith(f"{name}: downloaded") and tiny.url in line for line in lines)
    lines.clear()
    fetch("tiny", data_dir=tmp_path, report=lines.append)
    assert [line.split(":")[0] for line in lines] == [*NAMES, "tiny"]
    assert all("present" in line and "verified" in line for line in lines[:-1])
    assert str(folder) in lines[-1]


def test_interrupted_download_goes_on_with_the_unfinished_file(
    tiny: Mirror, tmp_path: Path
) -> None:
    tiny.truncated = {NAMES[2]}
    message = error_of(lambda: fetch("tiny", data_dir=tmp_path, report=silent))
    assert NAMES[2] in message
    folder = tmp_path / "Tiny/raw"
    assert sorted(path.name for path in folder.glob("*.gz*")) == sorted(NAMES[:2])
    left = folder / f".{NAMES[2]}.123.tmp"
    left.write_bytes(b"left by a killed process")

    tiny.truncated, tiny.requests = set(), []
    fetch("tiny", data_dir=tmp_path, report=silent)
    assert tiny.requests == [NAMES[2], NAMES[3]]
    assert not left.exists()
    assert sorted(path.name for path in folder.glob("*.gz*")) == sorted(NAMES)


@pytest.mark.parametrize("form", ["path", "file url", "http url", "variable"])
def test_a_mirror_may_be_a_folder_or_a_url(
    form: str, tiny: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fill(tmp_path / "a mirror", tiny_files())
    mirror: str | None = {
        "path": str(source),
        "file url": source.as_uri() + "/",
        "http url": tiny.url.rstrip("/"),
    }.get(form)
    if form == "variable":
        monkeypatch.setenv("VAEBENCH_MNIST_MIRROR", str(source))
    folder = fetch("tiny", data_dir=tmp_path / "data", mirror=mirror, report=silent)
    assert {name: (folder / name).read_bytes() for name in NAMES} == tiny_files()
    assert bool(tiny.requests) == (form == "http url")


def test_a_second_mirror_is_tried_when_the_first_serves_wrong_bytes(
    tiny: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = fill(tmp_path / "wrong", tiny_files(seed=1))
    describe = DATASETS["tiny"].files
    assert describe is not None
    both = RemoteFiles("tiny", "Tiny/raw", (wrong.as_uri(), tiny.url), describe().digests)
    entry = Dataset(read=idx, shape=(1, 4, 4), validation=4, files=lambda: both)
    exchange(monkeypatch, DATASETS, "tiny", entry)
    fetch("tiny", data_dir=tmp_path, report=silent)
    assert load("tiny", data_dir=tmp_path).train.y.tolist() == list(range(16))
    assert NAMES[0] in tiny.requests


def test_a_folder_that_directly_holds_the_files_is_used_as_it_is(
    tiny: Mirror, tmp_path: Path
) -> None:
    before = set(fill(tmp_path, tiny_files()).iterdir())
    assert len(load("tiny", data_dir=tmp_path).train.y) == 16
    assert fetch("tiny", data_dir=tmp_path, report=silent) == tmp_path
    assert set(tmp_path.iterdir()) == before
    assert tiny.requests == []


def test_files_of_a_look_alike_data_set_are_left_alone(tiny: Mirror, tmp_path: Path) -> None:
    other = tiny_files(seed=1)
    del other[NAMES[1]], other[NAMES[3]]  # the labels of both are the same
    fill(tmp_path, other)
    assert len(load("tiny", data_dir=tmp_path).train.y) == 16
    assert fetch("tiny", data_dir=tmp_path, report=silent) == tmp_path / "Tiny/raw"
    assert all((tmp_path / name).read_bytes() == body for name, body in other.items())


def test_two_fetches_at_once_download_each_file_once(tiny: Mirror, tmp_path: Path) -> None:
    tiny.delay = 0.05
    threads = [
        threading.Thread(target=fetch, args=("tiny",), kwargs={"data_dir": tmp_path, "report": f})
        for f in (silent, silent)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(tiny.requests) == sorted(NAMES)
    assert len(load("tiny", data_dir=tmp_path).train.y) == 16


def test_a_waiting_fetch_gives_up_in_the_end(
    tiny: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_TIMEOUT", 0.05)
    folder = fill(tmp_path / "Tiny/raw", {})
    with FileLock(folder / ".vaebench.lock"):
        message = error_of(lambda: fetch("tiny", data_dir=tmp_path, report=silent))
    assert "another process" in message
    fetch("tiny", data_dir=tmp_path, report=silent)  # the lock is free again


def test_embedded_data_set_needs_no_fetch(tmp_path: Path) -> None:
    lines: list[str] = []
    assert fetch("digits", data_dir=tmp_path, report=lines.append) == tmp_path
    assert lines == ["digits: embedded, nothing to download"]


def test_data_directory_is_the_argument_then_the_variable_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data_directory() == tmp_path / "cache" / "vaebench"
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path / "variable"))
    assert data_directory() == tmp_path / "variable"
    assert data_directory(tmp_path / "argument") == tmp_path / "argument"
    monkeypatch.delenv("VAEBENCH_DATA")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_directory() == Path.home() / ".cache" / "vaebench"


# --- downloads and files that fail ----------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "empty", "another data set's"])
def test_damaged_file_is_named_with_both_sums_and_left_as_it_is(
    damage: str, tiny: Mirror, tmp_path: Path
) -> None:
    path = fill(tmp_path / "Tiny/raw", tiny_files()) / NAMES[2]
    good = path.read_bytes()
    bad = {
        "truncated": good[:-7],
        "flipped bit": bytes([good[0] ^ 1]) + good[1:],
        "empty": b"",
        "another data set's": tiny_files(seed=1)[NAMES[2]],
    }[damage]
    path.write_bytes(bad)
    message = error_of(lambda: load("tiny", data_dir=tmp_path))
    assert str(path) in message
    assert hashlib.md5(bad).hexdigest() in message
    assert f"expected {hashlib.md5(good).hexdigest()}" in message
    assert "vaebench data fetch tiny" in message
    assert path.read_bytes() == bad
    assert tiny.requests == []

    lines: list[str] = []
    fetch("tiny", data_dir=tmp_path, report=lines.append)
    assert any(line.startswith(f"{NAMES[2]}: corrupt") for line in lines)
    assert tiny.requests == [NAMES[2]]
    assert path.read_bytes() == good


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("http://127.0.0.1:1", "refused"),
        ("/no/such/mirror", "No such file"),
        ("file:///no/such/mirror", "No such file"),
        ("gopher://example", "gopher"),
        ("http://127.0.0.1:port/", "port"),
        ("://", "unknown url type"),
    ],
)
def test_unreachable_mirror_is_one_error_that_names_the_ways_out(
    mirror: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEBENCH_MNIST_MIRROR", mirror)
    start = time.monotonic()
    message = error_of(lambda: load("mnist", data_dir=tmp_path))
    assert time.monotonic() - start < 10  # importing torchvision included
    assert mirror in message
    assert reason in message
    for way_out in ("vaebench data fetch mnist", "VAEBENCH_MNIST_MIRROR", "--dataset digits"):
        assert way_out in message


def test_mirror_variable_of_mnist_does_not_touch_fashion_mnist() -> None:
    describe = DATASETS["fashion-mnist"].files
    assert describe is not None
    assert describe().mirror_variable is None


def test_silent_mirror_is_given_up_after_the_timeout(
    tiny: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CONNECTION_TIMEOUT", 0.1)
    tiny.delay = 0.5
    assert "timed out" in error_of(lambda: load("tiny", data_dir=tmp_path))
    assert tiny.requests == [NAMES[0]]


def test_mirror_that_sends_a_byte_now_and_then_is_given_up(
    mirror: Mirror, tiny: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.pause = 0.01  # 100 bytes a second: some five seconds for the first file
    monkeypatch.setattr(download, "PATIENCE", 0.1)
    error = error_of(lambda: load("tiny", data_dir=tmp_path))
    assert "too slow: " in error
    assert "less than 4,000 a second" in error
    assert "name a mirror (URL or folder) with --mirror" in error
    assert Counter(mirror.requests) == {NAMES[0]: 1}
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(NAMES[0])]


@pytest.mark.parametrize("slow", ["headers", "status"])
def test_a_download_has_one_deadline_its_headers_included(
    slow: str, tiny: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of header now and then keeps every single wait short."""
    monkeypatch.setattr(download, "PATIENCE", 0.3)
    ended = threading.Event()

    def drip(server: socket.socket) -> None:
        with server.accept()[0] as client, suppress(OSError):
            client.recv(1000)
            client.sendall(b"HTTP/1.0 200 OK\r\n" if slow == "headers" else b"HTTP/1.0 2")
            while not ended.wait(0.02):
                client.sendall(b"X-Pad: 1\r\n" if slow == "headers" else b"0")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        began = time.monotonic()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        message = error_of(lambda: fetch("tiny", data_dir=tmp_path, mirror=url, report=silent))
        took = time.monotonic() - began
        ended.set()
        thread.join()
    assert "too slow: 0 bytes" in message
    assert took < 10


def test_no_download_takes_for_ever_however_fast_it_is(
    mirror: Mirror, tiny: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.pause = 0.001
    monkeypatch.setattr(download, "MAX_SECONDS", 0.3)
    assert "not done after" in error_of(lambda: load("tiny", data_dir=tmp_path))


def test_mirror_that_is_slow_but_comes_to_an_end_is_waited_for(
    mirror: Mirror, tiny: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.pause = 0.0001
    monkeypatch.setattr(download, "PATIENCE", 0.0)
    monkeypatch.setattr(download, "MIN_RATE", 1)
    assert len(load("tiny", data_dir=tmp_path, validation=0).train.x) == 20


@pytest.mark.parametrize("fault", ["wrong bytes", "truncated", "not there"])
def test_faulty_mirror_leaves_no_file_behind(fault: str, tiny: Mirror, tmp_path: Path) -> None:
    if fault == "wrong bytes":
        tiny.served = tiny_files(seed=1)
    elif fault == "truncated":
        tiny.truncated = set(NAMES)
    else:
        tiny.served = {}
    message = error_of(lambda: load("tiny", data_dir=tmp_path))
    expected = {
        "wrong bytes": "wrong bytes, md5 ",
        "truncated": "IncompleteRead",
        "not there": "404",
    }
    assert expected[fault] in message
    assert tiny.url in message
    assert list((tmp_path / "Tiny/raw").glob("*.gz*")) == []


def test_a_mirror_that_sends_without_end_is_cut_off(
    tiny: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    tiny.served[NAMES[0]] = bytes(100_000)
    assert "more than 1,000 bytes" in error_of(lambda: load("tiny", data_dir=tmp_path))
    (tmp_path / NAMES[0]).write_bytes(bytes(2000))
    assert "larger than 0 MB; move it away" in error_of(lambda: load("tiny", data_dir=tmp_path))


def test_a_link_in_the_way_does_not_lead_a_download_elsewhere(tiny: Mirror, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "Tiny" / "raw"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).symlink_to(tmp_path / f"outside-{name}")
        (folder / f".{name}.{os.getpid()}.tmp").symlink_to(tmp_path / f"outside-{name}")
    load("tiny", data_dir=tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert not any(path.is_symlink() for path in folder.iterdir())


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.files])
def test_files_of_a_data_set_stay_in_the_data_directory(name: str) -> None:
    describe = DATASETS[name].files
    assert describe is not None
    remote = describe()
    folder = Path("/data") / remote.folder
    assert ".." not in folder.parts
    assert folder.is_relative_to("/data")
    for file, digest in remote.digests.items():
        assert Path(file).name == file
        assert len(bytes.fromhex(digest)) in (16, 32)  # md5, sha256
    if remote.archive:
        assert Path(remote.archive.name).name == remote.archive.name
    assert all(mirror.startswith(("https://", "http://")) for mirror in remote.mirrors)


def test_data_directory_that_is_a_file_is_an_error(tiny: Mirror, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    for call in (load, partial(fetch, report=silent)):
        assert str(path) in error_of(partial(call, "tiny", data_dir=path))


def test_unreadable_file_is_an_error(tiny: Mirror, tmp_path: Path) -> None:
    (tmp_path / "Tiny/raw" / NAMES[0]).mkdir(parents=True)
    message = error_of(lambda: load("tiny", data_dir=tmp_path))
    assert f"{NAMES[0]}: damaged: not a file; move it away" in message


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("hostile", [pipe, zeros, circle])
@pytest.mark.parametrize("there", ["data", "mirror"])
def test_what_is_no_file_is_neither_waited_for_nor_read(
    there: str, hostile: Callable[[Path], None], tiny: Mirror, tmp_path: Path
) -> None:
    data, other = tmp_path / "data", fill(tmp_path / "mirror", tiny_files())
    fill(data / "Tiny/raw", tiny_files())
    path = (data / "Tiny/raw" if there == "data" else other) / NAMES[0]
    path.unlink()
    hostile(path)
    if there == "mirror":
        (data / "Tiny/raw" / NAMES[0]).unlink()
    began = time.monotonic()
    message = error_of(lambda: fetch("tiny", data_dir=data, mirror=str(other), report=silent))
    assert NAMES[0] in message
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_lock_that_is_a_link_is_refused_and_its_target_left_alone(
    link: Callable[[Path, Path], None], tiny: Mirror, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / "data" / "Tiny" / "raw").mkdir(parents=True)
    link(tmp_path / "data" / "Tiny" / "raw" / ".vaebench.lock", secret)
    assert ".vaebench.lock" in error_of(lambda: load("tiny", data_dir=tmp_path / "data"))
    assert secret.read_text() == "secret"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_read_only_folder_is_an_error(tiny: Mirror, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        message = error_of(lambda: load("tiny", data_dir=tmp_path))
    finally:
        tmp_path.chmod(0o700)
    assert "cannot be written" in message
    assert "VAEBENCH_DATA" in message


@pytest.mark.parametrize(("owner", "step"), [(Path, "mkdir"), (os, "fsync"), (Path, "replace")])
def test_disk_error_is_reported_with_its_place(
    owner: object, step: str, tiny: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        message = error_of(lambda: load("tiny", data_dir=tmp_path))
    assert "cannot be written: No space left on device" in message
    assert str(tmp_path) in message
    assert "VAEBENCH_DATA" in message
    assert not (tmp_path / "Tiny/raw" / NAMES[0]).exists()
    load("tiny", data_dir=tmp_path)  # goes on once there is space; the lock is free


# --- the IDX format -------------------------------------------------------------------------------


@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=3), seed=st.integers(0, 9))
def test_idx_file_is_decoded_to_what_was_encoded(shape: list[int], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    decoded = decode_idx(idx_file(array), "file", dimensions=len(shape))
    np.testing.assert_array_equal(decoded, array, strict=True)


LABELS = gzip.decompress(idx_file(np.arange(3, dtype=np.uint8)))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "not an IDX file"),
        (b"plain text", "not an IDX file"),
        (gzip.compress(LABELS, mtime=0)[:-9], "not a gzip file"),
        (gzip.compress(LABELS, mtime=0)[:12] + b"\xff" * 9, "not an IDX file"),
        (gzip.compress(LABELS[:6], mtime=0), "not an IDX file"),
        (gzip.compress(b"\0\0\x0d" + LABELS[3:], mtime=0), "not an IDX file"),
        (idx_file(np.zeros((3, 2, 2), np.uint8)), "not an IDX file"),
        (gzip.compress(LABELS[:-1], mtime=0), "2 values, but its header says [3]"),
        (gzip.compress(LABELS + b"\0", mtime=0), "more values, but its header says [3]"),
        (
            gzip.compress(LABELS[:4] + b"\xff" * 4 + LABELS[8:], mtime=0),
            "[4294967295], which is too",
        ),
    ],
    ids=[
        *("empty", "plain text", "short", "garbled", "half a header", "other type"),
        *("images", "too few", "too many", "huge"),
    ],
)
def test_malformed_idx_file_is_an_error(content: bytes, part: str) -> None:
    message = error_of(lambda: decode_idx(content, "labels.gz", dimensions=1))
    assert message.startswith("labels.gz: ")
    assert part in message


def test_images_without_labels_are_an_error() -> None:
    contents = tiny_files() | {NAMES[3]: idx_file(np.arange(5, dtype=np.uint8))}
    message = error_of(lambda: idx(contents))
    assert NAMES[2] in message
    assert "6 images, but 5 labels" in message
