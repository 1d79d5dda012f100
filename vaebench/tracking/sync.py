"""Idempotent replay: a grid's folder -> one grid run, a run per cell, a run per cell and seed.

``GridSync`` may be asked to send the same things any number of times, by any number of processes:
see ``mirror``. The tag ``vaebench.sent`` is written last, so that a finished run is skipped without
another look.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vaebench.errors import VaebenchError
from vaebench.schema.labels import best_seed, cell_label, likelihood_label
from vaebench.schema.manifest import read_manifest
from vaebench.storage import run_store
from vaebench.tracking import content, views
from vaebench.tracking.content import Record, Seed
from vaebench.tracking.describe import describe_cell, describe_grid, describe_run
from vaebench.tracking.failures import explained
from vaebench.tracking.mirror import Mirror, Shown
from vaebench.tracking.models import has_model, log_model
from vaebench.tracking.store import Window

DOWNLOAD = ("config.yaml", "record.json", "journal.jsonl", "weights.pt")
NOTE = "mlflow.note.content"
MODEL = "vaebench.model"  # in words
# what comes of reading a run or a grid that is damaged: no file there is trusted to be what it was
DAMAGE = (
    *(VaebenchError, OSError, LookupError, TypeError, ValueError, OverflowError, AttributeError),
)


class GridSync:
    """The writing end of a window; not thread-safe.

    Arguments:
        window: Where to show the grid; its folder holds a manifest.
        watches: Whether another process trains the grid: what is closed is not opened again, as it
            may have closed it for good by now.

    Raises:
        TrackingError: MLflow refused or is out of reach; the methods raise it as well.
        ResultsError: The grid's folder is damaged.
    """

    def __init__(self, window: Window, *, watches: bool = False) -> None:
        self.window = window
        self.watches = watches
        self.manifest = read_manifest(window.folder)
        self.runs: dict[str, Seed] = {}
        self.cells: dict[str, list[Seed]] = {}
        for entry in self.manifest["runs"]:
            store = run_store(window.folder, entry["run_id"])
            run = Seed(entry["run_id"], entry["cell"], int(entry["seed"]), store)
            self.runs[run.run_id] = run
            self.cells.setdefault(cell_label(run.cell), []).append(run)
        with explained(window.uri):
            self.mirror = Mirror(window)
        self._views: list[views.View] = []

    def started(self) -> list[str]:
        """Ids of the runs that have a configuration in their folder."""
        return [i for i, run in self.runs.items() if (run.store.path / "config.yaml").exists()]

    def unsent(self) -> list[str]:
        """Ids of the started runs that MLflow does not show as they lie in the folder."""
        return [run_id for run_id in self.started() if not self.is_sent(run_id)]

    def is_sent(self, run_id: str) -> bool:
        """Whether MLflow shows all of a run, which has ended."""
        run = self.runs[run_id]
        record, shown = ended_record(run), self._shown(run)
        return (
            record is not None
            and shown is not None
            and shown.tags.get("vaebench.sent") == content.fingerprint(record)
        )

    def grid(self, *, ended: bool = False) -> None:
        """Send the grid's own run and the views; ``ended``: nothing trains any more."""
        with explained(self.window.uri):
            mirror, experiment = self.mirror, self.mirror.experiment_id
            shown = self._grid_run()
            self.send_views()
            statuses = [
                r["status"] if r else "to do" for r in map(ended_record, self.runs.values())
            ]
            links = [f"- [{link.title}]({link.relative})" for link in self.links()]
            note = describe_grid(self.manifest, Counter(statuses), links)
            mirror.tags(shown, {NOTE: note})
            mirror.client.set_experiment_tag(experiment, NOTE, note)
            if not ended:
                self._reopen(shown)
                return
            folder = self.window.folder
            mirror.files(shown, "report", [folder / "grid.yaml", *sorted(folder.glob("report.*"))])
            mirror.files(shown, "plots", [folder / "comparison.png"])
            whole = "FAILED" if "failed" in statuses else "FINISHED"
            mirror.end(shown, "KILLED" if {"to do", "interrupted"} & set(statuses) else whole)

    def run(self, run_id: str, *, ended: bool = False) -> None:
        """Send what is new of a run; ``ended``: if it has no record, nobody trains it any more."""
        run = self.runs[run_id]
        config = run.store.config
        if config is None or self.is_sent(run_id):
            return
        with explained(self.window.uri):
            mirror, journal, record = self.mirror, run.store.journal, ended_record(run)
            shown = self._seed_run(run, config, journal)
            mirror.params(shown, content.params(run.cell, run.seed, config))
            mirror.metrics(shown, content.journal_points(journal[shown.epochs :]))
            shown.epochs = len(journal)
            times = {int(line["epoch"]): int(line["time"]) for line in journal}
            mirror.images(shown, content.image_files(run.store, times))
            if record is not None:
                self._finish(run, shown, config, record)
            elif ended:
                mirror.end(shown, "KILLED", int(journal[-1]["time"]) if journal else None)
            else:
                self._reopen(shown)

    def cell(self, label: str, *, ended: bool = False) -> None:
        """Send a cell's state and, once its seeds are complete, their means."""
        with explained(self.window.uri):
            mirror, runs = self.mirror, self.cells[label]
            shown = self._cell_run(runs[0])
            done = [(run, record) for run in runs if (record := ended_record(run))]
            complete = [record for _, record in done if record["status"] == "complete"]
            means = content.mean_points(complete) if len(complete) == len(runs) else []
            mirror.finals(shown, means, max(map(content.measured, complete), default=0))
            note = describe_cell(
                runs[0].cell, [r.seed for r in runs], complete, means, shown.tags.get(MODEL)
            )
            mirror.tags(shown, {"vaebench.n": str(len(complete)), NOTE: note})
            if len(done) == len(runs):
                statuses = {record["status"] for _, record in done}
                worst = next(s for s in ("failed", "interrupted", "complete") if s in statuses)
                finished = max(int(record["finished"]) for _, record in done)
                mirror.end(shown, content.STATUS[worst], finished)
            elif ended:
                mirror.end(shown, "KILLED")
            else:
                self._reopen(shown)

    def finished(self) -> bool:
        """Whether every run of the grid is complete or has failed."""
        return all(
            r and r["status"] != "interrupted" for r in map(ended_record, self.runs.values())
        )

    def model(self, label: str) -> None:
        """Log the model of a cell's best seed, unless it is there. Imports torch; seconds.

        Not while something trains: it would share its processor and, in one process, its random
        state.
        """
        ended = [(run, record) for run in self.cells[label] if (record := ended_record(run))]
        complete = [pair for pair in ended if pair[1]["status"] == "complete"]
        if not complete:
            return
        index, why = best_seed([record for _, record in complete])
        run = complete[index][0]
        shown = self._shown(run)
        if shown is None or not has_model(run):
            return
        with explained(self.window.uri):
            cell = self._cell_run(run)
            if cell.tags.get("vaebench.model_run") == shown.id:
                return
            model_id = log_model(self.mirror.client, self.mirror.experiment_id, run, shown.id)
            described = f"`models:/{model_id}`, seed {run.seed} ({why})"
            tags = {"vaebench.model_id": model_id, "vaebench.model_run": shown.id, MODEL: described}
            self.mirror.tags(cell, tags)
        self.cell(label)

    def links(self) -> list[views.Link]:
        """Links that open the saved views."""
        return views.links(self.window, self.mirror.experiment_id, self._views)

    def _reopen(self, shown: Shown) -> None:
        if not self.watches:
            self.mirror.reopen(shown)

    def _shown(self, run: Seed) -> Shown | None:
        return self.mirror.runs.get(("run", run.run_id, str(run.store.attempt)))

    def _grid_run(self) -> Shown:
        return self.mirror.ensure(("grid",), self.window.grid[: content.MAX_NAME])

    def _cell_run(self, run: Seed) -> Shown:
        label = cell_label(run.cell)
        shown = self.mirror.ensure(
            ("cell", label),
            content.run_name(run.cell),
            parent=self._grid_run(),
            tags={"vaebench.cell": label, "mlflow.runColor": self._colour(label)},
        )
        self.mirror.params(shown, content.cell_params(run.cell))
        return shown

    def _seed_run(
        self, run: Seed, config: Mapping[str, Any], journal: Sequence[Mapping[str, Any]]
    ) -> Shown:
        attempt, record = run.store.attempt, run.store.record
        key = ("run", run.run_id, str(attempt))
        if key in self.mirror.runs:
            return self.mirror.runs[key]
        colour = self._colour(cell_label(run.cell))
        shown = self.mirror.ensure(
            key,
            content.run_name(run.cell, run.seed),
            parent=self._cell_run(run),
            tags={
                **content.run_tags(run, config, attempt, colour),
                NOTE: describe_run(run, config, None),
            },
            start=content.start_time(record, journal),
        )
        for other, old in self.mirror.runs.items():
            if other[:2] == key[:2] and int(other[2]) < attempt:
                # the role takes it out of the views, whose filters ask for one role
                self.mirror.tags(
                    old, {"vaebench.superseded": "true", "vaebench.role": "superseded"}
                )
        return shown

    def _finish(self, run: Seed, shown: Shown, config: Mapping[str, Any], record: Record) -> None:
        mirror, path = self.mirror, run.store.path
        mirror.finals(shown, content.final_points(record), content.measured(record))
        mirror.files(shown, "plots", sorted(run.store.figures.glob("*.png")))
        environment = {"environment.json": json.dumps(record["environment"], indent=1)}
        mirror.files(shown, "run", [path / name for name in DOWNLOAD], environment)
        mirror.datasets(shown, record["environment"].get("dataset"))
        note = {NOTE: describe_run(run, config, record)}
        mirror.tags(shown, {**note, **content.commit_tag(record)})
        mirror.end(shown, content.STATUS[record["status"]], int(record["finished"]))
        mirror.tags(shown, {"vaebench.sent": content.fingerprint(record)})

    def _colour(self, label: str) -> str:
        return content.COLOURS[list(self.cells).index(label) % len(content.COLOURS)]

    def send_views(self) -> None:
        """Write the saved views, where this MLflow knows them."""
        pages = [page for run in self.runs.values() if (page := _page(run))]
        found = views.build(
            self.window.grid,
            list(self.manifest["axes"]),
            list(dict.fromkeys(likelihood for likelihood, _ in pages)),
            last_image=max((epochs for _, epochs in pages), default=0),
            seeds=max(map(len, self.cells.values()), default=1),
        )
        client, experiment = self.mirror.client, self.mirror.experiment_id
        with explained(self.window.uri):
            written = views.write(client, experiment, self.window.grid, found)
        self._views = found if written else []


def ended_record(run: Seed) -> Record | None:
    """A run's record; None while it trains, and when the record is damaged, as it is redone."""
    try:
        return content.finished_record(run.store, run.store.journal)
    except DAMAGE:
        return None


def _page(run: Seed) -> tuple[str, int] | None:
    """What the views need of a run: its likelihood and number of epochs; None where damaged."""
    config = run.store.config
    try:
        return (likelihood_label(config), int(config["training"]["epochs"])) if config else None
    except DAMAGE:
        return None
