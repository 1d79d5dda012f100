"""A trial: runs cut short to see whether they work. Their numbers are no results, and say so.

``trial: true`` is a key of a run's configuration, so that a trial is another run than the one it
tries, in a grid of its own (``mnist-trial``): the two never meet in a table.
"""

from collections.abc import Mapping
from typing import Any

TRAINED = 512  # training images at most
MEASURED = 128  # validation, and test images at most
DRAWS = 2  # of the evaluation's noise
SAMPLES = 10  # K of log p(x) at most
FIGURES = 1  # of a run, the first
SUFFIX = "-trial"  # of a grid's name
MAX_NAME = 64  # characters of a grid's name

MARK = "Trial, no result"
TEXT = (
    f"{MARK}: one epoch of at most {TRAINED} images, measured on at most {MEASURED} with {DRAWS} "
    f"draws; what needs the data set's classifier is not measured"
)


def is_trial(config: object) -> bool:
    """Whether a configuration as plain values, of a run or shared by those of a grid, is one."""
    return isinstance(config, Mapping) and config.get("trial") is True


def epochs_of(config: Mapping[str, Any]) -> Any:
    """The epochs that a configuration as plain values asks for; None where it does not say."""
    training = config.get("training")
    asked = training.get("epochs") if isinstance(training, Mapping) else None
    return 1 if is_trial(config) else asked


def trial_name(name: str) -> str:
    """The name of a grid's trial: ``mnist-trial``, also of itself."""
    return name if name.endswith(SUFFIX) else name[: MAX_NAME - len(SUFFIX)] + SUFFIX
