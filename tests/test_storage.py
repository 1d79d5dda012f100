"""Results on disk: whole or not at all, mended after a crash, refused when damaged."""

import errno
import json
import os
import pickle
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vaebench import storage
from vaebench.errors import ResultsError
from vaebench.files import dump_json, dump_yaml, read_json, write_atomic
from vaebench.schema.labels import median_seed
from vaebench.schema.manifest import grid_dirs, read_manifest
from vaebench.storage import RunStore, run_store


def line(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "time": 1000 * epoch, "metrics": {"train/elbo": -100.5 / epoch}}


def names(folder: Path = Path()) -> list[str]:
    """What lies in a folder."""
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "run")


# ---------------------------------------------------------------- atomic writes


def test_a_file_is_written_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_atomic(path, "grüße")
    assert path.read_bytes() == "grüße".encode()
    write_atomic(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_write_that_fails_keeps_the_old_content_and_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[where], full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_content_is_on_the_disk_before_its_name_and_the_name_before_we_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flush(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink().name
        done.append(f"flush {re.sub(rf'[.]{os.getpid()}[0-9]*[.]tmp', '', target)}")
        fsync(descriptor)

    def rename(path: Path, target: Path) -> Path:
        done.append(f"rename to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", rename)
    write_atomic(tmp_path / "new" / "a.txt", "text")
    assert done == [f"flush {tmp_path.name}", "flush .a.txt", "rename to a.txt", "flush new"]
    done.clear()
    store = RunStore(tmp_path / "new")
    store.append(line(1))
    store.append(line(2))
    assert done == ["flush journal.jsonl", "flush new", "flush journal.jsonl"]


def test_a_file_system_that_cannot_flush_folders_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    write_atomic(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"


def test_json_and_yaml_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    value = {"b": 1.5, "a": {"ü": None, "list": [1, "x"]}}
    assert json.loads(dump_json(value)) == value
    assert yaml.safe_load(dump_yaml(value)) == value
    assert dump_yaml(value).index("b:") < dump_yaml(value).index("a:")
    write_atomic(tmp_path / "v.json", dump_json(value))
    assert read_json(tmp_path / "v.json") == value
    with pytest.raises(ValueError, match="JSON"):
        dump_json({"a": float("nan")})


# ---------------------------------------------------------------- the journal


def test_a_journal_grows_line_by_line_and_takes_no_epoch_twice(store: RunStore) -> None:
    assert store.journal == []
    store.append(line(1))
    store.append(line(2))
    store.append(line(2) | {"time": 99})
    store.append(line(1) | {"time": 99})
    assert store.journal == [line(1), line(2)]
    assert (store.path / "journal.jsonl").read_bytes().count(b"\n") == 2


def test_a_gap_in_the_journal_is_refused_and_nothing_is_written(store: RunStore) -> None:
    store.append(line(1))
    before = (store.path / "journal.jsonl").read_bytes()
    with pytest.raises(ResultsError, match="ends at epoch 1: epochs are missing"):
        store.append(line(3))
    assert (store.path / "journal.jsonl").read_bytes() == before
    with pytest.raises(ResultsError, match="ends at epoch 0"):
        RunStore(store.path / "other").append(line(2))


@pytest.mark.parametrize("torn", [b'{"epoch": 3, "ti', b"{", b'{"epoch": 3}', b"\xff\xfe", b"\x00"])
def test_a_torn_last_line_is_ignored_and_mended_by_the_next_append(
    store: RunStore, torn: bytes
) -> None:
    store.append(line(1))
    store.append(line(2))
    path = store.path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert store.journal == [line(1), line(2)]
    store.append(line(3))
    assert path.read_bytes() == whole + json.dumps(line(3)).encode() + b"\n"


def test_a_line_that_no_json_can_hold_is_not_written_at_all(store: RunStore) -> None:
    store.append(line(1))
    with pytest.raises(ValueError, match="JSON"):
        store.append(line(2) | {"metrics": {"train/elbo": float("nan")}})
    assert store.journal == [line(1)]
    store.append(line(2))
    assert store.journal == [line(1), line(2)]


PIECES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"\n", b"{}", b"[1]\n", b'{"epoch": 1}\n', b'{"epoch": "x"}\n', b"null\n"]),
    st.integers(1, 5).map(lambda n: json.dumps(line(n)).encode() + b"\n"),
)


