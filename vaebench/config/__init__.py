"""The configuration of a grid and of a run: the only place where values are validated.

A *choice* (``model``, ``loss``, ``estimator``, ``training.optimizer``, ``training.schedule``) is a
name from a dict and the options of that name in a section of their own::

    model: {name: cnn, latent_dim: 8, cnn: {channels: [32, 64], strides: [2, 2]}}

A plain name (``model: cnn``) stands for the choice with its defaults. The sections follow from the
dicts of the lower modules: an entry there is an entry here. A run keeps only its own section, so
that a run's identity does not depend on what other runs of the grid choose.
"""

from vaebench.config.choices import Choice
from vaebench.config.grid import AXES, Grid, Run, with_value
from vaebench.config.grid_file import make_grid, make_single, read_yaml, without_file
from vaebench.config.run import (
    NUMBERS_VERSION,
    RunConfig,
    make_run,
    run_type,
    with_later_keys,
)
from vaebench.config.sections import DatasetChoice, FigureOptions, ModelChoice
from vaebench.config.tuning import Tune, group_key
from vaebench.schema.section import Section

__all__ = [
    "AXES",
    "NUMBERS_VERSION",
    "Choice",
    "DatasetChoice",
    "FigureOptions",
    "Grid",
    "ModelChoice",
    "Run",
    "RunConfig",
    "Section",
    "Tune",
    "group_key",
    "make_grid",
    "make_run",
    "make_single",
    "read_yaml",
    "run_type",
    "with_later_keys",
    "with_value",
    "without_file",
]
