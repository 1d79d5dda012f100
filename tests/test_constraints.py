"""``constraints.txt``, from which ``make LOCKED=1`` installs: complete, and of no private index."""

import configparser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def stated() -> list[Requirement]:
    """Return what setup.cfg requires, extras included."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    return [Requirement(line) for text in texts for line in text.split("\n") if line]


def locked() -> dict[str, Requirement]:
    """Return the lines of the file by package; a line that is no requirement is an error."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    assert len({each.name for each in requirements}) == len(requirements)
    return {canonicalize_name(each.name): each for each in requirements}


@pytest.mark.parametrize("requirement", stated(), ids=lambda requirement: requirement.name)
def test_what_is_required_is_locked_at_a_version_that_fits(requirement: Requirement) -> None:
    line = locked()[canonicalize_name(requirement.name)]
    assert line.marker is None, "it is required everywhere"
    [pin] = line.specifier
    assert pin.operator == "=="
    assert requirement.specifier.contains(pin.version), f"{line}: run make lock"


def test_every_line_pins_one_version_and_names_no_place_to_get_it_from() -> None:
    for line in locked().values():
        assert [pin.operator for pin in line.specifier] == ["=="]
        assert line.url is None
