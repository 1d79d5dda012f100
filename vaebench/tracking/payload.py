"""What MLflow is told about runs: parameters, tags, names, metrics.

Everything here is a plain value made from what lies in the results folder. A further parameter
or tag is one line in ``params`` or ``run_tags``.
"""

import getpass
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vaebench.files import names_in
from vaebench.schema.labels import cell_label, likelihood_label
from vaebench.schema.manifest import planned
from vaebench.schema.trial import epochs_of, is_trial
from vaebench.storage import RunStore, run_store

Cell = Mapping[str, Any]
Record = Mapping[str, Any]
Key = tuple[str, ...]

WORDS = ("model", "loss", "estimator")
MAX_PARAMS = 9  # more, and their list covers the pictures in the image grid
MAX_NAME = 20  # longer names are cut by the page
STATUS = {"complete": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
# "Muted" of Paul Tol, https://personal.sron.nl/~pault/: told apart with colour-blind eyes.
COLOURS = (
    *("#332288", "#CC6677", "#117733", "#DDCC77", "#88CCEE", "#882255", "#44AA99", "#999933"),
    "#AA4499",
)


_NAME = re.compile(r"[\w-]{1,64}")
_TILE = re.compile(r"(?P<key>[\w-]{1,64})-(?P<epoch>[0-9]{1,9})\.png")


class Point(NamedTuple):
    """One value of a metric, as MLflow stores it."""

    key: str
    value: float
    time: int
    step: int


class Seed(NamedTuple):
    """One run of a grid: its identity from the manifest, and the grid's folder."""

    run_id: str
    cell: Cell
    seed: int
    folder: Path

    @property
    def store(self) -> RunStore:
        """Its own folder as it is now: published, or that of the latest attempt."""
        return run_store(self.folder, self.run_id)

    @property
    def started(self) -> bool:
        """Whether it has a configuration in its folder."""
        return (self.store.path / "config.yaml").exists()

    @property
    def has_record(self) -> bool:
        """Whether it has ended, be its record damaged."""
        return (self.store.path / "record.json").exists()


def seeds(folder: Path, manifest: Mapping[str, Any]) -> list[Seed]:
    """The runs that a grid's manifest lists."""
    return [Seed(run.run_id, run.cell, run.seed, folder) for run in planned(manifest)]


def short(axis: str) -> str:
    """``latent_dim`` for ``model.latent_dim``."""
    return axis.rpartition(".")[2]


def run_name(cell: Cell, seed: int | None = None) -> str:
    """``fnn-bce-sgvb-s0``, cut so that the seed stays; without a seed, the cell's name."""
    tail = "" if seed is None else f"-s{seed}"
    return ("-".join(str(v) for v in cell.values()) or "run")[: MAX_NAME - len(tail)] + tail


def params(cell: Cell, seed: int, config: Mapping[str, Any]) -> dict[str, str]:
    """At most nine short parameters: the cell's axes and the seed first, then what most ask for."""
    training = config.get("training", {})
    wanted: dict[str, Any] = {
        **{word: config[word]["name"] for word in WORDS if word in config},
        **cell_params(cell),
        "seed": seed,
        "dataset": config.get("dataset", {}).get("name"),
        "latent_dim": config.get("model", {}).get("latent_dim"),
        "epochs": epochs_of(config),
        "batch_size": training.get("batch_size"),
        "learning_rate": training.get("learning_rate"),
    }
    known = [(k, str(v)) for k, v in wanted.items() if v is not None]
    return dict(known[:MAX_PARAMS])


def cell_params(cell: Cell) -> dict[str, str]:
    """The cell's axes."""
    count = Counter(map(short, cell))
    return {
        short(axis) if count[short(axis)] == 1 else axis: str(value) for axis, value in cell.items()
    }


def finished_record(store: RunStore, journal: Sequence[Mapping[str, Any]]) -> Record | None:
    """The run's record; None while it trains, also when it goes on after an interruption.

    Raises:
        ResultsError: It is damaged.
    """
    record = store.record
    if record is None:
        return None
    went_on = bool(journal) and journal[-1]["time"] > (record.get("finished") or 0)
    return None if went_on and record["status"] != "complete" else record


def start_time(record: Record | None, journal: Sequence[Mapping[str, Any]]) -> int | None:
    """When the run's first epoch began, in ms since 1970; None if nobody knows."""
    if journal:
        first = journal[0]
        return int(first["time"] - 1000 * (first["metrics"].get("train/seconds") or 0))
    return int(record["finished"]) if record else None


def journal_points(lines: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Metrics of epochs: the step is the epoch, the time is the journal's."""
    return [
        Point(key, float(value), int(line["time"]), int(line["epoch"]))
        for line in lines
        for key, value in line["metrics"].items()
        if value is not None
    ]


def final_points(record: Record) -> list[Point]:
    """Metrics of the finished run, at step 0: MLflow draws one point there as a bar."""
    return [
        Point(key, float(value), int(record["finished"]), 0)
        for key, value in record["metrics"].items()
        if value is not None and not key.startswith(("train/", "val/"))
    ]


def measured(record: Record) -> int:
    """When the latest of a run's final metrics was measured, in ms since 1970."""
    return int(record.get("evaluated") or record["finished"])


def fingerprint(record: Record) -> str:
    """What differs when a record says something new."""
    return " ".join(str(record[k]) for k in ("status", "finished", "evaluated") if record.get(k))


def mean_points(records: Sequence[Record]) -> list[Point]:
    """Means over a cell's seeds of the final metrics that every seed has."""
    values: dict[str, list[float]] = {}
    for record in records:
        for point in final_points(record):
            values.setdefault(point.key, []).append(point.value)
    time = max(int(record["finished"]) for record in records)
    n = len(records)
    return [Point(k, sum(v) / n, time, 0) for k, v in values.items() if len(v) == n]


def own_metrics(records: Iterable[Record | None]) -> list[str]:
    """Keys of the metrics of plugins, as the first complete run has them."""
    for record in records:
        if record and record["status"] == "complete":
            declared = record.get("metric_declarations")
            known = declared.items() if isinstance(declared, dict) else ()
            return [
                f"test/{name}"
                for name, about in known
                if isinstance(about, dict) and "plugin" in about and _NAME.fullmatch(name)
            ]
    return []


def pictures(folder: Path, within: Path) -> list[Path]:
    """The figures in a folder, those of plugins included.

    Raises:
        ResultsError: The folder is a link, or cannot be read.
    """
    return [folder / name for name in names_in(folder, within) if name.endswith(".png")]


def image_files(store: RunStore, times: Mapping[int, int]) -> dict[str, Path]:
    """Names under which MLflow knows the run's pictures: those that its ``log_image`` would give.

    Arguments:
        store: The run's folder; pictures are ``images/<key>-<epoch>.png``.
        times: Epoch to time stamp; a picture whose epoch is not there has to wait.

    Returns:
        Stem (``reconstruction+step+5+timestamp+1700000000000+<uuid>``) to file.

    Raises:
        ResultsError: The folder of the pictures is a link, or cannot be read.
    """
    found, attempt = {}, f"vaebench:{store.run_id}/{store.attempt}"
    for name in names_in(store.images, store.within):
        match = _TILE.fullmatch(name)
        if match and (step := int(match["epoch"])) in times:
            key = match["key"]
            same = uuid.uuid5(uuid.NAMESPACE_URL, f"{attempt}/{key}/{step}")
            found[f"{key}+step+{step}+timestamp+{times[step]}+{same}"] = store.images / name
    return found


def common_tags(grid: str, role: str, parent: str | None) -> dict[str, str]:
    """Tags that every run of MLflow carries."""
    tags = {
        "vaebench.grid": grid,
        "vaebench.role": role,
        "mlflow.source.name": "vaebench run-grid",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
    }
    return {**tags, "mlflow.parentRunId": parent} if parent else tags


def run_tags(run: Seed, config: Mapping[str, Any], attempt: int, colour: str) -> dict[str, str]:
    """Tags by which a seed's run is found, grouped and coloured."""
    return {
        "vaebench.run_id": run.run_id,
        "vaebench.attempt": str(attempt),
        "vaebench.cell": cell_label(run.cell),
        "vaebench.likelihood": likelihood_label(config),
        "mlflow.runColor": colour,
        **({"vaebench.trial": "true"} if is_trial(config) else {}),
    }


def commit_tag(record: Record) -> dict[str, str]:
    """The commit that a finished run was made with, where there is one."""
    git = record["environment"].get("git")
    return {"mlflow.source.git.commit": str(git["commit"])} if git else {}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # containers run user ids that have no name
        return "unknown"


def key_from(tags: Mapping[str, str]) -> Key | None:
    """Whose run it is; None where the tags are not ours: they name folders."""
    if "vaebench.run_id" in tags:
        run_id, attempt = tags["vaebench.run_id"], tags.get("vaebench.attempt", "")
        ours = re.fullmatch("[A-Za-z0-9_-]{1,64}", run_id) and re.fullmatch("[0-9]{1,6}", attempt)
        return ("run", run_id, attempt) if ours else None
    return ("cell", tags["vaebench.cell"]) if "vaebench.cell" in tags else ("grid",)
