"""How a :class:`Grid` is made: defaults, then what a file says, then the options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from vaebench import plain_yaml
from vaebench.config.grid import AXES, GRID_KEYS, MAX_RUNS, Grid, with_value
from vaebench.config.manifest import from_manifest, is_manifest
from vaebench.config.messages import in_one_line, messages, shortened, unknown_axes
from vaebench.config.run import make_run, run_type
from vaebench.config.tuning import group_key
from vaebench.errors import ConfigError
from vaebench.plugins import is_path, load
from vaebench.schema.trial import is_trial, trial_name

DEMO = Path(__file__).parents[1] / "demo.yaml"
MAX_FILE_BYTES = 2_000_000  # of a configuration file: a manifest of 10,000 runs has 1.2 million


def without_file(dataset: str | None) -> dict[str, Any]:
    """What a grid without a file is: the defaults, and for ``digits`` the demo's settings.

    The defaults are sized for MNIST; 1,200 images of 8x8 pixels want others.
    """
    return read_yaml(DEMO) if dataset == "digits" else {}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Raises:
        ConfigError: The file cannot be read, is too large, empty, not YAML, or holds something
            else.
    """
    try:
        raw = plain_yaml.read(path, MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    if raw is None or raw == {}:
        raise ConfigError(f"{path}: is empty; write settings into it, or leave the file out")
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise ConfigError(f"{path}: not a mapping of keys to values")
    if isinstance(named := raw.get("plugins"), list | str) and not is_manifest(raw):
        names = [named] if isinstance(named, str) else named
        raw["plugins"] = [_beside(path, name) if isinstance(name, str) else name for name in names]
    return raw


def _beside(path: Path, plugin: str) -> str:
    """A plugin as a file names it: its path is relative to that file."""
    return str(path.parent / Path(plugin).expanduser()) if is_path(plugin) else plugin


def _load_plugins(*named: Any) -> list[str]:
    """Load the plugins that a file and the options name, and return these names.

    Raises:
        ConfigError: One cannot be loaded, or is no name.
    """
    names = [each for some in named for each in ([some] if isinstance(some, str) else some or [])]
    for name in names:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"plugins: {shortened(repr(name))} is neither a file nor a module")
    load(names)
    return names


def make_grid(
    raw: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    axes: Mapping[str, list[Any]] = MappingProxyType(AXES),
    source: str = "grid",
) -> Grid:
    """Build a grid from the mapping in a file, or from an empty one.

    Arguments:
        raw: Keys of :class:`Grid` and, beside them, of :class:`RunConfig`; or a manifest, which
            asks for the runs that it lists. Its ``plugins`` are loaded first.
        overrides: Dotted keys that replace what ``raw`` says; of an axis, its values.
        axes: The axes of a grid that names none.
        source: For error messages.

    Raises:
        ConfigError: Something is wrong; everything that is, is named.
    """
    asked = dict(overrides or {}).pop("plugins", None)
    becomes_trial = not is_trial(raw) and is_trial(overrides)
    overrides = {key: value for key, value in (overrides or {}).items() if key != "plugins"}
    try:
        plugins = _load_plugins(None if is_manifest(raw) else raw.get("plugins"), asked)
        raw = from_manifest(raw) if is_manifest(raw) else {**raw, "plugins": plugins}
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    own = {key: raw.pop(key) for key in GRID_KEYS if key in raw}
    mistakes = _choices_that_are_none(raw)
    if own.get("axes") in (None, {}):
        names = {axis: _name(raw.get(axis)) for axis in axes}  # that a file gives: one value
        own["axes"] = {axis: axes[axis] if names[axis] is None else [names[axis]] for axis in axes}
    elif isinstance(own["axes"], dict):
        own["axes"] = dict(own["axes"])
    mistakes += _unknown_exclusions(own)
    settings: dict[str, Any] = raw
    if "seed" in settings:
        own.setdefault("seeds", [settings["seed"]])
        del settings["seed"]
    for given, value in overrides.items():
        key = given.removesuffix(".name")
        if key == "seed":
            own["seeds"] = [value]
        elif key in GRID_KEYS:
            own[key] = value
        elif isinstance(own["axes"], dict) and key in own["axes"]:
            values = value if isinstance(value, list) else [value]
            if "question" not in overrides and _lacks(values, own["axes"][key]):
                own.pop("question", None)  # asked of values that are left out
            own["axes"][key] = values
        elif key in AXES and isinstance(value, list) and len(value) == 1:
            settings = with_value(settings, key, value[0])
        elif key in AXES and isinstance(value, list) and isinstance(own["axes"], dict):
            own["axes"][key] = value
        elif key.partition(".")[0] in GRID_KEYS:
            mistakes.append(f"{shortened(key)}: it can only be set as a whole")
        else:
            settings = with_value(settings, key, value)
    seeds = own.get("seeds")
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if 1 <= seeds <= MAX_RUNS:
            own["seeds"] = list(range(seeds))
        else:
            number = shortened(str(seeds))
            hint = f"; one seed is a list: [{number}]" if seeds >= 0 else ""
            mistakes.append(f"seeds: {number} is no number of seeds from 1 to {MAX_RUNS:,}{hint}")
            del own["seeds"]
    name = _name(settings.get("dataset", "mnist"), "mnist")
    own.setdefault("name", name if isinstance(name, str) else "grid")  # said by the validation
    try:
        grid = Grid.model_validate(own | {"settings": settings})
    except ValidationError as error:
        mistakes += [*messages(error, Grid), *_mistakes_beside(error, own, settings)]
        raise _error(source, mistakes) from error
    runs, wrong = grid.checked()
    mistakes += wrong
    if not mistakes and grid.tune is not None:
        groups = [group_key(grid.tune.group(run.cell)) for run in runs]
        one_seed = grid.model_copy(update={"seeds": grid.seeds[:1]})
        for value in grid.tune.values:
            _, wrong = one_seed.checked(dict.fromkeys(groups, value))
            mistakes += [f"tune.values: {shortened(repr(value))}: {text}" for text in wrong]
    if mistakes:
        raise _error(source, mistakes)
    if not any(run.config.trial for run in runs):
        return grid
    return _as_trial(grid, one_seed=becomes_trial and not {"seed", "seeds"} & overrides.keys())


