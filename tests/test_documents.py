"""The documents: generated blocks, links, pictures, examples, and what the wheel shows of them."""

import ast
import configparser
import re
import shutil
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

import vaebench
from experiments import readme
from experiments.keys import key_rows, plain
from vaebench.config import make_grid

ROOT = Path(__file__).parents[1]
MAX_README_BYTES = 15 * 1024
PAGES = [
    *readme.DOCUMENTS,
    "results/README.md",
    "experiments/README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def links(text):
    """Addresses of links and pictures, as a renderer finds them."""
    tokens = [
        child
        for token in MarkdownIt("commonmark").enable("table").parse(text)
        for child in token.children or ()
    ]
    return [str(t.attrs[k]) for t in tokens for k in ("href", "src") if k in t.attrs]


def code_blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


def anchors(page):
    """The anchors that code hosts give to headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The documents alone, to be changed."""
    for page in readme.DOCUMENTS:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    monkeypatch.setattr(readme, "FOLDER", tmp_path)
    return tmp_path


def test_generated_blocks_are_up_to_date(capsys):
    assert readme.generate(check=True) == 0, capsys.readouterr().out


def test_a_changed_block_is_noticed_and_mended(copy, capsys):
    page = copy / "results/READING.md"
    right = page.read_text(encoding="utf-8")
    page.write_text(right.replace("| `test/ssim` |", "| `ssim` |"), encoding="utf-8")
    assert readme.generate(check=True) != 0
    assert "make docs" in capsys.readouterr().err
    assert readme.generate(check=False) == 0
    assert page.read_text(encoding="utf-8") == right


@pytest.mark.parametrize("page", readme.DOCUMENTS)
def test_no_role_of_a_docstring_is_left_in_a_document(page):
    assert re.findall(r":\w+:`", text_of(page)) == []


def test_roles_and_formulas_become_plain_text():
    assert plain("of :func:`sgvb` and\n:class:`~a.b.Name`: ``x | y``") == (
        r"of `sgvb` and `Name`: `x \| y`"
    )
    assert plain(r"variance :math:`\sigma^2`") == "variance *σ²*"


def test_every_configuration_key_has_a_type_and_a_meaning():
    rows = list(key_rows())
    keys = [row[0] for row in rows]
    assert len(set(keys)) == len(keys)
    assert [row for row in rows if not all(row)] == []
    known = {key.strip("`").partition(".")[0].removesuffix("[]") for key in keys}
    assert {"axes", "tune", "dataset", "model", "loss", "estimator", "training"} <= known


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_are_there(page):
    here = (ROOT / page).parent
    relative = [link for link in links(text_of(page)) if not re.match(r"https?:", link)]
    for link in relative:
        name, _, anchor = link.partition("#")
        target = here / name if name else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.relative_to(ROOT) if name else page), link


@pytest.mark.parametrize("page", PAGES)
def test_modules_and_commands_that_a_page_names_exist(page):
    text = text_of(page)
    for name in re.findall(r"(?<![\w/])vaebench/[\w/\\]+\.py", text):
        assert (ROOT / name.replace("\\", "")).is_file(), name
    known = {each.command_path for each in readme.commands_of(groups=True)}
    named = set(re.findall(r"`(vaebench [a-z]+(?:-[a-z]+)?)\b", text))
    assert named <= known


def test_the_readme_is_short_and_shows_the_comparison_and_the_page():
    text = text_of("README.md")
    assert len(text.encode()) <= MAX_README_BYTES
    assert "<img" not in text
    assert len(re.findall(r"!\[", text)) == 2


def test_the_wheels_description_needs_no_file_of_the_repository():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    page = config["metadata"]["long_description"].removeprefix("file: ")
    text = text_of(page)
    assert "<img" not in text
    assert [link for link in links(text) if not re.match(r"https?:", link)] == []


def test_the_grids_of_the_readme_are_valid():
    first, second = map(yaml.safe_load, code_blocks("README.md", "yaml"))
    grid = make_grid(first)
    assert grid.tune is not None
    assert len(grid.runs()) == 5 * 6

    del second["plugins"]  # whose model is the reader's
    second["axes"]["model"] = ["cnn", "fnn"]
    second["claims"][0]["better"] = {"model": "fnn"}
    grid = make_grid(second)
    assert (grid.tune is not None, len(grid.runs()), len(grid.claims)) == (True, 18, 1)


@pytest.mark.parametrize("page", ["README.md", "vaebench/README.md"])
def test_python_examples_name_what_the_package_has(page):
    for block in code_blocks(page, "python"):
        used = {
            node.attr
            for node in ast.walk(ast.parse(block))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "vaebench"
        }
        assert used
        assert used <= set(vaebench.__all__)


def test_the_citation_names_the_version_and_what_the_format_asks_for():
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == vaebench.__version__
    assert citation["license"] == "MIT"
    assert all(citation[key] for key in ("message", "title", "abstract", "authors"))
