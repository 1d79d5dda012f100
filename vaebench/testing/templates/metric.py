"""The metric `example`, a plugin of vaebench.

Check it, and measure a finished grid with it, without training anything again::

    vaebench check example.py
    vaebench run-grid --dataset digits
    vaebench evaluate results/demo --plugin example.py
    vaebench report results/demo

In a grid file, `plugins: [example.py]` does the same as `--plugin`.
"""

from vaebench import METRICS, testing
from vaebench.declarations import Declaration
from vaebench.metrics import Evaluation, Metric


def example(e: Evaluation) -> float:
    """Share of pixels whose clipped mean reconstruction is off by more than 0.1.

    Arguments:
        e: One pass over the test images: `x` and `reconstruction` (N, C, H, W), posterior `mean`
            and `log_var` (N, Z), `rate` and `distortion` (N,), all on the CPU. With
            `Metric(..., part="latents")`, codes and labels instead; see `vaebench.metrics`.
    """
    off = (e.x - e.reconstruction).abs() > 0.1
    return off.double().mean().item()


# What the number says about itself, and all that tables go by: a title, a unit, which way is better
# ("higher", "lower" or None), and what must be equal for two values to compare ("dataset",
# "likelihood" or "machine"). Raise `version` when the same weights would get another value.
METRICS["example"] = Metric(example, Declaration("Pixels off", "", "lower", "dataset", version=1))


def test_example() -> None:
    """`pytest example.py`."""
    testing.require(__file__)
