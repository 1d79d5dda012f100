"""What a person sees of a grid: bars in a terminal, plain lines elsewhere, a summary."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Any, Self

import click
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from vaebench.executors import Event
from vaebench.grid import REPORTS, Listener, Options, Planned, Results
from vaebench.grid.evaluate import Outcome
from vaebench.report import tuning_text
from vaebench.run import SCORE, model_cost
from vaebench.schema.labels import cell_label, run_label


class Progress(Listener):
    """Shows the whole grid, each run under way, and an estimate of the time left."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.clock = Clock()
        self.tasks: dict[str, TaskID] = {}
        self.total: TaskID | None = None
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def planned(self, plan: Sequence[Planned], jobs: int, device: str) -> None:
        """Say what will run, and how large the models are."""
        chosen = [entry for entry in plan if entry.action != "skip"]
        self.clock = Clock()
        self.clock.start(chosen, jobs)
        skipped = Counter(entry.why for entry in plan if entry.action == "skip")
        self._say(
            f"{len(chosen)} {'run' if len(chosen) == 1 else 'runs'} to do on {device}, "
            f"{jobs} at a time" + "".join(f"; {n} skipped: {why}" for why, n in skipped.items())
        )
        for line in model_lines(plan):
            self._say(line)
        if self.total is not None:  # of the tuning runs, which came before
            self.bars.remove_task(self.total)
        self.total = self.bars.add_task("all runs", total=self.clock.epochs, unit="epochs", note="")

    def event(self, event: Event) -> None:
        """Move the bars, or print a line."""
        config, name = event.task.config, run_label(event.task.cell, event.task.config.seed)
        run_id = event.task.key
        if event.kind == "started":
            self.tasks[run_id] = self.bars.add_task(
                name, total=config.training.epochs, unit="epochs", note=""
            )
        elif event.kind == "epoch":
            self.clock.epoch(event)
            note = _elbo(event.data["metrics"])
            self.bars.update(self.tasks[run_id], completed=event.data["epoch"], note=note)
            if not self.console.is_terminal and _worth_a_line(
                event.data["epoch"], config.training.epochs
            ):
                epoch = f"epoch {event.data['epoch']}/{config.training.epochs}"
                self._say(f"{name}: {epoch}, {note}; {self.clock.left()}")
        else:
            self.clock.done(event)
            self.bars.remove_task(self.tasks.pop(run_id))
            record = event.data
            if record["status"] == "complete":
                self._say(f"{name}: complete, {_headline(record)}")
            else:
                self._say(f"{name}: {record['status'].upper()}: {record['reason']}")
        assert self.total is not None
        self.bars.update(self.total, completed=self.clock.epochs_done, note=self.clock.left())

    def tuned(self, tune: Mapping[str, Any], entries: Sequence[dict[str, Any]]) -> None:
        """Print the table of what was tuned."""
        self._say(tuning_text(tune, entries))

    def warning(self, text: str) -> None:
        """Print a warning above the bars."""
        self._say(f"Warning: {text}")

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False)


class Clock:
    """Estimates the time left from what an epoch of each model has taken so far."""

    def __init__(self) -> None:
        self.left_of: dict[str, int] = {}
        self.work_of: dict[str, float] = {}
        self.epochs = 0
        self.jobs = 1
        self.last: dict[str, float] = {}
        self.spent: dict[str, list[float]] = defaultdict(list)
        self.model_of: dict[str, str] = {}

    def start(self, chosen: Sequence[Planned], jobs: int) -> None:
        """Take note of the runs to do."""
        self.jobs = jobs
        costs: dict[str, float] = {}
        for entry in chosen:
            config = entry.run.config
            model = str(config.model)
            if model not in costs:
                costs[model] = float(model_cost(config)[1])
            self.model_of[config.run_id] = model
            self.work_of[config.run_id] = costs[model]
            self.left_of[config.run_id] = config.training.epochs
            self.epochs += config.training.epochs

    @property
    def epochs_done(self) -> int:
        """The number of epochs done in the runs to do, those of earlier calls included."""
        return self.epochs - sum(self.left_of.values())

    def epoch(self, event: Event) -> None:
        """A run has finished an epoch."""
        run_id, now = event.task.key, time.monotonic()
        if run_id in self.last:
            self.spent[self.model_of[run_id]].append(now - self.last[run_id])
        self.last[run_id] = now
        self.left_of[run_id] = event.task.config.training.epochs - event.data["epoch"]

    def done(self, event: Event) -> None:
        """A run is done, with or without all its epochs."""
        self.left_of[event.task.key] = 0

    def left(self) -> str:
        """The time left, in words; a model not yet seen is judged by its FLOPs."""
        rates = {  # seconds per unit of work, by model
            model: sum(seconds) / len(seconds) / self._work(model)
            for model, seconds in self.spent.items()
        }
        if not rates:
            return "time left: not known yet"
        usual = sum(rates.values()) / len(rates)
        seconds = sum(
            left * self.work_of[run_id] * rates.get(self.model_of[run_id], usual)
            for run_id, left in self.left_of.items()
        )
        under_way = sum(left > 0 for left in self.left_of.values())
        return f"about {duration(seconds / max(1, min(self.jobs, under_way)))} left"

    def _work(self, model: str) -> float:
        return next(self.work_of[r] for r, m in self.model_of.items() if m == model)


