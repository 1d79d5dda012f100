"""Idempotent replay: a grid's folder -> one grid run, a run per cell, a run per cell and seed.

``Publisher`` may be asked to send the same things any number of times, by any number of processes:
see ``client``. The tag ``vaebench.sent`` is written last, so that a finished run is skipped without
another look.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vaebench.errors import VaebenchError
from vaebench.files import names_in
from vaebench.schema.labels import cell_label, likelihood_label, median_seed
from vaebench.schema.manifest import PICTURES, read_manifest
from vaebench.storage import RunStore, worker_of
from vaebench.tracking import payload, views
from vaebench.tracking.client import GridClient, Shown
from vaebench.tracking.describe import describe_cell, describe_grid, describe_run
from vaebench.tracking.failures import explained
from vaebench.tracking.models import has_model, logged_model
from vaebench.tracking.payload import Key, Record, Seed, seeds
from vaebench.tracking.store import Window

DOWNLOAD = ("config.yaml", "record.json", "journal.jsonl", "weights.pt")
NOTE = "mlflow.note.content"
MODEL = "vaebench.model"  # in words
# what comes of reading a run or a grid that is damaged: no file there is trusted to be what it was
DAMAGE = (
    *(VaebenchError, OSError, LookupError, TypeError, ValueError, OverflowError, AttributeError),
)


class Outcome(NamedTuple):
    """What became of a grid in MLflow.

    Attributes:
        sent: Runs that are shown as they lie in the folder.
        unsent: Runs that are not: ``vaebench sync`` sends them.
        links: The saved views; none when MLflow was never reached.
        problem: What went wrong, in one or two lines, or None.
        command: Sends what is missing.
    """

    sent: int
    unsent: int
    links: list[views.Link]
    problem: str | None
    command: str = "vaebench sync"


class Publisher:
    """The writing end of a window; not thread-safe.

    Its methods raise what MLflow raises: :mod:`vaebench.tracking.replay` calls them, tries again
    and explains.

    Arguments:
        window: Where to show the grid; its folder holds a manifest.
        watches: Whether another process trains the grid: what is closed is not opened again, as it
            may have closed it for good by now.

    Raises:
        TrackingError: MLflow refused or is out of reach.
        ResultsError: The grid's folder is damaged.
    """

    def __init__(self, window: Window, *, watches: bool = False) -> None:
        self.window = window
        self.watches = watches
        read_manifest(window.folder)  # one that is damaged leaves no trace in MLflow
        with explained(window.uri):
            self.client = GridClient(window)
        # read when the store is known: what another process adds, it adds to the manifest first
        self.manifest = read_manifest(window.folder)
        self.runs: dict[str, Seed] = {}
        self.cells: dict[str, list[Seed]] = {}
        for run in seeds(window.folder, self.manifest):
            self.runs[run.run_id] = run
            self.cells.setdefault(cell_label(run.cell), []).append(run)
        self._views: list[views.View] = []

    def started(self) -> list[str]:
        """Ids of the runs that have a configuration in their folder."""
        return [run_id for run_id, run in self.runs.items() if run.started]

    def unsent(self) -> list[str]:
        """Ids of the started runs that MLflow does not show as they lie in the folder."""
        return [run_id for run_id in self.started() if not self.is_sent(run_id)]

    def is_sent(self, run_id: str) -> bool:
        """Whether MLflow shows all of a run, which has ended."""
        run = self.runs[run_id]
        record, shown = ended_record(run.store), self.client.runs.get(key_of(run))
        return (
            record is not None
            and shown is not None
            and shown.tags.get("vaebench.sent") == payload.fingerprint(record)
        )

    def outcome(self, problem: str | None) -> Outcome:
        """What has become of the grid by now."""
        started, unsent = len(self.started()), len(self.unsent())
        problem = problem or next(iter(self.client.left_out), None)
        return Outcome(started - unsent, unsent, self.links(), problem, self.window.command)

    def grid(self, *, ended: bool = False) -> None:
        """Send the grid's own run and the views; ``ended``: nothing trains any more."""
        client, folder = self.client, self.window.folder
        shown = self._grid_run()
        self.send_views()
        records = [ended_record(run.store) for run in self.runs.values()]
        statuses = Counter(record["status"] if record else "to do" for record in records)
        links = [f"- [{link.title}]({link.relative})" for link in self.links()]
        note = describe_grid(self.manifest, statuses, links)
        client.tags(shown, {NOTE: note})
        client.mlflow.set_experiment_tag(client.experiment_id, NOTE, note)
        if ended:
            reports = [name for name in names_in(folder) if name.startswith("report.")]
            client.files(shown, "report", [folder / name for name in ("grid.yaml", *reports)])
            client.files(shown, "plots", [folder / name for name in PICTURES])
            with client.leaving_out():
                client.files(shown, "plots", payload.pictures(folder / "figures", folder))
        whole = "FAILED" if statuses["failed"] else "FINISHED"
        killed = statuses["to do"] or statuses["interrupted"]
        if ended or killed:  # what another process has closed by now stays closed
            self._set_status(shown, None if killed else whole, ended=ended)

    def run(self, run_id: str, *, ended: bool = False) -> None:
        """Send what is new of a run; ``ended``: if it has no record, nobody trains it any more.

        One that is published or taken over meanwhile is sent the next time: of an attempt whose
        process sleeps, nothing is sent that its successor has not.
        """
        run, client = self.runs[run_id], self.client
        store = run.store
        config = store.config
        if config is None or self.is_sent(run_id):
            return
        journal, record = store.journal, ended_record(store)
        if run.store.path != store.path:
            return
        shown = client.runs.get(key_of(run)) or self._new_run(run, config, journal)
        client.supersede(run_id, run.store.attempt)
        client.params(shown, payload.params(run.cell, run.seed, config))
        client.metrics(shown, payload.journal_points(journal[shown.epochs :]))
        shown.epochs = len(journal)
        times = {int(line["epoch"]): int(line["time"]) for line in journal}
        with client.leaving_out():
            client.images(shown, payload.image_files(store, times))
        if record is None:
            last = int(journal[-1]["time"]) if journal else None
            self._set_status(shown, None, last, ended=ended and worker_of(store.path) is None)
        else:
            self._finish(run, shown, config, record)

    def cell(self, label: str, *, ended: bool = False) -> None:
        """Send a cell's state and, once its seeds are complete, their means."""
        client, runs = self.client, self.cells[label]
        shown = self._cell_run(label)
        done = [record for run in runs if (record := ended_record(run.store))]
        complete = [record for record in done if record["status"] == "complete"]
        means = payload.mean_points(complete) if len(complete) == len(runs) else []
        client.finals(shown, means, max(map(payload.measured, complete), default=0))
        listed, model = [run.seed for run in runs], shown.tags.get(MODEL)
        note = describe_cell(runs[0].cell, listed, complete, means, model)
        client.tags(shown, {"vaebench.n": str(len(complete)), NOTE: note})
        status = finished = None
        if len(done) == len(runs):
            statuses = {record["status"] for record in done}
            worst = next(s for s in ("failed", "interrupted", "complete") if s in statuses)
            status = payload.STATUS[worst]
            finished = max(int(record["finished"]) for record in done)
        self._set_status(shown, status, finished, ended=ended)

    def finished(self) -> bool:
        """Whether every run of the grid is complete or has failed."""
        records = [ended_record(run.store) for run in self.runs.values()]
        return all(record and record["status"] != "interrupted" for record in records)

    def model(self, label: str) -> None:
        """Log the model of a cell's best seed, unless it is there. Imports torch; seconds.

        Not while something trains: it would share its processor and, in one process, its random
        state.
        """
        ended = [(run, record) for run in self.cells[label] if (record := ended_record(run.store))]
        complete = [pair for pair in ended if pair[1]["status"] == "complete"]
        if not complete:
            return
        index, why = median_seed([record for _, record in complete])
        run = complete[index][0]
        client, shown, cell = self.client, self.client.runs.get(key_of(run)), self._cell_run(label)
        if shown is None or not has_model(run) or cell.tags.get("vaebench.model_run") == shown.id:
            return
        made = logged_model(client.mlflow, client.experiment_id, run, shown.id)
        tags = {"vaebench.model_run": shown.id, "vaebench.model_id": made.model_id}
        client.tags(cell, {**tags, MODEL: f"{made.described}, seed {run.seed} ({why})"})
        self.cell(label)

    def send_views(self) -> None:
        """Write the saved views, where this MLflow knows them."""
        pages = [page for run in self.runs.values() if (page := _page(run))]
        found = views.build(
            self.window.grid,
            list(self.manifest["axes"]),
            list(dict.fromkeys(likelihood for likelihood, _ in pages)),
            last_image=max((epochs for _, epochs in pages), default=0),
            seeds=max(map(len, self.cells.values()), default=1),
            own=payload.own_metrics(ended_record(run.store) for run in self.runs.values()),
        )
        client, grid = self.client, self.window.grid
        written = views.write(client.mlflow, client.experiment_id, grid, found)
        self._views = found if written else []

    def links(self) -> list[views.Link]:
        """Links that open the saved views."""
        return views.links(self.window, self.client.experiment_id, self._views)

    def _set_status(
        self, shown: Shown, status: str | None, time: int | None = None, *, ended: bool
    ) -> None:
        """Close a run as it ended; without a status it was killed if ``ended``, else it goes on."""
        if status or ended:
            self.client.set_status(shown, status or "KILLED", time)
        elif not self.watches:
            self.client.set_status(shown, "RUNNING")

    def _grid_run(self) -> Shown:
        return self.client.ensure(("grid",), self.window.grid[: payload.MAX_NAME])

    def _cell_run(self, label: str) -> Shown:
        cell = self.cells[label][0].cell
        shown = self.client.ensure(
            ("cell", label),
            payload.run_name(cell),
            parent=self._grid_run(),
            tags={"vaebench.cell": label, "mlflow.runColor": self._colour(label)},
        )
        self.client.params(shown, payload.cell_params(cell))
        return shown

    def _new_run(
        self, run: Seed, config: Mapping[str, Any], journal: Sequence[Mapping[str, Any]]
    ) -> Shown:
        key, label = key_of(run), cell_label(run.cell)
        tags = payload.run_tags(run, config, int(key[2]), self._colour(label))
        shown = self.client.ensure(
            key,
            payload.run_name(run.cell, run.seed),
            parent=self._cell_run(label),
            tags={**tags, NOTE: describe_run(run, config, None)},
            start=payload.start_time(run.store.record, journal),
        )
        return shown

    def _finish(self, run: Seed, shown: Shown, config: Mapping[str, Any], record: Record) -> None:
        client, path, environment = self.client, run.store.path, record["environment"]
        client.finals(shown, payload.final_points(record), payload.measured(record))
        with client.leaving_out():
            client.files(shown, "plots", payload.pictures(run.store.figures, run.store.within))
        described = {"environment.json": json.dumps(environment, indent=1)}
        client.files(shown, "run", [path / name for name in DOWNLOAD], described)
        client.datasets(shown, environment.get("dataset"))
        note = {NOTE: describe_run(run, config, record)}
        client.tags(shown, {**note, **payload.commit_tag(record)})
        client.set_status(shown, payload.STATUS[record["status"]], int(record["finished"]))
        client.tags(shown, {"vaebench.sent": payload.fingerprint(record)})

    def _colour(self, label: str) -> str:
        return payload.COLOURS[list(self.cells).index(label) % len(payload.COLOURS)]


def ended_record(store: RunStore) -> Record | None:
    """A run's record; None while it trains, and when the record is damaged, as it is redone."""
    if not store.is_published:
        return None
    try:
        return payload.finished_record(store, store.journal)
    except DAMAGE:
        return None


def key_of(run: Seed) -> Key:
    """The name under which the client knows a run."""
    return ("run", run.run_id, str(run.store.attempt))


def _page(run: Seed) -> tuple[str, int] | None:
    """What the views need of a run: its likelihood and number of epochs; None where damaged."""
    config = run.store.config
    try:
        return (likelihood_label(config), int(config["training"]["epochs"])) if config else None
    except DAMAGE:
        return None