@given(st.lists(PIECES, max_size=8).map(b"".join))
def test_reading_any_bytes_as_a_journal_never_fails(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    store = RunStore(tmp_path_factory.mktemp("journal", numbered=True))
    (store.path / "journal.jsonl").write_bytes(content)
    lines = store.journal
    assert all("epoch" in entry for entry in lines)
    assert len(lines) <= content.count(b"\n") + content.count(b"\r")


@given(st.integers(0, 5), st.data())
def test_any_prefix_of_a_journal_reads_as_a_prefix_of_its_lines(
    tmp_path_factory: pytest.TempPathFactory, epochs: int, data: st.DataObject
) -> None:
    lines = [line(n + 1) for n in range(epochs)]
    raw = [json.dumps(entry).encode() + b"\n" for entry in lines]
    cut = data.draw(st.integers(0, sum(map(len, raw))))
    store = RunStore(tmp_path_factory.mktemp("journal", numbered=True))
    (store.path / "journal.jsonl").write_bytes(b"".join(raw)[:cut])
    whole = sum(1 for n in range(epochs) if len(b"".join(raw[: n + 1])) <= cut)
    assert store.journal == lines[:whole]
    store.append(line(whole + 1))
    assert store.journal == [*lines[:whole], line(whole + 1)]


def test_a_line_nested_without_end_is_a_damaged_line(store: RunStore) -> None:
    store.append(line(1))
    with (store.path / "journal.jsonl").open("ab") as file:
        file.write(b"[" * 200_000 + b"\n")
    assert store.journal == [line(1)]


# ---------------------------------------------------------------- tensors and arrays


def test_tensors_are_read_back_bit_for_bit(store: RunStore) -> None:
    value = {"model": {"w": torch.linspace(0, 1, 7)}, "epoch": 3, "line": line(3), "best": -1.5}
    store.save_tensors("checkpoint.pt", value)
    loaded = store.load_tensors("checkpoint.pt")
    assert loaded is not None
    assert torch.equal(loaded["model"]["w"], value["model"]["w"])  # type: ignore[index]
    assert {k: v for k, v in loaded.items() if k != "model"} == {
        k: v for k, v in value.items() if k != "model"
    }
    assert names(store.path) == ["checkpoint.pt"]


def test_what_is_not_there_is_none(store: RunStore) -> None:
    assert store.load_tensors("checkpoint.pt") is None
    assert store.arrays() is None
    assert store.record is None
    assert store.config is None
    assert store.attempt == 1


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_checkpoint_that_holds_code_is_refused_and_does_not_run(store: RunStore) -> None:
    trace = store.path.parent / "executed"
    store.path.mkdir()
    torch.save({"model": Malicious(trace)}, store.path / "checkpoint.pt")
    with pytest.raises(ResultsError, match=r"checkpoint\.pt: damaged"):
        store.load_tensors("checkpoint.pt")
    (store.path / "checkpoint.pt").write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(ResultsError, match=r"checkpoint\.pt: damaged"):
        store.load_tensors("checkpoint.pt")
    assert not trace.exists()


def test_arrays_are_read_back_and_objects_are_refused(store: RunStore) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2])}
    store.save_arrays(arrays)
    loaded = store.arrays()
    assert loaded is not None
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    np.savez(store.path / "arrays.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ResultsError, match=r"arrays\.npz: damaged"):
        store.arrays()


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_a_truncated_file_of_tensors_or_arrays_is_an_error_that_names_it(
    store: RunStore, keep: float
) -> None:
    store.save_tensors("weights.pt", {"w": torch.zeros(1000)})
    store.save_arrays({"a": np.zeros(1000)})
    for name in ("weights.pt", "arrays.npz"):
        content = (store.path / name).read_bytes()
        size = keep if isinstance(keep, int) else int(len(content) * keep)
        (store.path / name).write_bytes(content[:size])
    with pytest.raises(ResultsError, match=r"weights\.pt: damaged"):
        store.load_tensors("weights.pt")
    with pytest.raises(ResultsError, match=r"arrays\.npz: damaged"):
        store.arrays()


# ---------------------------------------------------------------- records, configs, manifests


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 200_000])
def test_a_damaged_record_is_an_error_that_names_it(store: RunStore, content: bytes) -> None:
    store.path.mkdir()
    (store.path / "record.json").write_bytes(content)
    with pytest.raises(ResultsError, match=r"record\.json: damaged"):
        _ = store.record


@pytest.mark.parametrize("content", [b"a: [", b"- 1", b"\xff\xfe\x00"])
def test_a_damaged_stored_configuration_is_none(store: RunStore, content: bytes) -> None:
    store.path.mkdir()
    (store.path / "config.yaml").write_bytes(content)
    assert store.config is None


@pytest.mark.parametrize("content", [b"", b"a: [", b"- 1", b"name: x", b"\xff\xfe\x00"])
def test_a_damaged_manifest_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "grid.yaml").write_bytes(content)
    with pytest.raises(ResultsError, match=r"grid\.yaml: damaged"):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_no_grid(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="not the folder of a grid"):
        read_manifest(tmp_path)
    assert grid_dirs(tmp_path) == []
    assert grid_dirs(tmp_path / "nothing") == []


