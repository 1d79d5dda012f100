"""Arguments and options that commands share, and how they become settings."""

import ast
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

import vaebench
from vaebench import plain_yaml
from vaebench.errors import ConfigError

WHERE = ("results", "device", "data_dir", "tracking_uri", "rerun")  # not part of a run's identity
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_F = TypeVar("_F", bound=Callable[..., Any])

directory_argument = click.argument("directory", default="results", metavar="[DIR]", type=FOLDER)
results_option = click.option(
    "--results", default="results", show_default=True, type=FOLDER, help="Folder of all results."
)
data_option = click.option("--data-dir", type=FOLDER, help="Where data sets lie; see `data fetch`.")
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def registered(module: str, name: str) -> list[str]:
    """Keys of a registry, read off its source: importing it would take PyTorch's seconds."""
    package = Path(vaebench.__file__).parent
    path = package / f"{module}.py"
    source = path if path.exists() else package / module / "__init__.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            assert isinstance(node.value, ast.Dict)
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    raise LookupError(f"{source} has no {name}")


def _names(module: str, name: str) -> str:
    return ", ".join(registered(module, name))


def run_options(command: _F) -> _F:
    """Add the options that say what to run, where, and how."""
    options = [
        click.option(
            "--model",
            multiple=True,
            metavar="NAME",
            help=f"One of: {_names('models', 'MODELS')} (repeatable).",
        ),
        click.option(
            "--loss",
            multiple=True,
            metavar="NAME",
            help=f"One of: {_names('likelihoods', 'LIKELIHOODS')} (repeatable).",
        ),
        click.option(
            "--estimator",
            multiple=True,
            metavar="NAME",
            help=f"One of: {_names('estimators', 'ESTIMATORS')} (repeatable).",
        ),
        click.option(
            "--dataset", metavar="NAME", help=f"One of: {_names('datasets', 'DATASETS')}."
        ),
        click.option("--epochs", type=int, metavar="N", help="Epochs of training."),
        click.option("--name", help="Of the folder below --results, and of the experiment."),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="KEY=VALUE",
            help="Any configuration key, e.g. training.batch_size=128 (repeatable).",
        ),
        device_option("train"),
        results_option,
        data_option,
        click.option("--tracking-uri", help="Of MLflow.  [default: a database in --results]"),
        click.option(
            "--rerun",
            type=click.Choice(["missing", "failed", "all"]),
            help="Do only what is missing, only what has failed, or all again.  [default: missing "
            "and failed]",
        ),
        click.option(
            "--dry-run", is_flag=True, help="Show what would run, and why the rest is skipped."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


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


def settings(options: dict[str, Any]) -> dict[str, Any]:
    """What the options change, as dotted configuration keys.

    Raises:
        ConfigError: An assignment or a list of seeds cannot be read.
    """
    changed = assigned(options["assignments"])
    for axis in ("model", "loss", "estimator"):
        if options[axis]:
            changed[axis] = list(options[axis])
    if options["dataset"]:
        changed["dataset"] = options["dataset"]
    if options["epochs"] is not None:
        changed["training.epochs"] = options["epochs"]
    if options["name"] is not None:
        changed["name"] = options["name"]
    if options.get("seeds") is not None:
        changed["seeds"] = _seeds(options["seeds"])
    if options.get("seed") is not None:
        changed["seeds"] = [options["seed"]]
    return changed


def assigned(assignments: Sequence[str]) -> dict[str, Any]:
    """The keys and values of ``--set``.

    Raises:
        ConfigError: One of them cannot be read.
    """
    changed: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        shown = " ".join(assignment.split())[:80]
        if not equals or not key:
            raise ConfigError(f"--set {shown}: not KEY=VALUE, as in training.batch_size=128")
        try:
            changed[key] = plain_yaml.load(value)
        except ValueError:
            raise ConfigError(f"--set {shown}: the value is not YAML") from None
    return changed


def _seeds(text: str) -> int | list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {text}: neither a number nor a list such as 0,3,7") from None
    return numbers if "," in text else numbers[0]
