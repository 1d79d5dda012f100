"""A results folder with two grids, as training and MLflow leave it, and what lies outside of it."""

import os
import shutil
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from small_runs import settings

from vaebench.config import make_grid, make_run
from vaebench.files import dump_json, dump_yaml
from vaebench.grid import Listener
from vaebench.grid.manifest import make_manifest
from vaebench.grid.reference import write_reference
from vaebench.run import Task, run
from vaebench.schema import manifest
from vaebench.storage import RunStore

LONG_AGO = 946_684_800.0  # 2000-01-01: a file that is read after that was read by us
PICTURES = ("images/reconstruction-0002.png", "images/samples-0002.png")
FIGURES = ("figures/reconstructions.png", "figures/samples.png")
GRID_FILES = (
    *("grid.yaml", "reference.json", "report.md", "report.csv", "report.json", "report.tex"),
    *("report.html", *manifest.PICTURES, ".work", ".mlflow.id"),
)
RUN_FILES = (
    *("config.yaml", "journal.jsonl", "record.json", "weights.pt", "arrays.npz"),
    *("decoder.safetensors", "error.txt", *PICTURES, *FIGURES),
)
RUN_FOLDERS = (".", "images", "figures", "attempts")


class Place:
    """Where trials happen: a folder that is filled anew for each.

    Attributes:
        results: The results folder: the grid ``good``, and the grid ``bad``, which is damaged.
        outside: What nobody may read or change.
        out: Where reports are written to.
        data: The data directory.
        file: The configuration of ``bad``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.results = root / "results"
        self.pristine = root / "pristine"
        self.outside = root / "outside"
        self.out = root / "out"
        self.data = root / "data"
        self.file = root / "bad.yaml"

    @property
    def good(self) -> Path:
        """The grid that stays whole."""
        return self.results / "good"

    @property
    def bad(self) -> Path:
        """The grid that is damaged."""
        return self.results / "bad"

    def runs(self, grid: Path) -> list[Path]:
        """The folders of a grid's runs, as its manifest was."""
        text = (self.pristine / grid.name / "grid.yaml").read_text()
        return [grid / "runs" / str(entry["run_id"]) for entry in yaml.safe_load(text)["runs"]]

    @property
    def victim(self) -> Path:
        """The run that is damaged."""
        return self.runs(self.bad)[0]

    def fill(self) -> None:
        """Make everything anew, with what must not be read dated long ago."""
        for folder in (self.results, self.out, self.outside):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.pristine, self.results, symlinks=True)
        self.out.mkdir()
        self.outside.mkdir()
        (self.outside / "secret").write_text("outside: a secret\n")
        self.seal()

    def seal(self) -> None:
        """Date what lies outside, so that reading shows."""
        for path in self.outsiders():
            changed = path.lstat().st_mtime
            os.utime(path, (LONG_AGO, changed), follow_symlinks=False)

    def outsiders(self) -> Iterator[Path]:
        """All that lies outside, the deepest first: dating a file must not date its folder."""
        yield from sorted(self.outside.rglob("*"), reverse=True)
        yield self.outside

    def whats_outside(self, *, read: bool) -> dict[str, tuple[Any, ...]]:
        """What a trial must not have changed: sizes, times of changing, and those of reading."""
        found = {}
        for path in self.outsiders():
            status = path.lstat()
            found[str(path.relative_to(self.root))] = (
                status.st_size,
                status.st_mtime_ns,
                status.st_atime_ns if read else None,
            )
        return found


def build(root: Path, seeds: int) -> Place:
    """Make the results folder from one run that is trained, copied to be ``seeds`` runs a grid."""
    place = Place(root)
    place.data.mkdir(parents=True)
    trained = _train(root / "trained", place.data)
    for name in ("good", "bad"):
        raw = settings(name=name, model="fnn", loss="bce", estimator="kl", seeds=seeds)
        if name == "bad":
            place.file.write_text(dump_yaml(raw))
        grid = make_grid(raw)
        folder = place.results / name
        for planned in grid.runs():
            _copy(trained, folder / "runs" / planned.config.run_id, planned)
        folder.joinpath("grid.yaml").write_text(dump_yaml(make_manifest(grid, grid.runs())))
        for file in GRID_FILES[1:]:
            (folder / file).write_text("")
        for file in (".work", ".mlflow.id", "reference.json"):
            (folder / file).unlink()
        write_reference(folder, [grid.runs()[0].config], place.data, Listener())
        for file in manifest.PICTURES:
            picture(folder / file)
    _send(place)
    with closing(sqlite3.connect(place.results / "mlflow.db")) as connection:
        # every run looks as if MLflow had not got all of it, so that it is sent again
        connection.execute("DELETE FROM tags WHERE key = 'vaebench.sent'")
        connection.commit()
    shutil.copytree(place.results, place.pristine)
    return place


def _train(folder: Path, data: Path) -> Path:
    config = make_run(settings(model="fnn", loss="bce", estimator="kl"))
    os.environ["VAEBENCH_DATA"] = str(data)
    record = run(Task(config=config, cell={}, folder=folder, device="cpu", data_dir=data))
    assert record["status"] == "complete", record["reason"]
    shutil.rmtree(folder / "figures", ignore_errors=True)
    shutil.rmtree(folder / "images", ignore_errors=True)
    for name in (*PICTURES, *FIGURES):
        picture(folder / name)
    (folder / "error.txt").write_text("an earlier attempt\n")
    shutil.copytree(folder, folder / "attempts" / "1", ignore=shutil.ignore_patterns("attempts"))
    return folder


def picture(path: Path) -> None:
    """A small PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16), 128, np.uint8)).save(path)


def _copy(trained: Path, folder: Path, planned: Any) -> None:
    shutil.copytree(trained, folder)
    config = planned.config
    (folder / "config.yaml").write_text(dump_yaml(config.to_dict()))
    record = RunStore(trained).record or {}
    record |= {"run_id": folder.name, "cell": dict(planned.cell), "seed": config.seed}
    (folder / "record.json").write_text(dump_json(record | {"config": config.to_dict()}))


def _send(place: Place) -> None:
    """Fill MLflow's store once, in a child: who has opened a store goes on with that file."""
    from vaebench.tracking import sync_all

    child = os.fork()
    if not child:
        code = 1
        try:
            sync_all(place.results, None, lambda _: None)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, "MLflow could not be filled"
