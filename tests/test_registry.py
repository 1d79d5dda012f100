"""Registries: each entry has a place, and no name has two entries."""

import operator
from collections.abc import Callable
from functools import partial

import pytest

from vaebench.datasets import DATASETS
from vaebench.errors import ConfigError
from vaebench.estimators import ESTIMATORS
from vaebench.likelihoods import LIKELIHOODS
from vaebench.metrics import METRICS
from vaebench.models import MODELS, fnn, linear
from vaebench.plugins import Registry


def mine() -> None:
    """Stands for a component of the user's."""


@pytest.mark.parametrize(
    ("registry", "name", "module"),
    [
        (MODELS, "fnn", "vaebench.models"),
        (LIKELIHOODS, "gaussian", "vaebench.fitted_gaussian"),
        (ESTIMATORS, "kl", "vaebench.estimators"),
        (DATASETS, "digits", "vaebench.datasets.embedded"),
        (METRICS, "ssim", "vaebench.metrics.images"),
    ],
)
def test_the_place_of_an_entry_is_that_of_its_function(
    registry: Registry[object], name: str, module: str
) -> None:
    place = registry.origin(name)
    assert place.startswith(f"{module}:")
    assert place.endswith(f"{module.replace('.', '/')}.py)") or "__init__.py" in place


def test_a_second_entry_of_a_name_is_refused_and_both_places_are_named() -> None:
    registry = Registry("model", {"fnn": fnn})
    with pytest.raises(ConfigError) as refused:
        registry["fnn"] = mine
    message = str(refused.value)
    assert "model" in message
    assert "vaebench.models:" in message
    assert f"{__name__}:" in message
    assert registry == {"fnn": fnn}


@pytest.mark.parametrize(
    "write",
    [
        lambda registry: registry.update({"fnn": linear}),
        lambda registry: registry.update(fnn=linear),
        lambda registry: operator.ior(registry, {"fnn": linear}),
    ],
)
def test_no_way_of_writing_replaces_an_entry(
    write: Callable[[Registry[object]], object],
) -> None:
    registry: Registry[object] = Registry("model", {"fnn": fnn})
    with pytest.raises(ConfigError):
        write(registry)
    assert registry["fnn"] is fnn
    registry |= {"mine": mine}
    assert list(registry) == ["fnn", "mine"]


def test_the_same_entry_again_is_no_mistake_and_a_deleted_one_makes_room() -> None:
    registry = Registry("model", {"fnn": fnn})
    registry["fnn"] = fnn
    del registry["fnn"]
    registry["fnn"] = linear
    assert registry["fnn"] is linear


def test_what_has_no_source_is_placed_by_its_module() -> None:
    made = eval("lambda: None", {"__name__": "somewhere"})
    assert Registry("model", {"made": made}).origin("made") == "somewhere"
    assert Registry("model", {"part": partial(mine)}).origin("part").startswith(f"{__name__}:")
