"""What a run does not import, as it takes longer than all that the run computes."""

import subprocess
import sys

import numpy as np
from sklearn.datasets import load_digits

from vaebench.datasets.embedded import _shipped_digits

SLOW = ("torchvision", "sklearn")


def test_the_digits_are_those_of_scikit_learn() -> None:
    images, labels = _shipped_digits()
    known = load_digits()
    np.testing.assert_array_equal(images, known.images)
    np.testing.assert_array_equal(labels, known.target)


def test_reading_digits_and_making_tiles_imports_neither_scikit_learn_nor_torchvision() -> None:
    script = (
        "import sys; from vaebench import datasets; from vaebench.run.pictures import tile;"
        "tile(datasets.load('digits').test.x[:4]);"
        f"print([name for name in {SLOW!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "[]"
