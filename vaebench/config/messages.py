"""What is wrong with a configuration, in the words of a YAML file."""

import itertools
import re
from collections.abc import Collection
from typing import Any, get_args

from pydantic import ValidationError

from vaebench.config.choices import Section, did_you_mean, is_section

MOST = 10  # mistakes that are told: who has more mends these first


def in_one_line(found: Collection[str]) -> str:
    """The first mistakes, and how many there are beyond them."""
    more = len(found) - MOST
    told = [shortened(text, 300) for text in itertools.islice(found, MOST)]
    return "; ".join([*told, f"and {more:,} more"] if more > 0 else told)


def shortened(text: str, most: int = 60) -> str:
    """A text of the user's, cut where it is longer than anybody reads."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def messages(error: ValidationError, root: type[Section], also: Collection[str] = ()) -> list[str]:
    """One line for each of the first mistakes: the dotted key, and what is wrong with it.

    Arguments:
        error: What pydantic found.
        root: The section that was validated.
        also: Further keys that a file may have at its top.
    """
    found = []
    mistakes = error.errors(include_url=False, include_context=False, include_input=False)
    for mistake in mistakes[:MOST]:
        unknown = mistake["type"] == "extra_forbidden"
        parts = [shortened(str(part)) for part in mistake["loc"]]
        path = [part for part in parts[: len(parts) - unknown] if _is_key(part)]
        text = _plain(mistake["msg"])
        if unknown:  # the last part is the user's, whatever its letters
            key = parts[-1]
            known = [*_fields(root, path), *(() if path else also)]
            text = f"unknown key; {did_you_mean(key, known)}"
            path.append(key if _is_key(key) else repr(key))
        found.append(": ".join(filter(None, [".".join(path), text])))
    more = len(mistakes) - len(found)
    return [*found, f"{more:,} more mistakes"] if more else found


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


def _fields(section: Any, path: list[str]) -> list[str]:
    """Names of the keys that the section at a path knows."""
    for key in path:
        if key.isdecimal():
            continue  # an index: the annotation before it was that of a list of sections
        annotation = section.model_fields[key].annotation if hasattr(section, "model_fields") else 0
        sections = [a for a in (annotation, *get_args(annotation)) if is_section(a)]
        section = sections[0] if sections else None
    return list(getattr(section, "model_fields", {}))
