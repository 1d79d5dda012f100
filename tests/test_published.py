"""What is committed under results/ is what its records give."""

import itertools
import json
import re
from pathlib import Path

import pytest

from experiments.readme import PUBLISHED
from vaebench.config import make_grid, read_yaml
from vaebench.grid.groups import picks
from vaebench.report import FORMATS, load, render
from vaebench.storage import run_store

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
EACH = pytest.mark.parametrize("name", PUBLISHED)


def grid_file(name):
    (found,) = (ROOT / "experiments").rglob(f"{name}.yaml")
    return found


@pytest.mark.slow
@EACH
@pytest.mark.parametrize("format_", [name for name in FORMATS if name != "html"])
def test_committed_report_is_what_the_committed_records_give(name, format_):
    path = RESULTS / name / FORMATS[format_].file
    assert render(load(path.parent), format_, path) == path.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "decoders"), [("mnist", 8), ("reference", 10)])
def test_a_committed_page_has_the_numbers_of_the_committed_records(name, decoders):
    path = RESULTS / name / FORMATS["html"].file
    pages = (path.read_text(encoding="utf-8"), render(load(path.parent), "html"))
    committed, given = (
        json.loads(re.findall(r'id="data">(.*?)</script>', page)[0])["cells"] for page in pages
    )
    for key in ("label", "axes", "values", "curves"):
        assert [cell[key] for cell in committed] == [cell[key] for cell in given]
    assert all(cell["run"]["codes"] for cell in committed)  # of the whole runs, with their arrays
    assert len(re.findall(r'id="decoder-\d+"', pages[0])) == decoders
    published = {path.parent.name for path in RESULTS.glob(f"{name}/runs/*/decoder.safetensors")}
    assert published == {cell["run"]["id"] for cell in committed}
    assert path.stat().st_size < 10_000_000


@EACH
def test_committed_pictures_are_all_there(name):
    text = (RESULTS / name / "report.md").read_text(encoding="utf-8")
    links = [*re.findall(r'src="([^"]+)"', text), *re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)]
    assert links
    assert [link for link in links if not (RESULTS / name / link).is_file()] == []


@EACH
def test_committed_runs_are_those_of_the_grids_file(name):
    report = load(RESULTS / name)
    picked = picks(report.manifest.get("tuned", []))
    runs = make_grid(read_yaml(grid_file(name))).runs(picks=picked)
    asked_for = [run.config.identity() for run in runs]  # the ids move with the versions
    found = [record["config"] for record in report.records]
    assert found
    for config in found:
        assert {key: value for key, value in config.items() if key != "metrics"} in asked_for
    assert {record["status"] for record in report.records} == {"complete"}
    whole = {"mnist": 8, "claims": 90, "estimators": 6, "ppca": 1, "pytorch-examples": 5}
    whole["reference"] = 90
    assert len(found) == whole.get(name, len(found))


@EACH
def test_committed_records_agree_with_their_journals(name):
    for record in load(RESULTS / name).records:
        journal = run_store(RESULTS / name, record["run_id"]).journal
        epochs = record["config"]["training"]["epochs"]
        assert [line["epoch"] for line in journal] == list(range(1, epochs + 1))
        if record["best"]:
            best = max(journal, key=lambda line: line["metrics"]["val/elbo"])
            assert record["best"]["epoch"] == best["epoch"]
        seconds = sum(line["metrics"]["train/seconds"] for line in journal) / epochs
        assert record["metrics"]["cost/seconds_per_epoch"] == pytest.approx(seconds)


def test_the_claims_were_settled_by_nine_seeds_of_clean_checkouts():
    report = load(RESULTS / "claims")
    seeds = {}
    for record in report.records:
        seeds.setdefault(tuple(record["cell"].values()), set()).add(record["seed"])
        assert record["environment"]["git"]["dirty"] is False
    assert set(itertools.product(["fnn", "cnn"], ["bce", "mse"], ["sgvb", "kl"])) <= seeds.keys()
    assert all(found == set(range(9)) for found in seeds.values())
    verdicts = {judged.verdict for judged in report.claims}
    assert verdicts <= {"supported", "refuted", "depends", "inconclusive"}


def test_the_published_numbers_are_reproduced():
    for name in ("ppca", "pytorch-examples", "vae-mnist"):
        report = load(RESULTS / name)
        rows = [row for row in report.reproductions if row.ours is not None]
        assert rows
        assert [row.published for row in rows if row.reproduced == "no"] == []


@EACH
def test_published_results_hold_no_path_of_a_machine(name):
    for path in (RESULTS / name).rglob("*"):
        if path.suffix in {".json", ".jsonl", ".yaml", ".md", ".csv", ".tex"}:
            text = path.read_text(encoding="utf-8")
            assert "/home/" not in text
            assert "/root/" not in text
            assert "/tmp/" not in text
