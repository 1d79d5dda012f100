"""The list of known mistakes does not rot, and what plants them says the truth.

The mutants themselves are planted by ``make mutants``, not here; a toy project stands in for the
package. See ``mutants/__init__.py``.
"""

import ast
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from mutants import __main__ as command
from mutants import trial
from mutants.mutant import CannotPlant, Mutant, derived_test, plant, read

ROOT = Path(__file__).parents[1]
MUTANTS = command.MUTANTS
SUM = "return a + b"
BUILDING = "test_building.py"


def toy(name: str, new: str, old: str = SUM) -> Mutant:
    return Mutant(name, "sums are wrong", "vaebench.sums", old, new, ("test_sums.py",))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one function and one test, and an empty folder for what is temporary."""
    root, scratch = tmp_path / "toy", tmp_path / "scratch"
    files = {
        "vaebench/__init__.py": "",
        "vaebench/sums.py": f"def add(a, b):\n    {SUM}\n",
        "tests/test_sums.py": (
            "from vaebench.sums import add\n\n\ndef test_sum():\n    assert add(1, 2) == 3\n"
        ),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    scratch.mkdir()
    inside = partial(tempfile.TemporaryDirectory, dir=scratch)
    monkeypatch.setattr("tempfile.TemporaryDirectory", inside)
    monkeypatch.setattr(trial, "PRELOADED", [])  # the toy needs no torch
    return root


def content(folder: Path) -> dict[str, str]:
    return {str(p): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_can_be_planted_and_changes_the_program(mutant: Mutant) -> None:
    planted = plant(ROOT, mutant)
    original = (ROOT / planted.path).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(planted.text)) != ast.dump(ast.parse(original))


def test_every_mutant_has_a_name_of_its_own() -> None:
    assert [name for name, n in Counter(m.name for m in MUTANTS).items() if n > 1] == []


def test_every_mutant_names_tests_that_exist_and_say_what_is_wrong() -> None:
    for mutant in MUTANTS:
        assert mutant.tests, mutant.name
        # a golden curve notices that a number moved, not that it is wrong
        assert "test_golden.py" not in mutant.tests, mutant.name
        assert all((ROOT / "tests" / name).is_file() for name in mutant.tests), mutant.name


def test_a_catalogue_is_read_as_it_is_written() -> None:
    text = (
        "Not a mutant.\n\n"
        "# vaebench.run.building\nempty: what: goes\n- a:\n-     b\n-\n\n"
        "# vaebench.nothing: test_a.py test_b.py\none: wrong\n- a\n+ b\n+     c\n\n"
        "two: also wrong\n-     a\n+ - a\n"
    )
    tests = ("test_a.py", "test_b.py")
    assert read(text) == [
        Mutant("empty", "what: goes", "vaebench.run.building", "a:\n    b\n", "", (BUILDING,)),
        Mutant("one", "wrong", "vaebench.nothing", "a", "b\n    c", tests),
        Mutant("two", "also wrong", "vaebench.nothing", "    a", "- a", tests),
    ]


@pytest.mark.parametrize("entry", ["name", "name: fear", "name: fear\n+ b", "name: fear\n- a\nb"])
def test_an_entry_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"vaebench\.run: "):
        read(f"x\n\n# vaebench.run\n{entry}\n")


def test_the_test_file_of_a_module_is_that_of_its_last_part_that_has_one() -> None:
    assert derived_test("vaebench.run.building") == BUILDING
    assert derived_test("vaebench.report.nothing") == "test_report.py"
    with pytest.raises(ValueError, match=r"vaebench\.nothing: "):
        derived_test("vaebench.nothing")


@pytest.mark.parametrize(
    ("mutant", "said"),
    [
        (toy("absent", "pass", old="return a * b"), "0 times"),
        (toy("twice", "x", old="a"), "times, not once"),
        (toy("no-python", "return a +"), "would be no Python"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_mutant_that_cannot_be_planted_says_why(project: Path, mutant: Mutant, said: str) -> None:
    with pytest.raises(CannotPlant, match=said):
        plant(project, mutant)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("new", "timeout", "verdict", "detail"),
    [
        ("return a - b", 60.0, "caught", "test_sums.py::test_sum"),
        ("return b + a", 60.0, "passed", ""),
        ("return a + b\n\n\nmissing", 60.0, "broken", "cannot be imported: NameError"),
        ("while True:\n        pass", 3.0, "hung", "not done after 3 s"),
    ],
)
def test_a_trial_tells_what_a_test_caught_from_what_none_could(
    project: Path, tmp_path: Path, new: str, timeout: float, verdict: str, detail: str
) -> None:
    before = content(project)
    outcome = trial.Trials(project, timeout).run(["test_sums.py"], toy("sum", new))
    assert outcome.verdict == verdict, outcome.detail
    assert detail in outcome.detail
    assert content(project) == before  # the project is only read
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.slow
def test_the_command_fails_if_a_mutant_survives_and_names_what_caught_the_others(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "ROOT", project)
    mutants = [toy("difference", "return a - b"), toy("turned", "return b + a")]
    monkeypatch.setattr(command, "MUTANTS", mutants)
    both = CliRunner().invoke(command.main, [])
    assert both.exit_code == 1, both.output
    assert "| difference | sums are wrong | test_sums.py::test_sum |" in both.output
    assert "| turned     | sums are wrong | SURVIVED               |" in both.output
    assert "1 of 2 caught" in both.output
    one = CliRunner().invoke(command.main, ["difference"])
    assert one.exit_code == 0, one.output
    assert CliRunner().invoke(command.main, ["typo"]).exit_code == 2


def test_nothing_is_planted_where_the_tests_fail_anyway(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = project / "tests" / "test_sums.py"
    test.write_text(test.read_text().replace("3", "4"))
    monkeypatch.setattr(command, "ROOT", project)
    monkeypatch.setattr(command, "MUTANTS", [toy("difference", "return a - b")])
    done = CliRunner().invoke(command.main, [])
    assert done.exit_code == 1
    assert "test_sums.py is not green" in done.output
    assert "caught" not in done.output.replace("test_sums.py: caught", "")
