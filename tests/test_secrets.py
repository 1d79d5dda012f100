"""No secret that is about when a grid is trained is kept in what is trained, or sent to MLflow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import settings

SECRET = "s3cr3t-7f3a9c"


@pytest.mark.slow
def test_no_secret_reaches_a_record_a_tag_or_a_log(tmp_path: Path) -> None:
    here = tmp_path / "checkout"
    here.mkdir()
    for words in (
        ["init", "--quiet"],
        ["remote", "add", "origin", f"https://user:{SECRET}@example.org/x.git"],
    ):
        subprocess.run(["git", *words], cwd=here, check=True)
    grid = here / "grid.yaml"
    # which is YAML; MLflow's address has a password, and nobody answers there
    elsewhere = f"http://user:{SECRET}@127.0.0.1:9"
    grid.write_text(json.dumps(settings(name="g", model="fnn", training={"epochs": 1})))
    environment = os.environ | {
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "GITHUB_TOKEN": SECRET,
        "MLFLOW_TRACKING_PASSWORD": SECRET,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    said = ""
    for uri in ([], ["--tracking-uri", elsewhere]):
        done = subprocess.run(
            [sys.executable, "-m", "vaebench", "run-grid", str(grid), "--device", "cpu", *uri],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    kept = [path for path in (here / "results").rglob("*") if path.is_file()]
    assert {"record.json", "mlflow.db", "journal.jsonl"} <= {path.name for path in kept}
    assert SECRET not in said
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []
    writable = [path for path in (here / "results").rglob("*") if path.stat().st_mode & 0o022]
    assert writable == [], "what other users of the machine may change"
