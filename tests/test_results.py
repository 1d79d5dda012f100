"""What Python users get of a grid: its results in short, and progress where a person reads it."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from records import fail, make_results, run_dirs
from small_runs import in_this_process_only, settings

import vaebench
from vaebench import report
from vaebench.errors import ResultsError
from vaebench.grid import Listener, Options, Results, run_grid
from vaebench.grid.folder import write_reports
from vaebench.report.cells import cells
from vaebench.report.loading import read_record
from vaebench.schema.manifest import Planned

ONE = {"axes": {"model": ["fnn"], "loss": ["bce"], "estimator": ["kl"]}, "seeds": 2}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.slow
def test_results_are_loaded_from_a_folder_and_have_a_short_repr(tmp_path: Path) -> None:
    folder = make_results(tmp_path, seeds=[0, 1])
    fail(run_dirs(folder)[0], "no memory")
    results = vaebench.load_results(str(folder))
    loaded = report.load(folder)
    assert results.folder == folder
    assert list(results.records) == list(loaded.records)
    assert len(results.to_frame()) == 16
    assert [cell.cell for cell in results.cells] == [cell.cell for cell in loaded.cells]
    assert results.claims == ()
    assert repr(results) == f"<Results of {folder}: 16 runs, 1 failed, 15 complete>"


def test_loaded_results_have_the_verdicts_of_the_grids_claims() -> None:
    folder = Path(__file__).parents[1] / "results" / "claims"
    judged = vaebench.load_results(folder).claims
    stored = json.loads(report.render(report.load(folder), "json"))["claims"]
    assert [claim.verdict for claim in judged] == [claim["verdict"] for claim in stored]
    assert judged


def test_all_reports_of_a_grid_come_from_one_reading_and_one_computation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_results(tmp_path, seeds=[0, 1], arrays=True)
    read, computed = [], []

    def reading(grid: Path, run: Planned) -> Any:
        read.append(run.run_id)
        return read_record(grid, run)

    def computing(*arguments: Any) -> Any:
        computed.append(arguments)
        return cells(*arguments)

    monkeypatch.setattr("vaebench.report.loading.read_record", reading)
    monkeypatch.setattr("vaebench.report.analysis.cells", computing)
    results = Results(write_reports(folder))
    assert results.cells
    assert sorted(read) == sorted(path.name for path in run_dirs(folder))
    assert len(computed) == 1
    assert all((folder / format_.file).is_file() for format_ in report.FORMATS.values())
    assert (folder / "comparison.png").is_file()


def test_a_format_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = report.Format("names.txt", lambda analysis, _: analysis.name)
    monkeypatch.setitem(report.FORMATS, "names", names)
    folder = make_results(tmp_path, seeds=[0])
    assert report.render(report.load(folder), "names") == folder.name
    write_reports(folder)
    assert (folder / "names.txt").read_text() == folder.name


def test_a_folder_without_a_grid_has_no_results(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=re.escape(f"{tmp_path}: ")):
        vaebench.load_results(tmp_path)


def test_dir_of_the_package_shows_its_public_names_and_imports_nothing_heavy() -> None:
    code = "import sys, vaebench; print(*dir(vaebench)); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, torch = done.stdout.splitlines()
    assert {*vaebench.__all__} <= {*names.split()}
    assert torch == "False"


@pytest.mark.slow
@pytest.mark.parametrize("listener", [None, Listener()])
def test_progress_is_shown_in_a_terminal_unless_a_silent_listener_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: Listener | None
) -> None:
    in_this_process_only(monkeypatch)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run_grid(
        settings(name="small", **ONE), Options(results=tmp_path, device="cpu", jobs=1), listener
    )
    lines = terminal.getvalue().splitlines()
    if listener is not None:
        assert lines == []
        return
    assert lines[0] == "2 runs to do on cpu, 1 at a time; 0 skipped"
    assert [line.split("]")[0] for line in lines[1:]] == ["[1/2", "[2/2"]
    assert all(line.endswith(": complete") for line in lines[1:])


@pytest.mark.slow
def test_progress_is_not_shown_where_nobody_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_this_process_only(monkeypatch)
    run_grid(settings(name="small", **ONE), Options(results=tmp_path, device="cpu", jobs=1))
    assert capsys.readouterr() == ("", "")
