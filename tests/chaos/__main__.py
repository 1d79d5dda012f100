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

import click

from chaos.compare import contents
from chaos.damage import mend, trials
from chaos.disks import FILE_SIZES, LEVELS, can_mount, full, read_only, small_files
from chaos.grids import Tally, shared_under_fire, under_fire, undisturbed, zero_phases
from chaos.launch import Workplace, stop_all
from chaos.shots import PHASES, plan

SHORT = 12  # kills: every phase, in under three minutes
SHARED = 9  # of the short form, at grids that two processes do


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kills", type=click.IntRange(len(PHASES)), default=108, show_default=True)
@click.option("--short", is_flag=True, help=f"{SHORT} kills, and fewer of the other faults.")
@click.option("--seed", type=int, help="Of the plan.  [default: another one each time]")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="At a time.")
@click.option("--keep", type=click.Path(path_type=Path), help="A new folder to work in, and leave.")
def main(kills: int, short: bool, seed: int | None, jobs: int, keep: Path | None) -> None:
    """Kill, damage and fill up; exit 1 if anything is lost that should have survived."""
    seed = int(time.time()) % 1_000_000 if seed is None else seed
    kills = SHORT if short else kills
    click.echo(f"chaos: seed {seed}, {kills} kills")
    tally, began = Tally(), time.monotonic()
    if keep:
        keep.mkdir(parents=True)
        _all(Workplace(keep.resolve()), seed, kills, short, jobs, tally)
    else:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            _all(Workplace(Path(folder)), seed, kills, short, jobs, tally)
    click.echo("\n" + "\n".join(summary(tally, seed, time.monotonic() - began)))
    sys.exit(bool(tally.lost or zero_phases(tally)))


def _all(place: Workplace, seed: int, kills: int, short: bool, jobs: int, tally: Tally) -> None:
    whole = undisturbed(place, tally)
    expected = contents(whole / "chaos")
    need = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    shots = deque(plan(seed, kills))
    work: list[Callable[[], None]] = [
        partial(under_fire, place, shots, expected, tally, f"grid {lane}.")
        for lane in string.ascii_uppercase[:jobs]
    ]
    # two processes on one grid: what a shot does not find in one of them, it does not hit
    twice = deque(plan(seed + 1, SHARED if short else kills))
    work.append(partial(shared_under_fire, place, twice, expected, tally))
    no_disk = can_mount(place)
    if no_disk is None:
        levels = LEVELS[3:4] if short else LEVELS
        work += [partial(full, place, level, need, expected, tally) for level in levels]
    else:
        tally.skipped.append(f"disks that are full: {no_disk}; the size of files stands in")
        sizes = FILE_SIZES[:1] if short else FILE_SIZES
        work += [partial(small_files, place, size, expected, tally) for size in sizes]
    work.append(partial(read_only, place, no_disk is None, tally))
    work += [partial(mend, place, whole, names, expected, tally) for names in trials(short)]
    with ThreadPoolExecutor(jobs) as pool:
        futures: list[Future[None]] = [pool.submit(job) for job in work]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_all()


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
    lines += [f"NO KILL while {phase}" for phase in zero_phases(tally)]
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
