"""A grid that was read, and what its records show: what every format takes.

Nothing here is rounded or put in words. To add something that all formats should know, add a
property to :class:`Analysis`.
"""

from functools import cached_property
from pathlib import Path

from vaebench.report.cells import Cell, cells
from vaebench.report.claims import Judged, claims
from vaebench.report.effects import Effect, effects
from vaebench.report.loading import Report
from vaebench.report.published import Reproduction, reproductions
from vaebench.report.tables import Table, main_table


class Analysis(Report):
    """A grid's folder as it was read, with what follows from its records.

    Each part is computed once, when it is first asked for: CSV needs no tests, and a damaged claim
    hides no numbers.
    """

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The manifest's cells in its order, each summarised over its seeds."""
        return cells(self.planned, self.records)

    @cached_property
    def table(self) -> Table:
        """What was measured on the test split, one row per cell."""
        return main_table(self.cells)

    @cached_property
    def effects(self) -> tuple[Effect, ...]:
        """What each axis does, by every ranked metric."""
        return effects(self.table, self.cells)

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


def load(directory: Path | str) -> Analysis:
    """Read the grid in ``directory``, or the only grid of a results folder.

    Raises:
        ResultsError: There is no grid, there are several, or the manifest cannot be read.
    """
    return Analysis.read(directory)
