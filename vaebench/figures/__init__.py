"""Figures: arrays in, `matplotlib.figure.Figure` out. Nothing here saves or decodes.

Every figure takes a `title`, the cell and the seed as "cnn / mse / kl, seed 0: samples", and
refuses arrays of another shape, and values that are NaN or infinite, with a ValueError.

- `images` draws grids of images: reconstructions, samples, manifold, traversals, interpolations,
  and the comparison of the cells of a grid; `grid` lays them out.
- `charts` draws the latent scatter and the rate per latent dimension, `training_curves` the curves,
  `gradient_variance` how noisy the estimators' gradients are.
- `learning_curves` draws those of several cells, with the bands of their seeds, over epochs and
  over seconds.
- `rate_curves` draws the scores of arms over the rate.
- `of_run` draws every figure of a run.
- `plugins` is where a plugin enters figures of its own.
- `style` holds what all of them share: colours, fonts, layout, PNG and PDF encoding.

To add a figure: a `@styled` function that takes its arrays and `title` and
returns a Figure, its name here, and an entry in the list of `tests/test_figures.py`, whose contract
tests then cover it. pyplot is never imported: it keeps global state.
"""

from vaebench.figures.charts import latent, rate_per_dimension
from vaebench.figures.gradient_variance import gradient_variance
from vaebench.figures.images import (
    CellImages,
    comparison,
    interpolations,
    manifold,
    reconstructions,
    samples,
    traversals,
)
from vaebench.figures.learning_curves import CellCurve, budget_curves, learning_curves
from vaebench.figures.of_run import run_figures
from vaebench.figures.plugins import FIGURES, Plot
from vaebench.figures.rate_curves import RateCurve, rate_curves
from vaebench.figures.style import to_pdf, to_png, untitled
from vaebench.figures.training_curves import curves

__all__ = [
    "FIGURES",
    "CellCurve",
    "CellImages",
    "Plot",
    "RateCurve",
    "budget_curves",
    "comparison",
    "curves",
    "gradient_variance",
    "interpolations",
    "latent",
    "learning_curves",
    "manifold",
    "rate_curves",
    "rate_per_dimension",
    "reconstructions",
    "run_figures",
    "samples",
    "to_pdf",
    "to_png",
    "traversals",
    "untitled",
]
