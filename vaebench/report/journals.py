"""The journals of a cell's runs as arrays: what was measured epoch by epoch."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.errors import VaebenchError
from vaebench.report.cells import Cell
from vaebench.report.loading import Report, dig
from vaebench.storage import RunStore

Journal = list[dict[str, Any]]


def journals(report: Report, cell: Cell) -> list[Journal]:
    """The journals of a cell's complete runs in their order; what cannot be read is left out."""
    found = []
    for record in cell.records:
        try:
            journal = RunStore(report.run_dir(record["run_id"])).journal
        except VaebenchError:
            continue
        if all(isinstance(dig(line, "metrics"), dict) and "epoch" in line for line in journal):
            found.append(journal)
    return found


def series(found: list[Journal], name: str, length: int) -> NDArray[np.float64]:
    """A metric of these journals, (S, length); NaN where it is missing or no finite number.

    A journal that is shorter keeps its last value to the end.
    """
    rows = [[_number(line["metrics"].get(name)) for line in journal[:length]] for journal in found]
    return np.array([row + row[-1:] * (length - len(row)) for row in rows], float)


def _number(value: Any) -> float:
    known = isinstance(value, int | float) and abs(value) < 1e300
    return float(value) if known and math.isfinite(value) else math.nan
