"""What MLflow shows of one grid, and the ways to add to it that may be repeated at will.

Runs are found by their tags; metrics, parameters and tags that are there already fall together with
what is sent; files replace files of their name. What to send is decided in ``publisher``.
"""

import json
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench.errors import ResultsError
from vaebench.files import clean, read_file, write_atomic
from vaebench.storage import locked
from vaebench.tracking.own_files import require_own_targets
from vaebench.tracking.payload import Key, Point, common_tags, key_from
from vaebench.tracking.staging import stage, stage_picture
from vaebench.tracking.store import Window, open_store

if TYPE_CHECKING:
    from mlflow.entities import Run

FOLDER, CALL = "vaebench.folder", "vaebench.call"  # tags
MAX_ID_BYTES = 1000
MAX_DIGEST = 36  # characters; MLflow's limit
PAGE = 1000


@dataclass
class Shown:
    """One run of MLflow as far as this process knows it.

    Attributes:
        id: MLflow's name for it.
        artifacts: Where MLflow keeps its files.
        status: RUNNING, FINISHED, FAILED or KILLED.
        tags: Its tags.
        has_params: Whether its parameters were sent.
        epochs: Lines of the journal that this process sent.
        images: Stems of the pictures that this process sent.
    """

    id: str
    artifacts: str
    status: str
    tags: dict[str, str]
    has_params: bool = False
    epochs: int = 0
    images: set[str] = field(default_factory=set)


