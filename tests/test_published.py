"""What is committed under results/ is what its records give, and what the README shows."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from vaebench.cli import reference
from vaebench.config import make_grid, read_yaml
from vaebench.grid import REPORTS
from vaebench.report import load, render
from vaebench.storage import run_store

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "results" / "mnist"


@pytest.mark.parametrize("format_", REPORTS)
def test_committed_report_is_what_the_committed_records_give(format_):
    path = COMMITTED / REPORTS[format_]
    assert render(load(COMMITTED), format_, path) == path.read_text(encoding="utf-8")


def test_committed_grid_is_complete_and_is_that_of_its_file():
    report = load(COMMITTED)
    runs = make_grid(read_yaml(ROOT / "experiments" / "mnist.yaml")).runs()
    assert {record["run_id"] for record in report.records} == {run.config.run_id for run in runs}
    assert {record["status"] for record in report.records} == {"complete"}
    assert len(runs) == 8
    assert {record["config"]["training"]["epochs"] for record in report.records} == {50}


def test_committed_records_agree_with_their_journals():
    for record in load(COMMITTED).records:
        journal = run_store(COMMITTED, record["run_id"]).journal
        assert [line["epoch"] for line in journal] == list(range(1, 51))
        best = max(journal, key=lambda line: line["metrics"]["val/elbo"])
        assert record["best"]["epoch"] == best["epoch"]
        seconds = sum(line["metrics"]["train/seconds"] for line in journal) / 50
        assert record["metrics"]["cost/seconds_per_epoch"] == pytest.approx(seconds)


def test_published_results_hold_no_weights_and_no_path_of_a_machine():
    for path in COMMITTED.rglob("*"):
        if path.suffix in {".json", ".jsonl", ".yaml", ".md", ".csv", ".tex"}:
            text = path.read_text(encoding="utf-8")
            assert "/home/" not in text
            assert "/root/" not in text
            assert "/tmp/" not in text


def test_readme_check_passes_and_notices_a_changed_block(tmp_path):
    readme = ROOT / "README.md"
    assert reference.with_blocks(readme.read_text(encoding="utf-8"), readme) == readme.read_text(
        encoding="utf-8"
    )
    (tmp_path / "results").symlink_to(ROOT / "results")
    changed = tmp_path / "README.md"
    changed.write_text(readme.read_text(encoding="utf-8").replace("| `test/ssim` |", "| `ssim` |"))
    done = CliRunner().invoke(reference.main, [str(changed), "--check"])
    assert done.exit_code == 1
    assert "make docs" in done.output
    assert CliRunner().invoke(reference.main, [str(changed)]).exit_code == 0
    assert "| `test/ssim` |" in changed.read_text(encoding="utf-8")


def test_a_readme_without_a_block_is_an_error(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing")
    with pytest.raises(LookupError, match="generated: results"):
        reference.with_blocks(readme.read_text(), readme)
