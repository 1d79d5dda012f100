"""What a stranger puts in the place of a file or a folder."""

import io
import json
import os
import pickle
import shutil
import socket
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from hostile.places import Place

HUGE = 10**12  # bytes, of a file with a hole: it takes no place on the disk
TERMINAL = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202ecod\u2066.exe\u200f\x00\x7f\r\x08"
TEX = "\n\\input{/etc/passwd}\n\u2028\\write18{id}"
Change = Callable[[Path, Place], None]


def _gone(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def pipe(path: Path, place: Place) -> None:
    """Opening it waits for a writer."""
    _gone(path)
    os.mkfifo(path)


def bound_socket(path: Path, place: Place) -> None:
    """Opening it is an error."""
    _gone(path)
    here = Path.cwd()
    os.chdir(path.parent)  # the address of a socket may be short only
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path, place: Place) -> None:
    """It never ends. A link to one where only root may make them."""
    _gone(path)
    try:
        os.mknod(path, 0o020666, os.makedev(1, 5))
    except PermissionError:
        path.symlink_to("/dev/zero")


def link_to_device(path: Path, place: Place) -> None:
    """It never ends, and its size is 0."""
    _gone(path)
    path.symlink_to("/dev/zero")


def folder(path: Path, place: Place) -> None:
    """A folder for a file, a file for a folder."""
    was_folder = path.is_dir()
    _gone(path)
    if was_folder:
        path.write_text("x")
    else:
        path.mkdir()
        (path / "file").write_text("x")


def link_out(path: Path, place: Place) -> None:
    """What was there, but elsewhere: reading it would work."""
    target = place.outside / path.name
    if path.is_dir() or path.exists():
        shutil.move(path, target)
    else:
        target.write_text("outside: a secret\n")
    path.symlink_to(target)


def link_to_nothing(path: Path, place: Place) -> None:
    """Writing through it would make a file outside."""
    _gone(path)
    path.symlink_to(place.outside / "made")


def link_to_itself(path: Path, place: Place) -> None:
    """It leads nowhere."""
    _gone(path)
    path.symlink_to(path.name)


def link_up(path: Path, place: Place) -> None:
    """It leads to the folder it lies in, for ever."""
    _gone(path)
    path.symlink_to(".", target_is_directory=True)


def hard_link(path: Path, place: Place) -> None:
    """Writing into it would change a file outside. (Reading cannot be told from any other.)"""
    if path.is_dir():
        path = path / "more"
    target = place.outside / path.name
    if path.exists():
        shutil.move(path, target)
    else:
        target.write_text("outside: a secret\n")
    os.link(target, path)


def empty(path: Path, place: Place) -> None:
    """No bytes, or no files."""
    was_folder = path.is_dir()
    _gone(path)
    path.mkdir() if was_folder else path.write_bytes(b"")


def huge(path: Path, place: Place) -> None:
    """A terabyte that is not there."""
    if not path.is_dir():
        _gone(path)
        path.write_bytes(b"{")
        os.truncate(path, HUGE)


def cut(path: Path, place: Place) -> None:
    """The first half."""
    if path.is_file():
        os.truncate(path, path.stat().st_size // 2)


def noise(path: Path, place: Place) -> None:
    """Bytes that mean nothing."""
    if path.is_file():
        path.write_bytes(bytes(range(256)) * 40)


def other_kind(path: Path, place: Place) -> None:
    """The bytes of a picture in a text, of a text in a picture."""
    if path.is_file():
        other = "-----BEGIN OPENSSH PRIVATE KEY-----\n" if path.suffix == ".png" else "\x89PNG\r\n"
        path.write_text(other, encoding="latin-1")


def deep(path: Path, place: Place) -> None:
    """Nested a hundred thousand times."""
    if path.is_file():
        path.write_bytes(b'{"a":[' + b"[" * 100_000)


def control_characters(path: Path, place: Place) -> None:
    """Every text of a file of texts ends with what steers terminals, and with commands of TeX."""
    if path.suffix == ".json" and path.name != "report.json":
        value = json.loads(path.read_text())
        path.write_text(json.dumps(_spoilt(value)))
    elif path.name == "journal.jsonl":
        path.write_text(
            path.read_text().replace("train/elbo", "train/" + json.dumps(TERMINAL)[1:-1])
        )
    elif path.suffix == ".yaml":
        value = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(_spoilt(value), allow_unicode=False))