def test_grids_are_found_in_a_results_folder_and_as_themselves(tmp_path: Path) -> None:
    manifest: dict[str, Any] = {"name": "b", "axes": {}, "seeds": [0], "runs": []}
    for name in ("b", "a"):
        write_atomic(tmp_path / name / "grid.yaml", dump_yaml(manifest))
    (tmp_path / "c").mkdir()
    assert grid_dirs(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert grid_dirs(tmp_path / "a") == [tmp_path / "a"]
    assert read_manifest(tmp_path / "b") == manifest
    assert run_store(tmp_path / "a", "123").path == tmp_path / "a" / "runs" / "123"
    assert run_store(tmp_path / "a", "123").run_id == "123"


# ---------------------------------------------------------------- attempts


def test_an_attempt_that_is_set_aside_is_kept_and_the_next_one_starts_clean(
    store: RunStore,
) -> None:
    for attempt in (1, 2, 3):
        assert store.attempt == attempt
        store.append(line(1) | {"time": attempt})
        write_atomic(store.images / "samples-0001.png", b"png")
        store.set_aside()
        assert names(store.path) == ["attempts"]
        assert store.journal == []
    assert store.attempt == 4
    for attempt in (1, 2, 3):
        old = RunStore(store.path / "attempts" / str(attempt))
        assert old.journal[0]["time"] == attempt
        assert (old.images / "samples-0001.png").read_bytes() == b"png"


def test_what_was_half_written_is_not_set_aside(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    store.write("record.json", "{}")
    store.write("images/samples-0001.png", b"png")
    for folder in (store.path, store.images):
        (folder / ".half.png.1234567890.tmp").write_bytes(b"pn")
    store.set_aside()
    assert sorted(path.name for path in store.path.rglob("*") if path.is_file()) == [
        "record.json",
        "samples-0001.png",
    ]


@pytest.mark.parametrize("moved", [1, 2, 3])
def test_an_attempt_that_was_half_set_aside_passes_for_no_finished_run(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    store.append(line(1))
    for name in ("arrays.npz", "config.yaml", "record.json", "weights.pt"):
        write_atomic(store.path / name, "{}")
    replace, count = Path.replace, iter(range(moved))

    def killed(path: Path, target: Path) -> Path:
        if next(count, None) is None:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.set_aside()
    assert store.record is None
    monkeypatch.undo()
    store.set_aside()
    assert names(store.path) == ["attempts"]


@pytest.mark.parametrize("tail", [b'{"epoch": 3, "ti', b"\x00" * 50, b"\xff\n" + b"x" * 9])
def test_torn_lines_are_set_aside_once_and_the_whole_ones_stay(
    store: RunStore, tail: bytes
) -> None:
    assert not store.set_aside_torn_lines()
    store.append(line(1))
    store.append(line(2))
    assert not store.set_aside_torn_lines()
    path = store.path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert store.set_aside_torn_lines()
    assert path.read_bytes() == whole
    assert (store.path / "journal.torn").read_bytes() == tail
    assert not store.set_aside_torn_lines()


def test_the_first_damaged_archive_is_named_and_what_is_not_there_is_not_damaged(
    store: RunStore,
) -> None:
    files = ("weights.pt", "arrays.npz")
    assert store.first_damaged(*files) is None
    store.save_tensors("weights.pt", {"w": torch.zeros(1000)})
    store.save_arrays({"a": np.zeros(1000)})
    assert store.first_damaged(*files) is None
    for name in reversed(files):
        content = bytearray((store.path / name).read_bytes())
        content[len(content) // 2] ^= 1
        (store.path / name).write_bytes(content)
        assert store.first_damaged(*files) == name


def test_reading_needs_no_torch() -> None:
    for path in Path(storage.__file__).parent.glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        top = [text for text in lines if text.startswith(("import ", "from "))]
        assert not [text for text in top if "torch" in text or "mlflow" in text]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    write_atomic(tmp_path / "figures" / "a.png", b"whole")
    (tmp_path / "figures" / ".b.png.123.tmp").write_bytes(b"ha")
    (tmp_path / ".checkpoint.pt.123.tmp").write_bytes(b"ha")
    store.clean()
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.png"]


def _measured(seed: int, elbo: float | None, validation: object = 10) -> dict[str, object]:
    config = {"dataset": {"validation": validation}}
    measured = {"epoch": 1, "val/elbo": elbo}
    return {"seed": seed, "config": config, "measured": measured, "best": {"val/elbo": -seed}}


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ([_measured(0, -3.0), _measured(1, -1.0), _measured(2, -2.0)], 2),
        ([_measured(0, -3.0), _measured(1, -1.0)], 0),  # of two the lower
        ([_measured(4, -3.0), _measured(3, None)], 1),  # not all are known: the lowest seed
        ([_measured(4, -3.0, "test"), _measured(3, -9.0, "test")], 1),  # trap 10
        ([_measured(4, -3.0), {"seed": 3}], 1),  # of an older version
        ([_measured(4, -3.0)], 0),
    ],
)
def test_median_seed_is_chosen_on_validation_only(
    records: list[dict[str, object]], wanted: int
) -> None:
    assert median_seed(records)[0] == wanted


@pytest.mark.parametrize("text", ["", "- 1", "name: x", "{name: x, axes: 3, seeds: [], runs: []}"])
def test_a_damaged_manifest_says_how_to_go_on(tmp_path: Path, text: str) -> None:
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(ResultsError, match="delete it and run the same command"):
        read_manifest(tmp_path)
