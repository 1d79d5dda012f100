"""The configuration of a grid and of a run: the only place where values are validated.

A *choice* (``model``, ``loss``, ``estimator``, ``training.optimizer``, ``training.schedule``) is a
name from a dict and the options of that name in a section of their own::

    model: {name: cnn, latent_dim: 8, cnn: {channels: [32, 64], strides: [2, 2]}}

A plain name (``model: cnn``) stands for the choice with its defaults. The sections follow from the
dicts of the lower modules: an entry there is an entry here. A run keeps only its own section, so
that a run's identity does not depend on what other runs of the grid choose.
"""

import difflib
import hashlib
import inspect
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)

from vaebench.datasets import DATASETS
from vaebench.errors import ConfigError
from vaebench.estimators import ESTIMATORS
from vaebench.likelihoods import LIKELIHOODS
from vaebench.models import MODELS
from vaebench.training import OPTIMIZERS, SCHEDULES

NUMBERS_VERSION = 1
"""Raised whenever the code moves a number: runs of another version are other runs."""

AXES: dict[str, list[Any]] = {
    "model": ["fnn", "cnn"],
    "loss": ["bce", "mse"],
    "estimator": ["sgvb", "kl"],
}


def _did_you_mean(name: str, choices: Iterable[str]) -> str:
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}choose from {', '.join(known)}"


def _one_of(registry: Mapping[str, Any]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in registry:
            raise ValueError(f"unknown name {name!r}; {_did_you_mean(name, list(registry))}")
        return name

    return AfterValidator(check)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Named(_Section):
    """A section that a plain name stands for."""

    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Choice(Named):
    """A name from a dict, and its options."""

    @property
    def options(self) -> dict[str, Any]:
        """Keyword options of the chosen name."""
        section: _Section | None = getattr(self, self.name, None)
        return section.model_dump() if section else {}

    @model_serializer(mode="wrap")
    def _own_section_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = self.__class__.model_fields
        others = {k for k, v in fields.items() if _is_section(v.annotation) and k != self.name}
        return {k: v for k, v in handler(self).items() if k not in others}


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, _Section)


_C = TypeVar("_C", bound=Choice)


