"""Reference rows: what is measured of real images, pPCA and an untrained model, kept and shown."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from records import assign, edit_record, make_results, run_dirs
from small_runs import in_this_process_only, settings
from test_ppca import log_likelihood, ppca

from vaebench import datasets, report
from vaebench.config import RunConfig, make_grid, make_run
from vaebench.errors import ResultsError
from vaebench.grid import Listener, Options, run_grid
from vaebench.metrics import METRICS, Generation, precision, recall, reference
from vaebench.metrics.ppca import Ppca, spectrum
from vaebench.run.reference import reference_rows
from vaebench.schema.reference import read_reference

DIGITS = datasets.load("digits")


class Heard(Listener):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.measured: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def measuring(self, what: str) -> None:
        self.measured.append(what)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory without rows, but with the session's classifiers."""
    folder = tmp_path / "data"
    folder.mkdir()
    kept = reference("digits", DIGITS.digest)
    monkeypatch.setattr("vaebench.run.reference.reference", lambda *_: kept)
    monkeypatch.setattr("vaebench.run.measuring.reference", lambda *_: kept)
    monkeypatch.setenv("VAEBENCH_DATA", str(folder))
    return folder


def rows_of(*configs: RunConfig, begun: list[str] | None = None) -> list[dict[str, Any]]:
    said: list[str] = [] if begun is None else begun
    return list(reference_rows(configs, None, said.append))


def config(**overrides: Any) -> RunConfig:
    return make_run(settings(**({"model": "fnn", "model.latent_dim": 3} | overrides)))


# ---------------------------------------------------------------- what is measured


def test_ppca_reaches_the_closed_form_log_likelihood() -> None:
    fitted = Ppca.fit(spectrum(DIGITS.train.x), 8)
    known = ppca(DIGITS.train.x, 8)  # by PyTorch's multivariate normal, in test_ppca
    train, test = (fitted.evaluation(split.x) for split in (DIGITS.train, DIGITS.test))
    assert fitted.sigma2 == pytest.approx(known.sigma2, rel=1e-9)
    elbo = -(train.rate + train.distortion).mean().item()
    assert elbo == pytest.approx(known.log_likelihood, abs=1e-8)
    assert train.rate.mean().item() == pytest.approx(known.rate, abs=1e-8)
    exact = log_likelihood(known.density, DIGITS.test.x)  # image by image: the bound is tight
    torch.testing.assert_close(-(test.rate + test.distortion), exact, atol=1e-7, rtol=0)


def test_ppca_without_noise_left_or_with_too_many_pixels_is_no_optimum() -> None:
    with pytest.raises(ValueError, match="leave no noise"):
        Ppca.fit(spectrum(DIGITS.train.x), 64)
    with pytest.raises(ValueError, match="pixels"):
        spectrum(torch.zeros(2, 1, 65, 64))


def test_real_images_are_held_out_images_against_test_images(data_dir: Path) -> None:
    judge = reference("digits", DIGITS.digest)
    part = Generation(judge.features_of(DIGITS.validation.x).double(), judge.features.double())
    (row,) = (row for row in rows_of(config()) if row["kind"] == "real")
    assert row["metrics"]["test/precision"] == precision(part)
    assert row["metrics"]["test/recall"] == recall(part)
    assert row["images"] == len(DIGITS.validation.x) == 297


def test_rows_are_of_each_data_set_latent_size_and_loss_and_the_cheapest_model(
    data_dir: Path,
) -> None:
    configs = [
        config(**{"model.name": model, "loss": loss, "model.latent_dim": size})
        for model in ("cnn", "fnn")
        for loss in ("bce", "mse")
        for size in (2, 3)
    ]
    rows = rows_of(*configs)
    assert [row["kind"] for row in rows] == ["real", "ppca", "ppca", "untrained", "untrained"]
    assert [row["config"]["model"]["latent_dim"] for row in rows if row["kind"] == "ppca"] == [2, 3]
    untrained = [row["config"] for row in rows if row["kind"] == "untrained"]
    assert [(its["model"]["name"], its["loss"]["name"]) for its in untrained] == [
        ("fnn", "bce"),
        ("fnn", "mse"),
    ]
    assert all(row["metrics"].keys() >= {"test/ssim", "test/rate"} for row in rows[1:])


