"""What the metrics declare: a wrong arrow or a wrong comparison marks the wrong cell as best."""

import pytest

from vaebench.metrics import METRICS

DECLARED = {
    "elbo": ("nats", "higher", "likelihood"),
    "rate": ("nats", None, "likelihood"),
    "distortion": ("nats", "lower", "likelihood"),
    "log_px": ("nats", "higher", "likelihood"),
    "ssim": ("", "higher", "dataset"),
    "psnr": ("dB", "higher", "dataset"),
    "mse_px": ("", "lower", "dataset"),
    "mae_px": ("", "lower", "dataset"),
    "active_units": ("", None, "dataset"),
    "knn_accuracy": ("", "higher", "dataset"),
    "classifier_frechet": ("", "lower", "dataset"),
    "precision": ("", "higher", "dataset"),
    "recall": ("", "higher", "dataset"),
}


@pytest.mark.parametrize("name", DECLARED)
def test_unit_direction_and_comparability_are_those_of_the_definition(name: str) -> None:
    declaration = METRICS[name].declaration
    assert (declaration.unit, declaration.direction, declaration.comparable) == DECLARED[name]
