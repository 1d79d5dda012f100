"""The versions of models, losses, estimators and data sets, which are part of a run's identity.

An entry of a registry has its version as the attribute ``version``; without one it is version 1.
Raise it whenever the same configuration would give other numbers: the runs that use the entry get
other ids and are trained anew, and no other run moves. ``NUMBERS_VERSION`` is for the code that all
runs share. To give another registry versions, name it in :data:`REGISTRIES` and in
:data:`vaebench.schema.record.COMPONENTS`.
"""

from collections.abc import Mapping
from typing import Any

from vaebench.datasets import DATASETS
from vaebench.estimators import ESTIMATORS
from vaebench.likelihoods import LIKELIHOODS
from vaebench.models import MODELS

REGISTRIES: dict[str, Mapping[str, object]] = {
    "model": MODELS,
    "loss": LIKELIHOODS,
    "estimator": ESTIMATORS,
    "dataset": DATASETS,
}
"""By the key of a configuration that names an entry."""


def component_versions(config: Mapping[str, Any]) -> dict[str, int]:
    """The versions of the components that a configuration names, by key.

    Arguments:
        config: A run's configuration as plain values. A name not in its registry has version 1.
    """
    return {
        key: getattr(entries.get(config[key]["name"]), "version", 1)
        for key, entries in REGISTRIES.items()
    }
