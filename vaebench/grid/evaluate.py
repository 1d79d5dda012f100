"""Measure finished runs again: metrics that are new, newly requested or redefined.

Nothing is trained, and no other number of a record moves: see :func:`vaebench.run.remeasure`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from vaebench import report
from vaebench.config import RunConfig, make_run, with_value
from vaebench.environment import resolve_device
from vaebench.errors import ConfigError, ResultsError, VaebenchError
from vaebench.executors import Event, default_jobs, in_workers
from vaebench.figures import FIGURES
from vaebench.files import dump_json, names_in, read_picture
from vaebench.grid.folder import draw_own_figures, taking_part, write_reports
from vaebench.grid.listener import Listener
from vaebench.grid.reference import write_reference
from vaebench.metrics import METRICS
from vaebench.run import Task
from vaebench.run.declared import outdated, unmeasured_notes
from vaebench.run.loading import finished, no_weights, require_plugins
from vaebench.run.pictures import draw_own_figures as run_figures
from vaebench.run.record import now
from vaebench.schema.labels import run_label
from vaebench.schema.record import OWN_FIGURES
from vaebench.schema.section import did_you_mean
from vaebench.storage import RunStore


class Outcome(NamedTuple):
    """What became of a run.

    Attributes:
        kind: ``measured``, ``current`` (nothing to do), ``unfinished`` (left alone), or ``failed``.
        run: Its label.
        values: New metrics by name.
        remark: The reason of ``failed`` and ``unfinished``; else requested metrics that a run
            cannot have.
    """

    kind: Literal["measured", "current", "unfinished", "failed"]
    run: str
    values: dict[str, float]
    remark: str = ""


Hear = Callable[[Outcome], None]


def evaluate(
    directory: Path,
    hear: Hear = lambda _: None,
    *,
    names: Sequence[str] = (),
    assignments: Mapping[str, Any] = MappingProxyType({}),
    device: str = "auto",
    data_dir: Path | None = None,
    jobs: int | None = None,
) -> Counter[str]:
    """Measure what finished runs and their data sets lack, and write the report of the grid anew.

    A data set lacks its reference rows where the grid was run before there were any.

    Arguments:
        directory: The folder of a run or of a grid, or a results folder that holds one grid.
        hear: Told of each run.
        names: Metrics to consider; none: all.
        assignments: Dotted keys below ``metrics`` and their values, for every run.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        data_dir: Where data sets lie; None for the default.
        jobs: Runs at a time; None fills the machine.

    Returns:
        How many runs had which kind of :class:`Outcome`.

    Raises:
        ConfigError: The request is wrong; nothing has been written.
        ResultsError: There is no run, or another process works on the grid.
    """
    device = resolve_device(device)
    _check(names, assignments)
    grid, folders = _find(directory)
    counts: Counter[str] = Counter()

    def tell(outcome: Outcome) -> None:
        counts[outcome.kind] += 1
        hear(outcome)

    def follow(event: Event) -> None:
        if event.kind == "done":
            tell(_outcome(event))

    with taking_part(grid or directory, whole=True):
        judged = [_judge(RunStore(folder), names, assignments) for folder in folders]
        for outcome in (entry for entry in judged if isinstance(entry, Outcome)):
            tell(outcome)
        tasks = [entry for entry in judged if isinstance(entry, Task)]
        if tasks:
            tasks = [replace(task, device=device, data_dir=data_dir) for task in tasks]
            in_workers(tasks, follow, jobs=jobs or default_jobs(device))
        missed = _draw(folders) if FIGURES else []
        if grid:
            missed += draw_own_figures(grid)
        for text in missed:
            tell(Outcome("failed", grid.name if grid else directory.name, {}, text))
        if grid:
            stores = map(RunStore, folders)
            configs = [config for store in stores if (config := _finished_config(store))]
            if write_reference(grid, configs, data_dir, _Told(tell)) or tasks or FIGURES:
                write_reports(grid)
    return counts


def _draw(folders: Sequence[Path]) -> list[str]:
    """Draw the figures of plugins of finished runs anew; return why some cannot be."""
    missed = []
    for store in map(RunStore, folders):
        try:
            record, arrays = store.record, store.arrays()
            if record is None or record["status"] != "complete" or arrays is None:
                continue
            label, before = run_label(record["cell"], record["seed"]), _pictures(store)
            drawn, undrawn = run_figures(store, arrays, label)
            missed += [f"{label}: {text}" for text in undrawn]
            figures = record.get("figures", {}) | drawn
            if figures != record.get("figures", {}) or _pictures(store) != before:
                # which MLflow is sent once more for that
                changed = record | {"figures": figures, "evaluated": now()}
                store.write("record.json", dump_json(changed))
        except VaebenchError as error:
            missed.append(str(error))
    return missed


def _pictures(store: RunStore) -> dict[str, bytes | None]:
    """The figures that plugins have drawn of a run."""
    names = [name for name in names_in(store.figures, store.within) if name.startswith(OWN_FIGURES)]
    return {name: read_picture(store.figures / name, store.within) for name in names}


class _Told(Listener):
    """Tells why a grid has no reference rows: no run has failed for that."""

    def __init__(self, tell: Hear) -> None:
        self.tell = tell

    def warning(self, text: str) -> None:
        self.tell(Outcome("unfinished", "reference rows", {}, text))


def _finished_config(store: RunStore) -> RunConfig | None:
    """The configuration of a finished run; None of any other."""
    try:
        _, raw = finished(store)
        return make_run(raw)
    except VaebenchError:
        return None


def _check(names: Sequence[str], assignments: Mapping[str, Any]) -> None:
    for name in names:
        if name not in METRICS:
            raise ConfigError(f"--metric: unknown name {name!r}; {did_you_mean(name, METRICS)}")
    raw: dict[str, Any] = {}
    for key, value in assignments.items():
        if not key.startswith("metrics."):
            raise ConfigError(f"--set {key}: only metrics.* can be set after training")
        raw = with_value(raw, key, value)
    make_run(raw, source="--set")


def _find(directory: Path) -> tuple[Path | None, list[Path]]:
    """The grid, if there is one, and the folders of the runs."""
    if (directory / "config.yaml").is_file():
        grid = directory.resolve().parents[1]
        return grid if (grid / "grid.yaml").is_file() else None, [directory]
    loaded = report.load(directory)
    return loaded.directory, [loaded.run_dir(run.run_id) for run in loaded.planned]


def _judge(store: RunStore, names: Sequence[str], assignments: Mapping[str, Any]) -> Task | Outcome:
    """The task of measuring a run, or what there is to say instead."""
    label = store.run_id
    try:
        record = store.record
        if record is None or record["status"] != "complete":
            return Outcome("unfinished", label, {}, record["status"] if record else "not finished")
        record, raw = finished(store)
        require_plugins(store.path, record)
        label = run_label(record["cell"], record["seed"])
        config = measured_config(store, record, raw, names, assignments)
        lacking = [name for name in outdated(config, record) if not names or name in names]
        vain = unmeasured_notes(config)
        if not lacking and set(vain) <= set(record["notes"]):
            return Outcome("current", label, {}, " ".join(vain))
        if not (store.path / "weights.pt").exists():
            raise no_weights(store)
    except ConfigError:
        raise
    except VaebenchError as error:
        return Outcome("failed", label, {}, str(error))
    return Task(config, record["cell"], store.path, metrics=tuple(lacking))


def measured_config(
    store: RunStore,
    record: Mapping[str, Any],
    raw: Mapping[str, Any],
    names: Sequence[str] = (),
    assignments: Mapping[str, Any] = MappingProxyType({}),
) -> RunConfig:
    """A run's configuration; K is what is assigned, else what it was measured with.

    Raises:
        ConfigError: A metric in ``names`` needs an assignment.
        ResultsError: The stored configuration is none.
    """
    declared = record["metric_declarations"].items()
    changed = dict(raw)
    samples = {f"metrics.{name}": d["samples"] for name, d in declared if d.get("samples")}
    for key, value in (samples | dict(assignments)).items():
        changed = with_value(changed, key, value)
    try:
        config = make_run(changed, source=f"{store.path}/config.yaml")
    except ConfigError as error:
        raise ResultsError(str(error)) from error
    for name in names:
        if METRICS[name].opt_in and getattr(config.metrics, name) is None:
            raise ConfigError(f"--metric {name}: say how many samples with --set metrics.{name}=K")
    return config


def _outcome(event: Event) -> Outcome:
    task, record = event.task, event.data
    label = run_label(task.cell, task.config.seed)
    if record["status"] != "complete":
        return Outcome("failed", label, {}, str(record["reason"]))
    values = {name: record["metrics"][f"test/{name}"] for name in task.metrics or ()}
    return Outcome("measured", label, values, " ".join(unmeasured_notes(task.config)))
