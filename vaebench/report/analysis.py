"""A grid that was read, and what its records show: what every format takes.

Nothing here is rounded or put in words. To add something that all formats should know, add a
property to :class:`Analysis`.
"""

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from vaebench.errors import ConfigError
from vaebench.report.budget import Budget, budget
from vaebench.report.cells import Cell, cells
from vaebench.report.claims import Judged, claims
from vaebench.report.conditions import AT_RATE
from vaebench.report.effects import Effect, effects
from vaebench.report.loading import Report
from vaebench.report.published import Reproduction, reproductions
from vaebench.report.references import Reference, ceilings, read_rows, references
from vaebench.report.tables import Table, main_table, measured
from vaebench.schema.section import did_you_mean


class Analysis(Report):
    """A grid's folder as it was read, with what follows from its records.

    Each part is computed once, when it is first asked for: CSV needs no tests, and a damaged claim
    hides no numbers.
    """

    columns: tuple[str, ...] | None = None

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The manifest's cells in its order, each summarised over its seeds."""
        rows, _ = self.reference_rows
        return cells(self.planned, self.records, partial(ceilings, rows))

    @cached_property
    def reference_rows(self) -> tuple[list[dict[str, Any]], str | None]:
        """The rows of ``reference.json``, and what is wrong with it, if anything is."""
        return read_rows(self)

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """What real images, the exact linear optimum and no training reach."""
        return references(self.reference_rows[0], self.cells)

    @cached_property
    def table(self) -> Table:
        """What was measured on the test split, one row per cell: all, or the chosen columns."""
        return main_table(self.cells, self.columns, self.references)

    @cached_property
    def effects(self) -> tuple[Effect, ...]:
        """What each axis does, by every ranked metric."""
        return effects(self.table, self.cells)

    @cached_property
    def budget(self) -> Budget:
        """The cells' validation scores over what was spent."""
        return budget(self, self.cells)

    @cached_property
    def claims(self) -> tuple[Judged, ...]:
        """The claims of the grid with their verdicts.

        Raises:
            ResultsError: The manifest's claims are damaged.
        """
        return claims(self, self.cells)

    @cached_property
    def reproductions(self) -> tuple[Reproduction, ...]:
        """The published numbers that the grid names, each beside ours.

        Raises:
            ResultsError: The manifest's entries are damaged.
        """
        return reproductions(self, self.cells)


def load(
    directory: Path | str, columns: Sequence[str] | None = None, *, superseded: bool = False
) -> Analysis:
    """Read the grid in ``directory``, or the only grid of a results folder.

    Arguments:
        directory: The folder.
        columns: Metrics of the test split that tables and effects show, in this order
            (``elbo``, ``ssim``); None for all. SSIM and PSNR bring the rate with them.
        superseded: Read the runs of older versions of vaebench, whose place others have taken.

    Raises:
        ConfigError: No run has measured a column.
        ResultsError: There is no grid, there are several, or the manifest cannot be read.
    """
    analysis = Analysis.read(directory, superseded=superseded)
    if columns is not None:
        names = [column.removeprefix("test/") for column in columns]
        known = measured(analysis.cells)
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"columns: no run has measured {name!r}; {did_you_mean(name, known)}"
                )
        if "rate" in known and {f"test/{name}" for name in names} & {*AT_RATE}:
            names += ["rate"] * ("rate" not in names)
        analysis.columns = tuple(names)
    return analysis
