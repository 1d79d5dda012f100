"""Results folders that are damaged, foreign or hostile: said, skipped, never fatal to the rest."""

import gzip
import html.parser
import io
import json
import os
import re
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fuzzing import FUZZ, HOSTILE, JSON, NUMBERS, TEXTS, assert_short, no_hang, tree
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from records import edit_record, fail, make_results, run_dirs, write_run

from vaebench import datasets, report
from vaebench.config import make_grid
from vaebench.datasets.idx_format import decode_idx
from vaebench.errors import DataError, ResultsError
from vaebench.files import dump_yaml, write_atomic
from vaebench.grid import Options, plan
from vaebench.grid.manifest import make_manifest
from vaebench.report.loading import Damaged, read_record
from vaebench.schema.manifest import Planned, grid_dirs, read_manifest
from vaebench.storage import RunStore

GRID = make_grid(
    {"name": "g", "dataset": "digits", "seeds": 2, "axes": {"model": ["fnn"], "loss": ["bce"]}}
)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Two complete runs (made up) of a grid that could be run."""
    runs = GRID.runs()
    for run in runs:
        folder = tmp_path / "g" / "runs" / run.config.run_id
        write_run(folder, run.cell, run.config.seed, run.config.to_dict())
        digest = datasets.digest(run.config.dataset.name)
        edit_record(folder, lambda r, d=digest: r["environment"]["dataset"].update(digest=d))
    write_atomic(tmp_path / "g" / "grid.yaml", dump_yaml(make_manifest(GRID, runs)))
    return tmp_path / "g"


def everything(grid: Path) -> str:
    """All that is made of a results folder without training; it is left as it was."""
    before = tree(grid.parent)
    with no_hang():
        texts = [report.render(report.load(grid), name) for name in report.FORMATS]
        rows = report.status(grid.parent)
        texts += [report.status_json(rows), report.status_text(rows)]
        planned = plan(GRID, Options(results=grid.parent, device="cpu"))
    assert tree(grid.parent) == before
    return "\n".join([*texts, *(entry.why for entry in planned)])


# ---------------------------------------------------------------- one damaged run


def folder_for(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("x")


def pipe_for(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loop_for(path: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to(path.name)


def file_for(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("x")


def without_record(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """A change to the journal of a run that has not ended."""

    def both(run: Path) -> None:
        (run / "record.json").unlink()
        change(run / "journal.jsonl")

    return both


def record(**values: Any) -> Callable[[Path], object]:
    return lambda run: edit_record(run, lambda old: old.update(values))


NEEDED = {"run_id", "status", "cell", "seed", "metrics"}
DAMAGE: dict[str, Callable[[Path], object]] = {
    "record is a folder": lambda run: folder_for(run / "record.json"),
    "record is a pipe": lambda run: pipe_for(run / "record.json"),
    "record is nested": lambda run: (run / "record.json").write_bytes(b"[" * 100_000),
    "record is huge": lambda run: os.truncate(run / "record.json", 10**9),
    "record is of an old version": lambda run: edit_record(
        run, lambda old: [old.pop(key) for key in set(old) - NEEDED]
    ),
    "record is of a later version": record(
        versions={"numbers": 99, "loss": None, "prior": [1]}, more={"a": [1]}
    ),
    "record has versions that are none": record(versions=["x"]),
    "record has a number of 400 digits": record(metrics={"test/elbo": 10**400}),
    "record is junk below": record(
        environment={"dataset": 3, "git": [1], "packages": "x", "jobs": {}},
        config={"dataset": 3, "loss": [1], "model": "x", "training": None},
        **{"started": "x", "finished": "y", "attempt": {}, "notes": 3, "best": 3, "measured": [1]},
    ),
    "record has no reason": lambda run: edit_record(
        run, lambda old: (old.update(status="failed"), old.pop("reason"))
    ),
    "reason is a mapping": record(status="failed", reason={"a": [1]}),
    "journal is a folder": without_record(folder_for),
    "journal is a pipe": without_record(pipe_for),
    "journal is garbage": without_record(lambda path: path.write_bytes(bytes(range(256)) * 99)),
    "journal is one long line": without_record(lambda path: path.write_bytes(b"1" * 10**7)),
    "config is a folder": lambda run: folder_for(run / "config.yaml"),
    "config is nested": lambda run: (run / "config.yaml").write_text("[" * 100_000),
    "config is huge": lambda run: os.truncate(run / "config.yaml", 10**9),
    "run is a link to itself": loop_for,
    "run is a file": file_for,
    "arrays are none": lambda run: (run / "arrays.npz").write_bytes(b"PK"),
    "pictures are none": lambda run: (run / "images" / "samples-0099.png").mkdir(parents=True),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_one_damaged_run_leaves_the_others_as_they_were(
    damage: Callable[[Path], object], grid: Path
) -> None:
    first, second = run_dirs(grid)
    damage(first)
    everything(grid)
    loaded = report.load(grid)
    assert second.name in {record["run_id"] for record in loaded.records}
    assert {run.run_id for run in loaded.planned} == {first.name, second.name}
    [row] = report.status(grid)
    assert row.problem is None
    assert row.complete >= 1
    [_, other] = plan(GRID, Options(results=grid.parent, device="cpu"))
    assert (other.action, other.why) == ("skip", "complete")


def test_foreign_files_and_links_in_circles_are_passed_by(grid: Path) -> None:
    clean = report.render(report.load(grid), "csv")
    (grid / "runs" / "loop").symlink_to("loop")
    (grid / "runs" / "up").symlink_to("..")
    (grid / "runs" / "file").write_text("x")
    (grid / "thumbs.db").write_bytes(b"\0")
    (grid.parent / "self").symlink_to("self")
    (grid.parent / "here").symlink_to(".")
    (grid.parent / "empty").mkdir()
    (grid.parent / "folder" / "grid.yaml").mkdir(parents=True)
    everything(grid)
    assert report.render(report.load(grid), "csv") == clean
    assert [row.name for row in report.status(grid.parent) if row.problem is None] == ["g"]


# ---------------------------------------------------------------- any journal, record, manifest

LINES = st.one_of(
    st.binary(max_size=20),
    st.builds(
        lambda epoch, more: json.dumps({"epoch": epoch, **more}).encode() + b"\n",
        st.integers(1, 4) | NUMBERS,
        st.dictionaries(st.sampled_from(["time", "metrics", "x"]), JSON, max_size=2),
    ),
    st.integers(1, 4).map(
        lambda n: b'{"epoch": %d, "time": 5, "metrics": {"val/elbo": -1.5}}\n' % n
    ),
)


@FUZZ
@given(st.lists(LINES, max_size=6).map(b"".join))
def test_any_journal_gives_epochs_from_one_on_with_numbers(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    store = RunStore(tmp_path_factory.mktemp("run"))
    (store.path / "journal.jsonl").write_bytes(content)
    lines = store.journal
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    for line in lines:
        assert all(v is None or float(v) == v for v in line.get("metrics", {}).values())
    store.append({"epoch": len(lines) + 1, "time": 1, "metrics": {}})
    assert store.journal == [*lines, {"epoch": len(lines) + 1, "time": 1, "metrics": {}}]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    return make_results(folder, axes={"model": ["fnn"], "loss": ["bce", "mse"]}, seeds=[0, 1])


KEYS = st.sampled_from(
    [
        *("metrics", "environment", "config", "metric_declarations", "notes", "reason", "best"),
        *("measured", "finished", "attempt", "status", "seed", "cell", "run_id", "evaluated"),
    ]
)


@FUZZ
@given(st.dictionaries(KEYS, JSON | st.dictionaries(KEYS | TEXTS, JSON, max_size=3), max_size=4))
def test_any_record_is_shown_or_said_to_be_damaged(small: Path, values: dict[str, Any]) -> None:
    path = run_dirs(small)[0] / "record.json"
    whole = path.read_bytes()
    try:
        path.write_text(json.dumps(json.loads(whole) | values), encoding="utf-8")
        loaded = report.load(small)
        assert len(loaded.records) + len(loaded.damaged) == 4
        for name in report.FORMATS:
            assert report.render(loaded, name)
        report.status_text(report.status(small))
    finally:
        path.write_bytes(whole)


@FUZZ
@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_as_a_record_are_damaged(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    write_atomic(folder / "runs" / "a" / "record.json", content)
    found = read_record(folder, Planned("a", {"model": "fnn"}, 0))
    assert isinstance(found, Damaged)
    assert_short(found.reason)


PLACES = st.sampled_from(["name", "question", "axes", "seeds", "settings", "runs", "claims"])
RUNS = st.fixed_dictionaries(
    {},
    optional={
        "run_id": TEXTS | st.sampled_from(["../up", "/etc", "a", ".."]),
        "cell": st.dictionaries(TEXTS, JSON, max_size=2) | JSON,
        "seed": st.integers(0, 3) | JSON,
    },
)


@FUZZ
@example({"runs": [{"run_id": "a", "cell": {}, "seed": 0}]})
@given(st.dictionaries(PLACES, JSON | st.lists(RUNS, max_size=2), max_size=3))
def test_any_manifest_is_a_grid_or_a_short_error_and_names_no_folder_outside(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    raw = {"name": "g", "axes": {}, "seeds": [0], "runs": []} | values
    (folder / "grid.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    for read in (lambda: report.load(folder), lambda: report.render(report.load(folder), "csv")):
        try:
            read()
        except ResultsError as error:
            assert_short(str(error))
    try:
        manifest = read_manifest(folder)
    except ResultsError as error:
        assert_short(str(error))
    else:
        for run in manifest["runs"]:
            assert (folder / "runs" / run["run_id"]).resolve().parent == folder / "runs"
    [row] = report.status(folder)
    assert_short(report.status_text([row]))
    assert grid_dirs(folder) == [folder]


@pytest.mark.parametrize("run_id", ["../up", "/etc", "..", ".", "a/b", "a b", "", "x" * 300, 7])
def test_a_run_whose_folder_would_lie_elsewhere_makes_the_manifest_a_damaged_one(
    tmp_path: Path, run_id: object
) -> None:
    runs = [{"run_id": run_id, "cell": {"model": "fnn"}, "seed": 0}]
    manifest = {"name": "g", "axes": {"model": ["fnn"]}, "seeds": [0], "runs": runs}
    write_atomic(tmp_path / "grid.yaml", dump_yaml(manifest))
    with pytest.raises(ResultsError, match=r"grid\.yaml: damaged"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b"a: &a [*a]", b"\0" * 99, b"runs: !!python/name:os.system", b"- " * 99_999],
    ids=["nested", "circular", "zeros", "code", "blocks"],
)
def test_a_hostile_manifest_is_a_short_error_and_other_grids_are_read(
    grid: Path, content: bytes
) -> None:
    write_atomic(grid.parent / "hostile" / "grid.yaml", content)
    with no_hang(), pytest.raises(ResultsError, match="damaged") as caught:
        report.load(grid.parent / "hostile")
    assert_short(str(caught.value))
    assert {row.name: row.complete for row in report.status(grid.parent)} == {"g": 2, "hostile": 0}


# ---------------------------------------------------------------- escaping

ALLOWED = {
    *("h1", "h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "strong", "ul", "li"),
    *("code", "pre", "details", "summary", "br", "img"),
}


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def hostile_grid(folder: Path, text: str) -> Path:
    """A finished grid with a text of the attacker's wherever a record or a manifest has text."""
    shutil.rmtree(folder / "grid", ignore_errors=True)
    axes = {"model": ["fnn"], "note": [text, f"{text}x"]}
    grid = make_results(folder, axes=axes, seeds=[0, 1], question=text, pictures=True)
    manifest = yaml.safe_load((grid / "grid.yaml").read_text(encoding="utf-8"))
    manifest |= {"name": text, "settings": {"a": text, "b": {"c": [text]}}}
    (grid / "grid.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    for run in run_dirs(grid):
        edit_record(run, lambda old: _spoil(old, text))
    fail(run_dirs(grid)[-1], text)
    name = (
        text.translate({ord("/"): "_", 0: "_"})
        .encode(errors="replace")[:200]
        .decode("utf-8", "ignore")
    )
    (grid / "runs" / f"f{name}").mkdir()
    (grid / "comparison.png").write_bytes(b"")
    return grid


def _spoil(old: dict[str, Any], text: str) -> None:
    old["notes"] = [text]
    declared = {"title": text, "unit": text, "direction": "higher", "comparable": "dataset"}
    old["metrics"][f"test/{text}"] = 1.0
    old["metric_declarations"] |= {text: declared}
    for key in ("platform", "cpu", "device_name", "python"):
        old["environment"][key] = text
    old["environment"]["packages"] = {text: text}
    old["environment"]["git"] = {"commit": text, "dirty": True}
    old["environment"]["dataset"]["name"] = text
    old["config"]["loss"] = {"name": text, text: {text: text}}


HARMLESS = "harmless"
ANY = st.sampled_from(HOSTILE) | TEXTS.filter(str.strip)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_grid(tmp_path_factory.mktemp("harmless"), HARMLESS)


@pytest.mark.slow
@FUZZ
@given(ANY)
def test_no_text_of_a_run_becomes_an_element_a_link_or_a_script(
    hostile: Path, harmless: Path, text: str
) -> None:
    page, expected = _page(hostile_grid(hostile, text)), _page(harmless)
    assert {tag for tag, _ in page.elements} <= ALLOWED
    # the same elements as with a harmless text: nothing was added, nothing swallowed
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in expected.elements]
    for tag, attributes in page.elements:
        assert set(attributes) <= {"src", "width", "alt", "class", "style"}, (tag, attributes)
        assert not (attributes.get("src") or "").startswith(("http:", "//", "data:", "javascript:"))


