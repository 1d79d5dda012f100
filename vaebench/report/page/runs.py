"""The run that stands for a cell: what the page has of its images and codes.

Images come from the run's arrays, those of earlier epochs from the tiles that it left.
"""

import base64
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.errors import VaebenchError
from vaebench.report.cells import Cell
from vaebench.report.loading import Record, Report, dig
from vaebench.report.page.sprites import (
    Pixels,
    read_tile,
    split_pairs,
    sprite,
    tiles,
    to_pixels,
)
from vaebench.schema.labels import median_seed
from vaebench.storage import RunStore

MAX_EPOCHS = 8  # with pictures
MAX_CODES = 16_384  # numbers in the codes of a run
RANKED = 8  # images each that a run ranks as best, median and worst


def shorts(values: Iterable[float]) -> list[float | None]:
    """Numbers as :func:`short` has them."""
    return [short(value) for value in values]


def short(value: float) -> float | None:
    """Six digits, which no screen has more of; None where there is no number."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


@dataclass
class ShownRun:
    """The run whose pictures stand for a cell, with its arrays and the tiles that it left."""

    id: str
    record: Record
    why: str
    store: RunStore
    arrays: dict[str, NDArray[Any]]
    tiles: dict[str, dict[int, Any]]

    @classmethod
    def of(cls, report: Report, cell: Cell) -> "ShownRun | None":
        """The run of median validation ELBO; None where no run is complete."""
        if not cell.records:
            return None
        place, why = median_seed(cell.records)
        record = cell.records[place]
        store = RunStore(report.run_dir(record["run_id"]))
        try:
            arrays = store.arrays() or {}
        except VaebenchError:
            arrays = {}
        found = {kind: tiles(store.images, kind) for kind in ("reconstruction", "samples")}
        return cls(record["run_id"], record, why, store, arrays, found)

    @property
    def has_decoder(self) -> bool:
        """Whether there is a file of its decoder."""
        return (self.store.path / "decoder.safetensors").is_file()

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """The shape of an image (C, H, W)."""
        if "originals" in self.arrays:
            channels, height, width = self.arrays["originals"].shape[1:]
            return channels, height, width
        shape = dig(self.record, "environment", "dataset", "shape")
        return tuple(shape) if isinstance(shape, list) and len(shape) == 3 else None

    @property
    def epochs(self) -> list[int]:
        """The epochs that are shown, evenly chosen, the measured one last."""
        last = dig(self.record, "measured", "epoch") or self.record.get("epochs") or 0
        known = [e for e in self.tiles["reconstruction"] if e in self.tiles["samples"]]
        before = [epoch for epoch in known if epoch < last]
        places = np.linspace(0, len(before) - 1, min(len(before), MAX_EPOCHS - 1)).round()
        there = "originals" in self.arrays or last in known
        return [before[int(i)] for i in dict.fromkeys(places)] + ([last] if there else [])

    def describe(self, originals: list[Pixels], count: int, live: bool) -> dict[str, Any]:
        """What the page is told of the run; the test images are entered into ``originals``."""
        arrays = self.arrays
        described: dict[str, Any] = {
            "id": self.id,
            "seed": self.record["seed"],
            "why": self.why,
            "rates": shorts(self.record.get("rate_per_dimension") or []),
            **self._wall(originals, count),
            **dict.fromkeys(("ranked", "traversals", "values", "codes")),
        }
        if "ranked_originals" in arrays and count and len(arrays["ranked"]) == 3 * RANKED:
            pairs = [arrays["ranked_originals"], arrays["ranked_reconstructions"]]
            described["ranked"] = sprite(to_pixels(np.stack(pairs)))
        if not live and "traversals" in arrays and arrays["traversals"].size < 2**20:
            described["traversals"] = sprite(to_pixels(arrays["traversals"]))
            described["values"] = shorts(arrays["traversal_values"])
        if "latent_2d" in arrays and (live or described["traversals"]):
            described["codes"] = _codes(arrays)
        return described

    def _wall(self, originals: list[Pixels], count: int) -> dict[str, Any]:
        rows: dict[str, list[Pixels]] = {"reconstruction": [], "samples": []}
        tests: Pixels | None = None
        epochs = []
        for epoch in self.epochs if count and self.shape else []:
            images = self._images(epoch)
            if images is not None:
                epochs.append(epoch)
                tests = images[0]
                rows["reconstruction"].append(images[1])
                rows["samples"].append(images[2])
        if tests is None:
            return {"epochs": [], "original": None, "reconstruction": None, "samples": None}
        least = min(count, *(len(images) for some in rows.values() for images in some))
        tests = tests[:least]
        same = [i for i, known in enumerate(originals) if np.array_equal(known, tests)]
        if not same:
            originals.append(tests)
        return {
            "epochs": epochs,
            "original": same[0] if same else len(originals) - 1,
            **{
                kind: sprite(np.stack([images[:least] for images in some]))
                for kind, some in rows.items()
            },
        }

    def _images(self, epoch: int) -> tuple[Pixels, Pixels, Pixels] | None:
        """Originals, reconstructions and samples of an epoch."""
        names = ("originals", "reconstructions", "samples")
        if epoch == self.epochs[-1] and all(name in self.arrays for name in names):
            first, second, third = (to_pixels(self.arrays[name]) for name in names)
            return first, second, third
        shape = self.shape
        if shape is None:
            return None
        shown = len(self.arrays["originals"]) if "originals" in self.arrays else 64
        paired = read_tile(self.tiles["reconstruction"][epoch], shape, shown)
        samples = read_tile(self.tiles["samples"][epoch], shape, 64)
        if paired is None or samples is None:
            return None
        return *split_pairs(paired), samples


def _codes(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    mean, flat = arrays["latent_mean"], arrays["latent_2d"]
    count = min(len(mean), max(MAX_CODES // mean.shape[1], 64), 1000)
    described: dict[str, Any] = {"count": count, "size": mean.shape[1]}
    for name, values in (("mean", mean), ("map", flat)):
        scale = float(np.abs(values[:count]).max()) / 32767 or 1.0
        whole = np.rint(values[:count] / scale).astype("<i2")
        described[name] = base64.b64encode(whole.tobytes()).decode()
        described[f"{name}_scale"] = scale
    return {**described, "labels": [int(label) for label in arrays["labels"][:count]]}
