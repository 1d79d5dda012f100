"""The configuration of one run: its sections, what they say together, and its identity."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, create_model, model_validator

from vaebench.config.choices import Choice, choice
from vaebench.config.messages import messages
from vaebench.config.sections import (
    DatasetChoice,
    Diagnostics,
    EstimatorChoice,
    FigureOptions,
    MetricOptions,
    ModelChoice,
    Training,
)
from vaebench.datasets import DATASETS
from vaebench.errors import ConfigError
from vaebench.estimators import ESTIMATORS
from vaebench.likelihoods import LIKELIHOODS, maps_of
from vaebench.models import MODELS, takes_maps
from vaebench.plugins import Plugin, Registry, function_of, load_installed
from vaebench.schema.section import Grown
from vaebench.schema.trial import is_trial
from vaebench.training import OPTIMIZERS, SCHEDULES

NUMBERS_VERSION = 3
"""Raised whenever code that all runs share moves a number: all runs are then other runs.

What moves the numbers of one model, loss, estimator or data set raises the version of that one
alone, its attribute ``version`` (1 where it has none): the runs that use it get other ids and are
trained anew, and no other run moves.
"""

REGISTRIES: dict[str, Registry[Any]] = {
    "model": MODELS,
    "loss": LIKELIHOODS,
    "estimator": ESTIMATORS,
    "dataset": DATASETS,
}
"""What has versions, by the key of a configuration that names an entry.

