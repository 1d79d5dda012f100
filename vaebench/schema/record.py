"""``record.json``, what stays of a run: whether it is one is decided here, and nowhere else.

Records stay readable for ever. A record says by ``schema_version`` how it is written; one that does
not is of version 1. To change what a record holds: raise :data:`SCHEMA_VERSION`, add the step from
the version before to :data:`MIGRATIONS`, and a real record of that version to the tests.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vaebench.errors import ResultsError
from vaebench.files import read_json
from vaebench.schema.faults import first_fault, later
from vaebench.schema.manifest import Planned

SCHEMA_VERSION = 2
Status = Literal["complete", "failed", "interrupted"]
OWN_FIGURES = "own-"  # begins the names of pictures that plugins have drawn
COMPONENTS = ("model", "loss", "estimator", "dataset")  # which have versions


class Record(BaseModel):
    """What every record holds; further keys are the run's own, and are kept as they are."""

    model_config = ConfigDict(strict=True)

    schema_version: int = Field(1, ge=1, description="how the record is written")
    run_id: str = Field(min_length=1, description="hash of the configuration")
    status: Status
    cell: dict[str, Any] = Field(description="the values of the grid's axes")
    seed: int = Field(ge=0)
    attempt: Any = Field(1, description="which attempt at the run it was, from 1 on")
    versions: dict[str, Any] = Field({}, description="of the shared code and of the components")
    config: dict[str, Any] = Field({}, description="the resolved configuration")
    support: Any = Field(
        None, description="pixels on which the loss is a normalised density: binary, unit, real"
    )
    importance_weighted: Any = Field(
        None, description="whether the estimator's bound is not the ELBO but a closer one"
    )
    metrics: dict[str, float | None] = Field(
        description='final numbers, {"test/elbo": ...}; null: not measured'
    )
    metric_declarations: dict[str, dict[str, Any]] = Field(
        {},
        description="what each number says about itself, by the name behind the slash: title, "
        "unit, direction (higher, lower, null), comparable (within one likelihood, dataset or "
        "machine), version of its definition, samples",
    )
    environment: dict[str, Any] = Field(description="machine, packages, commit, data set")
    plugins: list[dict[str, Any]] = Field(
        [],
        description="code of others that it was trained with: name, digest of its source, the "
        "installed package, what it provides",
    )
    finished: int = Field(description="Unix time in milliseconds")
    notes: Any = Field([], description="what a reader of the numbers must know")
    reason: Any = Field(None, description="why the run did not complete")

    @classmethod
    def check(cls, value: Mapping[str, Any], source: object = "record.json") -> dict[str, Any]:
        """A record in today's form; what was not measured, or is not finite, is None.

        Its ``schema_version`` stays: it says how the file is written.

        Arguments:
            value: What a file holds.
            source: For the message.

        Raises:
            ResultsError: It is no record, or one of a later version.
        """
        try:
            version = cls.model_validate(value).schema_version
        except ValidationError as error:
            raise ResultsError(
                f"{source}: damaged: not the record of a run ({first_fault(error)})"
            ) from error
        if version > SCHEMA_VERSION:
            raise ResultsError(f"{source}: {later(version, SCHEMA_VERSION)}")
        record = dict(value)
        for older in range(version, SCHEMA_VERSION):
            MIGRATIONS[older](record)
        record["metrics"] = {name: finite(number) for name, number in value["metrics"].items()}
        return record

    @classmethod
    def read(cls, path: Path, within: Path | None = None) -> dict[str, Any] | None:
        """Read and check a record; None when there is none.

        Raises:
            ResultsError: As for :func:`vaebench.files.open_file`, or for :meth:`check`.
        """
        value = read_json(path, within)
        return None if value is None else cls.check(value, path)

    @classmethod
    def read_planned(
        cls, path: Path, run: Planned, within: Path | None = None
    ) -> dict[str, Any] | None:
        """Read and check the record of a run that a manifest lists; None when there is none.

        Raises:
            ResultsError: As for :meth:`read`, or it is that of another run.
        """
        record = cls.read(path, within)
        if record is None:
            return None
        if record["run_id"] != run.run_id:
            raise ResultsError(f"{path}: is the record of run {record['run_id']!r}")
        if record["cell"] != run.cell or record["seed"] != run.seed:
            raise ResultsError(f"{path}: its cell or seed is not that of the manifest")
        return record