def _page(grid: Path) -> Page:
    text = report.render(report.load(grid), "md", grid / "report.md")
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return Page(parser.render(text))


def test_hostile_texts_are_shown(tmp_path: Path) -> None:
    grid = hostile_grid(tmp_path, "<script>alert(1)</script> | `100 %` $x$")
    assert "<script>alert(1)</script> | `100 %` $x$" in " ".join("".join(_page(grid).text).split())


COMMANDS = {
    *("scriptsize", "setlength", "tabcolsep", "scriptstyle", "multicolumn"),
    *("begin", "end", "toprule", "midrule", "bottomrule", "ensuremath", "textbackslash", "pm"),
    *("textasciicircum", "textasciitilde", "textless", "textgreater", "textbar", "textquotedbl"),
    *("textasciigrave", "textsuperscript", "uparrow", "downarrow", "mathbf", "multicolumn"),
    *("sigma", "times"),
}


@pytest.mark.slow
@FUZZ
@given(ANY)
def test_no_text_of_a_run_becomes_a_command_of_latex(
    hostile: Path, harmless: Path, text: str
) -> None:
    body = _latex(hostile_grid(hostile, text))
    assert len(body) == len(_latex(harmless))
    for line in body:
        bare = line.replace("\\\\", "")
        assert set(re.findall(r"\\([A-Za-z]+)", bare)) <= COMMANDS
        assert not re.search(r"(?<!\\)[%#_^~]", bare)


