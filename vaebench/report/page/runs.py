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
from vaebench.report.cells import Cell, chosen
from vaebench.report.loading import Record, Report, dig
from vaebench.report.page.sprites import (
    Pixels,
    read_tile,
    split_pairs,
    sprite,
    tiles,
    to_pixels,
)
from vaebench.schema.record import finite
from vaebench.storage import RunStore

MAX_EPOCHS = 8  # with pictures
MAX_CODES = 16_384  # numbers in the codes of a run
_RANKS = {  # of the arrays that the page has use for
    **dict.fromkeys(("originals", "reconstructions", "samples"), 4),
    **dict.fromkeys(("ranked_originals", "ranked_reconstructions"), 4),
    **{"traversals": 5, "traversal_values": 1, "latent_mean": 2, "latent_2d": 2, "labels": 1},
}
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
        choice = chosen(cell)
        if choice is None:
            return None
        record, why = choice
        store = RunStore(report.run_dir(record["run_id"]))
        try:
            arrays = _usable(store.arrays() or {})
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
        last = int(finite(dig(self.record, "measured", "epoch")) or 0)
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
            "rates": self._rates(),
            **self._wall(originals, count),
            **dict.fromkeys(("ranked", "traversals", "values", "codes")),
        }
        pairs = [arrays.get(f"ranked_{name}") for name in ("originals", "reconstructions")]
        ranked = [pair for pair in pairs if pair is not None and len(pair) == 3 * RANKED]
        if len(ranked) == 2 and count:
            described["ranked"] = sprite(to_pixels(np.stack(ranked)))
        moved, values = arrays.get("traversals"), arrays.get("traversal_values")
        if not live and moved is not None and values is not None and moved.size < 2**20:
            described["traversals"] = sprite(to_pixels(moved))
            described["values"] = shorts(values)
        codes = [arrays.get(name) for name in ("latent_mean", "latent_2d", "labels")]
        if codes[0] is not None and codes[2] is None:  # images without labels are of one class
            codes[2] = np.zeros(len(codes[0]), int)
        known = [array for array in codes if array is not None]
        if len(known) == 3 and (live or described["traversals"]):
            described["codes"] = _codes(*known)
        return described

    def _rates(self) -> list[float | None]:
        found = self.record.get("rate_per_dimension")
        rates = [finite(rate) for rate in found] if isinstance(found, list) else []
        return [None if rate is None else short(rate) for rate in rates]

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


def _usable(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Those that are numbers of the right rank, and of images those of the test images' shape."""
    found = {
        name: array
        for name, array in arrays.items()
        if array.ndim == _RANKS.get(name) and array.dtype.kind in "fiu" and array.size
    }
    shape = found["originals"].shape[1:] if "originals" in found else ()
    return {
        name: array
        for name, array in found.items()
        if _RANKS[name] < 4 or (array.shape[-3:] == shape and shape[0] in (1, 3))
    }


def _codes(mean: NDArray[Any], flat: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any] | None:
    count = min(len(mean), len(flat), len(labels), max(MAX_CODES // mean.shape[1], 64), 1000)
    described: dict[str, Any] = {"count": count, "size": mean.shape[1]}
    for name, values in (("mean", mean), ("map", flat)):
        scale = float(np.abs(values[:count]).max()) / 32767 or 1.0
        if not math.isfinite(scale):
            return None
        whole = np.rint(values[:count] / scale).astype("<i2")
        described[name] = base64.b64encode(whole.tobytes()).decode()
        described[f"{name}_scale"] = scale
    return {**described, "labels": [int(label) for label in labels[:count]]}
