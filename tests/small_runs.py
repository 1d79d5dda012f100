"""Runs that take a fraction of a second: 64 of the embedded digits, narrow networks.

``settings`` is what every small run shares; ``task`` a run of it in a folder; ``without_figures``
leaves out what has tests of its own and takes most of a small run's time. (The classifier of the
digits is trained once per session, in two seconds, see ``conftest``.)
"""

from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from vaebench.config import make_run, with_value
from vaebench.config.run import REGISTRIES
from vaebench.executors import in_this_process
from vaebench.run import Task
from vaebench.tracking import Outcome

MODEL = {
    "latent_dim": 2,
    "fnn": {"hidden": [8]},
    "cnn": {"channels": [4], "strides": [2], "hidden": []},
}


def settings(**overrides: Any) -> dict[str, Any]:
    """The keys of a configuration file; ``training__epochs=3`` sets ``training.epochs``."""
    raw: dict[str, Any] = {
        "dataset": {"name": "digits", "train": 64, "validation": 32},
        "model": MODEL,
        "training": {"epochs": 2, "batch_size": 24},
    }
    for key, value in overrides.items():
        raw = with_value(raw, key.replace("__", "."), value)
    return raw


def task(folder: Path, **overrides: Any) -> Task:
    """A small run of an fnn (unless ``model`` says otherwise) on the CPU."""
    config = make_run(settings(**({"model": "fnn"} | overrides)))
    cell = {
        "model": config.model.name,
        "loss": config.loss.name,
        "estimator": config.estimator.name,
    }
    return Task(config=config, cell=cell, folder=folder, device="cpu")


def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw neither figures nor tiles."""
    monkeypatch.setattr("vaebench.run.draw_figures", lambda *_, **__: None)
    monkeypatch.setattr("vaebench.run.save_snapshot", lambda *_, **__: None)


def raise_version(monkeypatch: pytest.MonkeyPatch, key: str, name: str) -> None:
    """Make a component another version of itself; ``key`` is that of a configuration."""
    registry: Any = REGISTRIES[key]
    entry = registry[name]
    if is_dataclass(entry) and not isinstance(entry, type):
        exchange(monkeypatch, registry, name, replace(entry, version=entry.version + 1))
    else:
        monkeypatch.setattr(entry, "version", getattr(entry, "version", 1) + 1, raising=False)


def exchange(
    monkeypatch: pytest.MonkeyPatch, registry: dict[str, Any], name: str, entry: object
) -> None:
    """Put another entry in the place of a known one, which a registry refuses; keep the order."""
    entries = registry | {name: entry}
    for key in reversed(list(registry)):  # it is undone the other way round
        monkeypatch.delitem(registry, key)
    for key, value in entries.items():
        monkeypatch.setitem(registry, key, value)


def numbers(journal: list[dict[str, Any]]) -> list[dict[str, float]]:
    """A journal's metrics without those that no two runs share: times."""
    return [
        {name: value for name, value in line["metrics"].items() if not name.endswith("seconds")}
        for line in journal
    ]


def results(record: dict[str, Any]) -> dict[str, float]:
    """A record's final metrics without those that no two runs share: costs."""
    timed = {
        "cost/seconds_per_epoch",
        "cost/cpu_seconds_per_epoch",
        "cost/images_per_second",
        "cost/peak_memory_mb",
    }
    return {name: value for name, value in record["metrics"].items() if name not in timed}


class NoWriter:
    """Stands in for MLflow where a test is about something else: opening a store takes seconds."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def start(self) -> None:
        """Begin nothing."""

    def touch(self, run_id: str) -> None:
        """Note nothing."""

    def close(self, _timeout: float, _limit: float, *, ended: bool) -> Outcome:
        """Say that nothing was to be sent."""
        return Outcome(0, 0, [], None)


def in_this_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids run here, without workers, figures or MLflow."""
    without_figures(monkeypatch)
    monkeypatch.setattr("vaebench.grid.Writer", NoWriter)
    monkeypatch.setattr("vaebench.grid.require_loadable", lambda _: None)
    monkeypatch.setattr(
        "vaebench.grid.crew.in_workers",
        lambda tasks, hear, **_: in_this_process(filter(None, tasks), hear),
    )
