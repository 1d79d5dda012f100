"""The keys of a grid's file as rows of a table, from the package's types and docstrings."""

import inspect
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from vaebench.config import Grid, run_type
from vaebench.config.run import REGISTRIES as COMPONENTS
from vaebench.config.run import EstimatorChoice, ModelChoice
from vaebench.datasets import DATASETS, load
from vaebench.training import OPTIMIZERS, SCHEDULES, Plan

Schema = Mapping[str, Any]

REGISTRIES: dict[str, Mapping[str, Any]] = {
    **COMPONENTS,
    "training.optimizer": OPTIMIZERS,
    "training.schedule": SCHEDULES,
}
# whose docstring says what the keys of a section mean, besides the section's own
_SOURCES: dict[str, object] = {
    "dataset": load,
    "estimator": EstimatorChoice,
    "model": ModelChoice,
    "training": Plan,
    **{
        f"{key}.{name}": value
        for key in ("model", "loss", "training.optimizer", "training.schedule")
        for name, value in REGISTRIES[key].items()
    },
    **{f"dataset.{name}": entry.read for name, entry in DATASETS.items()},
}
_BOUNDS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
}
_DEFAULTS = {
    "name": "the data set's name",
    "axes": "model: `[fnn, cnn]`, loss: `[bce, mse]`, estimator: `[sgvb, kl]`",
    "seeds": "`1`",
    "dataset.validation": "the data set's own",
    "dataset.folder.path": "must be given",
    "dataset.npz.path": "must be given",
    "dataset.npz.shape": "must be given",
    "estimator.samples": "the estimator's own",
}
_TYPES = {"seeds": "integer (a number of seeds) or list (integer >= 0)"}


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int] = ()
) -> str:
    """Format a Markdown table."""
    rule = ["---:" if i in right else "---" for i in range(len(headings))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rule, *rows))


def plain(text: str) -> str:
    """Return a docstring's text for a table: without roles, line breaks and bars."""
    text = re.sub(r":math:`([^`]*)`", _formula, " ".join(text.split()))
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`").replace("|", "\\|")


def _formula(match: re.Match[str]) -> str:
    text = match[1]
    for name, letter in {r"\sigma": "σ", r"\eta": "η", r"\log": "log", "^2": "²"}.items():
        text = text.replace(name, letter)
    return f"*{text}*"


def first_paragraph(value: object) -> str:
    """Return the first paragraph of a docstring, ready for a table."""
    return plain((inspect.getdoc(value) or "").partition("\n\n")[0])


def key_rows() -> Iterator[list[str]]:
    """Yield key, type, default and meaning of every key of a grid's file."""
    grid = Grid.model_json_schema()
    grid["properties"].pop("settings")
    yield from _rows("", grid, grid)
    run = run_type().model_json_schema()
    run["properties"].pop("seed")
    yield from _rows("", run, run)


def _rows(prefix: str, section: Schema, root: Schema) -> Iterator[list[str]]:
    docs = section.get("description", ""), inspect.getdoc(_SOURCES.get(prefix.rstrip("."))) or ""
    meanings = {name: text for doc in docs for name, text in _entries(doc).items()}
    for key, field in section["properties"].items():
        name = f"{prefix}{key}"
        inner = _section(field, root)
        if inner is None:
            meaning = meanings.get(key, "")
            if key == "name" and prefix.rstrip(".") in REGISTRIES:
                kind = "one of " + ", ".join(f"`{n}`" for n in REGISTRIES[prefix.rstrip(".")])
                meaning = "See the names below."
            else:
                kind = _TYPES.get(name) or _type(field, root)
            default = _default(name, field, section)
            yield [f"`{name}`", kind, default, plain(meaning)]
        else:
            many = "items" in field
            if many or "anyOf" in field:
                kind = "list of sections" if many else "section"
                meaning = meanings.get(key, _summary(inner))
                yield [f"`{name}`", kind, _default(name, field, section), plain(meaning)]
            yield from _rows(f"{name}[]." if many else f"{name}.", inner, root)


def _section(field: Schema, root: Schema) -> Schema | None:
    """Return the section that a key holds, if it holds one."""
    for option in field.get("anyOf", [field.get("items", field)]):
        if "$ref" in option:
            return root["$defs"][option["$ref"].rpartition("/")[2]]
    return None


def _summary(section: Schema) -> str:
    return section.get("description", "").partition("\n\n")[0]


def _entries(doc: str) -> dict[str, str]:
    """Return the entries under ``Attributes:`` and ``Arguments:`` of a docstring."""
    blocks = re.findall(r"^(?:Attributes|Arguments):\n((?:[ ]{4}.*\n?)+)", doc, re.MULTILINE)
    entry = re.compile(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)
    return dict(pair for block in blocks for pair in entry.findall(block))


def _default(name: str, field: Schema, section: Schema) -> str:
    if name in _DEFAULTS:
        return _DEFAULTS[name]
    if name.rpartition(".")[2] in section.get("required", ()):
        return "required"
    default = field.get("default")
    return (
        f"`{default or repr(default)}`" if isinstance(default, str) else f"`{json.dumps(default)}`"
    )


def _type(field: Schema, root: Schema) -> str:
    """Name a type in words."""
    if "anyOf" in field:
        kinds = [_type(option, root) for option in field["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return "one of " + ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        items = field.get("items", {})
        return f"list ({_type(items, root)})" if items else "list"
    kind = {"object": "mapping", "string": "text", "boolean": "true or false"}.get(
        field.get("type", ""), field.get("type", "any")
    )
    bounds = [
        text.format(field[key])
        for key, text in _BOUNDS.items()
        if key in field and field[key] < 2**63
    ]
    return " ".join([kind, ", ".join(bounds)]).strip()
