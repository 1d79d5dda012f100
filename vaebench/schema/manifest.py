"""``grid.yaml``, the manifest of a grid, and where grids lie.

What is a manifest is decided here, and nowhere else. As with records, one that has no
``schema_version`` is of version 1.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from vaebench import plain_yaml
from vaebench.errors import ResultsError
from vaebench.files import MAX_MANIFEST_BYTES, read_file
from vaebench.schema.faults import first_fault, later

MANIFEST_VERSION = 2
# pictures of a grid, drawn at its end where there is something to draw
PICTURES = COMPARISON, BUDGET, OVER_RATE = "comparison.png", "budget.png", "rate.png"
MAX_VALUES = 1_000  # of a key that is tuned, in all groups

Score = Annotated[float, Field(allow_inf_nan=False)] | None


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


@dataclass(frozen=True)
class Planned:
    """A run as the manifest lists it, in ``runs``."""

    # the name of a folder, and no way out of runs/
    run_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", strict=True)
    cell: dict[str, Any] = Field(strict=True)
    seed: int = Field(ge=0, strict=True)


class TuneKey(_Part):
    """What is tuned, and for which groups of cells."""

    key: str
    per: list[str]
    values: list[Any]


class Tried(_Part):
    """A value that was tried: a score, or a failure, for each of the seeds."""

    value: Any
    scores: list[Score]
    failed: list[int]
    mean: Score


class Tuned(_Part):
    """A group of cells with its scores, one of whose values is the pick."""

    group: dict[str, Any]
    cell: dict[str, Any]
    seeds: list[int] = Field(min_length=1)
    values: list[Tried]
    epochs: int
    pick: Any = None
    edge: bool

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        for tried in self.values:
            scores = dict(zip(self.seeds, tried.scores, strict=False))
            missing = [seed for seed, score in scores.items() if score is None]
            if len(tried.scores) != len(self.seeds) or tried.failed != missing:
                raise ValueError("scores are not those of the seeds")
            if (tried.mean is None) != bool(missing):
                raise ValueError("a mean of seeds that failed")
        if not any(tried.value == self.pick for tried in self.values):
            raise ValueError("the pick is none of the values")
        return self


class Manifest(_Part):
    """What every manifest holds; further keys are kept as they are.

    ``superseded`` lists complete runs of older versions of vaebench, whose place others have taken.
    ``claims`` and ``published`` are checked where they are judged, see
    :mod:`vaebench.schema.claims`: one that is damaged must not hide the runs.
    """

    schema_version: int = Field(1, ge=1)
    name: str
    axes: dict[str, list[Any]]
    seeds: list[Any]
    runs: list[Planned]
    superseded: list[Planned] = []
    settings: dict[str, Any] = {}
    claims: Any = []
    published: Any = []
    tune: TuneKey | None = None
    tuned: list[Tuned] = []

    @model_validator(mode="after")
    def _no_run_twice(self) -> Self:
        counts = Counter(run.run_id for run in self.runs)
        if twice := [run_id for run_id, n in counts.items() if n > 1]:
            raise ValueError(f"lists run {twice[0]} more than once")
        return self

    @model_validator(mode="after")
    def _tuned_is_of_tune(self) -> Self:
        if not self.tuned:
            return self
        if self.tune is None or any(t.group.keys() != {*self.tune.per} for t in self.tuned):
            raise ValueError("tuned is no table of values, scores and picks of tune")
        tried = [entry.value for group in self.tuned for entry in group.values]
        if len({repr(value) for value in (*self.tune.values, *tried)}) > MAX_VALUES:
            raise ValueError(f"tuned has more than {MAX_VALUES:,} values")
        return self


def read_manifest(grid_dir: Path) -> dict[str, Any]:
    """Read and check ``grid.yaml``.

    Raises:
        ResultsError: There is none, it is damaged, or of a later version.
    """
    path = grid_dir / "grid.yaml"
    content = read_file(path, MAX_MANIFEST_BYTES)
    if content is None:
        raise ResultsError(f"{grid_dir}: not the folder of a grid: no grid.yaml in it")
    try:
        value = plain_yaml.load(content)
    except ValueError as error:
        raise ResultsError(f"{path}: damaged: {error}") from error
    try:
        version = Manifest.model_validate(value).schema_version
    except ValidationError as error:
        raise ResultsError(
            f"{path}: damaged: not the manifest of a grid ({first_fault(error)}); delete it and "
            f"run the same command (finished runs are kept)"
        ) from error
    if version > MANIFEST_VERSION:
        raise ResultsError(f"{path}: {later(version, MANIFEST_VERSION)}")
    manifest: dict[str, Any] = value
    return manifest


def planned(manifest: Mapping[str, Any], key: str = "runs") -> tuple[Planned, ...]:
    """The runs that a checked manifest lists, under ``runs`` or ``superseded``."""
    return tuple(Planned(run["run_id"], run["cell"], run["seed"]) for run in manifest.get(key, []))


def grid_dirs(results_dir: Path) -> list[Path]:
    """Folders of grids: ``results_dir`` itself if it is one, else those directly below it.

    A link that leads out of ``results_dir`` is passed over: who means that grid names its folder.
    """
    if os.path.lexists(results_dir / "grid.yaml"):
        return [results_dir]
    if not results_dir.is_dir():
        return []
    here = os.path.realpath(results_dir)
    return sorted(
        path
        for path in results_dir.iterdir()
        if os.path.lexists(path / "grid.yaml") and Path(os.path.realpath(path)).is_relative_to(here)
    )
