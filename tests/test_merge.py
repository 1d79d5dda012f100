"""Four shards in one folder, or in four that are merged: the same as one process, bit for bit."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from mlflow_servers import expected, of_runs, points, statuses
from small_runs import in_this_process_only, numbers, results, settings

from vaebench.errors import ConfigError, ResultsError
from vaebench.files import dump_yaml
from vaebench.grid import Options, load_results, run_grid
from vaebench.grid.merge import export, merge
from vaebench.storage import RunStore, archives, run_store

GRID = settings(
    name="small", axes={"model": ["fnn"], "loss": ["bce", "mse"]}, seeds=2, estimator="kl"
)
SHARDS = range(1, 5)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process_only(monkeypatch)


@pytest.fixture
def parts(tmp_path: Path, here: None) -> list[Path]:
    """Four results folders with a quarter of the grid each."""
    folders = [tmp_path / f"part{k}" for k in SHARDS]
    for k, folder in zip(SHARDS, folders, strict=True):
        run_grid(GRID, Options(folder, "cpu", shard=(k, 4)))
    return folders


def content(folder: Path) -> dict[str, Any]:
    """What must be the same wherever and in whatever order the runs were done."""
    found = {}
    for record in load_results(folder).records:
        store = run_store(folder, record["run_id"])
        weights, arrays = store.load_tensors("weights.pt"), store.arrays()
        assert weights is not None
        assert arrays is not None
        found[record["run_id"]] = (
            record["status"],
            results(record),
            {name: tensor.numpy().tobytes() for name, tensor in weights.items()},
            {name: array.tobytes() for name, array in arrays.items()},
            numbers(store.journal),
        )
    return found


def cells(folder: Path) -> Any:
    """The cells of the report, less what they cost."""
    said = json.loads((folder / "report.json").read_text())["cells"]
    for cell in said:
        cell["metrics"] = {k: v for k, v in cell["metrics"].items() if "seconds" not in k}
        cell["metrics"] = {
            k: v for k, v in cell["metrics"].items() if k.split("/")[-1] not in COSTS
        }
    return said


COSTS = {"images_per_second", "peak_memory_mb"}


def test_merged_parts_are_the_grid_that_one_process_makes(
    tmp_path: Path, parts: list[Path]
) -> None:
    whole = run_grid(GRID, Options(tmp_path / "whole", "cpu")).folder
    told = merge(parts, tmp_path / "all")
    folder = tmp_path / "all" / "small"
    assert [(merged.took, merged.refused) for merged in told] == [(1, [])] * 4
    assert content(folder) == content(whole)
    assert len(content(folder)) == 4
    assert cells(folder) == cells(whole)
    assert (folder / "grid.yaml").read_bytes() == (whole / "grid.yaml").read_bytes()
    assert not (folder / ".work").exists()
    again = merge(parts, tmp_path / "all")
    assert [(m.took, dict(m.left)) for m in again] == [
        (0, {"there already": 1, "not finished": 3})
    ] * 4
    assert run_grid(GRID, Options(tmp_path / "all", "cpu")).done == []


def test_an_archive_is_merged_like_the_folder_that_it_was_made_from(
    tmp_path: Path, parts: list[Path]
) -> None:
    made = []
    for part in parts:
        output = tmp_path / f"{part.name}.zip"
        runs, size = export(part / "small", output)
        assert (runs, size) == (1, output.stat().st_size)
        made.append(output)
        before = output.read_bytes()
        export(part / "small", output)
        assert output.read_bytes() == before
    merge(parts, tmp_path / "folders")
    merge(made, tmp_path / "archives")
    assert content(tmp_path / "archives" / "small") == content(tmp_path / "folders" / "small")
    shown = [load_results(tmp_path / name).analysis.references for name in ("archives", "folders")]
    assert {row.kind for row in shown[0]} == {"real", "ppca", "untrained"}
    assert shown[0] == shown[1]
    assert sorted(path.name for path in (tmp_path / "archives").iterdir()) == ["small"]


def test_an_archive_holds_no_checkpoints_and_no_earlier_attempts(
    tmp_path: Path, here: None
) -> None:
    folder = run_grid(GRID, Options(tmp_path, "cpu", keep_checkpoints=True)).folder
    (store,) = [RunStore(path) for path in sorted((folder / "runs").iterdir())][:1]
    (store.path / "attempts" / "1").mkdir(parents=True)
    (store.path / "attempts" / "1" / "record.json").write_text("{}")
    assert (store.path / "checkpoint.pt").exists()
    export(folder, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
    assert "small/grid.yaml" in names
    assert f"small/runs/{store.run_id}/record.json" in names
    assert not [name for name in names if "checkpoint" in name or "attempts" in name]


def edit(folder: Path, name: str, **changed: Any) -> None:
    (path,) = folder.glob(f"small/runs/*/{name}")
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("digest", "was trained on another digits"),
        ("config", "its configuration is that of another run"),
        ("weights", "its weights.pt is damaged"),
        ("journal", "of 2 epochs are left"),
        ("record", "damaged"),
        ("link", "a link"),
        ("settings", "other settings: dataset.train: 64 there, 60 here"),
    ],
)
def test_what_does_not_belong_there_is_refused_and_the_rest_taken(
    tmp_path: Path, parts: list[Path], kind: str, why: str
) -> None:
    bad = parts[1]
    (run,) = (bad / "small" / "runs").iterdir()
    record = json.loads((run / "record.json").read_text())
    if kind == "digest":
        environment = record["environment"]
        environment["dataset"]["digest"] = "another"
        edit(bad, "record.json", environment=environment)
    elif kind == "config":
        config = record["config"] | {"seed": 7}
        edit(bad, "record.json", config=config)
    elif kind == "weights":
        data = bytearray((run / "weights.pt").read_bytes())
        data[len(data) // 2] ^= 0xFF
        (run / "weights.pt").write_bytes(data)
    elif kind == "journal":
        (run / "journal.jsonl").write_text("")
    elif kind == "record":
        (run / "record.json").write_text("{")
    elif kind == "link":
        run.rename(tmp_path / "elsewhere")
        run.symlink_to(tmp_path / "elsewhere")
    else:
        shutil.rmtree(bad)
        other = GRID | {"dataset": {"name": "digits", "train": 60, "validation": 32}}
        run_grid(other, Options(bad, "cpu", shard=(2, 4)))
    told = merge(parts, tmp_path / "all")
    assert [merged.took for merged in told] == [1, 0, 1, 1]
    ((_, said),) = told[1].refused
    assert why in said
    assert len(content(tmp_path / "all" / "small")) == 3


def test_a_run_that_is_there_stays_and_one_that_is_not_complete_is_set_aside(
    tmp_path: Path, parts: list[Path]
) -> None:
    merge(parts[:1], tmp_path / "all")
    (run,) = (tmp_path / "all" / "small" / "runs").iterdir()
    edit(tmp_path / "all", "record.json", finished=1)
    before = (run / "record.json").read_bytes()
    (told,) = merge(parts[:1], tmp_path / "all")
    assert told.left["the target has its own"] == 1
    assert (run / "record.json").read_bytes() == before
    edit(tmp_path / "all", "record.json", status="interrupted")
    (told,) = merge(parts[:1], tmp_path / "all")
    assert told.took == 1
    record = RunStore(run).record
    assert record is not None
    assert record["status"] == "complete"
    assert json.loads((run / "attempts/1/record.json").read_text())["status"] == "interrupted"


def test_sources_that_are_none_are_told_before_anything_is_taken(
    tmp_path: Path, parts: list[Path]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(ResultsError, match="no such folder or archive"):
        merge([parts[0], tmp_path / "nowhere"], tmp_path / "all")
    assert not (tmp_path / "all").exists()
    with pytest.raises(ResultsError, match="holds no grid"):
        merge([tmp_path / "empty"], tmp_path / "all")
    with pytest.raises(ResultsError, match="neither a folder nor an archive"):
        merge([tmp_path / "text.txt"], tmp_path / "all")
    with pytest.raises(ConfigError, match="--into"):
        merge([parts[0]], parts[0])


def archive_of(path: Path, files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "name",
    [
        *("../grid.yaml", "/small/grid.yaml", "small/../../x", "small/runs/../x/record.json"),
        *("small/runs/a/../../../x.png", "small/runs/a/images/../../x.png", "small\\grid.yaml"),
        *("small/runs/a/evil.py", "small/other/a/record.json", "small/.lock", "small/runs/a/"),
        *("small/runs/a/attempts/1/record.json", "small/runs/a/images/x.sh", "other/grid.yaml"),
    ],
)
def test_nothing_is_unpacked_but_what_a_grid_has(tmp_path: Path, name: str) -> None:
    path = archive_of(tmp_path / "a.zip", {"small/grid.yaml": b"", name: b"x"})
    into = tmp_path / "deep" / "into"
    with pytest.raises(ResultsError, match=r"a\.zip"):
        merge([path], into)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.zip", "deep", "into"]


def test_an_archive_that_unpacks_to_very_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SPARE", 1000)
    path = archive_of(tmp_path / "a.zip", {"small/grid.yaml": bytes(1_000_000)})
    with pytest.raises(ResultsError, match="unpacks to 1 MB"):
        archives.unpack(path, tmp_path)
    record = "small/runs/a/config.yaml"
    path = archive_of(
        tmp_path / "b.zip", {"small/grid.yaml": b"", record: bytes(1_000_001)}, zipfile.ZIP_STORED
    )
    with pytest.raises(ResultsError, match="larger than it may be"):
        archives.unpack(path, tmp_path)


@pytest.mark.parametrize("at", [0.1, 0.5, 0.97])
def test_a_damaged_archive_is_told_as_such(tmp_path: Path, at: float) -> None:
    files = {"small/grid.yaml": b"a" * 500, "small/report.md": bytes(range(256)) * 20}
    path = archive_of(tmp_path / "a.zip", files)
    data = bytearray(path.read_bytes())
    for place in range(int(len(data) * at), int(len(data) * at) + 8):
        data[place] ^= 0xFF
    path.write_bytes(data)
    (tmp_path / "out").mkdir()
    with pytest.raises(ResultsError, match=r"a\.zip: "):
        archives.unpack(path, tmp_path / "out")


@pytest.mark.slow
def test_four_shards_at_once_in_one_folder_are_one_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run once, each point in MLflow once, one grid and one run a cell, one whole report."""
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    (tmp_path / "small.yaml").write_text(dump_yaml(GRID))
    command = [sys.executable, "-m", "vaebench", "run-grid", str(tmp_path / "small.yaml")]
    command += ["--device", "cpu", "--jobs", "1", "--results"]
    shards = [
        subprocess.Popen(
            [*command, str(tmp_path / "four"), "--shard", f"{k}/4"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for k in SHARDS
    ]
    said = [shard.communicate(timeout=600)[0] for shard in shards]
    assert [shard.returncode for shard in shards] == [0] * 4, "\n".join(said)
    one = subprocess.run([*command, str(tmp_path / "one")], check=False, timeout=600)
    assert one.returncode == 0
    four = tmp_path / "four" / "small"
    assert content(four) == content(tmp_path / "one" / "small")
    assert cells(four) == cells(tmp_path / "one" / "small")
    assert {record["attempt"] for record in load_results(four).records} == {1}
    assert not (four / ".work").exists()
    database = tmp_path / "four" / "mlflow.db"
    assert of_runs(points(database, "small")) == expected(four)
    levels = {("grid", "FINISHED"): 1, ("cell", "FINISHED"): 2, ("run", "FINISHED"): 4}
    assert statuses(database, "small") == levels
    merge([four], tmp_path / "merged")
    sent = [sys.executable, "-m", "vaebench", "sync", str(tmp_path / "merged")]
    assert subprocess.run(sent, check=False, timeout=600).returncode == 0
    merged = tmp_path / "merged" / "mlflow.db"
    assert of_runs(points(merged, "small")) == expected(tmp_path / "merged" / "small")
    assert statuses(merged, "small") == levels
