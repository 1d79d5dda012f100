"""Shards: fixed parts of a grid's runs that cost about the same, found without any coordination."""

import heapq
from collections.abc import Sequence

from vaebench.config import Run
from vaebench.run import model_cost


def cost(run: Run) -> float:
    """FLOPs of a run's training, per training image: what runs of a grid differ in."""
    return float(model_cost(run.config)[1] * run.config.epochs)


def part_of(runs: Sequence[Run], shard: tuple[int, int]) -> list[Run]:
    """The runs of shard K of N, in their order.

    The longest first, each goes to the shard that has the least to do. What has been done already
    does not count, so that every process finds the same parts, whenever it begins.

    Arguments:
        runs: All runs of the grid.
        shard: (K, N), K from 1 to N.
    """
    number, count = shard
    loads = [(0.0, which) for which in range(1, count + 1)]
    mine = set()
    for run in sorted(runs, key=lambda run: (-cost(run), run.run_id)):
        load, which = heapq.heappop(loads)
        heapq.heappush(loads, (load + cost(run), which))
        if which == number:
            mine.add(run.run_id)
    return [run for run in runs if run.run_id in mine]