To give another registry versions, name it in :data:`vaebench.schema.record.COMPONENTS` as well.
"""

TRAINED_WITH: dict[str, Registry[Any]] = {
    **REGISTRIES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
"""All whose entries a training uses, and so all whose plugins a record names."""


class RunConfig(Grown):
    """One cell of the grid for one seed, every value resolved; make one with :func:`make_run`.

    Attributes:
        evaluate: The weights that are measured: those of the ``last`` epoch, or of the ``best``
            one by validation ELBO at beta 1.
        trial: Cut it short to see whether it works: one epoch of few images, few draws, one figure.
            Set by ``--trial``; the grid is then named ``<name>-trial``.
    """

    LATER = frozenset({"diagnostics", "metrics", "trial"})

    dataset: DatasetChoice
    model: ModelChoice
    loss: Choice
    estimator: EstimatorChoice
    seed: int = Field(default=0, ge=0, lt=2**63)
    training: Training
    evaluate: Literal["last", "best"] = "last"
    figures: FigureOptions = FigureOptions()
    diagnostics: Diagnostics = Diagnostics()
    metrics: MetricOptions = MetricOptions()
    trial: bool = False

    @model_validator(mode="before")
    @classmethod
    def _has_options(cls, values: Any) -> Any:
        assert cls is not RunConfig, "use run_type(): the base class would drop options"
        return values

    @model_validator(mode="after")
    def _validation_is_there(self) -> Self:
        if self.dataset.validation == 0:
            wanting = {
                "training.schedule: plateau": self.training.schedule.name == "plateau",
                "training.early_stopping": self.training.early_stopping is not None,
                "evaluate: best": self.evaluate == "best",
            }
            for key in (key for key, wants in wanting.items() if wants):
                raise ValueError(f"{key} needs a validation split, but dataset.validation is 0")
        return self

    @model_validator(mode="after")
    def _dequantized_pixels_have_a_density(self) -> Self:
        dataset, loss = self.dataset, self.loss.name
        if dataset.dequantize == "none":
            return self
        support = LIKELIHOODS[loss].support
        wrong = {
            f"{dataset.name} does not have 8-bit pixels": not DATASETS[dataset.name].is_8_bit,
            f"dataset.binarize is {dataset.binarize}": dataset.binarize != "none",
            f"loss {loss} is a distribution of binary pixels": support == "binary",
        }
        for reason in (reason for reason, holds in wrong.items() if holds):
            raise ValueError(f"dataset.dequantize: leave it at none, since {reason}")
        return self

    @model_validator(mode="after")
    def _model_serves_the_likelihood(self) -> Self:
        loss, maps = self.loss.name, maps_of(LIKELIHOODS[self.loss.name])
        if maps != 1 and not takes_maps(self.model.name):
            raise ValueError(
                f"model: {self.model.name} gives one parameter per pixel, and loss {loss} needs "
                f"{maps}; a model that takes `maps` gives as many"
            )
        exact = self.dataset.dequantize == "none"
        if exact and getattr(LIKELIHOODS[loss], "dequantized_only", False):
            raise ValueError(
                f"dataset.dequantize: loss {loss} needs uniform, as its density of pixels that "
                f"repeat exactly is unbounded"
            )
        return self

    @model_validator(mode="after")
    def _bound_splits_where_beta_weighs_it(self) -> Self:
        weighed = (self.training.beta, self.training.beta_warmup) != (1, 0)
        if weighed and not ESTIMATORS[self.estimator.name].splits:
            raise ValueError(
                f"estimator: the bound of {self.estimator.name} does not split into a rate and a "
                f"distortion: leave training.beta at 1 and training.beta_warmup at 0"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to ``config.yaml``; reading them gives an equal config."""
        return self.model_dump(mode="json")

    def identity(self) -> dict[str, Any]:
        """What makes the run what it is: all of it but what is measured on its weights."""
        return {key: value for key, value in self.to_dict().items() if key != "metrics"}

    @property
    def epochs(self) -> int:
        """Epochs that it trains, unless it stops early."""
        return 1 if self.trial else self.training.epochs

    @property
    def versions(self) -> dict[str, int]:
        """:data:`NUMBERS_VERSION` as ``numbers``, and the versions of the components in use."""
        named = {key: entries[getattr(self, key).name] for key, entries in REGISTRIES.items()}
        components = {key: getattr(entry, "version", 1) for key, entry in named.items()}
        return {"numbers": NUMBERS_VERSION, **components}

    @property
    def plugins(self) -> dict[Plugin, list[str]]:
        """The plugins that its training uses, and what each has entered: ``model residual``."""
        found: dict[Plugin, list[str]] = {}
        for key, registry in TRAINED_WITH.items():
            name = getattr(self if key in REGISTRIES else self.training, key).name
            if plugin := registry.plugin(name):
                found.setdefault(plugin, []).append(f"{key} {name}")
        return found

    @property
    def run_id(self) -> str:
        """Fingerprint of :attr:`versions` and :meth:`identity`: 12 hex digits."""
        text = json.dumps([self.versions, self.identity()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_type() -> type[RunConfig]:
    """The type of a run's configuration, with the names and options that the registries have now.

    It is built when it is first asked for, and again after an entry was added: add before you ask.

    Raises:
        ConfigError: The plugin of an installed package cannot be loaded, or the options of an entry
            cannot be read.
    """
    load_installed()
    registries = (DATASETS, MODELS, LIKELIHOODS, ESTIMATORS, OPTIMIZERS, SCHEDULES)
    return _run_type(tuple((n, function_of(e)) for r in registries for n, e in r.items()))


@lru_cache(maxsize=4)
def _run_type(_entries: tuple[tuple[str, Any], ...]) -> type[RunConfig]:
    training = create_model(
        "Training",
        __base__=Training,
        __doc__=Training.__doc__,
        optimizer=choice(Choice, OPTIMIZERS, "adam"),
        schedule=choice(Choice, SCHEDULES, "constant"),
    )
    return create_model(
        "RunConfig",
        __base__=RunConfig,
        __doc__=RunConfig.__doc__,
        dataset=choice(DatasetChoice, DATASETS, "mnist"),
        model=choice(ModelChoice, MODELS, "fnn"),
        loss=choice(Choice, LIKELIHOODS, "bce"),
        estimator=choice(EstimatorChoice, ESTIMATORS, "kl"),
        training=(training, training.model_validate({})),
    )


def with_later_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the keys that a dump leaves out at their defaults."""
    training = dict(settings.get("training", {}))
    for key in sorted(Training.LATER):
        training.setdefault(key, Training.model_fields[key].default)
    diagnostics = settings.get("diagnostics", Diagnostics().model_dump())
    later = {"training": training, "diagnostics": diagnostics, "trial": is_trial(settings)}
    if isinstance(settings.get("dataset"), Mapping):
        later["dataset"] = {**settings["dataset"]}
        later["dataset"].setdefault("dequantize", "none")
    return {**settings, **later}


def make_run(raw: Mapping[str, Any], source: str = "config") -> RunConfig:
    """Validate the configuration of one run.

    Raises:
        ConfigError: Naming ``source``, and everything that is wrong.
    """
    try:
        return run_type().model_validate(dict(raw))
    except ValidationError as error:
        raise ConfigError(f"{source}: {'; '.join(messages(error, run_type()))}") from error
