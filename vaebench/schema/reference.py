"""``reference.json``, the reference rows of a grid's data sets: what is one is decided here.

A row is no cell: it says what is reached without any training, so that a reader can place the
numbers of those that were trained. They are measured when a grid ends, and only shown from then on.

- ``real``: real images against the test images: precision, recall, Fréchet distance;
- ``ppca``: the exact optimum of a linear model with one Gaussian variance;
- ``untrained``: a model of the grid with the weights that it starts from.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vaebench.errors import ResultsError
from vaebench.files import read_json
from vaebench.schema.faults import first_fault, later
from vaebench.schema.record import finite

REFERENCE_VERSION = 1
MAX_ROWS = 1_000
FILE = "reference.json"


class ReferenceRow(BaseModel):
    """A row; further keys are kept as they are."""

    model_config = ConfigDict(strict=True)

    kind: Literal["real", "ppca", "untrained"]
    key: str = Field(pattern=r"^[0-9a-f]{12}$", description="hash of all that it depends on")
    digest: str = Field(max_length=64, description="of the source data")
    config: dict[str, Any] = Field(description="dataset, and of a model: model, loss, seed")
    support: Any = Field(None, description="as in a record; null where there is no bound")
    metrics: dict[str, float | None] = Field(description='{"test/precision": ...}')
    versions: dict[str, int] = Field(description="of the metrics' definitions, by name")
    images: Any = Field(None, description="how many real images were compared with the test images")


class Reference(BaseModel):
    """What every ``reference.json`` holds."""

    model_config = ConfigDict(strict=True)

    schema_version: int = Field(1, ge=1)
    rows: list[ReferenceRow] = Field(max_length=MAX_ROWS)


def read_reference(path: Path, within: Path | None = None) -> list[dict[str, Any]]:
    """The rows of a file; none when there is no file. What is not finite is None.

    Raises:
        ResultsError: As for :func:`vaebench.files.open_file`, or it holds something else, or is of
            a later version.
    """
    value = read_json(path, within)
    if value is None:
        return []
    try:
        version = Reference.model_validate(value).schema_version
    except ValidationError as error:
        raise ResultsError(f"{path}: damaged: no reference rows ({first_fault(error)})") from error
    if version > REFERENCE_VERSION:
        raise ResultsError(f"{path}: {later(version, REFERENCE_VERSION)}")
    return [
        {**row, "metrics": {name: finite(number) for name, number in row["metrics"].items()}}
        for row in value["rows"]
    ]
