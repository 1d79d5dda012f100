"""What is wrong with a configuration, in the words of a YAML file."""

import re
from collections.abc import Collection
from typing import Any, get_args

from pydantic import ValidationError

from vaebench.config.choices import Section, did_you_mean, is_section


def messages(error: ValidationError, root: type[Section], also: Collection[str] = ()) -> list[str]:
    """One line per mistake: the dotted key, and what is wrong with it.

    Arguments:
        error: What pydantic found.
        root: The section that was validated.
        also: Further keys that a file may have at its top.
    """
    found = []
    for mistake in error.errors(include_url=False, include_context=False, include_input=False):
        path = [str(part) for part in mistake["loc"]]
        path = [part for part in path if part.isdigit() or re.fullmatch(r"[\w.-]+", part)]
        path = [part for part in path if not part.startswith("constrained-")]
        text = _plain(mistake["msg"])
        if mistake["type"] == "extra_forbidden":
            known = [*_fields(root, path[:-1]), *(also if len(path) == 1 else ())]
            text = f"unknown key; {did_you_mean(path[-1], known)}"
        found.append(": ".join(filter(None, [".".join(path), text])))
    return found


def _plain(message: str) -> str:
    """Pydantic's message in the words of a YAML file."""
    message = message.removeprefix("Value error, ")
    message = re.sub(r"a valid dictionary.*", "a mapping of keys to values", message)
    message = re.sub(r"Predicate '(\w+)' failed", r"Input should be \1", message)
    message = message.replace("Tuple should", "List should").replace("a valid tuple", "a list")
    return message.replace(" after validation", "")


def _fields(section: Any, path: list[str]) -> list[str]:
    """Names of the keys that the section at a path knows."""
    for key in path:
        annotation = section.model_fields[key].annotation if hasattr(section, "model_fields") else 0
        sections = [a for a in (annotation, *get_args(annotation)) if is_section(a)]
        section = sections[0] if sections else None
    return list(getattr(section, "model_fields", {}))