def duration(seconds: float) -> str:
    """Seconds in words: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def model_lines(plan: Sequence[Planned]) -> list[str]:
    """Parameters and FLOPs per image of each network in a plan."""
    lines: dict[str, None] = {}
    for entry in {str(e.run.config.model): e for e in plan}.values():
        parameters, flops = model_cost(entry.run.config)
        name = entry.run.config.model.name
        lines[f"{name}: {parameters:,} parameters, {flops / 1e6:,.1f} MFLOPs per image"] = None
    return list(lines)


def print_plan(plan: Sequence[Planned]) -> None:
    """What a call would do, a line per run."""
    rows = [["run", "cell", "seed", "action", "why"]]
    for run, action, why in plan:
        rows.append([run.run_id, cell_label(run.cell), str(run.config.seed), action, why])
    # not a table of rich, which takes seconds for thousands of rows
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = [set_cell_size(text, width) for text, width in zip(row, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())
    for line in model_lines(plan):
        click.echo(line)
    todo = sum(entry.action != "skip" for entry in plan)
    click.echo(f"{todo} of {len(plan)} runs to do; nothing has been run (--dry-run).")


def print_results(results: Results, options: Options, rerun: str) -> None:
    """Where to look, and how to go on; ``rerun``: the command that does what failed again."""
    console = Console(highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(text, markup=False)

    if results.failed:
        say(f"{len(results.failed)} of {len(results.done)} runs failed:")
        for record in results.failed:
            tries = f" (tries: {record['retries'] + 1})" if record.get("retries") else ""
            say(f"  {run_label(record['cell'], record['seed'])}: {record['reason']}{tries}")
        say(f"just these again:  {rerun}")
    say(f"report:  {results.folder / REPORTS['md']}")
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
    console = Console(highlight=False)
    table = Table("metric", "value", "unit", box=None, pad_edge=False)
    for name, value in record["metrics"].items():
        declared = record["metric_declarations"][name.split("/")[1]]
        table.add_row(name, "none" if value is None else f"{value:,.6g}", declared["unit"])
    console.print(table)
    console.print(f"folder: {folder / 'runs' / record['run_id']}", soft_wrap=True)


def print_evaluated(outcome: Outcome) -> None:
    """What became of a run that was measured again."""
    values = ", ".join(f"{name} {value:,.6g}" for name, value in outcome.values.items())
    said = {"measured": values or "nothing to measure", "current": "up to date"}
    text = said.get(outcome.kind, outcome.kind)
    remark = f" ({outcome.remark})" if outcome.remark else ""
    Console(highlight=False, soft_wrap=True).print(f"{outcome.run}: {text}{remark}", markup=False)


def _elbo(metrics: dict[str, float]) -> str:
    split = "val" if "val/elbo" in metrics else "train"
    return f"{split} ELBO {metrics[f'{split}/elbo']:.2f} nats"


def _headline(record: dict[str, Any]) -> str:
    metrics = record["metrics"]
    if SCORE in metrics:
        return f"bound on validation {metrics[SCORE]:.2f} nats"
    return f"test ELBO {metrics['test/elbo']:.2f} nats, SSIM {metrics['test/ssim']:.3f}"


def _worth_a_line(epoch: int, last: int) -> bool:
    """At most ten lines a run where there are no bars."""
    return epoch == last or epoch % max(1, last // 10) == 0
