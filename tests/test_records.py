"""Which records of a folder count: those of the manifest's runs, and no others."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from records import edit_record, make_results, run_dirs

from vaebench import report
from vaebench.config import make_run
from vaebench.schema.record import versions


def test_complete_run_that_the_manifest_does_not_list_changes_no_number(tmp_path: Path) -> None:
    grid = make_results(tmp_path, axes={"model": ["fnn", "cnn"], "loss": ["bce"]}, seeds=(0, 1, 2))
    manifest = yaml.safe_load((grid / "grid.yaml").read_text())
    stray = next(run for run in reversed(manifest["runs"]) if run["seed"] == 2)
    manifest["runs"].remove(stray)
    (grid / "grid.yaml").write_text(yaml.safe_dump(manifest))
    with_it = report.load(grid)
    assert with_it.foreign == (stray["run_id"],)
    shutil.rmtree(grid / "runs" / stray["run_id"])
    without_it = report.load(grid)
    assert without_it.foreign == ()
    assert len(without_it.records) == 5
    assert with_it.records == without_it.records
    assert with_it.cells == without_it.cells


def test_a_record_of_before_components_had_versions_has_first_versions() -> None:
    now = make_run({}).versions
    assert versions({"numbers_version": now["numbers"]}) == versions({"versions": now}) == now
    assert versions({"versions": ["damaged"]}) == {**now, "numbers": None}


@pytest.mark.parametrize(
    "another", [{"versions": {"numbers": 2, "loss": 2}}, {"versions": {"numbers": 3}}]
)
def test_runs_of_two_versions_are_never_averaged(tmp_path: Path, another: dict[str, Any]) -> None:
    grid = make_results(tmp_path, axes={"model": ["fnn", "cnn"]}, seeds=(0, 1, 2))
    folders = run_dirs(grid)
    for folder in folders:
        edit_record(folder, lambda record: record.update(numbers_version=2))
    # the same versions in the words of another time change nothing
    edit_record(folders[0], lambda record: record.update(versions={"numbers": 2, "loss": 1}))
    assert all(cell.complete and cell.summaries for cell in report.load(grid).cells)
    edit_record(folders[0], lambda record: record.update(another))
    fnn, cnn = report.load(grid).cells
    assert (len(fnn.records), fnn.outdated, fnn.summaries) == (1, 2, {})
    assert (len(cnn.records), cnn.outdated, cnn.summaries) == (0, 3, {})
    told = report.render(report.load(grid), "md")
    assert "incomplete (1 of 3 seeds, 2 of older data or code)" in told
    assert told.count("| superseded |") == 5
    [row] = report.status(grid.parent)
    assert (row.complete, row.superseded, row.stale) == (1, 5, 0)
    assert "| versions.numbers |" in told


def test_runs_of_other_data_are_never_averaged(tmp_path: Path) -> None:
    grid = make_results(tmp_path, axes={"model": ["fnn"]}, seeds=(0, 1, 2))
    *_, last = run_dirs(grid)
    edit_record(last, lambda record: record["environment"]["dataset"].update(digest="d2"))
    edit_record(last, lambda record: record.update(finished=record["finished"] + 10**6))
    [cell] = report.load(grid).cells
    assert (len(cell.records), cell.outdated, cell.summaries) == (1, 2, {})
    assert report.render(report.load(grid), "md").count("| stale |") == 2
    [row] = report.status(grid.parent)
    assert (row.complete, row.stale) == (1, 2)
