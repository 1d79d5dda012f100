"""Arguments and options that commands share, and how they become settings."""

import ast
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

import vaebench
from vaebench import plain_yaml
from vaebench.errors import ConfigError, redact

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}  # of a time, in seconds

_F = TypeVar("_F", bound=Callable[..., Any])

directory_argument = click.argument("directory", default="results", metavar="[DIR]", type=FOLDER)
results_option = click.option(
    "--results", default="results", show_default=True, type=FOLDER, help="Folder of all results."
)
data_option = click.option("--data-dir", type=FOLDER, help="Data set folder; see `data fetch`.")
plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="PATH|MODULE",
    help="Python file or module with models, losses, ... of your own (repeatable). It is run.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
jobs_option = click.option(
    "--jobs",
    default="auto",
    show_default=True,
    metavar="N|auto",
    callback=lambda _, __, text: job_count(text),
    help="Runs at a time.",
)


def registered(module: str, name: str) -> list[str]:
    """Keys of a registry, read off its source: importing it would take PyTorch's seconds."""
    package = Path(vaebench.__file__).parent
    path = package / f"{module}.py"
    source = path if path.exists() else package / module / "__init__.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            entries = next(n for n in ast.walk(node) if isinstance(n, ast.Dict))
            return [ast.literal_eval(key) for key in entries.keys if key is not None]
    raise LookupError(f"{source} has no {name}")


def run_options(command: _F) -> _F:
    """Add the options that say what to run, where, and how."""
    axes = {
        "model": registered("models", "MODELS"),
        "loss": registered("likelihoods", "LIKELIHOODS"),
        "estimator": registered("estimators", "ESTIMATORS"),
    }
    datasets = ", ".join(registered("datasets", "DATASETS"))
    options = [
        *(
            click.option(
                f"--{axis}",
                multiple=True,
                metavar="NAME",
                help=f"One of: {', '.join(names)} (repeatable).",
            )
            for axis, names in axes.items()
        ),
        click.option("--dataset", metavar="NAME", help=f"One of: {datasets}."),
        click.option("--epochs", type=int, metavar="N", help="Epochs of training."),
        click.option("--name", help="Grid name: its results folder and MLflow experiment."),
        click.option(
            "--trial",
            is_flag=True,
            help="Try whether it works, in seconds: one seed, one epoch of few images. The grid is "
            "then NAME-trial, and is no result.",
        ),
        set_option("Any configuration key, e.g. training.batch_size=128 (repeatable)."),
        plugin_option,
        device_option("train"),
        results_option,
        data_option,
        click.option("--tracking-uri", help="MLflow's URI.  [default: a database in --results]"),
        click.option(
            "--rerun",
            type=click.Choice(["missing", "failed", "stale", "all"]),
            help="Do only missing runs, only failed runs, only runs whose data or code have "
            "changed, or all runs again.  [default: missing and failed]",
        ),
        click.option(
            "--dry-run", is_flag=True, help="Show what would run, and why the rest is skipped."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def set_option(text: str) -> Callable[[_F], _F]:
    """``--set``, with its help."""
    return click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help=text)


def device_option(verb: str) -> Callable[[_F], _F]:
    """``--device``, where to do what ``verb`` says."""
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda|mps",
        help=f"Where to {verb}.",
    )


def job_count(text: str) -> int | None:
    """The value of ``--jobs``; None for auto.

    Raises:
        ConfigError: It is neither.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--jobs: {text!r} is neither a number of runs from 1 nor auto")
    return int(text)


def seconds(text: str | None) -> float | None:
    """A time such as 90, 90s, 10m, 2h or 1d, in seconds; None for none.

    Raises:
        ConfigError: It is no such time, or no time at all.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smhd]?)", text)
    if found is None or float(found[1]) == 0:
        raise ConfigError(f"--timeout: {text!r} is no time such as 90 (seconds), 10m or 2h")
    return float(found[1]) * _UNITS[found[2]]


def again(*added: str) -> str:
    """The command that is being done, with options added; passwords are replaced by ``***``.

    The last one counts where an option is given twice.
    """
    given = click.get_current_context().find_root().obj
    return shlex.join(["vaebench", *map(redact, given), *added])


def settings(options: dict[str, Any]) -> dict[str, Any]:
    """What the options change, as dotted configuration keys.

    Raises:
        ConfigError: An assignment, a list of seeds or a name cannot be read.
    """
    changed = assigned(options["assignments"])
    if options.get("plugins"):
        named = changed.get("plugins", [])
        changed["plugins"] = [*([named] if isinstance(named, str) else named), *options["plugins"]]
    for axis in ("model", "loss", "estimator"):
        for name in (name for name in options[axis] if "," in name):
            each = " ".join(f"--{axis} {part.strip()}" for part in name.split(","))
            raise ConfigError(f"--{axis} {shown(name)}: repeat the option: {shown(each)}")
        if options[axis]:
            changed[axis] = list(options[axis])
    for option, key in (("dataset", "dataset"), ("epochs", "training.epochs"), ("name", "name")):
        if options[option] is not None:
            changed[key] = options[option]
    if options.get("trial"):
        changed["trial"] = True
    if options.get("seeds") is not None:
        changed["seeds"] = _seeds(options["seeds"])
    if options.get("seed") is not None:
        changed["seeds"] = [options["seed"]]
    return changed


def shown(text: str) -> str:
    """A text of the user's in one line of an error."""
    return " ".join(text.split())[:80]


def assigned(assignments: Sequence[str]) -> dict[str, Any]:
    """The keys and values of ``--set``.

    Raises:
        ConfigError: One of them cannot be read.
    """
    changed: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"--set {shown(assignment)}: not KEY=VALUE, as in training.batch_size=128"
            )
        try:
            changed[key] = plain_yaml.load(value)
        except ValueError:
            raise ConfigError(f"--set {shown(assignment)}: the value is not YAML") from None
    return changed


def _seeds(text: str) -> int | list[int]:
    """A number of seeds; or a list such as 0,3,7 or [0, 3, 7], of one seed also 3, or [3]."""
    bare = re.sub(r"^\[(.*)\]$", r"\1", text)
    is_list = bare != text or "," in text
    parts = re.sub(r",\s*$", "", bare).split(",")
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        raise ConfigError(
            f"--seeds {shown(text)}: neither a number nor a list such as 0,3,7; one seed is `3,`"
        ) from None
    if is_list:
        return numbers
    if numbers[0] < 1:
        hint = "; for seed 0 alone use `--seeds 0,`" if numbers == [0] else ""
        raise ConfigError(f"--seeds {shown(text)}: a number of seeds is at least 1{hint}")
    return numbers[0]
