"""The configuration of a grid: shared settings, axes, seeds; and how it expands to runs."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import Field, ValidationError, field_validator

from vaebench.config.choices import Section, did_you_mean
from vaebench.config.claims import Claim, Published
from vaebench.config.messages import messages
from vaebench.config.run import RunConfig, make_run
from vaebench.errors import ConfigError

DEMO = Path(__file__).parents[1] / "demo.yaml"

MOST_SEEDS = 10_000

AXES: dict[str, list[Any]] = {
    "model": ["fnn", "cnn"],
    "loss": ["bce", "mse"],
    "estimator": ["sgvb", "kl"],
}


class Run(NamedTuple):
    """A run of a grid: its cell is the values of the axes."""

    cell: dict[str, Any]
    config: RunConfig


class Grid(Section):
    """A grid: settings that all runs share, and axes along which they differ.

    Attributes:
        name: Of its folder below ``results/`` and of its MLflow experiment.
        question: What the grid is to answer, shown in the report.
        seeds: Of the runs of every cell; the same in each, so that cells are paired.
        axes: Configuration keys, dotted, and the values that each takes.
        exclude: Cells to leave out: every cell that has all the values of one entry.
        claims: What the report is to judge.
        published: What the report compares with.
        tracking_uri: Of MLflow, unless given otherwise.
        settings: The other keys of the file, as in :class:`RunConfig`.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    question: str = ""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)] = (0,)
    axes: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)
    exclude: tuple[dict[str, Any], ...] = ()
    claims: tuple[Claim, ...] = ()
    published: tuple[Published, ...] = ()
    tracking_uri: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("axes")
    @classmethod
    def _no_seeds(cls, axes: dict[str, Any]) -> dict[str, Any]:
        if "seed" in axes:
            raise ValueError("seed is no axis; use seeds")
        for axis, values in axes.items():
            if any(value in values[:i] for i, value in enumerate(values)):
                raise ValueError(f"{axis} names a value twice")
        return axes

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
                errors.update(dict.fromkeys(messages(error, RunConfig, GRID_KEYS)))
                continue
            twin = seen.setdefault(config.run_id, cell)
            if twin is not cell:
                errors[
                    f"axes: {twin} and {cell} are the same run, as an axis does not apply to it; "
                    f"exclude one of them"
                ] = None
            runs += [Run(cell, config.model_copy(update={"seed": s})) for s in self.seeds]
        errors.update(dict.fromkeys(self._unknown_cells()))
        if errors:
            raise ConfigError(f"{source}: {'; '.join(errors)}")
        if not runs:
            raise ConfigError(f"{source}: exclude leaves no run of the grid")
        return runs

    def _unknown_cells(self) -> list[str]:
        """What claims and published numbers name that is no axis: one line each."""
        sides = [
            (f"claims.{i}", side) for i, claim in enumerate(self.claims) for side in claim.sides
        ]
        sides += [(f"published.{i}", entry.cell) for i, entry in enumerate(self.published)]
        return [
            f"{where}: {axis!r} is no axis; {did_you_mean(axis, self.axes)}"
            for where, side in sides
            for axis in side
            if axis not in self.axes
        ]


GRID_KEYS = tuple(key for key in Grid.model_fields if key != "settings")


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


def without_file(dataset: str | None) -> dict[str, Any]:
    """What a grid without a file is: the defaults, and for ``digits`` the demo's settings.

    The defaults are sized for MNIST; 1,200 images of 8x8 pixels want others.
    """
    return read_yaml(DEMO) if dataset == "digits" else {}


class _UniqueKeys(yaml.SafeLoader):
    """Safe YAML in which a key that stands twice is a mistake, not the last word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Raises:
        ConfigError: The file cannot be read, is not YAML, or holds something else.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise ConfigError(f"{path}: not a mapping of keys to values")
    return raw


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
    own = {key: raw.pop(key) for key in GRID_KEYS if key in raw}
    if own.get("axes") in (None, {}):
        own["axes"] = {axis: _named(raw.get(axis)) or values for axis, values in axes.items()}
    elif isinstance(own["axes"], dict):
        own["axes"] = dict(own["axes"])
    _require_known_exclusions(own, source)
    settings: dict[str, Any] = raw
    if "seed" in settings:
        own.setdefault("seeds", [settings["seed"]])
        del settings["seed"]
    for given, value in (overrides or {}).items():
        key = given.removesuffix(".name")
        if key == "seed":
            own["seeds"] = [value]
        elif key in GRID_KEYS:
            own[key] = value
        elif isinstance(own["axes"], dict) and key in own["axes"]:
            own["axes"][key] = value if isinstance(value, list) else [value]
        else:
            settings = with_value(settings, key, value)
    seeds = own.get("seeds")
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if seeds > MOST_SEEDS:
            raise ConfigError(f"{source}: seeds: {seeds} is a number of seeds; name one as a list")
        own["seeds"] = list(range(seeds))
    dataset = settings.get("dataset", "mnist")
    name = dataset.get("name", "mnist") if isinstance(dataset, dict) else dataset
    own.setdefault("name", name)
    try:
        grid = Grid.model_validate(own | {"settings": settings})
    except ValidationError as error:
        raise ConfigError(f"{source}: {'; '.join(messages(error, Grid))}") from error
    grid.runs(source)
    return grid


def _named(choice: object) -> list[str] | None:
    """The name that a file gives to a choice: an axis of one value."""
    name = choice.get("name") if isinstance(choice, dict) else choice
    return [name] if isinstance(name, str) else None


def _require_known_exclusions(own: Mapping[str, Any], source: str) -> None:
    """Find exclusions that never apply: judged by the file, since options may narrow an axis."""
    axes, exclude = own["axes"], own.get("exclude")
    if not isinstance(axes, dict) or not isinstance(exclude, list):
        return  # said better by the validation
    for key, value in [p for e in exclude if isinstance(e, dict) for p in e.items()]:
        if key not in axes:
            raise ConfigError(
                f"{source}: exclude: {key!r} is no axis; {did_you_mean(str(key), map(str, axes))}"
            )
        if isinstance(axes[key], list) and value not in axes[key]:
            raise ConfigError(f"{source}: exclude: {value!r} is no value of the axis {key}")


def make_single(
    raw: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, *, source: str = "config"
) -> Grid:
    """Build a grid of one cell from the configuration of a run, e.g. a stored ``config.yaml``.

    Its cell is named by model, loss and estimator, and so is the grid, unless it has a name.

    Raises:
        ConfigError: Something is wrong; everything that is, is named.
    """
    defaults = make_run({}).to_dict()
    overrides = {key.removesuffix(".name"): value for key, value in (overrides or {}).items()}
    given = dict(raw) | overrides
    names: dict[str, Any] = {}
    for axis in ("dataset", *AXES):
        value = given.get(axis, {})
        if isinstance(value, list):
            if len(value) != 1:
                raise ConfigError(
                    f"{source}: {axis}: {len(value)} values for one run; use `vaebench run-grid`"
                )
            value = value[0]
        default = defaults[axis]["name"]
        names[axis] = value.get("name", default) if isinstance(value, dict) else value
    named = {"name": "-".join(str(name) for name in names.values())} | dict(raw)
    axes = {axis: [names[axis]] for axis in AXES}
    return make_grid(named, overrides, axes=axes, source=source)
