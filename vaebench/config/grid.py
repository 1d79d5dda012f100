"""The configuration of a grid: shared settings, axes, seeds; and how it expands to runs."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from vaebench.config.messages import in_one_line, messages, shortened, unknown_axes
from vaebench.config.run import RunConfig, run_type
from vaebench.config.tuning import Tune, faults, group_key
from vaebench.declarations import COSTS
from vaebench.errors import ConfigError
from vaebench.metrics import METRICS, ON_TRAIN
from vaebench.schema.claims import Claim, Published
from vaebench.schema.section import Section, did_you_mean

MAX_RUNS = 100_000
_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.", re.IGNORECASE)

AXES: dict[str, list[Any]] = {
    "model": ["fnn", "cnn"],
    "loss": ["bce", "mse"],
    "estimator": ["sgvb", "kl"],
}


def _has_twins(values: Sequence[Any]) -> bool:
    """Whether a value is there twice; in a moment, however many there are."""
    try:
        return len(set(values)) < len(values)
    except TypeError:  # lists and mappings, which have no hash
        return len(set(map(repr, values))) < len(values)


@dataclass(frozen=True)
class Run:
    """A run of a grid: its cell is the values of the axes."""

    cell: dict[str, Any]
    config: RunConfig

    @cached_property
    def run_id(self) -> str:
        """The fingerprint of its configuration."""
        return self.config.run_id


class Grid(Section):
    """A grid: settings that all runs share, and axes along which they differ.

    Attributes:
        name: Grid name: its folder below ``results/`` and its MLflow experiment.
        question: The question that the grid answers, shown in the report.
        seeds: Number or list of seeds; every cell uses the same ones, so that cells are paired.
        axes: Dotted configuration keys, and the values that each takes.
        exclude: Cells to leave out: every cell that has all the values of one entry.
        claims: Statements that the report judges.
        published: Published numbers that the report compares with.
        tune: A setting that is picked for each group of cells before the runs.
        tracking_uri: MLflow's tracking URI, unless ``--tracking-uri`` gives another.
        plugins: Files (relative to the grid's file) or modules that enter components.
        settings: The other keys of the file, as in :class:`RunConfig`.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    question: str = Field(default="", max_length=2000)
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)] = (0,)
    axes: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)
    exclude: tuple[dict[str, Any], ...] = ()
    claims: tuple[Claim, ...] = ()
    published: tuple[Published, ...] = ()
    tune: Tune | None = None
    tracking_uri: str | None = None
    plugins: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _is_a_folder_everywhere(cls, name: str) -> str:
        if _WINDOWS.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a folder on Windows")
        return name

    @field_validator("axes")
    @classmethod
    def _no_seeds(cls, axes: dict[str, Any]) -> dict[str, Any]:
        if "seed" in axes:
            raise ValueError("seed is no axis; use seeds")
        if "trial" in axes:
            raise ValueError("trial is no axis: a trial is a grid of its own; use --trial")
        for axis, values in axes.items():
            if len(values) > MAX_RUNS:
                raise ValueError(f"{shortened(axis)} has more than {MAX_RUNS:,} values")
            if _has_twins(values):
                raise ValueError(f"{shortened(axis)} names a value twice")
        return axes

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is named twice")
        return seeds

    @model_validator(mode="after")
    def _are_not_too_many(self) -> Self:
        if len(self.seeds) * math.prod(map(len, self.axes.values())) > MAX_RUNS:
            raise ValueError(f"axes and seeds make more than {MAX_RUNS:,} runs")
        if self.tune is not None:
            groups = math.prod(len(self.axes.get(axis, ())) for axis in self.tune.per)
            if groups * len(self.tune.values) * self.tune.count > MAX_RUNS:
                raise ValueError(f"tune makes more than {MAX_RUNS:,} tuning runs")
        return self

    def settings_of(self, cell: Mapping[str, Any], picks: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a cell's runs.

        Arguments:
            cell: Values of the axes.
            picks: What was picked by tuning, by :func:`~vaebench.config.tuning.group_key`; a group
                without a pick has the default.
        """
        raw = self.settings
        for key, value in cell.items():
            raw = with_value(raw, key, value)
        if self.tune is not None and picks:
            group = group_key(self.tune.group(cell))
            if group in picks:
                raw = with_value(raw, self.tune.key, picks[group])
        return raw

    def runs(self, source: str = "grid", picks: Mapping[str, Any] | None = None) -> list[Run]:
        """Every run, cell by cell, seed by seed, validated.

        Arguments:
            source: For error messages.
            picks: As for :meth:`settings_of`.

        Raises:
            ConfigError: Naming ``source``, and everything that is wrong in any of the runs.
        """
        runs, mistakes = self.checked(picks)
        if mistakes:
            raise ConfigError(f"{source}: {in_one_line(mistakes)}")
        return runs

    def checked(self, picks: Mapping[str, Any] | None = None) -> tuple[list[Run], list[str]]:
        """The valid runs, and what is wrong in any of the others: one line each."""
        kind = run_type()
        runs: list[Run] = []
        errors: dict[str, None] = {}
        seen: dict[str, dict[str, Any]] = {}
        excluded = self._excluded()
        places = itertools.product(*(range(len(values)) for values in self.axes.values()))
        for place, values in zip(places, itertools.product(*self.axes.values()), strict=True):
            if place in excluded:
                continue
            cell = dict(zip(self.axes, values, strict=True))
            try:
                config = kind.model_validate(self.settings_of(cell, picks or {}))
            except ValidationError as error:
                errors.update(dict.fromkeys(messages(error, kind, GRID_KEYS)))
                continue
            twin = seen.setdefault(config.run_id, cell)
            if twin is not cell:
                errors[
                    f"axes: {twin} and {cell} are the same run, as an axis does not apply to it; "
                    f"exclude one of them"
                ] = None
            runs += [Run(cell, config.model_copy(update={"seed": s})) for s in self.seeds]
        errors.update(dict.fromkeys([*self._unknown_cells(), *self._unknown_metrics()]))
        if self.tune is not None:
            configs = [run.config for run in runs]
            mistakes = faults(self.tune, self.axes, self.seeds, self.settings, configs)
            errors.update(dict.fromkeys(mistakes))
        if not runs and not errors:
            errors["exclude leaves no run of the grid"] = None
        return runs, list(errors)

    def _excluded(self) -> set[tuple[int, ...]]:
        """The cells that are left out, as positions on the axes."""
        excluded: set[tuple[int, ...]] = set()
        for entry in (entry for entry in self.exclude if entry.keys() <= self.axes.keys()):
            sides = [
                [i for i, value in enumerate(values) if value == entry[axis]]
                if axis in entry
                else range(len(values))
                for axis, values in self.axes.items()
            ]
            excluded.update(itertools.product(*sides))
        return excluded

    def _unknown_cells(self) -> list[str]:
        """What claims and published numbers name that is no axis: one line each."""
        sides = [
            (f"claims.{i}", side) for i, claim in enumerate(self.claims) for side in claim.sides
        ]
        sides += [(f"published.{i}", entry.cell) for i, entry in enumerate(self.published)]
        return [text for where, side in sides for text in unknown_axes(where, side, self.axes)]

    def _unknown_metrics(self) -> list[str]:
        """What claims and published numbers name that no run measures after training."""
        known = [f"test/{name}" for name in METRICS]
        known += [f"cost/{name}" for name in COSTS]
        known += [f"train_eval/{name}" for name in ON_TRAIN]
        named = [(f"claims.{i}", claim.metric) for i, claim in enumerate(self.claims)]
        named += [
            (f"published.{i}", its.metric)
            for i, its in enumerate(self.published)
            if its.epoch is None
        ]
        return [
            f"{where}.metric: {shortened(name)!r} is not measured after training; "
            f"{did_you_mean(name[:60], known)}"
            for where, name in named
            if name not in known
        ]


GRID_KEYS = tuple(key for key in Grid.model_fields if key != "settings")


def with_value(settings: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return ``settings`` with a dotted key set; a name and a section of options are merged."""
    if key.count(".") > 9:
        return settings | {key: value}  # no such key, as the validation will say
    head, _, rest = key.partition(".")
    old = settings.get(head)
    if rest:
        section = {"name": old} if isinstance(old, str) else old if isinstance(old, dict) else {}
        return settings | {head: with_value(section, rest, value)}
    if isinstance(old, dict) and isinstance(value, str):
        return settings | {head: old | {"name": value}}
    return settings | {head: value}