class GridClient:
    """The runs of one grid in one store; not thread-safe.

    Attributes:
        mlflow: MLflow's client.
        experiment_id: The id of the experiment that holds the grid.
        runs: What is shown: ``("grid",)``, ``("cell", label)``, ``("run", run_id, attempt)``.
        left_out: What could not be read, and why.
        others: Who shows a grid of this name from another folder, by that folder's id.

    Raises:
        TrackingError: The store cannot be opened.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.mlflow, self.experiment_id = open_store(window)
        self.runs: dict[Key, Shown] = {}
        self.left_out: list[str] = []
        self.others: dict[str, str] = {}
        self._folder = self._identity()
        self._find()

    def ensure(
        self,
        key: Key,
        name: str,
        *,
        parent: Shown | None = None,
        tags: Mapping[str, str] | None = None,
        start: int | None = None,
    ) -> Shown:
        """The run of that key, created if MLflow has none; ``start`` in ms since 1970."""
        if key in self.runs:
            return self.runs[key]
        kind = f" AND tags.`vaebench.role` = '{key[0]}'"
        same = f" AND tags.`vaebench.run_id` = '{key[1]}'" if key[0] == "run" else kind
        with self._lock():
            self._find(same)  # made since by another process, or by a call whose answer got lost
            if key not in self.runs:
                common = common_tags(self.window.grid, key[0], parent.id if parent else None)
                ours = {FOLDER: self._folder, CALL: uuid.uuid4().hex}
                created = self.mlflow.create_run(
                    self.experiment_id,
                    start_time=start,
                    tags={**common, **ours, **(tags or {})},
                    run_name=name,
                )
                self.runs[key] = _shown(created)
                self._find(same)  # a call that was repeated made it twice
        return self.runs[key]

    def params(self, shown: Shown, params: Mapping[str, str]) -> None:
        """Send parameters, once and alone: a refused one would take the metrics with it."""
        from mlflow.entities import Param

        if not shown.has_params:
            listed = [Param(*pair) for pair in params.items()]
            self.mlflow.log_batch(shown.id, params=listed, synchronous=True)
            shown.has_params = True

    def metrics(self, shown: Shown, points: Sequence[Point]) -> None:
        """Send metrics; those that MLflow has already, time stamp included, stay single."""
        from mlflow.entities import Metric

        if points:
            listed = [Metric(*point) for point in points]
            self.mlflow.log_batch(shown.id, metrics=listed, synchronous=True)

    def finals(self, shown: Shown, points: Sequence[Point], changed: int) -> None:
        """Send metrics that have one value each, unless that is what MLflow shows.

        A value that was measured anew is a second point: MLflow forgets none, and shows the latest.

        Arguments:
            shown: Whose they are.
            points: The metrics.
            changed: Time stamp of values that differ from what MLflow has, in ms since 1970.
        """
        there = self.mlflow.get_run(shown.id).data.metrics if points else {}
        new = []
        for point in points:
            if point.key not in there:
                new.append(point)
            elif there[point.key] != point.value:
                history = self.mlflow.get_metric_history(shown.id, point.key)
                latest = max(known.timestamp for known in history)
                new.append(point._replace(time=max(changed, latest + 1)))
        self.metrics(shown, new)

    def tags(self, shown: Shown, tags: Mapping[str, str]) -> None:
        """Set the tags that differ."""
        from mlflow.entities import RunTag

        new = {key: value for key, value in tags.items() if shown.tags.get(key) != value}
        if new:
            listed = [RunTag(*pair) for pair in new.items()]
            self.mlflow.log_batch(shown.id, tags=listed, synchronous=True)
            shown.tags.update(new)

    def supersede(self, run_id: str, attempt: int) -> None:
        """Take the attempts at a run before this one out of the views, which ask for one role."""
        for number in range(1, attempt):
            if old := self.runs.get(("run", run_id, str(number))):
                self.tags(old, {"vaebench.superseded": "true", "vaebench.role": "superseded"})

    def images(self, shown: Shown, images: Mapping[str, Path]) -> None:
        """Send pictures under the names of MLflow's ``log_image``: stem to PNG file.

        What is no picture is left out: it must not keep the rest from being shown.
        """
        new = {stem: path for stem, path in images.items() if stem not in shown.images}
        with tempfile.TemporaryDirectory() as name:
            for stem, path in [*new.items()]:
                with self.leaving_out():
                    if not stage_picture(path, Path(name), stem, self.window.folder):
                        del new[stem]  # it moved with its run, and is sent from there
            if self._send(shown, "images", Path(name)):
                self.tags(shown, {"mlflow.loggedImages": "True"})
        shown.images.update(new)

    def files(
        self,
        shown: Shown,
        folder: str,
        paths: Iterable[Path],
        texts: Mapping[str, str] | None = None,
    ) -> None:
        """Send the files that exist, and texts under their names, to an artifact folder.

        What is no plain file, or no picture though it is called one, is left out.
        """
        with tempfile.TemporaryDirectory() as name:
            for path in paths:
                with self.leaving_out():
                    stage(path, Path(name), self.window.folder)
            for text_name, text in (texts or {}).items():
                Path(name, text_name).write_text(text, encoding="utf-8")
            self._send(shown, folder, Path(name))

    @contextmanager
    def leaving_out(self) -> Iterator[None]:
        """Note what cannot be read instead of sending it."""
        try:
            yield
        except ResultsError as error:
            self.left_out.append(str(error))

    def _send(self, shown: Shown, folder: str, staged: Path) -> bool:
        """Send what was staged, if anything, where it does not leave the results folder."""
        names = [path.name for path in staged.iterdir()]
        if names and self.window.is_own:
            targets = [f"{folder}/{name}" for name in names]
            require_own_targets(shown.artifacts, targets, self.window.results)
        if names:
            self.mlflow.log_artifacts(shown.id, str(staged), folder)
        return bool(names)

    def datasets(self, shown: Shown, data: Mapping[str, Any] | None) -> None:
        """Name the data of a run: ``{name, digest, train, validation, test}``, sizes in images."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        inputs = [
            DatasetInput(
                Dataset(
                    name=f"{data['name']}-{split}",
                    digest=str(data["digest"])[:MAX_DIGEST],
                    source_type="vaebench",
                    source=json.dumps({"name": data["name"]}),
                    profile=json.dumps({"num_rows": data[split]}),
                ),
                [InputTag("mlflow.data.context", split)],
            )
            for split in ("train", "validation", "test")
            if data and data.get(split)
        ]
        if inputs:
            try:
                self.mlflow.log_inputs(shown.id, inputs)
            except MlflowException:
                there = self.mlflow.get_run(shown.id).inputs
                if there is None or len(there.dataset_inputs) < len(inputs):
                    raise  # else another process was faster

    def set_status(self, shown: Shown, status: str, time: int | None = None) -> None:
        """Close a run, at ``time`` in ms since 1970 or now, or let it go on with RUNNING."""
        if shown.status == status:
            return
        if status == "RUNNING":
            self.mlflow.update_run(shown.id, status=status)
        else:
            self.mlflow.set_terminated(shown.id, status, end_time=time)
        shown.status = status

    def _lock(self) -> AbstractContextManager[object]:
        """One process at a time creates what there is to be once."""
        return locked(self.window.folder, "mlflow")

    def _identity(self) -> str:
        """A name of the grid's folder that stays when it is moved.

        Others may show a grid of the same name and settings in the same store: their runs are not
        ours.
        """
        path = self.window.folder / ".mlflow.id"
        with self._lock():
            clean(path.parent, only={path.name})
            known = (read_file(path, MAX_ID_BYTES) or b"").decode(errors="replace").strip()
            if not re.fullmatch("[0-9a-f]{32}", known):
                known = uuid.uuid4().hex
                write_atomic(path, known)
        return known

    def _find(self, same: str = "") -> None:
        """Learn of the runs that MLflow has; of the twins that one call made, one stays."""
        wanted = f"tags.`vaebench.grid` = '{self.window.grid}'{same}"
        token = None
        while True:
            page = self.mlflow.search_runs(
                [self.experiment_id],
                wanted,
                max_results=PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            for run in page:
                tags, key = run.data.tags, key_from(run.data.tags)
                if key is None:
                    continue
                if (theirs := tags.get(FOLDER, self._folder)) != self._folder:
                    self.others[theirs] = tags.get("mlflow.user", "somebody")
                    continue
                known = self.runs.setdefault(key, _shown(run))
                if run.info.run_id != known.id and tags.get(CALL, "") == known.tags.get(CALL):
                    self.mlflow.delete_run(run.info.run_id)
            token = page.token
            if not token:
                return


def _shown(run: "Run") -> Shown:
    tags, known = dict(run.data.tags), bool(run.data.params)
    return Shown(run.info.run_id, run.info.artifact_uri, run.info.status, tags, known)
