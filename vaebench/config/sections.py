"""The sections of a run's configuration: every key, its type, its bounds, its default."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from vaebench.config.choices import Choice
from vaebench.datasets import DATASETS, Binarize, Dequantize
from vaebench.estimators import ESTIMATORS
from vaebench.schema.section import Grown, Section, one_of
from vaebench.training import Precision


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


class DatasetChoice(Choice):
    """The images and their splits; see :func:`vaebench.datasets.load`."""

    LATER: ClassVar[frozenset[str]] = frozenset({"dequantize"})

    name: Annotated[str, one_of(DATASETS)] = "mnist"
    binarize: Binarize = "none"
    dequantize: Dequantize = "none"
    train: int | None = Field(default=None, ge=1)
    validation: Annotated[int, Field(ge=0)] | Literal["test"] | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What :func:`vaebench.datasets.load` is called with."""
        own = {key: getattr(self, key) for key in DatasetChoice.model_fields}
        return own | self.options

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

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        for key, value in self.options.items():
            if value in ("", ()):
                raise ValueError(f"{self.name}.{key} must be given")
        return self

    @model_serializer(mode="wrap")
    def _own_section_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dump = super()._own_section_only(handler)
        unused = {key for key in self.LATER if dump[key] == type(self).model_fields[key].default}
        return {key: value for key, value in dump.items() if key not in unused}


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