def _options(function: Callable[..., Any]) -> type[_Section]:
    """Turn the annotated keyword options of a function (or dataclass) into a section."""
    fields: dict[str, Any] = {
        name: (parameter.annotation, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return create_model(function.__name__, __base__=_Section, **fields)


def _choice(base: type[_C], registry: Mapping[str, Callable[..., Any]]) -> type[_C]:
    """Extend a choice by the names of a registry and, where they have options, their sections."""
    sections: dict[str, Any] = {}
    for name, function in registry.items():
        section = _options(function)
        if section.model_fields:
            sections[name] = (section, section())
    kind: type[_C] = create_model(
        base.__name__, __base__=base, name=(Annotated[str, _one_of(registry)], ...), **sections
    )
    return kind


class ModelChoice(Choice):
    """The networks. ``latent_dim`` is Z, the number of latent dimensions."""

    latent_dim: int = Field(default=8, ge=1, le=4096)


class EstimatorChoice(Choice):
    """The estimator of the ELBO that training differentiates. ``samples`` is L."""

    samples: int = Field(default=1, ge=1)


if TYPE_CHECKING:  # what follows from the dicts is known only when the program runs
    _Model = ModelChoice
    _Loss = Choice
    _Estimator = EstimatorChoice
    _Optimizer = Choice
    _Schedule = Choice
else:
    _Model = _choice(ModelChoice, MODELS)
    _Loss = _choice(Choice, LIKELIHOODS)
    _Estimator = _choice(EstimatorChoice, ESTIMATORS)
    _Optimizer = _choice(Choice, OPTIMIZERS)
    _Schedule = _choice(Choice, SCHEDULES)


class DatasetChoice(Named):
    """The images and their splits; see :func:`vaebench.datasets.load`."""

    name: Annotated[str, _one_of(DATASETS)] = "mnist"
    binarize: Literal["none", "static", "dynamic"] = "none"
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


class EarlyStopping(_Section):
    """Stop after ``patience`` epochs without a better validation ELBO (at beta 1)."""

    patience: int = Field(ge=1)


class Training(_Section):
    """How a run is trained; see :class:`vaebench.training.Plan`."""

    epochs: int = Field(default=50, ge=1)
    batch_size: int = Field(default=256, ge=1)
    optimizer: _Optimizer = _Optimizer(name="adam")
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: _Schedule = _Schedule(name="constant")
    gradient_clip: float | None = Field(default=None, gt=0)
    beta: float = Field(default=1.0, ge=0)
    beta_warmup: int = Field(default=0, ge=0)
    early_stopping: EarlyStopping | None = None


class FigureOptions(_Section):
    """How figures are drawn: the latent grid ``linear`` in z, or at the prior's ``quantiles``."""

    manifold: Literal["linear", "quantiles"] = "linear"


class RunConfig(_Section):
    """One cell of the grid for one seed, every value resolved.

    ``evaluate`` chooses the weights that are measured: those of the ``last`` epoch, or of the
    ``best`` one by validation ELBO at beta 1.
    """

    dataset: DatasetChoice = DatasetChoice(name="mnist")
    model: _Model = _Model(name="fnn")
    loss: _Loss = _Loss(name="bce")
    estimator: _Estimator = _Estimator(name="kl")
    seed: int = Field(default=0, ge=0, lt=2**63)
    training: Training = Training()
    evaluate: Literal["last", "best"] = "last"
    figures: FigureOptions = FigureOptions()

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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to ``config.yaml``; reading them gives an equal config."""
        return self.model_dump(mode="json")

    @property
    def run_id(self) -> str:
        """Fingerprint of every value here and of :data:`NUMBERS_VERSION`: 12 hex digits."""
        text = json.dumps([NUMBERS_VERSION, self.to_dict()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Run(NamedTuple):
    """A run of a grid: its cell is the values of the axes."""

    cell: dict[str, Any]
    config: RunConfig


class Grid(_Section):
    """A grid: settings that all runs share, and axes along which they differ.

    Attributes:
        name: Of its folder below ``results/`` and of its MLflow experiment.
        question: What the grid is to answer, shown in the report.
        seeds: Of the runs of every cell; the same in each, so that cells are paired.
        axes: Configuration keys, dotted, and the values that each takes.
        exclude: Cells to leave out: every cell that has all the values of one entry.
        tracking_uri: Of MLflow, unless given otherwise.
        settings: The other keys of the file, as in :class:`RunConfig`.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    question: str = ""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    axes: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)
    exclude: tuple[dict[str, Any], ...] = ()
    tracking_uri: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is named twice")
        return seeds

    def runs(self, source: str = "grid") -> list[Run]:
        """Every run, cell by cell, seed by seed, validated.

        Raises:
            ConfigError: Naming ``source``, and everything that is wrong in any of the runs.
        """
        runs: list[Run] = []
        errors: dict[str, None] = {}
        seen: dict[str, dict[str, Any]] = {}
        for values in itertools.product(*self.axes.values()):
            cell = dict(zip(self.axes, values, strict=True))
            if any(all(cell.get(k) == v for k, v in entry.items()) for entry in self.exclude):
                continue
            raw = self.settings
            for key, value in cell.items():
                raw = with_value(raw, key, value)
            try:
                config = RunConfig.model_validate(raw)
            except ValidationError as error:
                errors.update(dict.fromkeys(_messages(error)))
                continue
            twin = seen.setdefault(config.run_id, cell)
            if twin is not cell:
                errors[
                    f"axes: {twin} and {cell} are the same run, as an axis does not apply to it; "
                    f"exclude one of them"
                ] = None
            runs += [Run(cell, config.model_copy(update={"seed": s})) for s in self.seeds]
        if errors:
            raise ConfigError(f"{source}: {'; '.join(errors)}")
        if not runs:
            raise ConfigError(f"{source}: exclude leaves no run of the grid")
        return runs


def with_value(settings: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return ``settings`` with a dotted key set; a name and a section of options are merged."""
    head, _, rest = key.partition(".")
    old = settings.get(head)
    if rest:
        section = {"name": old} if isinstance(old, str) else old if isinstance(old, dict) else {}
        return settings | {head: with_value(section, rest, value)}
    if isinstance(old, dict) and isinstance(value, str):
        return settings | {head: old | {"name": value}}
    return settings | {head: value}


def _messages(error: ValidationError) -> list[str]:
    """One line per mistake: the dotted key, and what is wrong with it."""
    messages = []
    for mistake in error.errors(include_url=False, include_context=False, include_input=False):
        path = [str(part) for part in mistake["loc"]]
        path = [part for part in path if part.isdigit() or re.fullmatch(r"[\w.-]+", part)]
        path = [part for part in path if not part.startswith("constrained-")]
        text = _plain(mistake["msg"])
        if mistake["type"] == "extra_forbidden":
            known = _fields(RunConfig if path[0] not in Grid.model_fields else Grid, path[:-1])
            text = f"unknown key; {_did_you_mean(path[-1], known)}"
        messages.append(": ".join(filter(None, [".".join(path), text])))
    return messages


def _plain(message: str) -> str:
    """Pydantic's message in the words of a YAML file."""
    message = message.removeprefix("Value error, ")
    message = re.sub(r"a valid dictionary.*", "a mapping of keys to values", message)
    message = re.sub(r"Predicate '(\w+)' failed", r"Input should be \1", message)
    message = message.replace("Tuple should", "List should").replace("a valid tuple", "a list")
    return message.replace(" after validation", "")


def _fields(section: Any, path: list[str]) -> list[str]:
    """Names of the keys that the section at a path knows."""
    for key in path:
        annotation = section.model_fields[key].annotation if hasattr(section, "model_fields") else 0
        sections = [a for a in (annotation, *get_args(annotation)) if _is_section(a)]
        section = sections[0] if sections else None
    return list(getattr(section, "model_fields", {}))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Raises:
        ConfigError: The file cannot be read, is not YAML, or holds something else.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise ConfigError(f"{path}: not a mapping of keys to values")
    return raw


def make_run(raw: Mapping[str, Any], source: str = "config") -> RunConfig:
    """Validate the configuration of one run.

    Raises:
        ConfigError: Naming ``source``, and everything that is wrong.
    """
    try:
        return RunConfig.model_validate(dict(raw))
    except ValidationError as error:
        raise ConfigError(f"{source}: {'; '.join(_messages(error))}") from error


def make_grid(
    raw: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    axes: Mapping[str, list[Any]] = MappingProxyType(AXES),
    source: str = "grid",
) -> Grid:
    """Build a grid from the mapping in a file, or from an empty one.

    Arguments:
        raw: Keys of :class:`Grid` and, beside them, of :class:`RunConfig`.
        overrides: Dotted keys that replace what ``raw`` says; of an axis, its values.
        axes: Of a grid that names none.
        source: For error messages.

    Raises:
        ConfigError: Something is wrong; everything that is, is named.
    """
    raw = dict(raw)
    own = {key: raw.pop(key) for key in set(Grid.model_fields) - {"settings"} if key in raw}
    own["axes"] = dict(own.get("axes") or axes)
    settings: dict[str, Any] = raw
    if "seed" in settings:
        own.setdefault("seeds", [settings["seed"]])
        del settings["seed"]
    for key, value in (overrides or {}).items():
        if key in Grid.model_fields:
            own[key] = value
        elif key in own["axes"]:
            own["axes"][key] = value if isinstance(value, list) else [value]
        else:
            settings = with_value(settings, key, value)
    if isinstance(own.get("seeds"), int):
        own["seeds"] = list(range(own["seeds"]))
    dataset = settings.get("dataset", "mnist")
    name = dataset.get("name", "mnist") if isinstance(dataset, dict) else dataset
    own.setdefault("name", name)
    try:
        return Grid.model_validate(own | {"settings": settings})
    except ValidationError as error:
        raise ConfigError(f"{source}: {'; '.join(_messages(error))}") from error


def make_single(
    raw: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, *, source: str = "config"
) -> Grid:
    """Build a grid of one cell from the configuration of a run, e.g. a stored ``config.yaml``.

    Its cell is named by model, loss and estimator, and so is the grid, unless it has a name.

    Raises:
        ConfigError: Something is wrong; everything that is, is named.
    """
    defaults = make_run({}).to_dict()
    given = dict(raw) | dict(overrides or {})
    names: dict[str, Any] = {}
    for axis in ("dataset", *AXES):
        value = given.get(axis, {})
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        default = defaults[axis]["name"]
        names[axis] = value.get("name", default) if isinstance(value, dict) else value
    named = {"name": "-".join(str(name) for name in names.values())} | dict(raw)
    axes = {axis: [names[axis]] for axis in AXES}
    return make_grid(named, overrides, axes=axes, source=source)
