"""A grid, started again and again until it is finished, under fire."""

import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from chaos.compare import differences, faults_of_mlflow
from chaos.launch import Workplace, start
from chaos.published import watched
from chaos.shots import PHASES, Shot

AT_ONCE = 6  # shots that wait for one grid ...
AT_SHARDS = 15  # ... and for one that three processes do
SHARDS = (("--shard", "1/2", "--jobs", "1"), ("--shard", "2/2", "--jobs", "1"), ("--jobs", "1"))
AT_A_SHARD = "kill of one of three"
MAX_BARREN = 3  # grids of shards at which no shot falls, one after another
IN_TIME = 15.0  # seconds in which an interrupted grid must have ended ...
IN_PART = 0.5  # ... or, on a machine that is busy, this part of what an undisturbed one takes


@dataclass
class Tally:
    """What was tried, and what came of it; may be told by several threads.

    Attributes:
        kills: By phase, and by what was killed how.
        tried: Faults of each kind.
        lost: What was not survived, in words.
        skipped: What could not be tried here, and why.
        starts: Of the command.
        slowest: Seconds that the slowest interrupted grid took to end.
        twice: Runs that were published and then exchanged.
        late: Attempts that were kept beside the run that had been published before.
    """

    kills: Counter[str] = field(default_factory=Counter)
    manners: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    starts: int = 0
    slowest: float = 0.0
    twice: int = 0
    late: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def fault(self, kind: str, problems: Sequence[str]) -> None:
        """Count a fault, and what was not as it should be after it."""
        with self.lock:
            self.tried[kind] += 1
            self.lost += [f"{kind}: {problem}" for problem in problems][:1]
        for problem in problems:
            self.say(f"  LOST {kind}: {problem}")

    def say(self, text: str) -> None:
        """Print a line."""
        with self.lock:
            click.echo(text)

    def shot(self, shot: Shot, ended: float | None) -> None:
        """Count a shot that fell."""
        with self.lock:
            self.kills[shot.phase] += 1
            self.manners[f"{shot.signal}{' twice' * shot.twice} of {shot.victim}"] += 1
            if ended is not None and shot.signal != "SIGKILL":
                self.slowest = max(self.slowest, ended)


def under_fire(
    place: Workplace, waiting: "deque[Shot]", expected: dict[str, Any], tally: Tally, lane: str
) -> None:
    """Fire shots at grid after grid, until none is left; each must end as the undisturbed one.

    Several may do so at once: a shot that found no occasion waits for the next grid of any of them.
    """
    grids = 0
    while batch := _some(waiting):
        grids += 1
        results = place.folder / f"results-{lane}-{grids}"
        fired, problems = _until_finished(place, results, batch, tally)
        if not problems:
            problems = [*differences(results / "chaos", expected), *faults_of_mlflow(results)]
        if not fired and not problems and not any(shot.delay for shot in batch):
            problems = [f"no shot fell: {', '.join(map(str, batch))}"]
        for shot in fired:  # which of them did it, nobody knows
            tally.fault("kill", [f"{shot}: {'; '.join(problems)}"] if problems else [])
        tally.say(
            f"  {lane}{grids}: {len(fired)} kills "
            f"({', '.join(f'{s.phase}: {s.signal} of {s.victim}' for s in fired)}), "
            f"{'; '.join(problems) or 'the same'}"
        )
        if problems and not fired:
            tally.fault("kill", problems)
            return
        # a late one may have found that all was over: the next time it falls at the event itself
        waiting.extend(replace(shot, delay=0.0) for shot in batch if shot not in fired)
        if not problems:
            shutil.rmtree(results)


