"""Reference rows: what real images, the exact linear optimum and no training reach.

They are read from ``reference.json``, stand below the table of cells, and are never ranked. A row
is shown where a cell of the grid has its data, and a number of it where it compares with that of a
cell. To add a kind, see :mod:`vaebench.schema.reference`, and give it a label and a note here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaebench.errors import ResultsError
from vaebench.report.cells import Cell, declarations
from vaebench.report.loading import Record, Report, dig, setting
from vaebench.report.ranking import base_measure_key
from vaebench.schema.reference import FILE, read_reference
from vaebench.text import one_line

MAX_LABEL = 100  # characters
CEILINGS = ("test/precision", "test/recall")  # beyond what real images reach, nothing is better
RANKED_NOT = "Reference rows are measured once for a data set, and never ranked."
NOTES = {
    "real": "Real images: images that neither a model nor the classifier was trained on, against "
    "the test images. No row is bold whose precision or recall lies beyond theirs.",
    "ppca": "Exact pPCA: the optimum of a linear model with one Gaussian variance, fitted to the "
    "training images, in closed form; its ELBO is its log p(x), a density of the pixels.",
    "untrained": "Untrained: the weights that training starts from, of the cheapest model; its "
    "precision means nothing, as all that it generates is one image.",
}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Reference:
    """A reference row as tables show it.

    Attributes:
        kind: ``real``, ``ppca`` or ``untrained``.
        label: What it is called.
        values: By metric, those that compare with a cell's.
    """

    kind: str
    label: str
    values: dict[str, float]


def read_rows(report: Report) -> tuple[list[dict[str, Any]], str | None]:
    """The rows of a grid, and what is wrong with their file, if anything is."""
    try:
        return read_reference(report.directory / FILE, report.directory), None
    except ResultsError as error:
        where = f"{report.directory}/"  # where the folder lies on this machine is nobody's business
        return [], f"{str(error).replace(where, '')}; the same command writes it anew"


def ceilings(rows: Sequence[Row], record: Record) -> dict[str, float]:
    """What real images of a record's data set reach, by metric."""
    return {
        name: row["metrics"][name]
        for row in rows
        if row["kind"] == "real" and _same_data(row, record)
        for name in CEILINGS
        if row["metrics"].get(name) is not None
    }


def references(rows: Sequence[Row], cells: Sequence[Cell]) -> tuple[Reference, ...]:
    """The rows that have something in common with a cell, in the order of their kinds."""
    found = []
    records = [cell.records[0] for cell in cells if cell.records]
    several = len({repr(setting(record, "dataset")) for record in records}) > 1
    declared, _ = declarations(records)
    for kind in NOTES:
        for row in (row for row in rows if row["kind"] == kind):
            partners = [record for record in records if _belongs(row, record)]
            values = _values(row, partners, declared)
            if values:
                found.append(Reference(kind, _label(row, several), values))
    return tuple(found)


def reference_notes(shown: Sequence[Reference]) -> list[str]:
    """What a reader must know of the rows that are shown."""
    kinds = dict.fromkeys(row.kind for row in shown)
    return [RANKED_NOT, *(NOTES[kind] for kind in kinds)] if kinds else []


def _same_data(row: Row, record: Record) -> bool:
    data = dig(record.get("environment"), "dataset")
    here = dig(data, "name"), dig(data, "digest")
    return here == (dig(row["config"], "dataset", "name"), row["digest"])


def _belongs(row: Row, record: Record) -> bool:
    """Whether a record has what a row depends on."""
    if not _same_data(row, record):
        return False
    if row["kind"] == "real":
        return True
    paths = [("dataset",), ("model", "latent_dim") if row["kind"] == "ppca" else ("loss",)]
    return all(dig(row["config"], *path) == setting(record, *path) for path in paths)


def _values(
    row: Row, partners: Sequence[Record], declared: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """The numbers of a row that compare with those of some of its partners."""
    measures = {base_measure_key(record) for record in partners}
    values = {}
    for name, value in row["metrics"].items():
        base = name.partition("/")[2]
        declaration = declared.get(base, {})
        measured = any(record["metrics"].get(name) is not None for record in partners)
        current = row["versions"].get(base) == declaration.get("version")
        # a bound compares by base measure; what has no better direction is only beside others
        ranked = declaration.get("direction") is not None
        bound = declaration.get("comparable") == "likelihood" and ranked
        apart = bound and base_measure_key(dict(row)) not in measures
        if value is not None and measured and current and not apart:
            values[name] = value
    return values


def _label(row: Row, several: bool) -> str:
    config = row["config"]
    model = dig(config, "model", "name")
    label = {
        "real": "real images",
        "ppca": f"exact pPCA, Z = {dig(config, 'model', 'latent_dim')}",
        "untrained": f"untrained {model} / {dig(config, 'loss', 'name')}",
    }[row["kind"]]
    if several:
        words = [dig(config, "dataset", "name"), dig(config, "dataset", "binarize")]
        label += f" ({', '.join(str(word) for word in words if word not in (None, 'none'))})"
    return one_line(label, MAX_LABEL)
