"""What a person sees of a grid: bars in a terminal, plain lines elsewhere, a summary."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Any, Self

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from vaebench.cli.output import echo
from vaebench.cli.screen import Screen
from vaebench.config import Grid
from vaebench.errors import OutputError
from vaebench.executors import Event
from vaebench.grid import Listener, Options, Planned, Results
from vaebench.grid import plan as make_plan
from vaebench.grid.evaluate import Outcome
from vaebench.grid.groups import groups, known_picks
from vaebench.grid.planning import too_few_seeds
from vaebench.report import FORMATS, tuning_text
from vaebench.report.loading import counted
from vaebench.run import SCORE, Task, model_cost
from vaebench.schema.labels import cell_label, run_label
from vaebench.schema.trial import TEXT, is_trial
from vaebench.text import one_line


class Progress(Listener):
    """Shows the whole grid, each run under way, and an estimate of the time left."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Screen()
        self.problem: OutputError | None = None
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            speed_estimate_period=math.inf,  # an epoch may take longer than rich's 30 seconds
        )
        self.total: TaskID | None = None  # its bar counts FLOPs, as models differ
        self.bar_of: dict[str, TaskID] = {}
        self.epoch_of: dict[str, int] = {}
        self.epochs = 0
        self.left_out: Counter[str] = Counter()  # why runs of the plan are not done

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for why, n in self.left_out.items():
            self._say(f"{counted(n, 'run')} left to other processes: {why}")
        if self.problem is None:
            self.bars.stop()
        elif kind is None:
            raise self.problem

    def planned(self, plan: Sequence[Planned], jobs: int, device: str) -> None:
        """Say what will run, and how large the models are."""
        configs = [entry.run.config for entry in plan if entry.action != "skip"]
        skipped = Counter(entry.why for entry in plan if entry.action == "skip")
        self._say(
            f"{counted(len(configs), 'run')} to do on {device}, {jobs} at a time"
            + "".join(f"; {n} skipped: {why}" for why, n in skipped.items())
        )
        for line in (*trial_lines(plan), *model_lines(plan)):
            self._say(line)
        if self.total is not None:  # of the tuning runs, which came before
            self.bars.remove_task(self.total)
        self.epoch_of = {}
        self.epochs = sum(config.epochs for config in configs)
        work = sum(model_cost(config)[1] * config.epochs for config in configs)
        self.total = self.bars.add_task("all runs", total=work, count="", note="")
        self._count()

    def event(self, event: Event) -> None:
        """Move the bars, or print a line."""
        config, name = (
            event.task.config,
            one_line(run_label(event.task.cell, event.task.config.seed)),
        )
        last, run_id, data = config.epochs, event.task.key, event.data
        if event.kind == "started":
            self.bar_of[run_id] = self.bars.add_task(escape(name), total=last, count="", note="")
        elif event.kind == "epoch":
            epoch, note = data["epoch"], _elbo(data["metrics"])
            self._advance(event.task, epoch, trained=1)
            count = f"{epoch}/{last} epochs"
            self.bars.update(self.bar_of[run_id], completed=epoch, count=count, note=note)
            is_tenth = epoch == last or epoch % max(1, last // 10) == 0
            if is_tenth and not self.console.is_terminal:
                self._say(f"{name} ({run_id}): epoch {epoch}/{last}, {note}; {self._time_left()}")
        else:
            self._advance(event.task, last, trained=0)
            self.bars.remove_task(self.bar_of.pop(run_id))
            if event.kind == "lost":
                pass  # a warning has said so
            elif data["status"] == "complete":
                self._say(f"{name} ({run_id}): complete, {_headline(data)}")
            else:
                self._say(f"{name} ({run_id}): {data['status'].upper()}: {data['reason']}")

    def tuned(self, tune: Mapping[str, Any], entries: Sequence[dict[str, Any]]) -> None:
        """Print the table of what was tuned."""
        self._say(tuning_text(tune, entries))

    def measuring(self, what: str) -> None:
        """Say what takes its time when no run is under way."""
        self._say(f"measuring {what}")

    def passed(self, task: Task, why: str) -> None:
        """Count a run that is left out; it is told at the end."""
        self._advance(task, task.config.epochs, trained=0)
        self.left_out[why] += 1

    def warning(self, text: str) -> None:
        """Print a warning above the bars."""
        self._say(f"Warning: {text}")

    def _advance(self, task: Task, epoch: int, trained: int) -> None:
        """Note a run's epoch; epochs that were not trained now say nothing about the speed."""
        assert self.total is not None
        work = model_cost(task.config)[1]
        skipped = epoch - self.epoch_of.get(task.key, 0) - trained
        self.epoch_of[task.key] = epoch
        if skipped:  # rich estimates the speed anew where a total changes
            self.bars.update(self.total, total=self._all_runs().total - skipped * work)
        self.bars.advance(self.total, trained * work)
        self._count()

    def _count(self) -> None:
        assert self.total is not None
        count = f"{sum(self.epoch_of.values())}/{self.epochs} epochs"
        self.bars.update(self.total, count=count)

    def _time_left(self) -> str:
        seconds = self._all_runs().time_remaining
        if seconds is None:
            return "time left: not known yet"
        return f"about {timedelta(seconds=seconds)} left"

    def _all_runs(self) -> Any:
        return next(task for task in self.bars.tasks if task.id == self.total)

    def _say(self, text: str) -> None:
        """Print a line; what trains does not stop because nobody can read of it."""
        if not self.console.is_terminal:  # a log, which is read later
            text = f"{datetime.now():%Y-%m-%d %H:%M:%S}  {text}"
        try:
            if self.problem is None:
                self.console.print(text)
        except OutputError as error:
            self.problem = error
            self.bars.disable = True


def model_lines(plan: Sequence[Planned]) -> list[str]:
    """Parameters and FLOPs per image of each network in a plan."""
    lines: dict[str, None] = {}
    for entry in {str(e.run.config.model): e for e in plan}.values():
        parameters, flops = model_cost(entry.run.config)
        name = entry.run.config.model.name
        lines[f"{name}: {parameters:,} parameters, {flops / 1e6:,.1f} MFLOPs per image"] = None
    return list(lines)


def trial_lines(plan: Sequence[Planned]) -> list[str]:
    """What a trial is, if the plan is that of one."""
    return [f"{TEXT}."] if any(entry.run.config.trial for entry in plan) else []


def print_dry_run(grid: Grid, options: Options) -> None:
    """What a call would do, a line per run; what is tuned comes first, or is shown as picked."""
    plan, tune, tuning = make_plan(grid, options, thorough=False), grid.tune, ""
    if tune is not None:
        runs, anew = grid.runs(grid.name), options.rerun == "all"
        found = groups(grid, tune, runs, options.results / grid.name, anew=anew)
        entries = known_picks(found)
        if entries is not None:
            echo(tuning_text(tune.model_dump(mode="json"), entries))
        else:
            tuning = (
                f"These are tuning runs: {tune.key}, {len(tune.values)} values x {tune.count} "
                f"seeds for {sum(group.stored is None for group in found)} of {len(found)} groups "
                f"(per {', '.join(tune.per) or 'grid'}). The {len(runs)} runs of the grid follow "
                f"with what is picked."
            )
    rows = [["run", "cell", "seed", "action", "why"]]
    for run, action, why in plan:
        rows.append([run.run_id, cell_label(run.cell), str(run.config.seed), action, why])
    # not a table of rich, which takes seconds for thousands of rows
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        texts = [one_line(text) for text in row]
        padded = [set_cell_size(text, width) for text, width in zip(texts, widths, strict=True)]
        echo("  ".join(padded).rstrip())
    todo = sum(entry.action != "skip" for entry in plan)
    count = f"{todo} of {len(plan)} runs to do; nothing has been run (--dry-run)."
    seeds = too_few_seeds(grid, options.results / grid.name)
    for line in filter(None, (*trial_lines(plan), *model_lines(plan), count, tuning, seeds)):
        echo(line)


def print_results(results: Results, options: Options, rerun: str) -> None:
    """Where to look, and how to go on; ``rerun``: the command that does what failed again."""
    say = Screen().print
    if results.failed:
        say(f"{len(results.failed)} of {len(results.done)} runs failed:")
        for record in results.failed:
            tries = f" (tries: {record['retries'] + 1})" if record.get("retries") else ""
            say(f"  {run_label(record['cell'], record['seed'])}: {record['reason']}{tries}")
        say(f"just these again:  {rerun}")
    if results.analysis.is_trial:
        say(f"{TEXT}.")
    say(f"report:  {results.folder / FORMATS['md'].file}")
    say(f"page:    {results.folder / FORMATS['html'].file}")
    tracking = results.tracking
    if tracking.unsent:
        count, problem = tracking.unsent, tracking.problem
        say(f"MLflow:  {count} runs unsent ({problem}); send: {tracking.command}")
    elif tracking.problem:
        say(f"MLflow:  {tracking.problem}; send what is missing: {tracking.command}")
    if tracking.links:
        folder = str(options.results)
        where = "" if folder == "results" else f" --results {quote(folder)}"
        say(f"MLflow:  vaebench ui{where}, then")
        for link in tracking.links:
            say(f"  {link.title}: {link.url}")


def print_metrics(record: dict[str, Any], folder: Path) -> None:
    """The final metrics of one run, with their units."""
    console = Screen(soft_wrap=False)
    table = Table("metric", "value", "unit", box=None, pad_edge=False)
    for name, value in record["metrics"].items():
        declared = record["metric_declarations"][name.split("/")[1]]
        unit = one_line(declared["unit"])
        table.add_row(one_line(name), "none" if value is None else f"{value:,.6g}", unit)
    console.print(table)
    if is_trial(record["config"]):
        console.print(f"{TEXT}.", soft_wrap=True)
    console.print(f"folder: {folder / 'runs' / record['run_id']}", soft_wrap=True)


def print_evaluated(outcome: Outcome) -> None:
    """What became of a run that was measured again."""
    values = ", ".join(f"{name} {value:,.6g}" for name, value in outcome.values.items())
    said = {"measured": values or "nothing to measure", "current": "up to date"}
    text = said.get(outcome.kind, outcome.kind)
    remark = f" ({outcome.remark})" if outcome.remark else ""
    Screen().print(f"{outcome.run}: {text}{remark}")


def _elbo(metrics: dict[str, float]) -> str:
    split = "val" if "val/elbo" in metrics else "train"
    return f"{split} ELBO {metrics[f'{split}/elbo']:.2f} nats"


def _headline(record: dict[str, Any]) -> str:
    metrics = record["metrics"]
    if SCORE in metrics:
        return f"bound on validation {metrics[SCORE]:.2f} nats"
    return f"test ELBO {metrics['test/elbo']:.2f} nats, SSIM {metrics['test/ssim']:.3f}"
