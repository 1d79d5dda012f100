"""What is wrong with a configuration, in the words of a YAML file."""

import difflib
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from vaebench.config.choices import is_section
from vaebench.schema.section import Section, did_you_mean

_NO_LISTS = ("bool_type", "float_type", "int_type", "literal_error", "model_type", "string_type")

MAX_MISTAKES = 10  # mistakes that are told: who has more mends these first


def in_one_line(mistakes: Collection[str]) -> str:
    """The first mistakes, and how many there are beyond them."""
    more = len(mistakes) - MAX_MISTAKES
    told = [shortened(text, 300) for text in itertools.islice(mistakes, MAX_MISTAKES)]
    return "; ".join([*told, f"and {more:,} more"] if more > 0 else told)


def shortened(text: str, most: int = 60) -> str:
    """A text of the user's, cut where it is longer than anybody reads."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def unknown_axes(where: str, named: Iterable[str], axes: Iterable[str]) -> list[str]:
    """What is wrong with names that are no axes: one line each."""
    known = list(axes)
    return [
        f"{where}: {shortened(axis)!r} is no axis; {did_you_mean(axis[:60], known)}"
        for axis in named
        if axis not in known
    ]


def messages(error: ValidationError, root: type[Section], also: Collection[str] = ()) -> list[str]:
    """One line for each of the first mistakes: the dotted key, and what is wrong with it.

    Arguments:
        error: As pydantic raised it.
        root: The section that was validated.
        also: Further keys that a file may have at its top.
    """
    lines = []
    mistakes = error.errors(include_url=False, include_context=False)
    for mistake in mistakes[:MAX_MISTAKES]:
        unknown = mistake["type"] == "extra_forbidden"
        parts = [shortened(str(part)) for part in mistake["loc"]]
        path = [part for part in parts[: len(parts) - unknown] if _is_key(part)]
        text = _plain(mistake["msg"])
        if unknown:  # the last part is the user's, whatever its letters
            key = parts[-1]
            known = [*_fields(root, path), *(() if path else also)]
            text = f"unknown key; {_elsewhere(root, path, key, known)}{did_you_mean(key, known)}"
            path.append(key if _is_key(key) else repr(key))
        elif also and _is_list_for_a_value(mistake):
            text += f"; several values are an axis: `axes: {{{'.'.join(path)}: [...]}}`"
        lines.append(": ".join(filter(None, [".".join(path), text])))
    more = len(mistakes) - len(lines)
    return [*lines, f"{more:,} more mistakes"] if more else lines


def _is_list_for_a_value(mistake: Mapping[str, Any]) -> bool:
    is_item = any(isinstance(part, int) for part in mistake["loc"])
    return not is_item and isinstance(mistake["input"], list) and mistake["type"] in _NO_LISTS


def _elsewhere(root: type[Section], path: list[str], key: str, known: Collection[str]) -> str:
    """Where a key that is not known at ``path`` is: below another section, or abbreviated."""
    if not key or difflib.get_close_matches(key, known, n=1):
        return ""  # said by `did_you_mean`
    below = [
        ".".join(there)
        for there in _paths(root)
        if there[: len(path)] == path and (there[-1] == key or _initials(there[-1]) == key)
    ]
    return f"did you mean {' or '.join(map(repr, below[:3]))}? " if below else ""


def _initials(key: str) -> str:
    """``lr`` of ``learning_rate``; none of a single word."""
    return "".join(word[0] for word in key.split("_")) if "_" in key else ""


def _paths(section: Any, before: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Every key of a section and of the sections in it, as a path."""
    for key, field in section.model_fields.items():
        yield [*before, key]
        if inner := _inner(field):
            yield from _paths(inner, (*before, key))


def _is_key(part: str) -> bool:
    """Whether a part of a path is a key or an index, and not pydantic's name of a type."""
    return re.fullmatch(r"[\w.-]+", part) is not None and not part.startswith("constrained-")


def _plain(message: str) -> str:
    """Pydantic's message in the words of a YAML file."""
    message = message.removeprefix("Value error, ")
    message = re.sub(r"a valid dictionary.*", "a mapping of keys to values", message)
    message = re.sub(r"Predicate '(\w+)' failed", r"Input should be \1", message)
    message = message.replace("Tuple should", "List should").replace("a valid tuple", "a list")
    if "match pattern" in message:
        return "should be up to 64 letters, digits, dots, underscores, dashes, no dash or dot first"
    return message.replace(" after validation", "")


def _inner(field: Any) -> Any:
    """The section that a key holds, or a list of them, if it does."""
    annotations = (field.annotation, *get_args(field.annotation))
    return next((a for a in annotations if is_section(a)), None)


def _fields(section: Any, path: list[str]) -> list[str]:
    """Names of the keys that the section at a path knows."""
    for key in path:
        if not key.isdecimal():  # an index: the section before it was that of a list
            section = _inner(section.model_fields[key]) if section else None
    return list(section.model_fields) if section else []
