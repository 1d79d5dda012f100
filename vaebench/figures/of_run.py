"""Every figure of a run, from its arrays and its journal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from vaebench.figures.charts import latent, rate_per_dimension
from vaebench.figures.gradient_variance import gradient_variance
from vaebench.figures.images import interpolations, manifold, reconstructions, samples, traversals
from vaebench.figures.training_curves import curves

_COMPONENT = "principal component of E[z|x]"
# a figure, what its title says, and the arrays that it is given
_OF_ARRAYS: dict[str, tuple[Callable[..., Figure], str, tuple[str, ...]]] = {
    "reconstructions": (reconstructions, "reconstructions", ("originals", "reconstructions")),
    "samples": (samples, "samples from the prior", ("samples",)),
    "interpolations": (interpolations, "interpolations", ("interpolations",)),
    "rate_per_dimension": (
        rate_per_dimension,
        "rate per latent dimension",
        ("rate_per_dimension",),
    ),
    "manifold": (manifold, "latent manifold", ("manifold", "manifold_axis")),
    "traversals": (
        traversals,
        "traversals",
        ("traversals", "traversal_values", "rate_per_dimension"),
    ),
}


def run_figures(
    arrays: Mapping[str, NDArray[Any]],
    journal: Sequence[Mapping[str, Any]],
    label: str,
    estimator: str,
) -> Iterator[tuple[str, Figure]]:
    """The figures of a run by name, drawn one after the other.

    Arguments:
        arrays: As :func:`vaebench.run.pictures.figure_arrays` names them.
        journal: The run's epochs.
        label: The run, for the titles.
        estimator: That which trained it.

    Raises:
        KeyError: An array is not there.
        ValueError: An array or the journal is not what a figure can show.
    """
    for name, (draw, what, keys) in _OF_ARRAYS.items():
        if keys[0] in arrays:
            yield name, draw(*(arrays[key] for key in keys), title=f"{label}: {what}")
    two = arrays["latent_mean"].shape[1] == 2
    axes = ("z1", "z2") if two else (f"first {_COMPONENT}", f"second {_COMPONENT}")
    title = f"{label}: posterior means"
    yield "latent", latent(arrays["latent_2d"], arrays.get("labels"), title=title, axes=axes)
    yield "curves", curves(journal, title=f"{label}: training")
    if any(key.startswith("grad/") for line in journal for key in line["metrics"]):
        title = f"{label}: noise of the gradients"
        yield "gradient_variance", gradient_variance(journal, title=title, trained=estimator)
