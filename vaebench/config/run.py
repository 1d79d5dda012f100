"""The configuration of one run: every key, its type, its bounds, its default."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, create_model, model_validator

from vaebench.config.choices import Choice, choice
from vaebench.config.messages import messages
from vaebench.datasets import DATASETS, Binarize, Dequantize
from vaebench.errors import ConfigError
from vaebench.estimators import ESTIMATORS
from vaebench.likelihoods import LIKELIHOODS
from vaebench.models import MODELS
from vaebench.plugins import function_of
from vaebench.schema.section import Grown, Named, Section, one_of
from vaebench.training import OPTIMIZERS, SCHEDULES, Precision

NUMBERS_VERSION = 3
"""Raised whenever code that all runs share moves a number: all runs are then other runs.

What moves the numbers of one model, loss, estimator or data set raises the version of that one
alone, its attribute ``version`` (1 where it has none): the runs that use it get other ids and are
trained anew, and no other run moves.
"""

REGISTRIES: dict[str, Mapping[str, object]] = {
    "model": MODELS,
    "loss": LIKELIHOODS,
    "estimator": ESTIMATORS,
    "dataset": DATASETS,
}
"""What has versions, by the key of a configuration that names an entry.

To give another registry versions, name it in :data:`vaebench.schema.record.COMPONENTS` as well.
"""


class ModelChoice(Choice):
    """The networks.

    Attributes:
        latent_dim: Z, the number of latent dimensions.
    """

    latent_dim: int = Field(default=8, ge=1, le=4096)


class EstimatorChoice(Choice):
    """The estimator of the ELBO that training differentiates.

    Attributes:
        samples: L, noise draws per image in training; by default 5 for ``iwae``, ``dreg`` and
            ``score``, which needs at least 2, and 1 for the others.
    """

    samples: int = Field(default=1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        """Resolve how many samples the estimator takes, so that a stored configuration says it."""
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, dict) and "samples" not in value:
            estimator = ESTIMATORS.get(str(value.get("name", "kl")))
            return value | {"samples": estimator.samples} if estimator else value
        return value

    @model_validator(mode="after")
    def _samples_suffice(self) -> Self:
        least = ESTIMATORS[self.name].min_samples
        if self.samples < least:
            raise ValueError(f"{self.name} needs samples of at least {least}, not {self.samples}")
        return self


class DatasetChoice(Grown, Named):
    """The images and their splits; see :func:`vaebench.datasets.load`."""

    LATER = frozenset({"dequantize"})

    name: Annotated[str, one_of(DATASETS)] = "mnist"
    binarize: Binarize = "none"
    dequantize: Dequantize = "none"
    train: int | None = Field(default=None, ge=1)
    validation: Annotated[int, Field(ge=0)] | Literal["test"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        """Resolve what the data set decides, so that a stored configuration says it."""
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, dict) and value.get("validation") is None:
            dataset = DATASETS.get(str(value.get("name", "mnist")))
            return value | {"validation": dataset.validation if dataset else None}
        return value


class EarlyStopping(Section):
    """Stop after ``patience`` epochs without a better validation ELBO (at beta 1).

    Attributes:
        patience: Epochs to wait for a better one.
    """

    patience: int = Field(ge=1)


class Training(Grown):
    """How a run is trained; see :class:`vaebench.training.Plan`.

    Attributes:
        learning_rate: The optimizer's learning rate in the first epoch.
    """

    LATER = frozenset({"precision", "compile"})

    epochs: int = Field(default=50, ge=1, le=1_000_000)
    batch_size: int = Field(default=256, ge=1)
    optimizer: Choice
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Choice
    gradient_clip: float | None = Field(default=None, gt=0)
    beta: float = Field(default=1.0, ge=0)
    beta_warmup: int = Field(default=0, ge=0)
    early_stopping: EarlyStopping | None = None
    precision: Precision = "float32"
    compile: bool = False


class FigureOptions(Section):
    """How figures are drawn.

    Attributes:
        manifold: The latent grid is ``linear`` in z, or at the prior's ``quantiles``.
    """

    manifold: Literal["linear", "quantiles"] = "linear"


class Diagnostics(Section):
    """What is measured while a run trains, besides its loss; no other number changes.

    Attributes:
        gradient_variance: Record the noise of every estimator's gradient in each epoch.
    """

    gradient_variance: bool = False


class MetricOptions(Section):
    """Metrics that are measured only on request, at once or later by ``vaebench evaluate``.

    They are not part of a run's identity.

    Attributes:
        log_px: K, the number of importance samples per image of log p(x).
    """

    log_px: int | None = Field(default=None, ge=1, le=1_000_000)


class RunConfig(Grown):
    """One cell of the grid for one seed, every value resolved; make one with :func:`make_run`.

    Attributes:
        evaluate: The weights that are measured: those of the ``last`` epoch, or of the ``best``
            one by validation ELBO at beta 1.
    """

    LATER = frozenset({"diagnostics", "metrics"})

    dataset: DatasetChoice = DatasetChoice(name="mnist")
    model: ModelChoice
    loss: Choice
    estimator: EstimatorChoice
    seed: int = Field(default=0, ge=0, lt=2**63)
    training: Training
    evaluate: Literal["last", "best"] = "last"
    figures: FigureOptions = FigureOptions()
    diagnostics: Diagnostics = Diagnostics()
    metrics: MetricOptions = MetricOptions()

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
    def versions(self) -> dict[str, int]:
        """:data:`NUMBERS_VERSION` as ``numbers``, and the versions of the components in use."""
        named = {key: entries[getattr(self, key).name] for key, entries in REGISTRIES.items()}
        components = {key: getattr(entry, "version", 1) for key, entry in named.items()}
        return {"numbers": NUMBERS_VERSION, **components}

    @property
    def run_id(self) -> str:
        """Fingerprint of :attr:`versions` and :meth:`identity`: 12 hex digits."""
        text = json.dumps([self.versions, self.identity()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_type() -> type[RunConfig]:
    """The type of a run's configuration, with the names and options that the registries have now.

    It is built when it is first asked for, and again after an entry was added: add before you ask.
    """
    registries = (MODELS, LIKELIHOODS, ESTIMATORS, OPTIMIZERS, SCHEDULES)
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
    later = {"training": training, "diagnostics": diagnostics}
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