def test_a_row_is_measured_once_and_a_damaged_one_again(data_dir: Path) -> None:
    begun: list[str] = []
    first = rows_of(config(), begun=begun)
    assert len(begun) == len(first) == 3
    assert rows_of(config(), begun=begun) == first
    assert len(begun) == 3
    path = data_dir / "references" / f"{first[1]['key']}.json"
    path.write_text('{"rows": [{"kind": "ppca"}]}')
    assert rows_of(config(), begun=begun) == first
    assert begun[3:] == ["exact pPCA of digits"]
    assert json.loads(path.read_text())["rows"] == [first[1]]


def test_another_definition_of_a_metric_is_another_row(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rows_of(config())
    monkeypatch.setattr("vaebench.run.reference.RECIPE", 2)
    assert not {row["key"] for row in first} & {row["key"] for row in rows_of(config())}


# ---------------------------------------------------------------- at the end of a grid


def grid(**overrides: Any) -> Any:
    return make_grid(settings(**({"name": "small", "seeds": 1, "model": "fnn"} | overrides)))


def test_a_grid_ends_with_reference_rows_and_measures_them_once(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)
    heard = Heard()
    options = Options(results=tmp_path / "results")
    done = run_grid(grid(), options, heard)
    rows = read_reference(done.folder / "reference.json")
    assert {row["kind"] for row in rows} == {"real", "ppca", "untrained"}
    assert {row.kind for row in done.analysis.references} == {"real", "ppca", "untrained"}
    assert heard.measured == ["reference rows of digits: kept for later grids"]
    heard.measured.clear()
    older = [  # of other data, and the same row by an older definition
        {**rows[0], "key": "0" * 12, "digest": "another"},
        {**rows[1], "key": "1" * 12},
    ]
    content = {"schema_version": 1, "rows": [*older, *rows]}
    (done.folder / "reference.json").write_text(json.dumps(content))
    again = run_grid(grid(seeds=2), options, heard)
    assert heard.measured == []
    assert [row["key"] for row in read_reference(again.folder / "reference.json")] == [
        row["key"] for row in rows
    ]


def test_no_finished_run_no_reference_rows(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)
    heard = Heard()
    raised = grid(training__learning_rate=1e30, model="fnn", loss="mse")
    done = run_grid(raised, Options(results=tmp_path / "results"), heard)
    assert len(done.failed) == len(done.records)
    assert heard.measured == []
    assert not (done.folder / "reference.json").exists()


def test_a_failure_of_reference_rows_spoils_nothing(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)

    def broken(*_: Any) -> Any:
        raise RuntimeError("no such\nluck")

    monkeypatch.setattr("vaebench.grid.reference.reference_rows", broken)
    heard = Heard()
    done = run_grid(grid(), Options(results=tmp_path / "results"), heard)
    assert done.failed == []
    assert (done.folder / "report.md").exists()
    assert [text for text in heard.warnings if "no such luck" in text]


# ---------------------------------------------------------------- in reports

KEY = "0123456789ab"


def real(**metrics: float) -> dict[str, Any]:
    return {
        "kind": "real",
        "key": KEY,
        "digest": "d1",
        "config": {"dataset": {"name": "digits"}},
        "metrics": {f"test/{name}": value for name, value in metrics.items()},
        "versions": dict.fromkeys(metrics, 1),
    }


def baseline(kind: str, folder: Path, **metrics: float) -> dict[str, Any]:
    """A row of ``ppca``, or an ``untrained`` model of the run in ``folder``."""
    settings = json.loads((folder / "record.json").read_text())["config"]
    keys = ("dataset", "model") if kind == "ppca" else ("dataset", "model", "loss", "seed")
    support = "real" if kind == "ppca" else "binary"
    return real(**metrics) | {
        "kind": kind,
        "config": {key: settings[key] for key in keys},
        "support": support,
    }


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two cells of nine seeds; the fnn's precision is above the cnn's, both of them measured."""
    folder = make_results(tmp_path, axes={"model": ["fnn", "cnn"], "loss": ["bce"]}, seeds=range(9))
    title = {"title": "Precision", "unit": "", "direction": "higher", "comparable": "dataset"}
    for run in run_dirs(folder):
        edit_record(
            run, lambda r: r["metric_declarations"].update(precision={**title, "version": 1})
        )
    assign(folder, "test/precision", lambda c, s: (0.9 if c["model"] == "fnn" else 0.8) + s / 1e3)
    return folder


def put(folder: Path, *rows: dict[str, Any]) -> None:
    text = json.dumps({"schema_version": 1, "rows": rows})
    (folder / "reference.json").write_text(text, encoding="utf-8")


def best(folder: Path, metric: str) -> list[bool]:
    (column,) = (c for c in report.load(folder).table.columns if c.metric == metric)
    return [entry.best for entry in column.entries]


def test_precision_beyond_that_of_real_images_is_never_bold(made: Path) -> None:
    assert best(made, "test/precision") == [True, False]
    put(made, real(precision=0.95))
    assert best(made, "test/precision") == [True, False]
    put(made, real(precision=0.85))  # the fnn's 0.904 are more than real images reach
    assert best(made, "test/precision") == [False, False]
    put(made, real(recall=0.85))
    assert best(made, "test/precision") == [True, False]


def test_rows_of_other_data_or_another_definition_are_not_shown(made: Path) -> None:
    for change in ({"digest": "d0"}, {"versions": {"precision": 2}}):
        put(made, real(precision=0.85) | change)
        assert report.load(made).references == ()
    put(made, real(precision=0.85) | {"digest": "d0"})  # nor do they judge a row
    assert best(made, "test/precision") == [True, False]


def test_every_format_shows_the_rows_below_the_cells(made: Path) -> None:
    put(made, real(precision=0.8625), baseline("untrained", run_dirs(made)[0], ssim=0.0164))
    analysis = report.load(made)
    md = report.render(analysis, "md", made / "report.md")
    assert "| *real images* |" in md
    assert md.index("| *real images* |") > md.index("| cnn |")
    content = json.loads(report.render(analysis, "json"))
    assert content["references"][0] == {
        "kind": "real",
        "label": "real images",
        "values": {"test/precision": 0.8625},
    }
    page = report.render(analysis, "html")
    assert page.count('<tbody class="references">') == 1
    assert re.search(r'data-metric="test/precision">0\.8625<', page), "is shown at first"
    assert "untrained fnn / bce" in page
    columns = report.load(made, columns=["precision"])
    tex = report.render(columns, "latex")
    assert r"\textit{real images} &  & $0.8625$ \\" in tex
    assert "never ranked" in md
    assert "never ranked" in page
    assert "never ranked" in tex


def test_a_bound_stands_only_beside_bounds_that_it_compares_with(made: Path) -> None:
    run = run_dirs(made)[0]
    put(made, baseline("ppca", run, elbo=13.5, rate=10.2, ssim=0.88))
    (row,) = report.load(made).references  # relaxed bce is no density: its ELBO is another thing
    assert row.values == {"test/rate": 10.2, "test/ssim": 0.88}
    put(made, baseline("untrained", run, elbo=-44.0, rate=0.1))
    (row,) = report.load(made).references
    assert row.values == {"test/elbo": -44.0, "test/rate": 0.1}


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"rows": 3}',
        '{"schema_version": 9, "rows": []}',
        '{"rows": [{"kind": "real", "key": "../../etc/pwd", "digest": "", "config": {}, '
        '"metrics": {}, "versions": {}}]}',
    ],
)
def test_a_damaged_file_is_told_and_hides_nothing(made: Path, content: str) -> None:
    (made / "reference.json").write_text(content)
    with pytest.raises(ResultsError):
        read_reference(made / "reference.json")
    text = report.render(report.load(made), "md", made / "report.md")
    assert "No reference rows: reference.json: " in text
    assert str(made) not in text


def test_numbers_that_are_none_are_left_out(made: Path) -> None:
    put(made, real(precision=float("nan"), recall=float("inf")))
    assert report.load(made).references == ()
    assert best(made, "test/precision") == [True, False]


def test_metrics_of_every_row_are_known(data_dir: Path) -> None:
    for row in rows_of(config()):
        assert {name.partition("/")[2] for name in row["metrics"]} == set(row["versions"])
        assert set(row["versions"]) <= set(METRICS)
