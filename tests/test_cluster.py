"""The recipes for clusters: their scripts run, their options exist, their page names them."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from vaebench.cli import main
from vaebench.cli.shards import shard

FOLDER = Path(__file__).parents[1] / "experiments" / "cluster"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")


def options(command: str) -> set[str]:
    return {flag for parameter in main.commands[command].params for flag in parameter.opts}


def test_the_page_names_every_recipe_and_says_what_was_not_run() -> None:
    for path in FOLDER.iterdir():
        assert path.name == "README.md" or f"[{path.name}]({path.name})" in PAGE
    assert "no Slurm was at hand" in PAGE


def test_commands_of_the_page_exist() -> None:
    commands = re.findall(r"^ *vaebench ([a-z-]+)([^\n&#]*)", PAGE, re.MULTILINE)
    assert {name for name, _ in commands} >= {"run-grid", "merge", "sync", "status", "report"}
    for name, rest in commands:
        assert set(re.findall(r"--[a-z-]+", rest)) <= options(name), (name, rest)


STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "$LOG"
exit {code}
"""


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (1, False), (143, True)])
def test_a_task_of_the_array_that_is_out_of_time_is_requeued(
    tmp_path: Path, code: int, *, requeued: bool
) -> None:
    for name, ends in (("vaebench", code), ("scontrol", 0)):
        (tmp_path / name).write_text(STUB.format(code=ends))
        (tmp_path / name).chmod(0o755)
    (tmp_path / "srun").write_text('#!/bin/sh\n"$@"\n')
    (tmp_path / "srun").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "LOG": str(tmp_path / "log"),
        "TMPDIR": str(tmp_path),
        "SLURM_JOB_ID": "12",
        "SLURM_ARRAY_JOB_ID": "11",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_CPUS_PER_TASK": "4",
    }
    command = ["bash", str(FOLDER / "vaebench.sbatch"), "grid.yaml", "there"]
    done = subprocess.run(command, env=environment, check=False, timeout=60)
    assert done.returncode == code
    called, *after = (tmp_path / "log").read_text().splitlines()
    name, command_name, *rest = called.split()
    assert (name, command_name, rest[0]) == ("vaebench", "run-grid", "grid.yaml")
    assert {word for word in rest if word.startswith("--")} <= options("run-grid")
    assert f"--tracking-uri sqlite:///{tmp_path}/vaebench-12.db" in called
    assert after == (["scontrol requeue 11_3"] if requeued else [])


def test_the_array_wants_a_grid_and_asks_for_a_signal_in_time() -> None:
    text = (FOLDER / "vaebench.sbatch").read_text(encoding="utf-8")
    wanted = ("--array=", "--time=", "--signal=TERM@", "--requeue", "--cpus-per-task=")
    assert all(f"#SBATCH {option}" in text for option in wanted)
    done = subprocess.run(
        ["bash", str(FOLDER / "vaebench.sbatch")], capture_output=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert b"name the grid" in done.stderr


def test_the_job_of_kubernetes_has_a_part_for_each_of_its_pods(tmp_path: Path) -> None:
    job: dict[str, Any] = yaml.safe_load((FOLDER / "kubernetes-job.yaml").read_text())
    spec = job["spec"]
    assert (job["kind"], spec["completionMode"]) == ("Job", "Indexed")
    pod = spec["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    command, *given = container["args"]
    named = dict(argument.split("=", 1) for argument in given)
    assert named.keys() <= options(command)
    parts = [
        shard(named["--shard"], {"JOB_COMPLETION_INDEX": str(index)})
        for index in range(spec["completions"])
    ]
    assert parts == [(k, spec["completions"]) for k in range(1, spec["completions"] + 1)]
    asked = [command, "--dataset=digits", "--seeds=2", "--dry-run", f"--results={tmp_path}"]
    plan = CliRunner().invoke(main, asked)
    assert "16 of 16 runs to do" in plan.output


def test_the_image_is_pinned_and_not_of_root() -> None:
    text = (FOLDER / "Containerfile").read_text(encoding="utf-8")
    assert text.count("--constraint constraints.txt") == 2
    users = re.findall(r"^USER (.*)$", text, re.MULTILINE)
    assert users
    assert not users[-1].startswith(("root", "0"))
    assert "DEVICE=cuda" in text
