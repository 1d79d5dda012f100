"""The simulation of a cluster: every run is published once, and what it counts adds up."""

import random

import pytest

from experiments.benchmarks.many_workers import durations, simulate


@pytest.mark.parametrize("shards", [False, True])
def test_every_run_is_published_once_however_often_workers_die_and_sleep(*, shards: bool) -> None:
    draw = random.Random(3)
    known = durations()
    assert known
    runs = [draw.choice(known) for _ in range(2000)]
    tally = simulate(runs, 20, random.Random(0), shards=shards)
    assert set(tally.published) == {1}
    work = sum(seconds for seconds, _ in runs)
    assert tally.makespan >= work / 20
    assert tally.makespan < 2 * work / 20 + max(seconds for seconds, _ in runs)
    assert 0 < tally.twice < 0.05 * work
    assert tally.taken_over >= tally.late
    assert tally.taken_over > 0
    assert tally.operations > 0
