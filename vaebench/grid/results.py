"""What a grid left: :class:`Results`, returned by ``run_grid`` and read by :func:`load_results`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench import report
from vaebench.report.claims import Judged
from vaebench.report.loading import counted
from vaebench.tracking import Outcome

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Results:
    """What a grid left.

    Attributes:
        analysis: The grid's folder as it was read when the runs had ended.
        done: Records of the runs that this call did.
        tracking: What became of it in MLflow.
    """

    analysis: report.Analysis
    done: Sequence[dict[str, Any]] = ()
    tracking: Outcome = field(default_factory=lambda: Outcome(0, 0, [], None))

    @property
    def folder(self) -> Path:
        """The grid's folder."""
        return self.analysis.directory

    @property
    def records(self) -> Sequence[dict[str, Any]]:
        """One for each of its runs that has a record."""
        return self.analysis.records

    def __repr__(self) -> str:
        counts = Counter(record["status"] for record in self.records)
        parts = [counted(len(self.records), "run"), *(f"{n} {k}" for k, n in counts.items())]
        return f"<Results of {self.folder}: {', '.join(parts)}>"

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Records of the runs that failed in this call."""
        return [record for record in self.done if record["status"] == "failed"]

    @property
    def tuned(self) -> list[dict[str, Any]]:
        """The scores and picks of every tuned group, as in ``grid.yaml``."""
        return list(self.analysis.manifest.get("tuned", []))

    @property
    def cells(self) -> tuple[report.Cell, ...]:
        """The cells with their summaries over seeds, as in the report."""
        return self.analysis.cells

    @property
    def claims(self) -> tuple[Judged, ...]:
        """The claims of the grid with their verdicts, as in the report."""
        return self.analysis.claims

    def to_frame(self) -> "pd.DataFrame":
        """One row per run: axes, seed, status, metrics."""
        return report.to_frame(self.records)


def load_results(directory: Path | str) -> Results:
    """Read the results of a grid that was run before.

    Arguments:
        directory: The grid's folder, or a results folder that holds one grid.

    Raises:
        ResultsError: There is no grid, there are several, or the manifest cannot be read.
    """
    return Results(report.load(directory))
