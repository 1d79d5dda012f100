"""``make mutants``: plant every known mistake in a copy, one at a time, and say what caught it."""

import signal
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import click

from mutants.mutant import CATALOGUE, Mutant, read
from mutants.trial import Outcome, Trials, copy_project

ROOT = Path(__file__).parents[2]
MUTANTS = read(CATALOGUE.read_text(encoding="utf-8"))
SURVIVED = {"passed": "SURVIVED", "hung": "HUNG", "broken": "BROKEN", "not planted": "NOT PLANTED"}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1)
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="At a time.")
@click.option(
    "--timeout", type=float, default=1200.0, show_default=True, help="Seconds for one trial."
)
def main(names: tuple[str, ...], jobs: int, timeout: float) -> None:
    """Plant known mistakes (all, or those of NAMES) in copies; exit 1 if no test catches one."""
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        raise click.UsageError(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        snapshot = Path(folder, "project")  # the project may be edited while this runs
        copy_project(ROOT, snapshot)
        outcomes = run(snapshot, chosen, jobs, timeout)
    click.echo("\n" + "\n".join(table(chosen, outcomes)))
    caught = sum(outcome.verdict == "caught" for outcome in outcomes.values())
    click.echo(f"\n{caught} of {len(chosen)} caught")
    sys.exit(caught < len(chosen))


def run(root: Path, mutants: Sequence[Mutant], jobs: int, timeout: float) -> dict[str, Outcome]:
    """Make all trials. An interrupt kills those under way and removes their copies."""
    trials = Trials(root, timeout)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            require_green(trials, pool, mutants)
            return try_all(trials, pool, mutants)
        finally:
            trials.stop()
            pool.shutdown(wait=False, cancel_futures=True)


def require_green(trials: Trials, pool: ThreadPoolExecutor, mutants: Iterable[Mutant]) -> None:
    """Run the test files on a copy as it is: where they fail anyway, "caught" means nothing."""
    files = sorted({name for mutant in mutants for name in mutant.tests})
    click.echo(f"Without a mistake: {', '.join(files)}")
    futures = {pool.submit(trials.run, [name]): name for name in files}
    for future in as_completed(futures):
        outcome = future.result()
        colour = "green" if outcome.verdict == "passed" else "not green"
        click.echo(f"  {futures[future]}: {colour}, {outcome.seconds:.0f} s")
        if outcome.verdict != "passed":
            raise click.ClickException(f"{futures[future]} is not green: {outcome.detail}")


def try_all(
    trials: Trials, pool: ThreadPoolExecutor, mutants: Sequence[Mutant]
) -> dict[str, Outcome]:
    """Plant each mutant and say what became of it as it is known."""
    click.echo(f"With one of {len(mutants)} mistakes:")
    futures = {pool.submit(trials.run, mutant.tests, mutant): mutant for mutant in mutants}
    outcomes: dict[str, Outcome] = {}
    for future in as_completed(futures):
        mutant, outcome = futures[future], future.result()
        outcomes[mutant.name] = outcome
        said = SURVIVED.get(outcome.verdict, "caught by")
        counted = f"{len(outcomes)}/{len(mutants)}"
        click.echo(f"  {counted} {mutant.name}: {said} {outcome.detail} ({outcome.seconds:.0f} s)")
    return outcomes


def table(mutants: Sequence[Mutant], outcomes: dict[str, Outcome]) -> list[str]:
    """Lines of a table: mutant, what it is, what caught it, seconds."""
    rows = [("mutant", "what it is", "caught by", "s")]
    for mutant in mutants:
        outcome = outcomes[mutant.name]
        by = SURVIVED.get(outcome.verdict) or outcome.detail.partition("[")[0]
        rows.append((mutant.name, mutant.fear, by, f"{outcome.seconds:.0f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    return [
        f"| {' | '.join(t.ljust(w) for t, w in zip(row, widths, strict=True))} |" for row in rows
    ]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends like Ctrl-C: nothing is left
    main(prog_name="mutants")