def shards_under_fire(
    place: Workplace,
    waiting: "deque[Shot]",
    expected: dict[str, Any],
    tally: Tally,
    lane: str,
    *,
    again: bool = True,
) -> None:
    """Fire at grids that three processes do at once: two shards, and one that shares both.

    Each is started again until it has ended well. A run whose process is killed is taken over by
    another one, which may be killed in turn; a run that was published stays the one that it was.
    ``again``: whether a shot that found no occasion waits for the next grid.
    """
    grids = barren = 0
    while barren < MAX_BARREN and (batch := _some(waiting, AT_SHARDS)):
        grids += 1
        results = place.folder / f"results-{lane}-{grids}"
        count = len(SHARDS)
        with watched(results / "chaos") as watch, ThreadPoolExecutor(count) as pool:
            parts = [
                pool.submit(_until_finished, place, results, batch[n::count], tally, options)
                for n, options in enumerate(SHARDS)
            ]
        fired = [shot for part in parts for shot in part.result()[0]]
        problems = [problem for part in parts for problem in part.result()[1]] + watch.problems
        if not problems:
            problems = [*differences(results / "chaos", expected), *faults_of_mlflow(results)]
            problems += [
                f"left behind: {path}" for path in (results / "chaos").glob(".work/runs/*")
            ]
        with tally.lock:
            tally.twice += len(watch.problems)
            tally.late += sum(1 for _ in (results / "chaos").glob("runs/*/attempts/late-*"))
        for shot in fired:
            tally.fault(AT_A_SHARD, [f"{shot}: {'; '.join(problems)}"] if problems else [])
        if problems and not fired:
            tally.fault("shards without a kill", problems)
        tally.say(
            f"  {lane}{grids}: {len(fired)} of {len(batch)} kills "
            f"({', '.join(f'{s.phase}: {s.signal} of {s.victim}' for s in fired)}), "
            f"{'; '.join(problems) or 'the same'}"
        )
        # who found nothing left to do did not get so far: the next time it falls earlier
        waiting.extend(
            replace(shot, delay=0.0, event=(shot.event + 1) // 2)
            for shot in batch
            if again and shot not in fired
        )
        barren = 0 if fired else barren + 1
        if not problems:
            shutil.rmtree(results)
    if waiting and barren == MAX_BARREN:
        tally.fault(AT_A_SHARD, [f"no shot fell: {', '.join(map(str, waiting))}"])


def _some(waiting: "deque[Shot]", count: int = AT_ONCE) -> list[Shot]:
    found: list[Shot] = []
    with suppress(IndexError):
        while len(found) < count:
            found.append(waiting.popleft())
    return found


def _until_finished(
    place: Workplace,
    results: Path,
    batch: list[Shot],
    tally: Tally,
    options: Sequence[str] = (),
) -> tuple[list[Shot], list[str]]:
    """Start a grid until it is finished; return the shots that fell, and what was wrong."""
    fired: list[Shot] = []
    for _ in range(len(batch) + 2):
        left = [shot for shot in batch if shot not in fired]
        done = start(place, results, left, options=options)
        with tally.lock:
            tally.starts += 1
        for shot in done.fired:
            tally.shot(shot, done.ended if shot.victim == "parent" else None)
        fired += done.fired
        problems = [*done.problems, *done.wrong_exit]
        polite = [s for s in done.fired if s.victim == "parent" and s.signal != "SIGKILL"]
        in_time = max(IN_TIME, IN_PART * place.usual)
        if polite and done.ended is not None and done.ended > in_time:
            problems = [*problems, f"{polite[-1]}: ended after {done.ended:.0f} s only"]
        if problems or done.code == 0:
            return fired, problems
    return fired, [f"not finished after {len(batch) + 2} starts: {done.said[-400:]}"]


def undisturbed(place: Workplace, tally: Tally) -> Path:
    """Run the grid once with nothing in its way, and return its results folder."""
    results, began = place.folder / "undisturbed", time.monotonic()
    done = start(place, results, options=["--keep-checkpoints"])  # which `damage` damages
    place.usual = time.monotonic() - began
    faults = [*done.problems, *(faults_of_mlflow(results) if not done.code else [])]
    if done.code or faults:
        raise click.ClickException(f"undisturbed: {done.code} {faults} {done.said}")
    return results


def zero_phases(tally: Tally) -> list[str]:
    """Phases in which nothing was killed: then the trial proves nothing about them."""
    return [phase for phase in PHASES if not tally.kills[phase]]
