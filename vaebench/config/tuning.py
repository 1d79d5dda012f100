"""``tune:`` in a grid's file: a setting that is picked on the validation split before the runs.

Cells that agree on the axes in ``per`` are a group and share one pick; :mod:`vaebench.grid.tuning`
finds it.
"""

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from vaebench.config.messages import shortened, unknown_axes
from vaebench.schema.section import Section

if TYPE_CHECKING:
    from vaebench.config.run import RunConfig

FIRST_SEED = 1000  # tuning seeds count from here where a file gives only their number
MAX_VALUES = 100

# what does not change the training, or changes what the bound means so that values do not compare
_OTHER_BOUNDS = ("dataset", "estimator", "training.beta", "training.beta_warmup")
_NO_TRAINING = ("seed", "evaluate", "figures", "diagnostics", "metrics", "trial")
_FLOAT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")  # 3e-4, which YAML takes for text

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Epochs = Annotated[int, Field(ge=1, le=1_000_000)]


class Tune(Section):
    """A setting, the values to try, and how they are tried.

    Attributes:
        key: The dotted configuration key to tune; it must not be an axis.
        values: Values to try; numbers are sorted.
        per: Axes; one value is picked for each combination of their values.
        seeds: Number or list of seeds of the tuning runs; the grid's runs must use others.
        epochs: Epochs of the tuning runs: a number, or one for each value of one axis of ``per``.
            Default: as many as the runs have.
    """

    key: str = Field(min_length=1, max_length=200)
    values: Annotated[tuple[Any, ...], Field(min_length=2, max_length=MAX_VALUES)]
    per: tuple[str, ...] = ()
    seeds: (
        Annotated[int, Field(ge=1, le=MAX_VALUES)]
        | Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_VALUES)]
    ) = 1
    epochs: Epochs | dict[str, dict[Any, Epochs]] | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """As in every section, but a switch may be tuned."""
        if info.field_name == "values":
            return value
        return super()._no_switch_for_a_number(value, info)

    @field_validator("key")
    @classmethod
    def _compares(cls, key: str) -> str:
        key = key.removesuffix(".name")
        if key == "training.epochs":
            raise ValueError("training.epochs cannot be tuned: more is never worse by this score")
        if _is_in(key, _OTHER_BOUNDS):
            raise ValueError(
                f"{shortened(key)} cannot be tuned: its values have bounds that do not compare"
            )
        if _is_in(key, _NO_TRAINING):
            raise ValueError(f"{shortened(key)} cannot be tuned: it changes no training")
        return key

    @field_validator("values")
    @classmethod
    def _in_order(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        values = tuple(
            float(v) if isinstance(v, str) and _FLOAT.fullmatch(v) else v for v in values
        )
        if any(value in values[:i] for i, value in enumerate(values)):
            raise ValueError("a value is named twice")
        return tuple(sorted(values)) if are_numbers(values) else values

    @field_validator("per", "seeds")
    @classmethod
    def _distinct(cls, names: Any) -> Any:
        if isinstance(names, tuple) and len(set(names)) < len(names):
            raise ValueError("names one twice")
        return names

    @model_validator(mode="after")
    def _epochs_by_an_axis(self) -> Self:
        if isinstance(self.epochs, dict):
            if len(self.epochs) != 1:
                raise ValueError("epochs: by the values of one axis, as {model: {fnn: 30}}")
            axis = next(iter(self.epochs))
            if axis not in self.per:
                raise ValueError(f"epochs: {shortened(axis)!r} is no axis of tune.per")
        return self

    @property
    def count(self) -> int:
        """The number of tuning seeds."""
        return self.seeds if isinstance(self.seeds, int) else len(self.seeds)

    def group(self, cell: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the axes ``per`` in a cell: cells where they are equal share a pick."""
        return {axis: cell[axis] for axis in self.per}

    def epochs_of(self, cell: Mapping[str, Any]) -> int | None:
        """Epochs of the tuning runs in a cell; None: as many as its runs have."""
        if isinstance(self.epochs, dict):
            [(axis, epochs)] = self.epochs.items()
            return epochs[cell[axis]]
        return self.epochs

    def seeds_beside(self, used: Collection[int]) -> tuple[int, ...]:
        """The tuning seeds, given the seeds of the grid's runs."""
        if not isinstance(self.seeds, int):
            return self.seeds
        free = (seed for seed in range(FIRST_SEED, FIRST_SEED + self.seeds + len(used)))
        return tuple(seed for seed in free if seed not in used)[: self.seeds]


def group_key(group: Mapping[str, Any]) -> str:
    """A group as a key of a mapping: values of axes need not be hashable."""
    return repr(sorted(group.items(), key=lambda item: item[0]))


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether values have an order in which one can lie at the edge."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def faults(
    tune: Tune,
    axes: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    configs: Sequence["RunConfig"],
) -> list[str]:
    """What is wrong with ``tune`` in its grid, a line each.

    Arguments:
        tune: As asked.
        axes: The grid's axes.
        seeds: The seeds of its runs.
        settings: That its file gives to all runs.
        configs: The configurations of its runs, as far as they are valid.
    """
    lines = unknown_axes("tune.per", tune.per, axes)
    if tune.key in (axis.removesuffix(".name") for axis in axes):
        lines.append(f"tune.key: {shortened(tune.key)} is an axis; tune another key")
    elif _is_set(settings, tune.key):
        lines.append(f"{shortened(tune.key)}: is tuned; leave it out, or leave out tune")
    if isinstance(tune.seeds, tuple) and (both := sorted({*tune.seeds} & {*seeds})):
        lines.append(f"tune.seeds: {both[0]} is a seed of the runs; tune on others")
    if isinstance(tune.epochs, dict):
        [(axis, epochs)] = tune.epochs.items()
        for value in axes.get(axis, ()):
            if not isinstance(value, Hashable) or value not in epochs:
                lines.append(f"tune.epochs.{axis}: names no epochs for {value!r}")
                break
    validation = {config.dataset.validation for config in configs}
    if 0 in validation:
        lines.append("tune: needs a validation split, but dataset.validation is 0")
    if "test" in validation:
        lines.append("tune: dataset.validation is test, and nothing is picked on the test images")
    return lines


def _is_in(key: str, sections: Collection[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _is_set(settings: Any, key: str) -> bool:
    """Whether a dotted key is given."""
    for part in key.split("."):
        if not isinstance(settings, Mapping) or part not in settings:
            return False
        settings = settings[part]
    return not isinstance(settings, Mapping) or "name" in settings
