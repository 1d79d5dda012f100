"""The data set `example`, a plugin of vaebench.

Check it, train on it, look at the report::

    vaebench check example.py
    vaebench run-grid --plugin example.py --dataset example --epochs 5 --set model.latent_dim=2
    vaebench report results/example

In a grid file, `plugins: [example.py]` does the same as `--plugin`. For a folder of pictures or an
archive of arrays you need no plugin: see the data sets `folder` and `npz`.
"""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge

from vaebench import DATASETS, testing
from vaebench.datasets import Arrays, Dataset


# Keyword options are configuration keys (`dataset.example.count`). Give each an annotation, with
# its bounds, and a default; an empty text stands for an option that must be given, such as a path.
def example(_contents: Mapping[str, bytes], *, count: Annotated[int, Ge(100)] = 1000) -> Arrays:
    """Gray images of 8x8 pixels, each with a bar whose column is its label.

    The same bytes on every call: draw from a generator with a seed of its own, never from a global
    one. Pixels are uint8, or floats in [0, 1]; images (N, H, W) or (N, C, H, W); labels or None.

    Arguments:
        count: Number of images.
    """
    generator = np.random.default_rng(0)
    x = generator.integers(0, 60, (count, 8, 8), dtype=np.uint8)
    y = np.arange(count) % 8
    x[np.arange(count), :, y] = 230
    test = count // 5
    return Arrays(x[test:], y[test:], x[:test], y[:test])


# `validation`: how many of the last training images are the validation split.
DATASETS["example"] = Dataset(read=example, shape=(1, 8, 8), validation=60)


def test_example() -> None:
    """`pytest example.py`."""
    testing.require(__file__)
