"""A known mistake, how it is read from ``catalogue.txt``, and how it is planted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1]
CATALOGUE = Path(__file__).with_name("catalogue.txt")


class CannotPlant(Exception):
    """The text to be replaced is not there exactly once, or what comes out is not Python."""


@dataclass(frozen=True)
class Mutant:
    """A mistake that somebody could make, or has made, in one place of the source.

    Attributes:
        name: A few words with hyphens.
        fear: What the program then does, and why that is wrong.
        module: Dotted name of the module, or of a package in one of whose files the text stands.
        old: The right text; it stands there exactly once.
        new: The wrong text.
        tests: The files below ``tests/`` that ought to notice, the quickest first.
    """

    name: str
    fear: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]


def read(text: str) -> list[Mutant]:
    """Return the mutants of a catalogue; what comes before its first module is a comment.

    Raises:
        ValueError: A mutant lacks its fear or the text to be replaced.
    """
    _, *sections = text.removesuffix("\n").split("\n# ")
    return [mutant for section in sections for mutant in _of_module(section.split("\n"))]


def _of_module(lines: Sequence[str]) -> Iterator[Mutant]:
    module, _, stated = lines[0].partition(": ")
    tests = tuple(stated.split()) or (derived_test(module),)
    for filled, group in groupby(lines[1:], key=bool):
        if not filled:
            continue
        head, *edit = group
        name, _, fear = head.partition(": ")
        old, new = ("\n".join(line[2:] for line in edit if line[0] == sign) for sign in "-+")
        if not fear or not old or any(line[:2].rstrip() not in ("-", "+") for line in edit):
            raise ValueError(f"{module}: no name, fear, - and + lines: {head}")
        yield Mutant(name, fear, module, old, new, tests)


def derived_test(module: str) -> str:
    """Return the test file of a module: ``test_<part>.py`` of its last part that has one.

    Raises:
        ValueError: There is none.
    """
    names = [f"test_{part}.py" for part in reversed(module.split(".")[1:])]
    for name in names:
        if (TESTS / name).is_file():
            return name
    raise ValueError(f"{module}: state its test file; there is none of {', '.join(names)}")


class Planted(NamedTuple):
    """Where a mutant goes, as a path relative to the project, and the whole text of that file."""

    path: Path
    text: str

    @property
    def module(self) -> str:
        """The dotted name of what the file is imported as."""
        names = self.path.with_suffix("").parts
        return ".".join(names[:-1] if names[-1] == "__init__" else names)


def plant(root: Path, mutant: Mutant) -> Planted:
    """Find the one place of a mutant in the project in ``root``. Writes nothing.

    Raises:
        CannotPlant: There is none, there are several, or the new text is no Python there.
    """
    base = root.joinpath(*mutant.module.split("."))
    module = base.with_suffix(".py")
    files = [module] if module.is_file() else sorted(base.rglob("*.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    found = [path for path, text in texts.items() for _ in range(text.count(mutant.old))]
    if len(found) != 1:
        raise CannotPlant(f"{mutant.module} holds the old text {len(found)} times, not once")
    text = texts[found[0]].replace(mutant.old, mutant.new)
    try:
        compile(text, found[0], "exec")
    except SyntaxError as error:
        raise CannotPlant(f"{mutant.module} would be no Python: {error}") from error
    return Planted(found[0].relative_to(root), text)
