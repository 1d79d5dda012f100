"""The short form of ``make hostile``: a share of the hostile folders, and the quick commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile.trials import COMMANDS, trials


@pytest.mark.slow
def test_hostile_folders_hurt_nobody(tmp_path: Path) -> None:
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "hostile", "--short", "--keep", str(tmp_path / "work")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert f"{len(trials(short=True))} hostile folders" in done.stdout


def test_the_short_form_has_every_shape_and_every_file() -> None:
    short, whole = trials(short=True), trials(short=False)
    assert {trial.shape for trial in short} == {trial.shape for trial in whole}
    assert {trial.what for trial in short} == {trial.what for trial in whole}
    assert {command.name for command in COMMANDS if not command.reads} >= {"sync(RES)", "ui(RES)"}
