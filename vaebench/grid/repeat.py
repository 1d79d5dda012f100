"""Repeat a finished run, and say whether its numbers are the same.

The stored configuration is run again, in a worker and in a temporary folder: nothing of the
finished run is touched, and MLflow hears nothing of it. What is compared, number by number: every
epoch of the journal, and the final metrics; times and costs apart. ``CHANGING`` names what two runs
never share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from vaebench import datasets
from vaebench.config import NUMBERS_VERSION, Run, RunConfig
from vaebench.declarations import definition
from vaebench.environment import resolve_device
from vaebench.errors import ConfigError, ResultsError
from vaebench.executors import Event, in_workers
from vaebench.grid import Listener
from vaebench.grid.evaluate import measured_config
from vaebench.grid.planning import Planned
from vaebench.report.loading import differing, dig, flat, in_words
from vaebench.run import Task
from vaebench.run.loading import changed_plugin, finished, require_plugins
from vaebench.schema.labels import run_label
from vaebench.schema.manifest import grid_dirs
from vaebench.schema.record import finite, versions
from vaebench.storage import RunStore

TIMES = ("train/seconds", "train/cpu_seconds", "val/seconds", "val/cpu_seconds")
CHANGING = ("cost/", *TIMES)  # prefixes of metrics that are times and costs
UNIMPORTANT = ("jobs",)  # of the environment: it moves costs only
NAMED = 3  # runs of a grid that an error names

Lines = Sequence[Mapping[str, Any]]
Series = Mapping[int | None, float | None]  # by epoch; None: after training


class Difference(NamedTuple):
    """A metric that is not the same.

    Attributes:
        metric: Its name.
        epoch: The first epoch at which it differs; None for a final metric.
        then: Its value there in the finished run; None: not measured.
        now: Its value there in the repetition.
        largest: The largest absolute difference, over all epochs.
    """

    metric: str
    epoch: int | None
    then: float | None
    now: float | None
    largest: float | None


@dataclass(frozen=True)
class Repetition:
    """What came of a repetition.

    Attributes:
        run: The run's label.
        metrics: Names of the metrics that were compared.
        epochs: Epochs that were compared.
        differences: The metrics that are not the same, bit for bit.
        only_then: Metrics that only the finished run has.
        only_now: Metrics that only the repetition has.
        redefined: Metrics that have another definition by now, and were not compared.
        environment: What differs around the run, by dotted key: then and now.
    """

    run: str
    metrics: tuple[str, ...]
    epochs: int
    differences: tuple[Difference, ...]
    only_then: tuple[str, ...]
    only_now: tuple[str, ...]
    redefined: tuple[str, ...]
    environment: dict[str, tuple[str, str]]

    @property
    def identical(self) -> bool:
        """Whether every number that was compared is the same."""
        return not self.differences


def repeat(
    folder: Path | str,
    *,
    device: str | None = None,
    data_dir: Path | None = None,
    listener: Listener | None = None,
) -> Repetition:
    """Run a finished run again, and compare.

    Arguments:
        folder: The run's folder, ``<results>/<grid>/runs/<run_id>``; it needs no weights.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; None: that of the run.
        data_dir: Where data sets lie; None for the default.
        listener: Hears of the progress.

    Raises:
        ConfigError: It is not the folder of a finished run, which is whole; it was trained on other
            data than lie here, or with a plugin that is not loaded or has changed; or the device is
            not on this machine.
        DataError: The data set is missing, corrupt or out of reach.
        ResultsError: The repetition failed.
    """
    store = RunStore(Path(folder))
    record, config, journal = _finished(store)
    where = resolve_device(device or str(dig(record, "environment", "device") or "auto"))
    if plugin := changed_plugin(config, record):
        raise ConfigError(
            f"{store.path}: was trained with another source of the plugin {plugin} than is loaded; "
            f"restore it to repeat the run"
        )
    _require_same_data(store, record, config, data_dir)
    with TemporaryDirectory(prefix="vaebench-", ignore_cleanup_errors=True) as scratch:
        again = Path(scratch) / config.run_id
        task = Task(config, record["cell"], again, device=where, data_dir=data_dir)
        new = _done(task, listener or Listener())
        return _compared((record, journal), (new, RunStore(again).journal))


def _finished(store: RunStore) -> tuple[dict[str, Any], RunConfig, Lines]:
    """The record, the configuration and the journal of a run that can be repeated."""
    _require_run(store.path)
    try:
        record, raw = finished(store)
        require_plugins(store.path, record)
        epochs = record.get("epochs")
        journal = store.whole_journal(epochs if isinstance(epochs, int) else 1)
    except ResultsError as error:
        raise ConfigError(str(error)) from error
    changed = differing(record.get("config"), raw)
    if any(key.partition(".")[0] != "metrics" for key in changed):  # those may be asked for later
        raise ConfigError(f"{store.path}: config.yaml and record.json are not of one run")
    try:
        return record, measured_config(store, record, raw), journal
    except ResultsError as error:
        version = versions(record)["numbers"]
        known = version in (None, NUMBERS_VERSION)
        why = "" if known else f" (of NUMBERS_VERSION {version}, this is {NUMBERS_VERSION})"
        raise ConfigError(f"{error}{why}") from error


def _require_run(folder: Path) -> None:
    """Say which runs there are, where a folder holds runs instead of being that of one."""
    runs = [path for grid in grid_dirs(folder) for path in sorted(grid.glob("runs/*/config.yaml"))]
    if runs:
        named = ", ".join(str(path.parent) for path in runs[:NAMED])
        more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
        raise ConfigError(f"{folder}: name one run, of {named}{more}")


def _require_same_data(
    store: RunStore, record: Mapping[str, Any], config: RunConfig, data_dir: Path | None
) -> None:
    digest = dig(record, "environment", "dataset", "digest")
    splits = datasets.load(data_dir=data_dir, **config.dataset.arguments)
    if digest is not None and digest != splits.digest:
        raise ConfigError(
            f"{store.path}: was trained on another {splits.name} (digest {digest}) than lies here "
            f"({splits.digest}); name a folder with the same data with --data-dir"
        )


def _done(task: Task, listener: Listener) -> dict[str, Any]:
    """The record of a run, done in a worker as those of a grid are."""
    records = []

    def follow(event: Event) -> None:
        if event.kind == "warning":
            listener.warning(str(event.data["warning"]))
            return
        if event.kind == "done":
            records.append(event.data)
        listener.event(event)

    planned = Planned(Run(task.cell, task.config), "run", "repeated")
    listener.planned([planned], 1, task.device)
    in_workers([task], follow, jobs=1)
    [record] = records
    if record["status"] != "complete":
        raise ResultsError(f"the repetition {record['status']}: {record['reason']}")
    return record


def _compared(then: tuple[dict[str, Any], Lines], now: tuple[dict[str, Any], Lines]) -> Repetition:
    (old, old_lines), (new, new_lines) = then, now
    epochs = min(len(old_lines), len(new_lines))
    before, after = _series(old, old_lines[:epochs]), _series(new, new_lines[:epochs])
    shared = [name for name in before if name in after]
    redefined = [name for name in shared if _definition(old, name) != _definition(new, name)]
    compared = [name for name in shared if name not in redefined]
    lengths: tuple[Series, Series] = {None: len(old_lines)}, {None: len(new_lines)}
    series = [(name, before[name], after[name]) for name in compared] + [("epochs", *lengths)]
    return Repetition(
        run=run_label(old["cell"], old["seed"]),
        metrics=tuple(compared),
        epochs=epochs,
        differences=tuple(filter(None, (_difference(*each) for each in series))),
        only_then=tuple(name for name in before if name not in after),
        only_now=tuple(name for name in after if name not in before),
        redefined=tuple(redefined),
        environment=_environment(old, new),
    )


def _series(record: Mapping[str, Any], lines: Lines) -> dict[str, Series]:
    """The numbers of a run by metric and epoch, times and costs apart."""
    names = dict.fromkeys(name for line in lines for name in line["metrics"])
    curves: dict[str, Series] = {
        name: {epoch: line["metrics"].get(name) for epoch, line in enumerate(lines, 1)}
        for name in names
    }
    finals: dict[str, Series] = {n: {None: finite(v)} for n, v in record["metrics"].items()}
    both = {**curves, **finals}
    return {name: values for name, values in both.items() if not name.startswith(CHANGING)}


def _definition(record: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    """The version and source of a metric's definition, and the samples it was measured with."""
    return definition(dig(record.get("metric_declarations"), name.rpartition("/")[2]) or {})


def _difference(name: str, then: Series, now: Series) -> Difference | None:
    """What differs, bit for bit, between two series of one length; None if nothing does."""
    moved = [(epoch, a, now[epoch]) for epoch, a in then.items() if _bits(a) != _bits(now[epoch])]
    if not moved:
        return None
    sizes = [abs(a - b) for _, a, b in moved if a is not None and b is not None]
    return Difference(name, *moved[0], max(sizes, default=None))


def _bits(value: float | None) -> str | None:
    return None if value is None else float(value).hex()


def _environment(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What both records say of their environment, where it differs or is not known exactly."""
    then, now = (
        flat({"versions": versions(record), **record["environment"]}) for record in (old, new)
    )
    return {
        key: (in_words(value), in_words(now[key]))
        for key, value in then.items()
        if key in now
        and key not in UNIMPORTANT
        # uncommitted changes may differ though both have some
        and (value != now[key] or (key == "git.dirty" and value))
    }
