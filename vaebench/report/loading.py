"""Reading a grid's folder: the manifest, the records that belong to it, and what is wrong.

Everything that a report says comes from a :class:`Report`. Records that cannot be read are kept
apart with the reason and never stop a report. To use another field of a record, declare it in
:class:`vaebench.schema.record.Record` when a wrong type there would break a table.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from vaebench.errors import ResultsError, VaebenchError
from vaebench.files import names_in
from vaebench.report.sharing import Sharing
from vaebench.schema import record as schema
from vaebench.schema.faults import first_fault
from vaebench.schema.manifest import Planned, grid_dirs, planned, read_manifest
from vaebench.schema.section import Section
from vaebench.schema.trial import is_trial
from vaebench.text import one_line

MAX_REASON = 300  # characters of what is said of a damaged record
Record = dict[str, Any]
_Section = TypeVar("_Section", bound=Section)


@dataclass(frozen=True)
class Damaged:
    """A run whose record is there but cannot be used, and why."""

    run: Planned
    reason: str


@dataclass
class Report:
    """A grid's folder as it was read.

    Attributes:
        directory: The folder that holds ``grid.yaml``.
        manifest: ``grid.yaml``.
        planned: The manifest's runs, in its order.
        records: The readable records of the manifest's runs, in its order.
        missing: Runs of the manifest that have no record: never started, or still running.
        foreign: Names of folders under ``runs/`` that the manifest does not list.
        damaged: Runs of the manifest whose record cannot be used.
    """

    directory: Path
    manifest: dict[str, Any]
    planned: tuple[Planned, ...]
    records: tuple[Record, ...]
    missing: tuple[Planned, ...]
    foreign: tuple[str, ...]
    damaged: tuple[Damaged, ...]

    @classmethod
    def read(cls, directory: Path | str, *, superseded: bool = False) -> Self:
        """Read the grid in ``directory``, or the only grid of a results folder.

        Arguments:
            directory: The folder.
            superseded: Read the runs of older versions of vaebench, whose place others have taken.

        Raises:
            ResultsError: There is no grid, there are several, or the manifest cannot be read.
        """
        grid = _grid_of(Path(directory))
        manifest = read_manifest(grid)
        runs = planned(manifest, "superseded" if superseded else "runs")
        share = Sharing()
        found = [
            (run, share(record) if isinstance(record, dict) else record)
            for run in runs
            for record in [read_record(grid, run)]
        ]
        known = {run.run_id for key in ("runs", "superseded") for run in planned(manifest, key)}
        folders = [name for name in _names(grid) if (grid / "runs" / name).is_dir()]
        return cls(
            directory=grid,
            manifest=manifest,
            planned=runs,
            records=tuple(record for _, record in found if isinstance(record, dict)),
            missing=tuple(run for run, record in found if record is None),
            foreign=tuple(name for name in folders if name not in known and name[0] != "."),
            damaged=tuple(record for _, record in found if isinstance(record, Damaged)),
        )

    @property
    def name(self) -> str:
        """The grid's name."""
        return str(self.manifest.get("name") or self.directory.name)

    @property
    def is_trial(self) -> bool:
        """Whether its runs were cut short to see whether they work."""
        return is_trial(self.manifest.get("settings"))

    def run_dir(self, run_id: str) -> Path:
        """The folder of one run."""
        return self.directory / "runs" / run_id

    def stated(self, key: str, kind: type[_Section]) -> list[_Section]:
        """What the manifest states under ``key``: its claims, say.

        Raises:
            ResultsError: It is damaged.
        """
        try:
            return TypeAdapter(list[kind]).validate_python(self.manifest.get(key) or [])  # type: ignore[valid-type]
        except ValidationError as error:
            raise ResultsError(
                f"{self.directory / 'grid.yaml'}: {key}: damaged ({first_fault(error)}); "
                "run the grid again to write it anew"
            ) from error


def read_record(grid: Path, run: Planned, at: Path | None = None) -> Record | Damaged | None:
    """The record of one planned run; None when there is none; the reason when it is unusable.

    ``at``: the run's folder; None for that of a published run.
    """
    path = (at or grid / "runs" / run.run_id) / "record.json"
    try:
        return schema.Record.read_planned(path, run, grid)
    except (VaebenchError, OSError, ValueError) as error:
        # a report is published: where the folder lies on this machine is nobody's business
        said = str(error).replace(f"{path.parent}{os.sep}", "").replace(f"{grid}{os.sep}", "")
        return Damaged(run, one_line(said, MAX_REASON))


def _names(grid: Path) -> list[str]:
    """Names of what lies in ``runs/``; none where that is no folder, which records tell."""
    try:
        return names_in(grid / "runs", grid)
    except ResultsError:
        return []


def setting(record: Record, *path: str) -> Any:
    """A value of the record's config; None where there is none."""
    return dig(record.get("config"), *path)


def dig(value: Any, *path: str) -> Any:
    """A value deep inside nested dicts; None where there is none."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    below = (flat(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items())
    return {key: leaf for part in below for key, leaf in part.items()}


def differing(first: Any, second: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted keys at which two nested mappings differ, with both values; None for a missing one."""
    one, other = flat(first), flat(second)
    pairs = {key: (one.get(key), other.get(key)) for key in {**one, **other}}
    return {key: (a, b) for key, (a, b) in pairs.items() if a != b}


def in_words(value: object) -> str:
    """A value of a mapping for readers."""
    return "none" if value is None else str(value)


def counted(n: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def listed(values: Iterable[Any], last: str = "and") -> str:
    """``a, b and c``."""
    texts = [str(value) for value in values]
    return f" {last} ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _grid_of(directory: Path) -> Path:
    if not directory.is_dir():
        raise ResultsError(
            f"{directory}: no such folder; train a grid with `vaebench run-grid`, "
            "or name the folder it wrote to"
        )
    grids = grid_dirs(directory)
    if len(grids) == 1:
        return grids[0]
    if not grids:
        raise ResultsError(
            f"{directory}: holds no grid (no grid.yaml here or one level below); "
            "train one with `vaebench run-grid`, or name the folder it wrote to"
        )
    names = ", ".join(grid.name for grid in grids)
    raise ResultsError(
        f"{directory}: holds several grids ({names}); name one of them, e.g. {grids[0]}"
    )
