"""Which records of a folder count: those of the manifest's runs, and no others."""

import shutil
from pathlib import Path

import yaml
from records import make_results

from vaebench import report


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
    assert report.cells(with_it) == report.cells(without_it)