def _latex(grid: Path) -> list[str]:
    lines = report.render(report.load(grid), "latex").split("\n")
    return [line for line in lines if not line.startswith("%")]


# ---------------------------------------------------------------- IDX files


def idx(shape: list[int], values: bytes, dimensions: int | None = None) -> bytes:
    head = bytes([0, 0, 8, len(shape) if dimensions is None else dimensions])
    return gzip.compress(head + np.array(shape, ">u4").tobytes() + values, mtime=0)


FILES = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60).map(gzip.compress),
    st.builds(
        idx,
        st.lists(st.integers(0, 5) | st.integers(0, 2**32 - 1), max_size=4),
        st.binary(max_size=30),
        st.none() | st.integers(0, 255),
    ),
)


@FUZZ
@example(idx([4], bytes(4)), 9, b"x")
@example(idx([2, 3, 1], bytes(6)), 9, b"x")
@given(FILES, st.integers(0, 99), st.binary(max_size=4))
def test_any_bytes_are_an_idx_file_or_a_short_error(content: bytes, cut: int, tail: bytes) -> None:
    for dimensions in (1, 3):
        for case in (content, content[:cut], content + tail):
            try:
                array = decode_idx(case, "file.gz", dimensions)
            except DataError as error:
                assert_short(str(error))
                assert str(error).startswith("file.gz: ")  # noqa: PT017
            else:
                assert (array.ndim, array.dtype) == (dimensions, np.uint8)


