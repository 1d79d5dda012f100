"""Single steps of a run: what is on the disk when, and what the measured weights hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import settings, task, without_figures

from vaebench import datasets
from vaebench.run import close, load_run, run
from vaebench.seeding import stream
from vaebench.storage import RunStore
from vaebench.training import validate


@pytest.mark.slow
def test_an_epochs_checkpoint_is_on_the_disk_before_its_journal_line(  # trap 12
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    appended, append = [], RunStore.append

    def watched(self: RunStore, line: Mapping[str, Any]) -> None:
        checkpoint = self.load_tensors("checkpoint.pt")
        appended.append((line["epoch"], checkpoint is not None and checkpoint["line"] == line))
        append(self, line)

    monkeypatch.setattr(RunStore, "append", watched)
    run(task(tmp_path, training__epochs=3))
    assert appended == [(1, True), (2, True), (3, True)]


def test_the_journal_validates_on_the_validation_split(  # trap 10
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    run(task(tmp_path, seed=2))
    vae, x = load_run(tmp_path).model, datasets.load(**settings()["dataset"]).validation.x
    noise = torch.randn(1, len(x), vae.latent_dim, generator=stream(2, "validation"))
    expected = validate(vae, x, noise, batch_size=100).elbo
    last = RunStore(tmp_path).journal[-1]["metrics"]
    assert last["val/elbo"] == pytest.approx(expected, rel=1e-5)


def test_the_record_has_the_mean_cpu_time_of_the_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    metrics = run(task(tmp_path))["metrics"]
    first, second = (line["metrics"]["train/cpu_seconds"] for line in RunStore(tmp_path).journal)
    assert metrics["cost/cpu_seconds_per_epoch"] == pytest.approx((first + second) / 2)
    assert metrics["cost/cpu_seconds_per_epoch"] != metrics["cost/seconds_per_epoch"]


def test_an_optimal_variance_is_frozen_on_the_whole_training_split_before_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    small = task(tmp_path, loss={"name": "gaussian", "gaussian": {"sigma2": "optimal"}}, seed=2)
    assert run(small)["status"] == "complete"
    vae = load_run(tmp_path).model
    x = datasets.load(**settings()["dataset"]).train.x
    noise = torch.randn(len(x), vae.latent_dim, generator=stream(2, "fit"))
    with torch.no_grad():
        error = (x - vae.decode(vae.encoder(x).sample(noise))).square().mean()
    assert vae.likelihood.sigma2 == pytest.approx(error.item(), rel=1e-5)


def test_a_run_that_is_closed_after_its_end_keeps_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    small = task(tmp_path, training__epochs=1)
    record = run(small)
    assert close(small, "interrupted", "a Ctrl-C that came a moment late") == record
    assert RunStore(tmp_path).record == record
    assert record["status"] == "complete"
