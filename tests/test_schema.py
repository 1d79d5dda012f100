"""Records and manifests: real old ones are read, what is none is refused, later ones are named."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from records import edit_manifest, edit_record, make_results, run_dirs

from vaebench.cli import main
from vaebench.errors import ResultsError
from vaebench.schema import manifest as manifests
from vaebench.schema.manifest import MANIFEST_VERSION, planned, read_manifest
from vaebench.schema.record import MIGRATIONS, SCHEMA_VERSION, Record, is_relaxed, versions

# a grid that was published at the time, by version
OLD: dict[int, Path] = {1: Path(__file__).parent / "old" / "records-1"}
LATER = {"schema_version": SCHEMA_VERSION + 1}


def a_record(folder: Path) -> dict[str, Any]:
    [run] = run_dirs(make_results(folder, axes={"model": ["fnn"]}, seeds=[0]))
    value: dict[str, Any] = json.loads((run / "record.json").read_text())
    return value


@pytest.mark.parametrize("version", OLD)
def test_a_real_record_and_manifest_of_each_version_are_read(version: int) -> None:
    grid = OLD[version]
    raw = yaml.safe_load((grid / "grid.yaml").read_text())
    assert raw.get("schema_version", 1) == version
    manifest = read_manifest(grid)
    assert manifest == raw
    for run in planned(manifest):
        path = grid / "runs" / run.run_id / "record.json"
        written = json.loads(path.read_text())
        assert written.get("schema_version", 1) == version
        record = Record.read_planned(path, run)
        assert record is not None
        assert record["metrics"] == written["metrics"]
        assert versions(record)["numbers"] == written["numbers_version"]


def test_every_version_before_this_one_has_a_migration_and_a_real_record() -> None:
    assert set(MIGRATIONS) == set(OLD) == set(range(1, SCHEMA_VERSION))


def test_a_record_of_version_1_gets_what_it_left_out(tmp_path: Path) -> None:
    old = a_record(tmp_path)
    del old["metric_declarations"], old["notes"]
    assert Record.check(old) == old | {"metric_declarations": {}, "notes": []}
    assert "notes" not in old, "what was given is not changed"


@pytest.mark.parametrize(
    ("support", "loss", "binarize", "relaxed"),
    [
        *(("binary", "mine", "none", True), ("binary", "mine", "static", False)),
        *(("real", "bce", "none", False), ("unit", "mine", "none", False)),
        # from before records said it
        *(
            (None, "bce", "none", True),
            (None, "bce", "dynamic", False),
            (None, "cb", "none", False),
        ),
    ],
)
def test_a_loss_of_binary_pixels_is_relaxed_on_gray_ones_whatever_its_name(
    support: str | None, loss: str, binarize: str, relaxed: bool
) -> None:
    config = {"loss": {"name": loss}, "dataset": {"binarize": binarize}}
    assert is_relaxed({"support": support, "config": config}) is relaxed


@pytest.mark.parametrize("key", ["run_id", "status", "cell", "seed", "metrics", "finished"])
def test_a_record_without_what_every_record_has_is_damaged(tmp_path: Path, key: str) -> None:
    value = a_record(tmp_path)
    del value[key]
    with pytest.raises(ResultsError, match=f"damaged: not the record of a run .{key}: "):
        Record.check(value)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"seed": True}, {"seed": "1"}, {"seed": -1}, {"finished": 1.5}, {"status": "perhaps"}),
        *({"metrics": {"a": "1"}}, {"metrics": {"a": False}}, {"versions": [1]}, {"config": 3}),
        *({"metric_declarations": {"a": 3}}, {"schema_version": 0}, {"schema_version": "1"}),
    ],
)
def test_no_value_of_another_kind_is_taken_for_what_it_should_be(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ResultsError, match="damaged"):
        Record.check(a_record(tmp_path) | wrong)


def test_a_metric_that_is_not_finite_was_not_measured(tmp_path: Path) -> None:
    metrics = {"a": float("nan"), "b": 1e200, "c": None, "d": 1, "e": 0.5}
    record = Record.check(a_record(tmp_path) | {"metrics": metrics})
    assert record["metrics"] == {"a": None, "b": None, "c": None, "d": 1, "e": 0.5}


def test_records_and_manifests_of_a_later_version_are_said_to_be_that(tmp_path: Path) -> None:
    grid = make_results(tmp_path, axes={"model": ["fnn"]}, seeds=[0])
    [run] = run_dirs(grid)
    edit_record(run, lambda record: record.update(LATER))
    with pytest.raises(ResultsError, match=r"record\.json: written by a later vaebench"):
        Record.read(run / "record.json")
    edit_manifest(grid, schema_version=MANIFEST_VERSION + 1)
    with pytest.raises(ResultsError, match=r"grid\.yaml: written by a later vaebench"):
        read_manifest(grid)


def test_the_record_of_another_run_is_refused(tmp_path: Path) -> None:
    grid = make_results(tmp_path, axes={"model": ["fnn"]}, seeds=[0, 1])
    first, second = planned(read_manifest(grid))
    paths = [run / "record.json" for run in run_dirs(grid)]
    assert Record.read_planned(paths[0], first) is not None
    with pytest.raises(ResultsError, match="is the record of run"):
        Record.read_planned(paths[0], second)
    edit_record(paths[1].parent, lambda record: record.update(seed=5))
    with pytest.raises(ResultsError, match="seed is not that of the manifest"):
        Record.read_planned(paths[1], second)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"axes": {"model": "fnn"}}, {"seeds": 3}, {"settings": []}, {"name": None}),
        *({"runs": [{"run_id": "../x", "cell": {}, "seed": 0}]}, {"runs": [{"run_id": "a"}]}),
        {"runs": [{"run_id": "a", "cell": {}, "seed": 0}] * 2},
        {"tuned": [{"group": {}, "cell": {}}]},
    ],
)
def test_a_manifest_of_another_kind_is_damaged(tmp_path: Path, wrong: dict[str, Any]) -> None:
    grid = make_results(tmp_path, axes={"model": ["fnn"]}, seeds=[0])
    edit_manifest(grid, **wrong)
    with pytest.raises(ResultsError, match="damaged: not the manifest of a grid"):
        manifests.read_manifest(grid)


def test_schema_prints_the_json_schema_of_a_record(tmp_path: Path) -> None:
    printed = CliRunner().invoke(main, ["schema"])
    assert printed.exit_code == 0
    schema = json.loads(printed.output)
    assert schema["title"] == "Record"
    assert set(schema["required"]) <= a_record(tmp_path).keys()
    assert schema["properties"]["status"]["enum"] == ["complete", "failed", "interrupted"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["schema.record", "schema.claims", "declarations", "report.status"]
)
def test_what_reads_results_imports_neither_torch_nor_mlflow(module: str) -> None:
    code = (
        f"import sys, vaebench.{module}; sys.exit(bool({{'torch', 'mlflow'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
