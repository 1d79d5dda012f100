"""What MLflow shows of one grid, and the ways to add to it that may be repeated at will.

Runs are found by their tags; metrics, parameters and tags that are there already fall together with
what is sent; files replace files of their name. What to send is decided in ``publisher``.
"""

import json
import tempfile
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from vaebench.files import write_atomic
from vaebench.tracking.payload import Point, common_tags
from vaebench.tracking.store import LOCK, Window, open_store

if TYPE_CHECKING:
    from mlflow.entities import Run
    from PIL.Image import Image

FOLDER, CALL = "vaebench.folder", "vaebench.call"  # tags
MAX_DIGEST = 36  # characters; MLflow's limit
PAGE = 1000
FULL, PREVIEW = 512, 256  # pixels of a picture: opened by a click, and shown (as log_image's)

Key = tuple[str, ...]


@dataclass
class Shown:
    """One run of MLflow as far as this process knows it.

    Attributes:
        id: MLflow's name for it.
        status: RUNNING, FINISHED, FAILED or KILLED.
        tags: Its tags.
        has_params: Whether its parameters were sent.
        epochs: Lines of the journal that this process sent.
        images: Stems of the pictures that this process sent.
    """

    id: str
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

    Raises:
        TrackingError: The store cannot be opened.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.mlflow, self.experiment_id = open_store(window)
        self.runs: dict[Key, Shown] = {}
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

    def images(self, shown: Shown, images: Mapping[str, Path]) -> None:
        """Send pictures under the names of MLflow's ``log_image``: stem to PNG file.

        A file that holds no picture is passed over: it must not keep the rest from being shown.
        """
        import PIL.Image

        new = {stem: path for stem, path in images.items() if stem not in shown.images}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for stem, path in new.items():
                try:
                    image = PIL.Image.open(path)
                    image.load()
                except (OSError, SyntaxError, ValueError):  # which PIL raises for damaged files
                    continue
                sized(image, FULL).save(folder / f"{stem}.png")
                sized(image, PREVIEW).save(folder / f"{stem}+compressed.webp", lossless=True)
            if any(folder.iterdir()):
                self.mlflow.log_artifacts(shown.id, name, "images")
                self.tags(shown, {"mlflow.loggedImages": "True"})
        shown.images.update(new)

    def files(self, shown: Shown, folder: str, paths: Iterable[Path]) -> None:
        """Send the files that exist to an artifact folder."""
        for path in paths:
            if path.exists():
                self.mlflow.log_artifact(shown.id, str(path), folder)

    def datasets(self, shown: Shown, data: Mapping[str, Any] | None) -> None:
        """Name the data of a run: ``{name, digest, train, validation, test}``, sizes in images."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

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
            self.mlflow.log_inputs(shown.id, inputs)

    def set_status(self, shown: Shown, status: str, time: int | None = None) -> None:
        """Close a run, at ``time`` in ms since 1970 or now, or let it go on with RUNNING."""
        if shown.status == status:
            return
        if status == "RUNNING":
            self.mlflow.update_run(shown.id, status=status)
        else:
            self.mlflow.set_terminated(shown.id, status, end_time=time)
        shown.status = status

    def _lock(self) -> FileLock:
        return FileLock(self.window.folder / ".mlflow.lock", timeout=LOCK)

    def _identity(self) -> str:
        """A name of the grid's folder that stays when it is moved.

        Others may show a grid of the same name and settings in the same store: their runs are not
        ours.
        """
        path = self.window.folder / ".mlflow.id"
        with self._lock():
            if not path.exists():
                write_atomic(path, uuid.uuid4().hex)
        return path.read_text(encoding="utf-8").strip()

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
                tags = run.data.tags
                if tags.get(FOLDER, self._folder) != self._folder:
                    continue
                known = self.runs.setdefault(_key(tags), _shown(run))
                if run.info.run_id != known.id and tags.get(CALL, "") == known.tags.get(CALL):
                    self.mlflow.delete_run(run.info.run_id)
            token = page.token
            if not token:
                return


def sized(image: "Image", side: int) -> "Image":
    """A picture as large as it gets within ``side`` pixels, its own pixels square and sharp."""
    from PIL.Image import Resampling

    factor = side // max(image.size)
    if factor:
        return image.resize((image.width * factor, image.height * factor), Resampling.NEAREST)
    smaller = image.copy()
    smaller.thumbnail((side, side))
    return smaller


def _shown(run: "Run") -> Shown:
    return Shown(run.info.run_id, run.info.status, dict(run.data.tags), bool(run.data.params))


def _key(tags: Mapping[str, str]) -> Key:
    if "vaebench.run_id" in tags:
        return ("run", tags["vaebench.run_id"], tags["vaebench.attempt"])
    return ("cell", tags["vaebench.cell"]) if "vaebench.cell" in tags else ("grid",)
