"""Configurations that are malformed, huge or hostile: a short message, nothing written, no hang."""

import itertools
import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from fuzzing import FUZZ, JSON, LONG, TEXTS, assert_short, no_hang, tree
from hypothesis import given
from hypothesis import strategies as st

from vaebench import plain_yaml
from vaebench.cli import main
from vaebench.cli.options import assigned
from vaebench.config import Grid, RunConfig, make_grid, make_run, make_single, read_yaml
from vaebench.errors import ConfigError


def laughs(depth: int = 9) -> str:
    """An anchor i that stands for 9 ** depth words."""
    lines = ["a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for before, name in zip("abcdefghi"[: depth - 1], "bcdefghi", strict=False):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


def merges() -> str:
    """An anchor whose merge keys name 2 ** 22 keys."""
    lines, names = ["a: &a {x: 1}"], "abcdefghijklmnopqrstuvw"
    for before, name in itertools.pairwise(names):
        lines.append(f"{name}: &{name} {{<<: [*{before}, *{before}]}}")
    return "\n".join(lines)


def keys(number: int, value: object = 1) -> str:
    return "".join(f"wrong{i}: {value}\n" for i in range(number))


REFUSED: dict[str, str | bytes] = {
    "billion laughs": laughs(),
    "billion laughs in exclude": f"{laughs()}\nexclude: [{{model: *i}}]",
    "billion laughs in axes": f"{laughs()}\naxes: {{model: *i}}",
    "billion laughs by merge keys": merges(),
    "an alias to itself": "model: &a {name: *a}",
    "an axis that holds itself": "axes: &a {model: [*a]}",
    "an unknown alias": "a: *nothing",
    "open brackets": "[" * 10_000,
    "deep lists": f"a: {'[' * 10_000}{']' * 10_000}",
    "deep mappings": f"a: {'{a: ' * 10_000}{'}' * 10_000}",
    "deep blocks": "- " * 100_000,
    "deep by indentation": "\n".join(f"{' ' * i}k:" for i in range(700)),
    "50,000 wrong keys": keys(50_000),
    "4,000 wrong keys": keys(4_000),
    "4,000 wrong keys below": f"training: {{{keys(4_000).replace(chr(10), ', ')}}}",
    "a key of 100,000 letters": f"{'k' * 1000}: 1\n{'k' * 900}: 2",
    "4,000 wrong claims": f"claims: [{'{}, ' * 4_000}]",
    "a hundred million cells": f"axes: {{{', '.join(f'w{i}: {[*range(10)]}' for i in range(8))}}}",
    "100,001 values": f"axes: {{training.epochs: [{', '.join(map(str, range(1, 100_002)))}]}}",
    "100,001 seeds": f"seeds: [{', '.join(map(str, range(100_001)))}]",
    "100,000 values, one of them twice": (
        f"axes: {{training.epochs: [{', '.join(map(str, range(1, 100_000)))}, 1]}}"
    ),
    "an axis of a thousand dots": f"axes: {{{'a.' * 900}b: [1]}}",
    "5,000 digits": f"training: {{epochs: {'9' * 5000}}}",
    "5,000 hex digits": f"exclude: [{{model: 0x{'f' * 5000}}}]",
    "5,000 times sixty": f"seeds: 1{':59' * 5000}",
    "infinity by digits": f"training: {{learning_rate: 1{'0' * 400}.0}}",
    "nan": "training: {learning_rate: .nan}",
    "infinity": "training: {beta: .inf}",
    "nan on an axis": "axes: {training.epochs: [.nan]}",
    "negative epochs": "training: {epochs: -1}",
    "no epochs": "training: {epochs: 0}",
    "epochs that are true": "training: {epochs: true}",
    "seeds that are true": "seeds: [yes]",
    "layers that are true": "model: {fnn: {hidden: [true]}}",
    "a date": "training: {epochs: 2020-01-01}",
    "a date that is none": "training: {epochs: 2020-99-99}",
    "binary": "question: !!binary aGVsbG8=",
    "a set": "axes: !!set {model}",
    "a tag that does not fit": "seeds: !!bool x",
    "an empty number": "seeds: !!int ''",
    "code": "question: !!python/object/apply:os.system [touch executed]",
    "a name of code": "question: !!python/name:os.system",
    "a number as key": "1: 2",
    "null as key": "training: {null: 2}",
    "a list as key": "training: {[1]: 2}",
    "a mapping as key": "{a: 1}: 2",
    "a key twice": "dataset: digits\ndataset: mnist",
    "two documents": "--- {}\n--- {}",
    "half a surrogate pair": 'question: "\\ud800"',
    "a control character": "question: \x07",
    "zeros": b"\0" * 1000,
    "no UTF-8": b"question: \xff\xfe",
    "a list": "- 1",
    "a choice that is a number": "model: 3",
    "a choice that is a list": "model: [fnn]",
    "a choice that is nothing": "loss:",
    "a choice whose name is a list": "loss: {name: [bce]}",
    "a data set that is a list": "dataset: [digits]",
    "everything of the wrong type": "{name: 1, question: [], seeds: x, axes: 1, exclude: 1, "
    "claims: 1, published: 1, tracking_uri: 1, training: 1}",
    "a question without end": f"question: {'x' * 100_000}",
}


def invoke(folder: Path, *arguments: str) -> Result:
    """Call the command line; whatever it refuses, it leaves nothing behind."""
    before = tree(folder)
    with no_hang():
        result = CliRunner().invoke(main, [*arguments, "--results", str(folder / "results")])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert tree(folder) == before
    return result


@pytest.mark.slow
@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED.keys())
def test_a_hostile_file_is_refused_in_a_line_and_leaves_nothing(
    content: str | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "grid.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    result = invoke(tmp_path, "run-grid", str(file))
    assert result.exit_code == 2, result.output
    assert result.output.startswith(f"Error: {file}: ")
    assert_short(result.output)
    with pytest.raises(ConfigError) as caught:
        make_single(read_yaml(file))
    assert_short(str(caught.value))
    assert not (tmp_path / "executed").exists()


def test_a_document_of_100_megabytes_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    with file.open("wb") as sparse:
        sparse.truncate(100_000_000)
    result = invoke(tmp_path, "run-grid", str(file))
    assert result.exit_code == 2
    assert "larger than 2,000 kB" in result.output


NAMES = ["../up", "a/b", "/root", "a\\b", "a b", "a'b", 'a"b', "grün", "x" * 300, "x" * 65, ""]
NAMES += [".", "..", ".hidden", "-dash", "--results", "~", "$HOME", "a\nb", "a\n", "a\tb", "x."]
NAMES += ["CON", "con", "nul", "aux.txt", "PRN", "com1", "LPT9", "<script>", "a|b", "a%b", "`a`"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_folder_everywhere_is_refused(name: str, tmp_path: Path) -> None:
    result = invoke(tmp_path, "run-grid", f"--name={name}", "--dataset=digits")
    assert result.exit_code == 2
    assert "name: " in result.output
    assert_short(result.output)
    with pytest.raises(ConfigError, match="name"):
        make_grid({"name": name})


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-d", "x" * 64, "console", "nullify", "a..b"])
def test_other_names_are_taken(name: str) -> None:
    assert make_grid({"name": name}).name == name


ASSIGNED = ["", "=", "=1", "x", "x=[", ".=1", "training.=1", "training..epochs=3", "axes=3"]
ASSIGNED += ["training.epochs.deeper=3", "axes.model=[fnn]", "settings=1", f"{'a' * 100_000}=1"]
ASSIGNED += [f"{'.' * 5000}a=1", f"{'x.' * 5000}a=1", "name=../../x", "seeds=[[1]]", "seed=x"]
ASSIGNED += ["training.epochs=\x07", "training.epochs=-1", "training.epochs=.nan", "model=null"]
ASSIGNED += ["loss=!!python/name:os.system", "training.epochs=true", "training=null", "x=&a [*a]"]
ASSIGNED += [f"training.epochs={'9' * 6000}", f"training.epochs={'[' * 10_000}", "loss=2020-99-99"]
ASSIGNED += ["\n\n\n"]


@pytest.mark.parametrize("assignment", [pytest.param(text, id=text[:30]) for text in ASSIGNED])
def test_a_hostile_assignment_is_refused_in_a_line_and_leaves_nothing(
    assignment: str, tmp_path: Path
) -> None:
    result = invoke(tmp_path, "run-grid", "--dataset=digits", f"--set={assignment}")
    assert result.exit_code == 2, result.output
    assert_short(result.output)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("nothing.yaml", "loop.yaml", "folder.yaml", "x" * 300, "a\nb", "-x"):
        result = invoke(tmp_path, "run-grid", str(tmp_path / name))
        assert result.exit_code == 2, name
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "loop.yaml")


def test_results_that_are_no_folder_are_refused_and_a_link_to_one_is_followed(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "folder" / "digits").symlink_to(tmp_path)
    arguments = ["run-grid", "--dataset=digits", "--model=fnn", "--dry-run", "--device=cpu"]
    for name, code in (("file", 2), ("link", 0)):
        before = tree(tmp_path)
        result = CliRunner().invoke(main, [*arguments, "--results", str(tmp_path / name)])
        assert result.exit_code == code, result.output
        assert tree(tmp_path) == before


# ---------------------------------------------------------------- any YAML, any mapping

WORDS = st.sampled_from([*RunConfig.model_fields, *Grid.model_fields, "name", "fnn", "hidden"])
PIECES = st.sampled_from([*"[]{},:-?&*!|>%@`'\"#\n \t", "<<: ", "&a ", "*a", "!!int ", "- ", ": "])
ODD = st.sampled_from(
    ["---\n", "0x", "1e9", ".nan", "2020-01-01", "~", "\\ud800", "\ufeff", "\u2028"]
)
DOCUMENTS = st.lists(WORDS | PIECES | ODD | st.text(max_size=3), max_size=30).map("".join)
MAPPINGS = st.dictionaries(WORDS | TEXTS, JSON, max_size=4)


@FUZZ
@given(DOCUMENTS | st.binary(max_size=40) | MAPPINGS.map(lambda raw: yaml.safe_dump(raw)))
def test_any_file_is_a_grid_or_a_short_error(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode(errors="replace"))
    try:
        raw = read_yaml(file)
        for make in (make_grid, make_single):
            make(raw, source=str(file)).runs()
    except ConfigError as error:
        assert_short(str(error))


@FUZZ
@given(MAPPINGS, MAPPINGS)
def test_any_mapping_is_a_grid_or_a_short_error(
    raw: dict[str, Any], overrides: dict[str, Any]
) -> None:
    for make in (lambda: make_grid(raw, overrides), lambda: make_single(raw, overrides)):
        try:
            make().runs()
        except ConfigError as error:
            assert_short(str(error))
    try:
        make_run(raw)
    except ConfigError as error:
        assert_short(str(error))


@FUZZ
@given(st.lists(DOCUMENTS | st.builds("{}={}".format, WORDS, DOCUMENTS), max_size=3))
def test_any_assignments_are_settings_or_a_short_error(assignments: list[str]) -> None:
    try:
        make_grid({}, assigned(assignments))
    except ConfigError as error:
        assert_short(str(error))


def equal(a: Any, b: Any) -> bool:
    """Equality in which NaN is NaN."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and bool(a == b)


SMALL = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@FUZZ
@given(SMALL)
def test_plain_data_is_read_back_as_it_was_written(value: Any) -> None:
    assert equal(plain_yaml.load(yaml.safe_dump(value, sort_keys=False)), value)


def test_merge_keys_and_aliases_of_a_person_are_read() -> None:
    text = "base: &base {x: 1, y: 2}\nmore: [*base, *base]\nown: {<<: *base, y: 3}\n"
    base = {"x": 1, "y": 2}
    assert plain_yaml.load(text) == {"base": base, "more": [base, base], "own": {"x": 1, "y": 3}}


def test_a_key_that_a_merge_brings_twice_is_no_mistake() -> None:
    text = "a: &a {x: 1}\nb: {c: &c {<<: *a, x: 2}}\nd: {<<: *c, y: 3}\n"
    assert plain_yaml.load(text)["b"]["c"] == {"x": 2}


def test_the_long_profile_is_what_the_environment_asks_for() -> None:
    assert (os.environ.get("HYPOTHESIS_PROFILE") == "long") is LONG
