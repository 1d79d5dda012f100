"""Several processes on one results folder: each run is done once, and shown once in MLflow."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow_servers import expected, of_runs, points, statuses
from small_runs import settings

from vaebench.files import dump_yaml
from vaebench.report import load

VAEBENCH = [sys.executable, "-m", "vaebench"]


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "1")


def start(*arguments: object) -> "subprocess.Popen[str]":
    command = [*VAEBENCH, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_grids_and_those_who_look_share_a_results_folder_and_its_store(
    tmp_path: Path,
) -> None:
    """Two grids make and fill one store; others share one of them, or are told who is in it."""
    results = tmp_path / "results"
    for name in ("first", "second"):
        grid = settings(name=name, axes={"loss": ["bce", "mse"]}, model="fnn", training__epochs=40)
        (tmp_path / f"{name}.yaml").write_text(dump_yaml(grid))
    where = ["--results", results, "--device", "cpu", "--jobs", "1"]
    grids = [start("run-grid", tmp_path / f"{name}.yaml", *where) for name in ("first", "second")]
    others = []
    try:
        assert grids[0].stdout is not None
        begun = ""
        while "epoch" not in begun:
            begun = grids[0].stdout.readline()
            assert begun, grids[0].communicate()
        others.append(start("sync", results / "first"))
        others.append(start("run-grid", tmp_path / "first.yaml", *where))
        others.append(start("run-grid", tmp_path / "first.yaml", *where, "--rerun", "all"))
        others.append(start("evaluate", results / "first", "--device", "cpu"))
        said = [other.communicate(timeout=300) for other in others]
        ends = [grid.communicate(timeout=300) for grid in grids]
    finally:
        for process in (*grids, *others):
            process.kill()
    assert [grid.returncode for grid in grids] == [0, 0], ends
    assert [other.returncode for other in others] == [0, 0, 1, 1], str(said)
    for _, stderr in said[2:]:
        assert f"process {grids[0].pid} on " in stderr
        assert stderr.count("\n") == 1
    for name in ("first", "second"):
        records = load(results / name).records
        assert [(r["status"], r["attempt"], r["epochs"]) for r in records] == [
            ("complete", 1, 40)
        ] * 2
        assert of_runs(points(results / "mlflow.db", name)) == expected(results / name)
        found = statuses(results / "mlflow.db", name)
        assert found == {("grid", "FINISHED"): 1, ("cell", "FINISHED"): 2, ("run", "FINISHED"): 2}
        assert not (results / name / ".work").exists()
