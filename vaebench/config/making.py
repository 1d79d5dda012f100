"""How a :class:`Grid` is made: defaults, then what a file says, then the options."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from vaebench import plain_yaml
from vaebench.config.choices import did_you_mean
from vaebench.config.grid import AXES, GRID_KEYS, MOST_RUNS, Grid, with_value
from vaebench.config.messages import in_one_line, messages, shortened
from vaebench.config.run import make_run
from vaebench.config.tuning import group_key
from vaebench.errors import ConfigError

DEMO = Path(__file__).parents[1] / "demo.yaml"
MOST_BYTES = 256_000  # of a configuration file: a list of 10,000 seeds has 60,000


def without_file(dataset: str | None) -> dict[str, Any]:
    """What a grid without a file is: the defaults, and for ``digits`` the demo's settings.

    The defaults are sized for MNIST; 1,200 images of 8x8 pixels want others.
    """
    return read_yaml(DEMO) if dataset == "digits" else {}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Raises:
        ConfigError: The file cannot be read, is too large, not YAML, or holds something else.
    """
    try:
        raw = plain_yaml.read(path, MOST_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
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
    _require_choices(raw, source)
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
        elif key.partition(".")[0] in GRID_KEYS:
            raise ConfigError(f"{source}: {shortened(key)}: it can only be set as a whole")
        else:
            settings = with_value(settings, key, value)
    seeds = own.get("seeds")
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if seeds > MOST_RUNS:
            raise ConfigError(
                f"{source}: seeds: a number of seeds, up to {MOST_RUNS:,}; name one as a list"
            )
        own["seeds"] = list(range(seeds))
    dataset = settings.get("dataset", "mnist")
    name = dataset.get("name", "mnist") if isinstance(dataset, dict) else dataset
    own.setdefault("name", name if isinstance(name, str) else "grid")  # said by the validation
    try:
        grid = Grid.model_validate(own | {"settings": settings})
    except ValidationError as error:
        raise ConfigError(f"{source}: {in_one_line(messages(error, Grid))}") from error
    groups = [group_key(grid.tune.group(run.cell)) for run in grid.runs(source) if grid.tune]
    one_seed = grid.model_copy(update={"seeds": grid.seeds[:1]})
    for value in grid.tune.values if grid.tune else ():
        where = f"{source}: tune.values: {shortened(repr(value))}"
        one_seed.runs(where, dict.fromkeys(groups, value))
    return grid


def _named(choice: object) -> list[str] | None:
    """The name that a file gives to a choice: an axis of one value."""
    name = choice.get("name") if isinstance(choice, dict) else choice
    return [name] if isinstance(name, str) else None


def _require_choices(raw: Mapping[str, Any], source: str) -> None:
    """Find choices that are none, as the values of an axis would take their place unseen."""
    for key in (axis for axis in AXES if axis in raw):
        value = raw[key]
        name = value.get("name", "") if isinstance(value, dict) else value
        if not isinstance(name, str):
            raise ConfigError(
                f"{source}: {key}: should be one name, or a mapping; several names are an axis, "
                f"`axes: {{{key}: [...]}}`"
            )


def _require_known_exclusions(own: Mapping[str, Any], source: str) -> None:
    """Find exclusions that never apply: judged by the file, since options may narrow an axis."""
    axes, exclude = own["axes"], own.get("exclude")
    if not isinstance(axes, dict) or not isinstance(exclude, list):
        return  # said better by the validation
    for key, value in [p for e in exclude if isinstance(e, dict) for p in e.items()]:
        if key not in axes:
            word = shortened(str(key))
            raise ConfigError(
                f"{source}: exclude: {word!r} is no axis; {did_you_mean(word, map(str, axes))}"
            )
        if isinstance(axes[key], list) and value not in axes[key]:
            raise ConfigError(
                f"{source}: exclude: {shortened(repr(value))} is no value of the axis {key}"
            )


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
    if given.get("tune") is not None:
        raise ConfigError(
            f"{source}: tune: picks a value for the cells of a grid; use `vaebench run-grid`, or "
            f"leave it out and set the value itself"
        )
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
