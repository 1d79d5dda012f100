"""Fixed parts of a grid: every run in one of them, of about the same cost; ``--shard``."""

from pathlib import Path

import pytest
from small_runs import settings

from vaebench.cli.shards import shard
from vaebench.config import make_grid
from vaebench.errors import ConfigError
from vaebench.grid import Options, plan
from vaebench.grid.shards import cost, part_of


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_every_run_is_in_one_part_and_the_parts_cost_about_the_same(count: int) -> None:
    axes = {"model": ["fnn", "cnn"], "training.epochs": [1, 5, 30]}
    runs = make_grid(settings(axes=axes, seeds=5)).runs()
    parts = [part_of(runs, (number, count)) for number in range(1, count + 1)]
    ids = [run.run_id for part in parts for run in part]
    assert sorted(ids) == sorted(run.run_id for run in runs)
    loads = [sum(map(cost, part)) for part in parts]
    assert max(loads) - min(loads) <= max(map(cost, runs))
    assert parts == [part_of(runs, (number, count)) for number in range(1, count + 1)]


def test_a_long_run_has_a_part_for_itself_where_the_others_cost_less() -> None:
    axes = {"training.epochs": [20, 1, 2, 3, 4, 5]}
    runs = make_grid(settings(axes=axes, model="fnn", loss="bce", estimator="kl")).runs()
    parts = [part_of(runs, (number, 2)) for number in (1, 2)]
    assert sorted(sum(run.config.training.epochs for run in part) for part in parts) == [15, 20]


def test_a_plan_is_that_of_the_part(tmp_path: Path) -> None:
    grid = make_grid(settings(seeds=2))
    whole = {entry.run.run_id for entry in plan(grid, Options(tmp_path, "cpu"))}
    parts = [
        {entry.run.run_id for entry in plan(grid, Options(tmp_path, "cpu", shard=(k, 3)))}
        for k in (1, 2, 3)
    ]
    assert set.union(*parts) == whole
    assert sum(map(len, parts)) == len(whole)


def test_a_grid_that_is_yet_to_be_tuned_has_no_parts(tmp_path: Path) -> None:
    tune = {"key": "training.learning_rate", "values": [0.001, 0.01]}
    grid = make_grid(settings(axes={"model": ["fnn"]}, tune=tune))
    with pytest.raises(ConfigError, match="--tune-only"):
        plan(grid, Options(tmp_path, "cpu", shard=(1, 2)))


SLURM = {"SLURM_ARRAY_TASK_ID": "7"}


@pytest.mark.parametrize(
    ("text", "environ", "found"),
    [
        (None, {}, None),
        ("1/4", SLURM, (1, 4)),
        ("4/4", {}, (4, 4)),
        ("auto", SLURM | {"SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_COUNT": "9"}, (4, 9)),
        ("auto", SLURM | {"SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "9"}, (8, 10)),
        (
            "auto",
            SLURM
            | {
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_MAX": "10",
                "SLURM_ARRAY_TASK_STEP": "3",
            },
            (3, 4),
        ),
        ("auto/8", SLURM | {"SLURM_ARRAY_TASK_MIN": "1"}, (7, 8)),
        ("auto/4", {"JOB_COMPLETION_INDEX": "0"}, (1, 4)),
        ("auto/4", {"JOB_COMPLETION_INDEX": "3"}, (4, 4)),
    ],
)
def test_a_part_is_named_or_found_in_the_environment(
    text: str | None, environ: dict[str, str], found: tuple[int, int] | None
) -> None:
    assert shard(text, environ) == found


@pytest.mark.parametrize(
    ("text", "environ", "told"),
    [
        ("0/4", {}, "is no part"),
        ("5/4", {}, "is no part"),
        ("4", {}, "neither K/N"),
        ("a/b", {}, "neither K/N"),
        ("1/0", {}, "is no part"),
        ("auto", {}, "SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX"),
        ("auto", {"JOB_COMPLETION_INDEX": "1"}, "use auto/N"),
        ("auto/2", {"JOB_COMPLETION_INDEX": "2"}, "3/2 is no part"),
        ("auto", SLURM, "SLURM_ARRAY_TASK_MAX is ''"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "x"}, "is no number"),
    ],
)
def test_a_part_that_is_none_is_refused(text: str, environ: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        shard(text, environ)
