"""One entry for each addition: what is registered from outside is configured, run and reported.

Everything is added in this file alone. Nothing in the package knows any of the names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
import torch
from annotated_types import Gt
from small_runs import in_this_process_only
from torch import Tensor, nn

from vaebench import report
from vaebench.cli.options import registered
from vaebench.datasets import DATASETS, Arrays, Dataset
from vaebench.declarations import COSTS, Cost, Declaration, Spent
from vaebench.errors import ConfigError
from vaebench.estimators import ESTIMATORS, Estimate, Estimator, sgvb
from vaebench.fitted_gaussian import Support
from vaebench.grid import Options, run_grid
from vaebench.likelihoods import LIKELIHOODS
from vaebench.metrics import METRICS, Evaluation, Metric
from vaebench.models import MODELS, Encoder, Networks, Shape
from vaebench.run import load_run
from vaebench.vae import VAE


def narrow(shape: Shape, latent_dim: int, *, width: Annotated[int, Gt(0)] = 5) -> Networks:
    """A model: one hidden layer of sines."""

    class Sine(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sin()

    pixels = shape[0] * shape[1] * shape[2]
    body = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), Sine())
    decoder = nn.Sequential(
        nn.Linear(latent_dim, width), Sine(), nn.Linear(width, pixels), nn.Unflatten(-1, shape)
    )
    return Networks(Encoder(body, width, latent_dim), decoder)


@dataclass(frozen=True)
class Probit:
    """A second likelihood of binary pixels: the decoder's output through the normal's CDF."""

    support: ClassVar[Support] = "binary"
    scale: Annotated[float, Gt(0)] = 1.0

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """Log-probability of pixels, (B,)."""
        p = self.mean(params).clamp(1e-6, 1 - 1e-6)
        return (x * p.log() + (1 - x) * (-p).log1p()).flatten(1).sum(dim=1)

    def mean(self, params: Tensor) -> Tensor:
        """Pixel probabilities."""
        return torch.special.ndtr(params / self.scale)


def halved(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
    """An estimator: every second draw of sgvb's."""
    return sgvb(vae, x, noise[::2])


def bars(_contents: Mapping[str, bytes]) -> Arrays:
    """A data set: gray images of 8x8 pixels, each with one bar."""
    y = np.arange(160) % 8
    x = np.full((160, 8, 8), 20, np.uint8)
    x[np.arange(160), :, y] = 230
    return Arrays(x[:120], y[:120], x[120:], y[120:])


def largest_error(e: Evaluation) -> float:
    """A metric: the largest absolute error of a pixel."""
    return (e.x - e.reconstruction).abs().max().item()


def seconds_in_all(spent: Spent) -> float:
    """A cost: wall time of all epochs."""
    return sum(line["metrics"]["train/seconds"] for line in spent.journal)


def names_only(shown: report.Analysis, *_: object) -> str:
    """A report format: the metrics that there are."""
    return "\n".join(sorted({name for record in shown.records for name in record["metrics"]}))


@pytest.fixture
def additions(monkeypatch: pytest.MonkeyPatch) -> None:
    entries: dict[str, tuple[dict[str, Any], Any]] = {
        "narrow": (MODELS, narrow),
        "probit": (LIKELIHOODS, Probit),
        "halved": (ESTIMATORS, Estimator(halved, samples=4, min_samples=2)),
        "bars": (DATASETS, Dataset(read=bars, shape=(1, 8, 8), validation=20)),
        "largest_error": (
            METRICS,
            Metric(largest_error, Declaration("Largest error", "", "lower", "dataset")),
        ),
        "seconds_in_all": (
            COSTS,
            Cost(seconds_in_all, Declaration("Seconds in all", "s", "lower", "machine")),
        ),
        "names": (report.FORMATS, report.Format("report.names", names_only)),
    }
    for name, (registry, entry) in entries.items():
        monkeypatch.setitem(registry, name, entry)
    in_this_process_only(monkeypatch)


GRID: dict[str, Any] = {
    "name": "additions",
    "axes": {
        "model": ["fnn", "narrow"],
        "loss": ["bce", "probit"],
        "estimator": ["halved"],
        "dataset.binarize": ["none", "static"],
    },
    "exclude": [{"model": "fnn", "dataset.binarize": "static"}],
    "dataset": "bars",
    "model": {"latent_dim": 2, "fnn": {"hidden": [8]}, "narrow": {"width": 6}},
    "training": {"epochs": 2, "batch_size": 50},
    "metrics": {"log_px": 2},
}


def test_one_entry_of_each_kind_is_run_reported_and_loaded(additions: None, tmp_path: Path) -> None:
    options = Options(results=tmp_path, data_dir=tmp_path / "data", device="cpu", jobs=1)
    results = run_grid(GRID, options)
    assert [record["status"] for record in results.records] == ["complete"] * 6
    shown = report.load(tmp_path / "additions")

    written = json.loads(report.render(shown, "json"))
    assert {(c["cell"]["model"], c["cell"]["loss"]) for c in written["cells"]} == {
        (model, loss) for model in ("fnn", "narrow") for loss in ("bce", "probit")
    }
    for cell in written["cells"]:
        assert 0 < cell["metrics"]["test/largest_error"]["mean"] <= 1
        assert cell["metrics"]["cost/seconds_in_all"]["mean"] > 0
    names = report.render(shown, "names").splitlines()
    assert {"test/largest_error", "cost/seconds_in_all", "test/elbo"} <= set(names)

    text = report.render(shown, "md")
    assert "Largest error ↓" in text
    assert "Seconds in all" in text
    record = results.records[-1]
    assert record["config"]["model"] == {"name": "narrow", "latent_dim": 2, "narrow": {"width": 6}}
    assert record["config"]["estimator"]["samples"] == 4
    assert record["environment"]["dataset"]["name"] == "bars"
    loaded = load_run(tmp_path / "additions" / "runs" / record["run_id"])
    assert isinstance(loaded.model.likelihood, Probit)


def test_a_second_likelihood_of_binary_pixels_is_treated_as_the_first(
    additions: None, tmp_path: Path
) -> None:
    options = Options(results=tmp_path, data_dir=tmp_path / "data", device="cpu", jobs=1)
    axes = {"model": ["narrow"], "estimator": ["halved"]}
    grid = GRID | {"axes": GRID["axes"] | axes, "exclude": []}
    results = run_grid(grid, options)
    text = report.render(report.load(tmp_path / "additions"), "md")
    rows = [line for line in text.splitlines() if line.startswith("| narrow |")]
    for loss in ("bce", "probit"):
        gray, drawn = (
            next(
                record
                for record in results.records
                if record["cell"]["loss"] == loss and record["cell"]["dataset.binarize"] == kind
            )
            for kind in ("none", "static")
        )
        assert "test/log_px" not in gray["metrics"], "it is no density of gray pixels"
        assert drawn["metrics"]["test/log_px"] < 0
        assert any(f"| {loss} (relaxed) |" in row and "| none |" in row for row in rows)
        assert any(f"| {loss} |" in row and "| static |" in row for row in rows)
        with pytest.raises(ConfigError, match="binary pixels"):
            run_grid(grid | {"dataset": {"name": "bars", "dequantize": "uniform"}}, options)


def test_the_command_line_offers_every_format() -> None:
    assert registered("report", "FORMATS") == list(report.FORMATS)