KEPT = {"run_id", "status", "schema_version", "seed"}


def _spoilt(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _spoilt(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_spoilt(v, key) for v in value]
    return value + TERMINAL + TEX if isinstance(value, str) and key not in KEPT else value


SHAPES: dict[str, Change] = {
    "pipe": pipe,
    "socket": bound_socket,
    "device": device,
    "link to a device": link_to_device,
    "folder": folder,
    "link out": link_out,
    "link to nothing": link_to_nothing,
    "link to itself": link_to_itself,
    "link up": link_up,
    "hard link": hard_link,
    "empty": empty,
    "huge": huge,
    "cut": cut,
    "noise": noise,
    "other kind": other_kind,
    "deep": deep,
    "control characters": control_characters,
}

# ---------------------------------------------------------------- contents that lie


def npz(**entries: bytes) -> bytes:
    """A whole archive of files of numpy."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(descr: str, shape: tuple[int, ...], content: bytes = b"") -> bytes:
    """A file of numpy whose header says what it likes."""
    head = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    head = head.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + content


def _arrays(**changed: bytes) -> Change:
    def change(path: Path, place: Place) -> None:
        with zipfile.ZipFile(path) as archive:
            entries = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
        path.write_bytes(npz(**(entries | changed)))

    return change


def _few(path: Path, place: Place) -> None:
    path.write_bytes(npz(labels=npy("<i8", (1,), bytes(8))))


def _nan(path: Path, place: Place) -> None:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["originals"] = np.full_like(arrays["originals"], np.nan)
    np.savez(path, allow_pickle=False, **arrays)


def _weights(change: Callable[[dict[Any, Any]], object]) -> Change:
    def spoil(path: Path, place: Place) -> None:
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return spoil


def _first(value: Callable[[torch.Tensor], Any]) -> Callable[[dict[Any, Any]], object]:
    def change(state: dict[Any, Any]) -> None:
        name = next(iter(state))
        state[name] = value(state[name])

    return change


def _itself(path: Path, place: Place) -> None:
    state: dict[str, Any] = {}
    state["self"] = state
    torch.save(state, path)


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch /tmp/vaebench-was-run",))


def _pickle(path: Path, place: Place) -> None:
    path.write_bytes(pickle.dumps({"a": _Runs()}))


def _png(width: int, height: int) -> Change:
    def change(path: Path, place: Place) -> None:
        head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        data = b"IDAT" + zlib.compress(bytes(1000))
        chunks = (head, data, b"IEND")
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + b"".join(
                struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
                for chunk in chunks
            )
        )

    return change


def _sql(statement: str) -> Change:
    def change(path: Path, place: Place) -> None:
        connection = sqlite3.connect(path)
        connection.execute(statement.format(elsewhere=f"file://{place.outside}"))
        connection.commit()
        connection.close()

    return change


def _forget_the_runs(path: Path, place: Place) -> None:
    """A store that knows the experiments and no run, and keeps its files elsewhere."""
    _sql("UPDATE experiments SET artifact_location = '{elsewhere}/e'")(path, place)
    connection = sqlite3.connect(path)
    for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
        connection.execute(f"DELETE FROM {table}")
    connection.commit()
    connection.close()


def _journal_with_super(path: Path, place: Place) -> None:
    """A rollback journal that names a super-journal: SQLite would delete that when it is done."""
    name = str(place.outside / "secret").encode()
    page = 4096
    checksum = sum(name) & 0xFFFFFFFF
    magic = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
    head = magic + struct.pack(">IIIII", 0, 0, 100, 512, page)
    tail = struct.pack(">I", 0x40000000 // page + 1) + name
    tail += struct.pack(">II", len(name), checksum) + magic
    Path(f"{path}-journal").write_bytes(head.ljust(512, b"\0") + tail)


def _more_journal(path: Path, place: Place) -> None:
    line = '{"epoch": %d, "time": 5, "metrics": {"val/elbo": -1.5}}\n'
    path.write_text("".join(line % n for n in range(1, 20_001)))


def _reason(path: Path, place: Place) -> None:
    value = json.loads(path.read_text())
    value |= {"status": "failed", "reason": "x" * 100_000 + TERMINAL, "metrics": {}}
    path.write_text(json.dumps(value))


LIES: dict[str, dict[str, Change]] = {
    "arrays.npz": {
        "texts": _arrays(originals=npy("<U1", (2, 1, 8, 8), bytes(512))),
        "void": _arrays(originals=npy("|V0", (10**9, 8, 8))),
        "objects": _arrays(originals=npy("|O", (2, 1, 8, 8), bytes(1024))),
        "complex": _arrays(originals=npy("<c8", (2, 1, 8, 8), bytes(1024))),
        "more than there is": _arrays(originals=npy("<f4", (10**6, 10**3, 8))),
        "negative": _arrays(originals=npy("<f4", (-1, 8, 8))),
        "overflow": _arrays(originals=npy("<f8", (2**31, 2**31, 2**31))),
        "many dimensions": _arrays(originals=npy("<f4", (1,) * 30, bytes(4))),
        "flat": _arrays(originals=npy("<f4", (512,), bytes(2048))),
        "structured": _arrays(originals=npy("|V8", (2, 1, 8, 8), bytes(1024))),
        "not finite": _nan,
        "few": lambda path, place: (
            path.write_bytes(npz(labels=npy("<i8", (1,), bytes(8)))) and None
        ),
    },
    "weights.pt": {
        "int key": _weights(lambda state: state.update({7: torch.zeros(1)})),
        "complex": _weights(_first(lambda tensor: tensor.to(torch.complex64))),
        "sparse": _weights(_first(lambda tensor: tensor.to_sparse())),
        "stretched": _weights(_first(lambda _: torch.zeros(1).expand(10**12))),
        "no tensor": _weights(_first(lambda _: "x")),
        "not finite": _weights(_first(lambda tensor: tensor * float("nan"))),
        "meta": _weights(_first(lambda _: torch.zeros(10**12, device="meta"))),
        "other shape": _weights(_first(lambda tensor: tensor.flatten()[:1])),
        "itself": _itself,
        "pickle": _pickle,
    },
    "images/reconstruction-0002.png": {
        "60,000 pixels square": _png(60_000, 60_000),
        "20,000 pixels square": _png(20_000, 20_000),
        "empty": _png(0, 0),
    },
    "figures/reconstructions.png": {"60,000 pixels square": _png(60_000, 60_000)},
    "journal.jsonl": {"20,000 epochs": _more_journal},
    "record.json": {"long reason": _reason},
    "mlflow.db": {
        "experiments elsewhere": _sql("UPDATE experiments SET artifact_location = '{elsewhere}/e'"),
        "experiments without runs elsewhere": _forget_the_runs,
        "runs elsewhere": _sql("UPDATE runs SET artifact_uri = '{elsewhere}/r'"),
        "runs elsewhere by a path": _sql(
            "UPDATE runs SET artifact_uri = replace('{elsewhere}/r', 'file://', '')"
        ),
        "models elsewhere": _sql("UPDATE logged_models SET artifact_location = '{elsewhere}/m'"),
        "super-journal": _journal_with_super,
    },
}