def _to_2(record: dict[str, Any]) -> None:
    """Version 1 left out what there was nothing to say of; :func:`versions` knows its versions."""
    record.setdefault("metric_declarations", {})
    record.setdefault("notes", [])


MIGRATIONS: dict[int, Callable[[dict[str, Any]], None]] = {1: _to_2}
"""What brings a record from a version to the next, in place."""


def finite(value: Any) -> float | None:
    """A number as it is; None for what was not measured, is not finite, or has no finite square."""
    try:
        finite = isinstance(value, int | float) and math.isfinite(float(value) * value)
    except OverflowError:
        finite = False
    return value if finite else None


def versions(record: Mapping[str, Any]) -> dict[str, Any]:
    """Versions of the code that made a record: ``numbers``, which all runs share, and components'.

    A record of the time before components had versions has ``numbers_version`` instead: what it
    used are first versions.
    """
    known = record.get("versions")
    return {
        "numbers": record.get("numbers_version"),
        **dict.fromkeys(COMPONENTS, 1),
        **(known if isinstance(known, dict) else {}),
    }


def outdated(records: Sequence[Mapping[str, Any]]) -> dict[str, Literal["stale", "superseded"]]:
    """Which completed records of a grid are of older data or code than its others, by run id.

    Stale: of other source data than the run of the same data set that finished last, or of another
    source of a plugin than the run that used it last. Superseded: of a version of the shared code,
    or of a component, that another record shows to be an older one.
    """
    done = [record for record in records if record["status"] == "complete"]
    digests: dict[tuple[str, str], Any] = {}
    newest: dict[tuple[str, Any], int] = {}
    for record in sorted(done, key=lambda record: record["finished"]):
        digests |= _sources(record)
        for key, version in _versions(record).items():
            newest[key] = max(version, newest.get(key, 0))
    states: dict[str, Literal["stale", "superseded"]] = {}
    for record in done:
        if any(digests[key] != digest for key, digest in _sources(record).items()):
            states[record["run_id"]] = "stale"
        elif any(version < newest[key] for key, version in _versions(record).items()):
            states[record["run_id"]] = "superseded"
    return states


def _sources(record: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Digests of a run's data and plugins, by what they are of."""
    data = record.get("environment", {}).get("dataset")
    data = data if isinstance(data, dict) else {}
    of_plugins = {("plugin", name): digest for name, digest in plugin_digests(record).items()}
    chosen = record.get("config", {}).get("dataset")
    name = str(data.get("name"))
    options = chosen.get(name) if isinstance(chosen, dict) else None  # such as a folder's path
    return {("data", f"{name} {options}"): data.get("digest"), **of_plugins}


def plugin_digests(record: Mapping[str, Any]) -> dict[str, Any]:
    """Digests of the plugins that a run was trained with, by name."""
    return {str(entry.get("name")): entry.get("digest") for entry in record.get("plugins") or []}


def _versions(record: Mapping[str, Any]) -> dict[tuple[str, Any], int]:
    """The versions of the components in use, by what they are of: ``("model", "cnn")``."""
    return {
        (part, str(_named(record, part))): version
        for part, version in versions(record).items()
        if isinstance(version, int)
    }


_SUPPORTS = {"bce": "binary", "mse": "real", "gaussian": "real", "cb": "unit"}
_IMPORTANCE_WEIGHTED = ("iwae", "dreg")


def support(record: Mapping[str, Any]) -> str | None:
    """The pixels on which its loss is a normalised density: ``binary``, ``unit`` or ``real``."""
    # records once did not say it, of the losses that there were
    return record.get("support") or _SUPPORTS.get(str(_named(record, "loss")))


def is_relaxed(record: Mapping[str, Any]) -> bool:
    """Whether its loss is one of binary pixels, on gray ones: no normalised density of them."""
    dataset = record.get("config", {}).get("dataset")
    gray = isinstance(dataset, dict) and dataset.get("binarize") == "none"
    return gray and support(record) == "binary"


def optimises_elbo(record: Mapping[str, Any]) -> bool:
    """Whether its estimator is one of the ELBO: importance-weighted ones bound log p(x) closer."""
    known = record.get("importance_weighted")
    return not (_named(record, "estimator") in _IMPORTANCE_WEIGHTED if known is None else known)


def _named(record: Mapping[str, Any], part: str) -> Any:
    section = record.get("config", {}).get(part)
    return section.get("name") if isinstance(section, dict) else None
