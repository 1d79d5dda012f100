"""vaebench: a benchmark harness for variational autoencoders that tracks its experiments.

From Python::

    import vaebench

    results = vaebench.run_grid("experiments/demo.yaml")
    print(results.to_frame())
    run = vaebench.load_run("results/demo/runs/<run_id>")
    images = run.model.decode(run.model.encoder(x).mean)

Importing the package is cheap: PyTorch and MLflow come with the first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaebench import datasets
    from vaebench.datasets import DATASETS
    from vaebench.estimators import ESTIMATORS
    from vaebench.figures import FIGURES
    from vaebench.grid import Listener, Options, Results, load_results, run_grid, train
    from vaebench.grid.repeat import Repetition, repeat
    from vaebench.likelihoods import LIKELIHOODS
    from vaebench.metrics import METRICS
    from vaebench.models import MODELS
    from vaebench.run import LoadedRun, load_run

__all__ = [
    "DATASETS",
    "ESTIMATORS",
    "FIGURES",
    "LIKELIHOODS",
    "METRICS",
    "MODELS",
    "Listener",
    "LoadedRun",
    "Options",
    "Repetition",
    "Results",
    "datasets",
    "load_results",
    "load_run",
    "repeat",
    "run_grid",
    "train",
]
__version__ = "0.2.0.dev0"

_HOMES = {
    "DATASETS": "vaebench.datasets",
    "ESTIMATORS": "vaebench.estimators",
    "FIGURES": "vaebench.figures",
    "LIKELIHOODS": "vaebench.likelihoods",
    "METRICS": "vaebench.metrics",
    "MODELS": "vaebench.models",
    "Listener": "vaebench.grid",
    "LoadedRun": "vaebench.run",
    "Options": "vaebench.grid",
    "Repetition": "vaebench.grid.repeat",
    "Results": "vaebench.grid",
    "load_results": "vaebench.grid",
    "load_run": "vaebench.run",
    "repeat": "vaebench.grid.repeat",
    "run_grid": "vaebench.grid",
    "train": "vaebench.grid",
}


def __getattr__(name: str) -> Any:
    if name == "datasets":
        return import_module("vaebench.datasets")
    if name not in _HOMES:
        raise AttributeError(f"module 'vaebench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
