"""CIFAR-10 and SVHN: read from files like the published ones, verified, and never unpickled."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat
from small_runs import exchange

from vaebench.datasets import DATASETS, colour, load
from vaebench.errors import DataError

COUNT = 20  # images of a batch
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6 * COUNT, 3, 32, 32), dtype=np.uint8)
LABELS = RNG.integers(0, 10, 6 * COUNT)


def old_pickle(x: NDArray[np.uint8], y: NDArray[Any]) -> bytes:
    """What Python 2 wrote, as far as its opcodes matter: text is BINSTRING, numbers BININT1."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<I", len(value)) + value

    labels = b"](" + b"".join(b"K" + bytes([label]) for label in y) + b"e"
    entries = [text(b"batch_label"), text(b"training batch"), text(b"labels"), labels]
    entries += [text(b"data"), text(x.tobytes()), text(b"filenames"), b"](", text(b"a.png"), b"eu."]
    return b"\x80\x02}(" + b"".join(entries)


def new_pickle(x: NDArray[np.uint8], y: NDArray[Any]) -> bytes:
    return pickle.dumps({"labels": y.tolist(), "data": x.reshape(len(x), -1)}, protocol=4)


def archive(make: Any, leave_out: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for i, name in enumerate([*colour.BATCHES, "test_batch"]):
            at = slice(i * COUNT, (i + 1) * COUNT)
            content = make(IMAGES[at], LABELS[at])
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            if name != leave_out:
                tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def publish(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path, **files: bytes) -> None:
    """Put files into a data directory, and let them be the published ones."""
    entry = DATASETS[name]
    assert entry.files is not None
    remote = entry.files()
    assert all(len(md5) == 32 for md5 in remote.digests.values())
    contents = dict(zip(remote.digests, files.values(), strict=True))
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    md5 = {file: hashlib.md5(content).hexdigest() for file, content in contents.items()}
    remote = replace(remote, digests=md5)
    exchange(monkeypatch, DATASETS, name, replace(entry, files=lambda: remote, validation=10))


@pytest.mark.parametrize("make", [old_pickle, new_pickle])
def test_cifar10_is_picked_out_of_its_archive(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, "cifar10", tmp_path, archive=archive(make))
    splits = load("cifar10", data_dir=tmp_path)
    assert splits.shape == (3, 32, 32)
    expected = torch.from_numpy(IMAGES.astype(np.float32)) / 255
    assert torch.equal(splits.test.x, expected[5 * COUNT :])
    assert torch.equal(splits.train.x, expected[: 5 * COUNT - 10])
    assert torch.equal(splits.validation.y, torch.from_numpy(LABELS[5 * COUNT - 10 : 5 * COUNT]))


def test_an_archive_with_another_byte_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, "cifar10", tmp_path, archive=archive(old_pickle))
    file = tmp_path / "cifar-10-python.tar.gz"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: corrupt.*expected"):
        load("cifar10", data_dir=tmp_path)


class Evil:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('it was unpickled')",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no gzip", "not a gzip file"),
        (gzip.compress(b"x" * 512), "damaged"),
        (archive(old_pickle, leave_out="data_batch_3"), "has no data_batch_3"),
        (archive(lambda x, y: pickle.dumps(Evil())), "0 labels"),
        (archive(lambda x, y: b"no pickle"), "no batch that can be read"),
        (archive(lambda x, y: old_pickle(x[1:], y)), "20 labels"),
        (archive(lambda x, y: old_pickle(x, y + 10)), "20 labels"),
    ],
    ids=["text", "zeros", "part", "evil", "pickle", "images", "labels"],  # the same in all workers
)
def test_what_is_no_archive_of_cifar10_is_named_and_nothing_is_run(
    content: bytes, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        colour.cifar10({"cifar-10-python.tar.gz": content})


def mat(x: NDArray[Any], y: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {"X": x.transpose(2, 3, 1, 0), "y": np.where(y == 0, 10, y)[:, None]})
    return buffer.getvalue()


def test_svhn_is_read_with_ten_for_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = mat(IMAGES[:100], LABELS[:100]), mat(IMAGES[100:], LABELS[100:])
    publish(monkeypatch, "svhn", tmp_path, train=parts[0], test=parts[1])
    splits = load("svhn", data_dir=tmp_path)
    assert splits.shape == (3, 32, 32)
    assert torch.equal(splits.test.x, torch.from_numpy(IMAGES[100:].astype(np.float32)) / 255)
    assert torch.equal(splits.test.y, torch.from_numpy(LABELS[100:]))
    with pytest.raises(DataError, match=r"train_32x32\.mat: no images"):
        colour.svhn({"train_32x32.mat": parts[0][:200], "test_32x32.mat": parts[1]})
