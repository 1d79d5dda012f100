"""EMNIST: one archive of six splits, its images turned upright; files beside it are used, too."""

import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from small_runs import settings

from vaebench.config import make_run
from vaebench.datasets import DATASETS, archive, digest, download, fetch, files, load, published
from vaebench.errors import ConfigError, DataError

SPLITS = ("balanced", "letters", "digits", "mnist", "byclass", "bymerge")
PLACES = pytest.mark.parametrize("place", [".", "EMNIST/raw"])
SIZES = {"train": 20, "test": 6}


def idx_file(array: NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes(), mtime=0)


def images(split: str, part: str) -> NDArray[np.uint8]:
    """Images as a reader sees them: (N, 28, 28), no two alike."""
    draw = np.random.default_rng([SPLITS.index(split), SIZES[part]])
    return draw.integers(0, 256, (SIZES[part], 28, 28), dtype=np.uint8)


def members() -> dict[str, bytes]:
    """The archive's files: each image with its columns as rows."""
    made = {}
    for split in SPLITS:
        for part, count in SIZES.items():
            turned = np.ascontiguousarray(images(split, part).transpose(0, 2, 1))
            made[f"emnist-{split}-{part}-images-idx3-ubyte.gz"] = idx_file(turned)
            labels = np.arange(1, count + 1, dtype=np.uint8)
            made[f"emnist-{split}-{part}-labels-idx1-ubyte.gz"] = idx_file(labels)
    return made


