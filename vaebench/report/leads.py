"""The best of the cells that compare, the next, and whether that is more than the spread of seeds.

The page's answers and the scores over budget both judge a lead here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vaebench.report.cells import Cell
from vaebench.report.contrasts import Contrast, Terms, measure
from vaebench.statistics import Difference, Summary, summarise

CLEARLY, WITHIN = "leads clearly", "leads within the spread"


@dataclass(frozen=True)
class Lead:
    """The best two of a group of cells by one metric.

    Attributes:
        metric: Its name.
        first: The best cell.
        second: The next.
        group: All that were ranked, in the order of the cells.
        score: What ranks the first, in the metric's unit.
        by: The first's score minus the second's.
        contrast: The first minus the second, seed by seed.
        higher: Whether higher is better.
    """

    metric: str
    first: Cell
    second: Cell
    group: tuple[Cell, ...]
    score: float
    by: float
    contrast: Contrast
    higher: bool

    @property
    def word(self) -> str:
        """``leads clearly``, ``leads within the spread``, or why that cannot be told."""
        known = self.contrast.difference
        if known is None or known.n == 1:
            return f"leads, {'one seed: no test' if known else self.contrast.reason}"
        return CLEARLY if self._is_clear(known) else WITHIN

    @property
    def close(self) -> tuple[Cell, ...]:
        """The other cells that are not clearly behind the first, seed by seed."""
        best = self.first.measured(self.metric)
        return tuple(
            cell
            for cell in self.group
            if cell is not self.first
            and not (
                cell.seeds == self.first.seeds
                and len(values := cell.measured(self.metric)) == len(best)
                and self._is_clear(summarise([a - b for a, b in zip(best, values, strict=True)]))
            )
        )

    def _is_clear(self, its: Difference | Summary) -> bool:
        """Whether the interval of differences lies on the better side of zero."""
        if its.mean is None or its.ci95 is None:
            return False
        return (its.mean if self.higher else -its.mean) > its.ci95


def leads(
    cells: Sequence[Cell],
    metric: str,
    comparable: str,
    direction: str,
    score: Callable[[Cell], float | None],
) -> list[Lead]:
    """Who leads in each group of at least two cells that compare.

    Arguments:
        cells: In their order, which decides between equal scores.
        metric: The name of the values that are compared seed by seed.
        comparable: How far it compares, a key of :data:`vaebench.report.ranking.KEYS`.
        direction: ``higher`` or ``lower``.
        score: What ranks a cell; None for one that is not ranked.
    """
    groups: dict[str, list[tuple[float, Cell]]] = {}
    for cell in cells:
        key, value = cell.key(comparable), score(cell)
        if key is not None and value is not None:
            groups.setdefault(key, []).append((value, cell))
    found = []
    for group in groups.values():
        if len(group) < 2:
            continue
        ranked = sorted(group, key=lambda pair: pair[0], reverse=direction == "higher")
        (best, first), (next_best, second) = ranked[:2]
        found.append(
            Lead(
                metric=metric,
                first=first,
                second=second,
                group=tuple(cell for _, cell in group),
                score=best,
                by=best - next_best,
                contrast=measure(Terms((first,), (second,), 1), metric, comparable),
                higher=direction == "higher",
            )
        )
    return found
