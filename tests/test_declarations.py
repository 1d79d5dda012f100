"""What the metrics declare: a wrong arrow or a wrong comparison marks the wrong cell as best."""

from dataclasses import replace

import pytest

from vaebench.declarations import COSTS, ORDER, Spent, definition, in_order, merged
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


def test_the_order_of_tables_names_metrics_that_there_are() -> None:
    assert set(ORDER) <= METRICS.keys()
    assert len(set(ORDER)) == len(ORDER)


def test_a_metric_without_a_place_comes_last() -> None:
    assert in_order(["mine", "ssim", "elbo"]) == ["elbo", "ssim", "mine"]


@pytest.mark.parametrize("name", COSTS)
def test_every_cost_says_what_it_means(name: str) -> None:
    assert COSTS[name].function.__doc__


def test_costs_are_means_over_epochs_or_not_measured_where_one_lacks_them() -> None:
    lines = [
        {"metrics": {"train/seconds": 1.0}},
        {"metrics": {"train/seconds": 2.0, "train/cpu_seconds": 3.0}},
    ]
    spent = Spent(lines, 30, None, 7, 8, None)
    assert {name: cost.function(spent) for name, cost in COSTS.items()} == {
        "images_per_second": 20.0,
        "seconds_per_epoch": 1.5,
        "cpu_seconds_per_epoch": None,
        "peak_memory_mb": None,
        "parameters": 7,
        "flops_per_image": 8,
    }


def test_values_of_another_version_or_number_of_samples_are_of_another_definition() -> None:
    declared = METRICS["log_px"].declaration
    known = definition(declared.to_dict())
    assert known == (declared.version, None, None)
    assert definition({"title": "log p(x)"}) == (1, None, None)  # of before there were versions
    assert definition(declared.with_samples(100).to_dict()) != known
    assert definition(declared.to_dict() | {"source": "of a plugin"}) != known
    assert definition(replace(declared, version=declared.version + 1).to_dict()) != known


def test_a_number_declared_in_two_ways_has_no_direction() -> None:
    elbo = METRICS["elbo"].declaration
    newer = replace(elbo, version=elbo.version + 1)
    found, clashes = merged([{"elbo": elbo.to_dict(), "x": {}}, {"elbo": newer.to_dict()}])
    assert clashes == ["elbo"]
    assert found["elbo"] == elbo.to_dict() | {"direction": None}