def test_a_file_that_unpacks_to_more_than_it_says_takes_no_memory() -> None:
    bomb = idx([2, 2, 2], bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more values, but its header says"):
            decode_idx(bomb, "bomb.gz", dimensions=3)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [[2**32 - 1] * 3, [10**5, 10**5, 1], [2**31, 1, 1]])
def test_a_header_that_claims_the_world_is_refused_before_anything_is_read(
    shape: list[int],
) -> None:
    with pytest.raises(DataError, match="too large"):
        decode_idx(idx(shape, bytes(8)), "file.gz", dimensions=3)


# ---------------------------------------------------------------- tensors and arrays


def squeezed(content: bytes) -> bytes:
    """The same zip file, compressed."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def test_weights_and_arrays_that_unpack_to_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    import torch

    store = RunStore(tmp_path)
    store.save_tensors("weights.pt", {"w": torch.zeros(100_000)})
    store.save_arrays({"a": np.zeros(100_000)})
    for name in ("weights.pt", "arrays.npz"):
        (tmp_path / name).write_bytes(squeezed((tmp_path / name).read_bytes()))
    with pytest.raises(ResultsError, match=r"weights\.pt: damaged: it unpacks to more"):
        store.load_tensors("weights.pt")
    with pytest.raises(ResultsError, match=r"arrays\.npz: damaged: it unpacks to more"):
        store.arrays()


def test_a_flipped_bit_in_weights_or_arrays_is_noticed(tmp_path: Path) -> None:
    import torch

    store = RunStore(tmp_path)
    store.save_tensors("weights.pt", {"w": torch.ones(1000)})
    store.save_arrays({"a": np.ones(1000)})
    for name in ("weights.pt", "arrays.npz"):
        content = bytearray((tmp_path / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ResultsError, match=r"weights\.pt: damaged"):
        store.load_tensors("weights.pt")
    with pytest.raises(ResultsError, match=r"arrays\.npz: damaged"):
        store.arrays()


def test_weights_larger_than_their_model_are_refused(tmp_path: Path) -> None:
    import torch

    store = RunStore(tmp_path)
    store.save_tensors("weights.pt", {"w": torch.ones(1000)})
    assert store.load_tensors("weights.pt", max_bytes=10_000) is not None
    with pytest.raises(ResultsError, match="larger than"):
        store.load_tensors("weights.pt", max_bytes=3_000)
    os.truncate(tmp_path / "weights.pt", 10**10)
    with pytest.raises(ResultsError, match="larger than 4,000 MB"):
        store.load_tensors("weights.pt")


@FUZZ
@given(st.binary(max_size=60), st.integers(0, 1500), st.integers(0, 1500))
def test_any_damage_to_a_file_of_weights_is_an_error_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, start: int, length: int
) -> None:
    import torch

    store = RunStore(tmp_path_factory.getbasetemp() / "weights")
    store.save_tensors("weights.pt", {"w": torch.arange(9.0)})
    whole = (store.path / "weights.pt").read_bytes()
    (store.path / "weights.pt").write_bytes(whole[:start] + content + whole[start + length :])
    try:
        loaded = store.load_tensors("weights.pt")
    except ResultsError as error:
        assert "weights.pt: damaged" in str(error)  # noqa: PT017
        assert_short(str(error))
    else:  # what was hit is padding between the entries
        assert loaded is not None
        assert torch.equal(loaded["w"], torch.arange(9.0))
