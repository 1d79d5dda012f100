"""Figures of one's own: of a run, from its arrays; of a grid, from its records.

To add one, write a function that returns a matplotlib Figure and enter it from a plugin::

    FIGURES["spread"] = Plot(spread, "spread of the codes")
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure

from vaebench.plugins import Registry, no_instance


@dataclass(frozen=True)
class Plot:
    """An entry of :data:`FIGURES`.

    Attributes:
        function: ``(arrays, *, title) -> Figure`` of a run, whose arrays are those that
            :func:`vaebench.run.pictures.figure_arrays` names; ``(records, *, title) -> Figure`` of
            a grid, a record for each of its runs. ``title`` is for the figure's head.
        title: What it shows, in a few words.
        of: Of each ``run``, or of the ``grid``.
    """

    function: Callable[..., Figure]
    title: str
    of: Literal["run", "grid"] = "run"


FIGURES: Registry[Plot] = Registry("figure", {}, no_instance(Plot))
