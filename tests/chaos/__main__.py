"""``make chaos``: all of it, and a summary with its seed; exit 1 if anything was lost."""

import signal
import string
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import click

from chaos.compare import contents
from chaos.damage import mend, trials
from chaos.disks import FILE_SIZES, LEVELS, can_mount, full, read_only, small_files
from chaos.grids import (
    AT_A_SHARD,
    Tally,
    shards_under_fire,
    under_fire,
    undisturbed,
    zero_phases,
)
from chaos.launch import SHARDED, Workplace, stop_all
from chaos.shots import PHASES, plan

AT_SHARDS = 200  # kills at grids that shards do
SHORT = 12  # kills: every phase, in under three minutes
SHORT_AT_SHARDS = 9


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kills", type=click.IntRange(len(PHASES)), default=108, show_default=True)
@click.option("--short", is_flag=True, help=f"{SHORT} kills, and fewer of the other faults.")
@click.option("--seed", type=int, help="Of the plan.  [default: another one each time]")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="At a time.")
@click.option("--only", type=click.Choice(["grids", "shards", "files"]), help="A part of it.")
@click.option("--keep", type=click.Path(path_type=Path), help="A new folder to work in, and leave.")
def main(
    kills: int, short: bool, seed: int | None, jobs: int, only: str | None, keep: Path | None
) -> None:
    """Kill, damage and fill up; exit 1 if anything is lost that should have survived."""
    seed = int(time.time()) % 1_000_000 if seed is None else seed
    kills = SHORT if short else kills
    at_shards = SHORT_AT_SHARDS if short else AT_SHARDS
    told = {
        "grids": f"{kills} kills",
        "shards": f"{at_shards} kills of shards",
        "files": "no kills",
    }
    whole = f"{kills} kills, {at_shards} kills of shards"
    click.echo(f"chaos: seed {seed}, {told.get(only or '', whole)}")
    tally, began = Tally(), time.monotonic()
    if keep:
        keep.mkdir(parents=True)
        _all(Workplace(keep.resolve()), seed, kills, short, jobs, only, tally)
    else:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            _all(Workplace(Path(folder)), seed, kills, short, jobs, only, tally)
    click.echo("\n" + "\n".join(summary(tally, seed, time.monotonic() - began)))
    sys.exit(bool(tally.lost or (only != "files" and zero_phases(tally))))


def _all(
    place: Workplace, seed: int, kills: int, short: bool, jobs: int, only: str | None, tally: Tally
) -> None:
    work: list[Callable[[], None]] = []
    lanes = string.ascii_uppercase[:jobs]
    if short or only != "shards":
        whole = undisturbed(place, tally)
        expected = contents(whole / "chaos")
    if only in (None, "shards"):
        if short:
            sharded, same, lanes_of_shards = place, expected, lanes[:1]
        else:
            sharded, lanes_of_shards = Workplace(place.folder / "sharded", SHARDED), lanes
            same = contents(undisturbed(sharded, tally) / "chaos")
        at_shards = deque(plan(seed + 1, SHORT_AT_SHARDS if short else AT_SHARDS))
        work += [
            partial(
                *(shards_under_fire, sharded, at_shards, same, tally, f"shards {lane}."),
                again=not short,
            )
            for lane in lanes_of_shards
        ]
    if only in (None, "grids"):
        shots = deque(plan(seed, kills))
        work += [
            partial(under_fire, place, shots, expected, tally, f"grid {lane}.") for lane in lanes
        ]
    if only in (None, "files"):
        work += _at_files(place, whole, expected, short, tally)
    with ThreadPoolExecutor(jobs) as pool:
        futures: list[Future[None]] = [pool.submit(job) for job in work]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_all()


def _at_files(
    place: Workplace, whole: Path, expected: dict[str, Any], short: bool, tally: Tally
) -> list[Callable[[], None]]:
    """Disks that are full or protected, and files that are damaged."""
    need = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    work: list[Callable[[], None]] = []
    no_disk = can_mount(place)
    if no_disk is None:
        levels = LEVELS[3:4] if short else LEVELS
        work += [partial(full, place, level, need, expected, tally) for level in levels]
    else:
        tally.skipped.append(f"disks that are full: {no_disk}; the size of files stands in")
        sizes = FILE_SIZES[:1] if short else FILE_SIZES
        work += [partial(small_files, place, size, expected, tally) for size in sizes]
    work.append(partial(read_only, place, no_disk is None, tally))
    return work + [partial(mend, place, whole, names, expected, tally) for names in trials(short)]


def summary(tally: Tally, seed: int, seconds: float) -> list[str]:
    """What was tried, survived, lost."""
    kills = sum(tally.kills.values())
    tried = sum(tally.tried.values())
    others = {kind: n for kind, n in tally.tried.items() if kind != "kill"}
    lines = [f"chaos, seed {seed}: {tally.starts} starts in {seconds:.0f} s", "kills per phase:"]
    lines += [f"  {phase:14}{tally.kills[phase]:4}" for phase in PHASES]
    lines += ["kills by manner:"]
    lines += [f"  {manner:26}{n:4}" for manner, n in sorted(tally.manners.items())]
    lines += ["other faults:"] + [f"  {kind:26}{n:4}" for kind, n in others.items()]
    lines += [f"not tried: {why}" for why in tally.skipped]
    lines += [f"an interrupted grid ended within {tally.slowest:.1f} s"]
    if kills:
        lines += [f"NO KILL while {phase}" for phase in zero_phases(tally)]
    if at_shards := tally.tried[AT_A_SHARD]:
        lines += [
            f"{at_shards} kills across shards: {tally.twice} runs published twice, "
            f"{tally.late} attempts that came late and were kept"
        ]
    lines += [f"LOST {what}" for what in tally.lost]
    lost = len(tally.lost)
    lines += [
        f"{tried} faults tried ({kills} kills, {tried - kills} others), "
        f"{tried - lost} survived, {lost} lost"
    ]
    return lines


if __name__ == "__main__":
    # what a shell starts in the background ignores SIGINT, and so would all that is started here
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(prog_name="chaos")
