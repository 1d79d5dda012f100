"""What MLflow shows of one grid, and the ways to add to it that may be repeated at will.

Runs are found by their tags; metrics, parameters and tags that are there already fall together with
what is sent; files replace files of their name. ``Mirror`` knows MLflow's calls and nothing about
grids: what to send is decided in ``sync``.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from vaebench.tracking.content import Point, common_tags
from vaebench.tracking.store import Window, open_store

if TYPE_CHECKING:
    from mlflow.entities import Run
    from PIL.Image import Image

FULL, PREVIEW = 512, 256  # pixels: opened by a click, and shown (as large as log_image's)
MAX_DIGEST = 36  # characters; MLflow's limit
PAGE = 1000

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


class Mirror:
    """The runs of one grid in one store; not thread-safe.

    Attributes:
        client: MLflow's client.
        experiment_id: Of the experiment that holds the grid.
        runs: What is shown: ``("grid",)``, ``("cell", label)``, ``("run", run_id, attempt)``.

    Raises:
        TrackingError: The store cannot be opened.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.client, self.experiment_id = open_store(window)
        self.runs: dict[Key, Shown] = {}
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
        with FileLock(self.window.folder / ".mlflow.lock"):
            self._find()  # made since by another process, or by a call whose answer got lost
            if key not in self.runs:
                common = common_tags(self.window.grid, key[0], parent.id if parent else None)
                created = self.client.create_run(
                    self.experiment_id,
                    start_time=start,
                    tags={**common, **(tags or {})},
                    run_name=name,
                )
                self.runs[key] = _shown(created)
        return self.runs[key]

    def params(self, shown: Shown, params: Mapping[str, str]) -> None:
        """Send parameters, once and alone: a refused one would take the metrics with it."""
        from mlflow.entities import Param

        if not shown.has_params:
            listed = [Param(key, value) for key, value in params.items()]
            self.client.log_batch(shown.id, params=listed, synchronous=True)
            shown.has_params = True

    def metrics(self, shown: Shown, points: Sequence[Point]) -> None:
        """Send metrics; those that MLflow has already, time stamp included, stay single."""
        from mlflow.entities import Metric

        if points:
            listed = [Metric(p.key, p.value, p.time, p.step) for p in points]
            self.client.log_batch(shown.id, metrics=listed, synchronous=True)

    def tags(self, shown: Shown, tags: Mapping[str, str]) -> None:
        """Set the tags that differ."""
        from mlflow.entities import RunTag

        new = {key: value for key, value in tags.items() if shown.tags.get(key) != value}
        if new:
            listed = [RunTag(key, value) for key, value in new.items()]
            self.client.log_batch(shown.id, tags=listed, synchronous=True)
            shown.tags.update(new)

    def images(self, shown: Shown, images: Mapping[str, Path]) -> None:
        """Send pictures under the names of MLflow's ``log_image``: stem to PNG file."""
        import PIL.Image

        new = {stem: path for stem, path in images.items() if stem not in shown.images}
        if not new:
            return
        with tempfile.TemporaryDirectory() as folder:
            for stem, path in new.items():
                with PIL.Image.open(path) as image:
                    _sized(image, FULL).save(Path(folder, f"{stem}.png"))
                    preview = Path(folder, f"{stem}+compressed.webp")
                    _sized(image, PREVIEW).save(preview, lossless=True)
            self.client.log_artifacts(shown.id, folder, "images")
        self.tags(shown, {"mlflow.loggedImages": "True"})
        shown.images.update(new)

    def files(
        self,
        shown: Shown,
        folder: str,
        paths: Sequence[Path],
        texts: Mapping[str, str] | None = None,
    ) -> None:
        """Send the files that exist, and texts under their names, to an artifact folder."""
        with tempfile.TemporaryDirectory() as staged:
            for path in paths:
                if path.exists():
                    shutil.copyfile(path, Path(staged, path.name))
            for name, text in (texts or {}).items():
                Path(staged, name).write_text(text, encoding="utf-8")
            if any(Path(staged).iterdir()):
                self.client.log_artifacts(shown.id, staged, folder)

    def datasets(self, shown: Shown, data: Mapping[str, Any] | None) -> None:
        """Name the data of a run: ``{name, digest, train, validation, test}``, sizes in images."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if not data:
            return
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
            if data.get(split)
        ]
        self.client.log_inputs(shown.id, inputs)

    def end(self, shown: Shown, status: str, time: int | None = None) -> None:
        """Close a run, at ``time`` in ms since 1970 or now."""
        if shown.status != status:
            self.client.set_terminated(shown.id, status, end_time=time)
            shown.status = status

    def reopen(self, shown: Shown) -> None:
        """Let a run go on."""
        if shown.status != "RUNNING":
            self.client.update_run(shown.id, status="RUNNING")
            shown.status = "RUNNING"

    def _find(self) -> None:
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                f"tags.`vaebench.grid` = '{self.window.grid}'",
                max_results=PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            for run in page:
                self.runs.setdefault(_key(run.data.tags), _shown(run))  # of twins, the oldest
            token = page.token
            if not token:
                return


def _sized(image: "Image", side: int) -> "Image":
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