def _as_trial(grid: Grid, *, one_seed: bool) -> Grid:
    """A trial's grid: of another name, which judges no claim, if wanted with the first seed alone.

    It is done after all that the file says has been checked.
    """
    changed: dict[str, Any] = {"name": trial_name(grid.name), "claims": (), "published": ()}
    if one_seed:
        changed["seeds"] = grid.seeds[:1]
        if grid.tune is not None:
            seeds = grid.tune.seeds
            first = 1 if isinstance(seeds, int) else seeds[:1]
            changed["tune"] = grid.tune.model_copy(update={"seeds": first})
    return grid.model_copy(update=changed)


def _error(source: str, mistakes: Sequence[str]) -> ConfigError:
    return ConfigError(f"{source}: {in_one_line(dict.fromkeys(mistakes))}")


def _mistakes_beside(
    error: ValidationError, own: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[str]:
    """What else is wrong with a grid whose own keys are: in its cells, or in its settings alone."""
    wrong = {str(mistake["loc"][0]) if mistake["loc"] else "axes" for mistake in error.errors()}
    if wrong & {"axes", "exclude"}:  # its cells are not known
        try:
            run_type().model_validate(settings)
        except ValidationError as beside:
            # what keys say together may be another thing in the cells
            return messages(beside, run_type(), GRID_KEYS) if beside.errors()[0]["loc"] else []
        return []
    kept = {key: value for key, value in own.items() if key not in wrong}
    return Grid.model_validate({"name": "grid"} | kept | {"settings": settings}).checked()[1]


def _lacks(values: Sequence[Any], before: object) -> bool:
    """Whether one of the values that an axis had is not among its new ones."""
    return isinstance(before, list) and any(value not in values for value in before)


def _name(choice: Any, default: str | None = None) -> Any:
    """The name of a choice: itself, or what its section says."""
    return choice.get("name", default) if isinstance(choice, dict) else choice


def _choices_that_are_none(raw: dict[str, Any]) -> list[str]:
    """Take out choices that are none, as the values of an axis would take their place unseen."""
    mistakes = []
    for key in AXES:
        if key in raw and not isinstance(_name(raw[key], ""), str):
            del raw[key]
            mistakes.append(
                f"{key}: should be one name, or a mapping; several names are an axis, "
                f"`axes: {{{key}: [...]}}`"
            )
    return mistakes


def _unknown_exclusions(own: Mapping[str, Any]) -> list[str]:
    """Exclusions that never apply: judged by the file, since options may narrow an axis."""
    axes, exclude = own["axes"], own.get("exclude")
    if not isinstance(axes, dict) or not isinstance(exclude, list):
        return []  # said better by the validation
    mistakes = []
    for key, value in [p for e in exclude if isinstance(e, dict) for p in e.items()]:
        if key not in axes:
            mistakes += unknown_axes("exclude", [str(key)], map(str, axes))
        elif isinstance(axes[key], list) and value not in axes[key]:
            mistakes.append(f"exclude: {shortened(repr(value))} is no value of the axis {key}")
    return mistakes


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
        values = value if isinstance(value, list) else [value]
        if len(values) != 1:
            raise ConfigError(
                f"{source}: {axis}: {len(values)} values for one run; use `vaebench run-grid`"
            )
        names[axis] = _name(values[0], defaults[axis]["name"])
    named = {"name": "-".join(str(name) for name in names.values())} | dict(raw)
    axes = {axis: [names[axis]] for axis in AXES}
    return make_grid(named, overrides, axes=axes, source=source)
