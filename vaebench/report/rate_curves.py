"""What models make of the same rate: distortion and scores of pictures over the rate.

A number that moves a model along its rate-distortion curve (beta, sigma2) makes an arm of the
cells that differ in nothing else; an arm is drawn where it has as many points as a claim at
matched rate needs, and where they differ in their rate.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vaebench.report.analysis import Analysis
from vaebench.report.arms import RATE, arms, named_axes, points
from vaebench.report.cells import Cell
from vaebench.report.contrasts import fault_of
from vaebench.report.strata import strata
from vaebench.report.tables import axis_text, axis_title, metric_column
from vaebench.schema.labels import cell_label
from vaebench.statistics.matched_rate import MIN_POINTS, common_rates, curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vaebench.figures import RateCurve

SHOWN = ("test/distortion", "test/ssim", "test/psnr", "test/classifier_frechet")
MIN_RANGE = 1.0  # nats from the lowest to the highest rate of an arm: else no number moved it
_STEPS = 100  # of a line


def rate_figure(analysis: Analysis) -> "Figure | None":
    """Curves over the rate, a line for each arm; None where no arm has enough points."""
    cells = [cell for cell in analysis.cells if cell.complete and cell.records]
    if not cells:
        return None
    from vaebench.figures import rate_curves  # matplotlib is slow to import

    axes = named_axes(cells)
    found = [arm for arm in arms(cells, axes).values() if _moves(arm)]
    panels: dict[str, list[RateCurve]] = {}
    for metric in SHOWN:
        column = metric_column(cells, metric)
        if column.comparable == "likelihood":  # bounds of one base measure in a panel
            groups = [(f", {name}" * bool(name), its) for name, its in strata(cells).items()]
        else:
            groups = [("", cells)]
        for name, group in groups:
            for arm in found:
                if arm[0] in group and fault_of(arm, column.comparable, (metric, RATE)) is None:
                    heading = f"{column.heading}{name}, {column.unit}"
                    panels.setdefault(heading, []).append(_curve(arm, metric, axes))
    if not panels:
        return None
    shared = common_rates([points(arm, RATE) for arm in found]) if len(found) > 1 else None
    numbers = [axis_title(axis) for axis in cells[0].cell if axis not in axes]
    return rate_curves(panels, title=analysis.name, shared=shared, numbers=" / ".join(numbers))


def _moves(arm: Sequence[Cell]) -> bool:
    """Whether an arm has enough points, whose rates differ."""
    if len(arm) < MIN_POINTS or fault_of(arm, "dataset", (RATE,)) is not None:
        return False
    rates = [float(np.mean(cell.measured(RATE))) for cell in arm]
    return max(rates) - min(rates) >= MIN_RANGE


def _curve(arm: Sequence[Cell], metric: str, axes: Sequence[str]) -> "RateCurve":
    from vaebench.figures import RateCurve

    found = points(arm, metric)
    seeds = list(zip(*found, strict=True))
    means = np.array(found).mean(axis=1)
    low, high = common_rates([[[its] for its in seed] for seed in seeds])
    grid = np.linspace(low, high, _STEPS) if low < high else np.empty(0)
    return RateCurve(
        label=_label(arm, axes),
        points=means,
        names=tuple(_numbers(cell, axes) for cell in arm),
        line=_line([tuple(point) for point in means]),
        rates=grid,
        seeds=np.array([curve(seed)(grid) for seed in seeds]),
    )


def _line(found: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    ends = [rate for rate, _ in found]
    grid = np.linspace(min(ends), max(ends), _STEPS)
    return np.array([grid, curve(found)(grid)]).T


def _label(arm: Sequence[Cell], axes: Sequence[str]) -> str:
    """The arm in words: what its cells share, with what must not be forgotten about a loss."""
    moved = any(axis.startswith("loss.") for axis in arm[0].cell if axis not in axes)
    text = {axis: arm[0].cell[axis] if moved else axis_text(axis, arm[0]) for axis in axes}
    return cell_label(text) if text else "all cells"


def _numbers(cell: Cell, axes: Sequence[str]) -> str:
    return " / ".join(f"{value:g}" for axis, value in cell.cell.items() if axis not in axes)
