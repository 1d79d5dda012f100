"""A simulation: a grid of 100,000 runs on 1,000 workers that are preempted, pause, and come back.

``python -m experiments.benchmarks.many_workers [RUNS WORKERS]``. Runs last as long as those of the
published records, drawn at random, with their epochs. The rules are those of the leases: a run of a
worker that died is taken over a minute after its last sign of life, and goes on after its last
whole epoch; one whose worker only paused is done by two until the sleeper looks at its lease, which
it does after each epoch. Printed for sharing (each takes whatever nobody does) and for shards (each
worker its own part, and it comes back to that): how long it takes against the least that it can,
what was computed twice, and how many operations the file system sees a second.
"""

import heapq
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vaebench.storage.holders import EXPIRES
from vaebench.storage.leases import BEAT

RESULTS = Path(__file__).parents[2] / "results"
LIFE = 4 * 3600.0  # seconds that a worker lives on average until it is preempted
AWAY = 300.0  # seconds until it is back
PAUSE_EVERY = 20 * 3600.0  # seconds between two pauses that last longer than a lease, on average
PAUSE = (60.0, 900.0)  # seconds, from and to
SLOW = (1.0, 1.3)  # of a shared disk and a shared machine: factor of a run's time, from and to
PER_RENEWAL = 4  # operations: look for a newer lease, read it, write, rename
PER_RUN = 25  # take, write the lease, publish, give back
PER_EPOCH = 12  # checkpoint and journal, with their flushes
PER_LOOK = 2  # at a run that another one does or has done


@dataclass
class Tally:
    """What a simulation counted; seconds and operations."""

    makespan: float = 0.0
    twice: float = 0.0
    taken_over: int = 0
    late: int = 0
    operations: float = 0.0
    published: list[int] = field(default_factory=list)


def durations() -> list[tuple[float, int]]:
    """Seconds and epochs of the published runs."""
    found = []
    for path in sorted(RESULTS.glob("*/runs/*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        seconds = record["metrics"].get("cost/seconds_per_epoch")
        if seconds and record["epochs"]:
            found.append((seconds * record["epochs"], record["epochs"]))
    return found


def simulate(
    runs: Sequence[tuple[float, int]], workers: int, draw: random.Random, *, shards: bool
) -> Tally:
    """Do runs, the longest first, on workers; with ``shards`` each has a part of its own."""
    tally = Tally(published=[0] * len(runs))
    order = sorted(range(len(runs)), key=lambda index: -runs[index][0])
    queues: list[list[int]] = [[] for _ in range(workers if shards else 1)]
    loads = [(0.0, which) for which in range(len(queues))]
    for index in order:
        load, which = heapq.heappop(loads)
        queues[which].append(index)
        heapq.heappush(loads, (load + runs[index][0], which))
    for queue in queues:
        queue.reverse()
    left = [seconds for seconds, _ in runs]
    # at a time, a worker is free, or a run that was left is taken for dead
    events = [(0.0, which, -1) for which in range(workers)]
    idle: list[int] = []
    death = [draw.expovariate(1 / LIFE) for _ in range(workers)]
    while events:
        now, which, back = heapq.heappop(events)
        queue = queues[which if shards else 0]
        if back >= 0:
            queue.append(back)
            tally.taken_over += 1
            for other in idle:
                heapq.heappush(events, (now, other, -1))
            idle.clear()
            continue
        if not queue:
            idle.append(which)
            continue
        index = queue.pop()
        seconds, epochs = runs[index]
        took = left[index] * draw.uniform(*SLOW)
        epoch = took / max(1, round(epochs * left[index] / seconds))
        pause = draw.expovariate(1 / PAUSE_EVERY)
        tally.operations += PER_RUN + took * PER_RENEWAL / BEAT + epochs * PER_EPOCH
        end = now + took
        if death[which] < min(end, now + pause):
            done = (death[which] - now) // epoch * epoch
            tally.twice += max(0.0, death[which] - now - done)
            left[index] *= 1 - done / took
            heapq.heappush(events, (death[which] + (AWAY if shards else EXPIRES), which, index))
            heapq.heappush(events, (death[which] + AWAY, which, -1))
            death[which] += AWAY + draw.expovariate(1 / LIFE)
        elif now + pause < end:
            wakes = now + pause + draw.uniform(*PAUSE)
            done = pause // epoch * epoch
            left[index] *= 1 - done / took
            if end - (now + pause) <= epoch:  # it slept in its last epoch, and ends it: late
                tally.late += 1
            tally.twice += min(epoch, end - (now + pause)) + pause - done
            heapq.heappush(events, (now + pause + EXPIRES, which, index))
            heapq.heappush(events, (wakes + epoch, which, -1))
        else:
            tally.published[index] += 1
            tally.makespan = max(tally.makespan, end)
            heapq.heappush(events, (end, which, -1))
    if not shards:  # each looks once at every run that others have done
        tally.operations += PER_LOOK * len(runs) * workers
    return tally


def main() -> None:
    """Print a table of both ways."""
    count, workers = (int(text) for text in sys.argv[1:3] or ("100000", "1000"))
    draw = random.Random(0)
    known = durations()
    runs = [draw.choice(known) for _ in range(count)]
    work = sum(seconds for seconds, _ in runs) * sum(SLOW) / 2
    bound = max(work / workers, max(seconds for seconds, _ in runs))
    print(f"{count:,} runs of {work / count:,.0f} s on average on {workers:,} workers")
    print(f"the least that it can take: {bound / 3600:.2f} h")
    for name, shards in (("sharing", False), ("shards", True)):
        tally = simulate(runs, workers, random.Random(1), shards=shards)
        if set(tally.published) != {1}:
            sys.exit(f"{name}: a run was not published exactly once")
        print(
            f"{name}: {tally.makespan / 3600:.2f} h, {tally.makespan / bound:.3f} of the least; "
            f"taken over {tally.taken_over:,}, done twice {tally.twice / work:.2%} of the work, "
            f"late results {tally.late:,}; {tally.operations / tally.makespan:,.0f} operations/s"
        )


if __name__ == "__main__":
    main()