def zipped(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("gzip/", b"")
        for name, content in contents.items():
            made.writestr(f"gzip/{name}", content)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """A small archive in the layout of the published one, whose digests are declared."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    contents = members()
    content = zipped(contents)
    declared = {
        split: tuple(
            hashlib.sha256(body).hexdigest()
            for name, body in contents.items()
            if f"-{split}-" in name
        )
        for split in SPLITS
    }
    monkeypatch.setattr(published, "_EMNIST", declared)
    monkeypatch.setattr(torchvision.datasets.EMNIST, "md5", hashlib.md5(content).hexdigest())
    monkeypatch.setattr(torchvision.datasets.EMNIST, "url", "http://127.0.0.1:9/EMNIST/gzip.zip")
    return content


def put(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def same(split: str, root: Path) -> None:
    """Check that a split is read from a data directory, upright."""
    found = load("emnist", data_dir=root, split=split, validation=4)
    for part, x, y in (
        ("train", torch.cat([found.train.x, found.validation.x]), found.train.y),
        ("test", found.test.x, found.test.y),
    ):
        expected = torch.from_numpy(images(split, part)).float() / 255
        assert torch.equal(x[:, 0], expected)
        assert y.tolist() == list(range(1, len(y) + 1))


@PLACES
@pytest.mark.parametrize("split", SPLITS)
def test_a_split_is_read_upright_from_the_archive(
    split: str, place: str, tmp_path: Path, made_up: bytes
) -> None:
    put(tmp_path / place, "gzip.zip", made_up)
    same(split, tmp_path)
    assert digest("emnist", tmp_path, split=split)
    assert [path.name for path in (tmp_path / place).glob("*.gz")] == []  # it is not unpacked


@PLACES
def test_files_that_were_taken_out_of_the_archive_are_used(place: str, tmp_path: Path) -> None:
    for name, content in members().items():
        if "-letters-" in name:
            put(tmp_path / place, name, content)
    same("letters", tmp_path)
    assert digest("emnist", tmp_path, split="digits") is None


def test_splits_differ_in_digest_and_run_id(tmp_path: Path, made_up: bytes) -> None:
    put(tmp_path, "gzip.zip", made_up)
    assert len({digest("emnist", tmp_path, split=split) for split in SPLITS}) == len(SPLITS)
    runs = [
        make_run(settings(dataset={"name": "emnist", "emnist": {"split": split}}, model="fnn"))
        for split in SPLITS
    ]
    assert len({run.run_id for run in runs}) == len(SPLITS)
    with pytest.raises(ConfigError, match=r"dataset\.emnist\.split.*'balanced', 'letters'"):
        make_run(settings(dataset={"name": "emnist", "emnist": {"split": "letter"}}))


@pytest.mark.parametrize("where", ["beside the archive", "in it"])
def test_a_wrong_byte_is_refused_with_file_and_digests(
    where: str, tmp_path: Path, made_up: bytes
) -> None:
    name = "emnist-balanced-test-images-idx3-ubyte.gz"
    wrong = bytearray(members()[name])
    wrong[-20] ^= 1
    put(tmp_path, "gzip.zip", made_up)
    if where == "in it":
        put(tmp_path, "gzip.zip", zipped(members() | {name: bytes(wrong)}))
    else:
        put(tmp_path, name, bytes(wrong))
    with pytest.raises(DataError) as error:
        load("emnist", data_dir=tmp_path, validation=4)
    assert name in str(error.value)
    assert hashlib.sha256(wrong).hexdigest() in str(error.value)
    assert hashlib.sha256(members()[name]).hexdigest() in str(error.value)
    same("letters", tmp_path)  # which is as it should be


def test_what_was_damaged_beside_the_archive_is_taken_out_of_it_again(
    tmp_path: Path, made_up: bytes
) -> None:
    name = "emnist-balanced-test-images-idx3-ubyte.gz"
    put(tmp_path, "gzip.zip", made_up)
    put(tmp_path, name, b"half")
    said: list[str] = []
    fetch("emnist", data_dir=tmp_path, report=said.append)
    assert any(
        line.startswith(f"{name}: corrupt") and "taken from gzip.zip" in line for line in said
    )
    same("balanced", tmp_path)


def test_the_archive_is_downloaded_once_for_all_splits_whatever_its_size(
    tmp_path: Path, made_up: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (files, download):  # less than the archive, which declares a bound of its own
        monkeypatch.setattr(module, "MAX_BYTES", len(made_up) // 2)
    mirror = put(tmp_path / "mirror", "gzip.zip", made_up).parent
    said: list[str] = []
    folder = fetch("emnist", data_dir=tmp_path / "data", mirror=str(mirror), report=said.append)
    assert [path.name for path in sorted(folder.iterdir()) if path.suffix != ".lock"] == [
        "gzip.zip"
    ]
    assert sum(": downloaded " in line for line in said) == 1
    for split in SPLITS:
        same(split, tmp_path / "data")


@pytest.mark.parametrize("kind", ["another", "too large"])
def test_an_archive_that_is_not_the_published_one_is_not_downloaded(
    kind: str, tmp_path: Path, made_up: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = put(tmp_path / "mirror", "gzip.zip", made_up).parent
    if kind == "another":
        put(mirror, "gzip.zip", zipped({"emnist-other": b"x"}))
    else:
        monkeypatch.setattr(published, "EMNIST_BYTES", 1000)
        monkeypatch.setattr(files, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match=r"cannot download gzip\.zip"):
        fetch("emnist", data_dir=tmp_path / "data", mirror=str(mirror), report=lambda _: None)
    assert not list((tmp_path / "data").rglob("*.zip"))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\3\4" + bytes(99)])
def test_a_damaged_archive_is_named(content: bytes, tmp_path: Path) -> None:
    path = put(tmp_path / "EMNIST" / "raw", "gzip.zip", content)
    with pytest.raises(DataError, match="damaged or no zip archive") as error:
        load("emnist", data_dir=tmp_path)
    assert str(path) in str(error.value)


def test_a_file_that_unpacks_to_too_much_is_not_unpacked(
    tmp_path: Path, made_up: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "gzip.zip", made_up)
    monkeypatch.setattr(archive, "MAX_BYTES", 100)
    with pytest.raises(DataError, match=r"emnist-balanced-.*: unpacks to"):
        load("emnist", data_dir=tmp_path)


def test_nothing_but_the_archive_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot download gzip\.zip") as error:
        load("emnist", data_dir=tmp_path)
    assert "vaebench data fetch emnist" in str(error.value)


def test_every_split_that_may_be_chosen_is_described() -> None:
    entry = DATASETS["emnist"]
    for split in torchvision.datasets.EMNIST.splits:
        remote = entry.files_with({"split": split})
        assert remote is not None
        assert all(f"emnist-{split}-" in name for name in remote.digests)
        assert [len(bytes.fromhex(found)) for found in remote.digests.values()] == [32] * 4
