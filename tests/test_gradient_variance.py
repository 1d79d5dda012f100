"""The diagnostics of the gradients: known variances, an untouched training, and its picture."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from small_runs import numbers, results, task, without_figures
from tiny import SIGMA2, W, X, draws, images, linear_gaussian, make_vae
from torch import Tensor

from vaebench import figures
from vaebench.config import make_run
from vaebench.estimators import ESTIMATORS
from vaebench.run import run
from vaebench.seeding import stream
from vaebench.storage import RunStore
from vaebench.training import gradient_variance as module
from vaebench.training import objective
from vaebench.training.gradient_variance import GradientVariance, comparable, gradient_variance
from vaebench.vae import VAE

MEAN, LOG_VAR = 0.4, math.log(0.3)
ONE_SAMPLE = {"sgvb", "kl", "stl"}


def measure(
    vae: VAE, x: Tensor, samples: int = 1, beta: float = 1.0, seed: int = 0, epoch: int = 1
) -> dict[str, GradientVariance]:
    return gradient_variance(vae, x, samples=samples, beta=beta, seed=seed, epoch=epoch)


@pytest.mark.parametrize("samples", [1, 4])
def test_variance_and_signal_are_those_of_a_model_where_both_are_known(
    monkeypatch: pytest.MonkeyPatch, samples: int
) -> None:
    # The gradient of L^B for one draw e, with s = sigma and r = x - w m, is in the mean
    # w (r - w s e) / sigma2 - m, in the log-variance (s e w (r - w s e) / sigma2 + 1 - s^2) / 2.
    # The encoder's input is the pixel itself: its weights have X times the gradients of its biases.
    monkeypatch.setattr(module, "DRAWS", 1500)
    monkeypatch.setattr(module, "ESTIMATORS", {"kl": ESTIMATORS["kl"]})
    vae, x = linear_gaussian(MEAN, LOG_VAR)
    found = measure(vae, x, samples)["kl"]
    var = math.exp(LOG_VAR)
    residual = X - W * MEAN
    in_mean = W**4 * var / SIGMA2**2
    linear, square = 0.5 * math.sqrt(var) * W * residual / SIGMA2, 0.5 * W**2 * var / SIGMA2
    in_log_var = linear**2 + 2 * square**2
    total = (1 + X**2) * (in_mean + in_log_var) / samples
    assert found.encoder_variance == pytest.approx(total, rel=0.2)
    signal = (1 + X**2) * ((W * residual / SIGMA2 - MEAN) ** 2 + (-square + 0.5 * (1 - var)) ** 2)
    assert found.encoder_snr == pytest.approx(math.sqrt(signal / total), rel=0.2)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_numbers_are_those_of_ten_gradients_kept_side_by_side(name: str) -> None:
    vae, x, samples, beta = make_vae(), images(4), 3, 1.0
    found = measure(vae, x, samples, beta, seed=5, epoch=7)[name]
    shape = (module.DRAWS, samples, 4, vae.latent_dim)
    for part in ("encoder", "decoder"):
        parameters = list(getattr(vae, part).parameters())
        gradients = []
        for noise in torch.randn(shape, generator=stream(5, "gradient_variance", 7)):
            loss = objective(ESTIMATORS[name](vae, x, noise.double()), beta)
            grads = torch.autograd.grad(loss, parameters)
            gradients.append(torch.cat([g.flatten() for g in grads]))
        together = torch.stack(gradients)
        variance = together.var(dim=0).sum()
        norms = [a @ b for i, a in enumerate(together) for b in together[:i]]
        signal = torch.stack(norms).mean()  # of pairs of draws: without bias
        assert getattr(found, f"{part}_variance") == pytest.approx(variance.item(), rel=1e-9)
        snr = (signal.clamp(min=0) / variance).sqrt().item()
        assert getattr(found, f"{part}_snr") == pytest.approx(snr, rel=1e-9)


def test_at_the_exact_posterior_the_landing_sticks() -> None:
    vae, x = linear_gaussian(W * X / (W**2 + SIGMA2), math.log(SIGMA2 / (W**2 + SIGMA2)))
    found = measure(vae, x, samples=3)
    for name in ("stl", "dreg", "score"):
        assert found[name].encoder_variance < 1e-12
        assert found[name].decoder_variance > 0.01
    for name in ("sgvb", "kl", "iwae"):
        assert found[name].encoder_variance > 0.01


def test_in_the_decoder_the_estimators_of_one_bound_are_one() -> None:
    found = measure(make_vae(), images(6), samples=3)
    for same in (("sgvb", "kl", "stl", "score"), ("iwae", "dreg")):
        for quantity in ("decoder_variance", "decoder_snr"):
            values = [getattr(found[name], quantity) for name in same]
            assert values == pytest.approx([values[0]] * len(same), rel=1e-9)
    assert found["sgvb"].decoder_snr != pytest.approx(found["iwae"].decoder_snr, rel=0.01)


def test_only_what_differs_and_is_defined_is_compared() -> None:
    assert set(comparable(1, 1.0)) == ONE_SAMPLE
    assert comparable(2, 1.0) == list(ESTIMATORS)
    for beta in (0.25, 4.0):
        assert comparable(5, beta) == [name for name, e in ESTIMATORS.items() if e.splits]
    assert set(measure(make_vae(), images(3), samples=1)) == ONE_SAMPLE


def test_beta_weighs_the_rate_in_the_gradient_that_is_measured() -> None:
    vae, x = make_vae(), images(4)
    one, four = (measure(vae, x, samples=2, beta=beta)["sgvb"] for beta in (1.0, 4.0))
    assert four.encoder_variance > 1.5 * one.encoder_variance
    assert four.decoder_variance == pytest.approx(one.decoder_variance)


def test_draws_belong_to_the_seed_and_the_epoch() -> None:
    vae, x = make_vae(), images(4)
    assert measure(vae, x) == measure(vae, x)
    assert measure(vae, x) != measure(vae, x, epoch=2) != measure(vae, x, seed=1)


@pytest.mark.parametrize(
    ("model", "loss", "options", "loss_options"),
    [
        ("cnn", "bce", {"batch_norm": True}, {}),
        ("fnn", "gaussian", {}, {"sigma2": "optimal"}),
    ],
)
def test_the_model_is_left_as_it_was(
    model: str, loss: str, options: dict[str, Any], loss_options: dict[str, Any]
) -> None:  # running statistics included, which a pass in training mode moves
    vae = make_vae(model, loss, options=options, loss_options=loss_options)
    assert any(True for _ in vae.buffers())
    vae.eval()
    before = copy.deepcopy(vae.state_dict())
    measure(vae, images(6), samples=2)
    assert not any(module_.training for module_ in vae.modules())
    assert all(parameter.grad is None for parameter in vae.parameters())
    for key, value in vae.state_dict().items():
        assert torch.equal(value, before[key]), key
    vae.train()
    ESTIMATORS["kl"](vae, images(6), draws(1, 6, 3))
    moved = [key for key, value in vae.state_dict().items() if not torch.equal(value, before[key])]
    assert moved, "there was nothing to move"


# ---------------------------------------------------------------- in a run

ON = {"diagnostics__gradient_variance": True}
WATCHED: dict[str, dict[str, Any]] = {
    "cnn": {"model": "cnn", "loss": "mse"},
    "importance weights": {"estimator": "iwae", "estimator__samples": 2},
    "score": {"estimator": "score", "estimator__samples": 2},
    "dynamic": {"dataset__binarize": "dynamic", "estimator": "dreg"},
    "warm-up": {"training__beta_warmup": 2, "estimator__samples": 2},
}


def split(journal: list[dict[str, Any]]) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """What the diagnostics say, and all the rest."""
    found, rest = [], []
    for line in numbers(journal):
        found.append({k: v for k, v in line.items() if k.startswith("grad/")})
        rest.append({k: v for k, v in line.items() if not k.startswith("grad/")})
    return found, rest


def estimators(line: dict[str, float]) -> set[str]:
    return {key.rpartition("/")[2] for key in line}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WATCHED)
def test_no_number_of_a_run_moves_when_it_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    without_figures(monkeypatch)
    plain = task(tmp_path / "plain", **WATCHED[kind])
    watched = task(tmp_path / "watched", **WATCHED[kind], **ON)
    expected, record = run(plain), run(watched)
    assert record["status"] == "complete", record["reason"]
    assert results(record) == results(expected)
    found, rest = split(RunStore(watched.folder).journal)
    assert split(RunStore(plain.folder).journal) == ([{}, {}], rest)
    assert estimators(found[-1]) == set(
        comparable(watched.config.estimator.samples, rest[-1]["train/beta"])
    )
    assert found[0] != found[1]
    assert watched.config.run_id != plain.config.run_id
    weights = [RunStore(t.folder).load_tensors("weights.pt") for t in (plain, watched)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.slow
def test_a_watched_run_resumes_bit_for_bit(  # trap 12
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    whole, torn = (task(tmp_path / name, **WATCHED["cnn"], **ON) for name in ("whole", "torn"))
    run(whole)

    def stop(line: dict[str, Any]) -> None:
        if line["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(torn, stop)
    assert run(torn)["status"] == "complete"
    journals = [numbers(RunStore(t.folder).journal) for t in (whole, torn)]
    assert journals[0] == journals[1]
    assert estimators(split(RunStore(torn.folder).journal)[0][1]) == ONE_SAMPLE


@pytest.mark.slow
def test_a_watched_run_has_the_picture_and_another_has_not(tmp_path: Path) -> None:
    for name, more in (("plain", {}), ("watched", ON)):
        small = task(tmp_path / name, training__epochs=1, estimator="dreg", **more)
        assert run(small)["status"] == "complete"
        store = RunStore(small.folder)
        assert "train/rate" not in store.journal[0]["metrics"]
        assert (store.figures / "curves.png").exists()  # of a bound that does not split
        assert (store.figures / "gradient_variance.png").exists() == (name == "watched")


def test_what_is_not_finite_stays_out_of_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    noise = GradientVariance(1.0, math.inf, math.nan, 0.0)
    monkeypatch.setattr("vaebench.run.measuring.gradient_variance", lambda *_, **__: {"kl": noise})
    small = task(tmp_path, training__epochs=1, **ON)
    assert run(small)["status"] == "complete"
    found, _ = split(RunStore(small.folder).journal)
    assert found == [{"grad/encoder_variance/kl": 1.0, "grad/decoder_snr/kl": 0.0}]


def test_the_diagnostics_are_part_of_a_run_only_when_they_are_on() -> None:
    assert "diagnostics" not in make_run({}).to_dict()
    off = make_run({"diagnostics": {"gradient_variance": False}})
    assert off.run_id == make_run({}).run_id
    on = make_run({"diagnostics": {"gradient_variance": True}})
    assert on.to_dict()["diagnostics"] == {"gradient_variance": True}


# ---------------------------------------------------------------- the picture


def journal(
    epochs: int, names: tuple[str, ...] = ("sgvb", "score"), value: Callable[[int], float] = float
) -> list[dict[str, Any]]:
    keys = [
        f"grad/{part}_{quantity}/{name}"
        for part in ("encoder", "decoder")
        for quantity in ("variance", "snr")
        for name in names
    ]
    return [
        {"epoch": k, "metrics": {"train/elbo": -1.0, **dict.fromkeys(keys, value(k))}}
        for k in range(1, epochs + 1)
    ]


def draw(lines: list[dict[str, Any]]) -> Figure:
    figure = figures.gradient_variance(lines, title="fnn / bce / kl, seed 0", trained="sgvb")
    assert figures.to_png(figure)
    return figure


def test_picture_has_a_line_per_estimator_and_says_which_one_trained() -> None:
    figure = draw(journal(4))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "total variance (nats²), encoder",
        "total variance (nats²), decoder",
        "signal-to-noise ratio, encoder",
        "signal-to-noise ratio, decoder",
    ]
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["sgvb (trained this run)", "score"]
    for axes in figure.axes:
        assert [list(line.get_ydata()) for line in axes.lines] == [[1, 2, 3, 4]] * 2


def test_picture_leaves_a_gap_where_there_is_no_signal_or_no_number() -> None:
    lines = journal(3)
    lines[1]["metrics"]["grad/encoder_snr/score"] = 0.0
    del lines[1]["metrics"]["grad/encoder_variance/score"]
    figure = draw(lines)
    for axes in (figure.axes[0], figure.axes[2]):
        gap = axes.lines[1].get_ydata()
        assert gap[0] == 1
        assert math.isnan(gap[1])
        assert gap[2] == 3


def test_estimators_that_join_later_are_in_the_picture() -> None:
    lines = journal(1, names=("kl",)) + journal(2, names=("kl", "iwae"))[1:]
    assert [line.get_label() for line in draw(lines).axes[0].lines] == ["kl", "iwae"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [lambda k: 11 + 0.5 * k, lambda k: 10.0**k, lambda k: 30.0**k, lambda _: 3.0, lambda _: 1e-20],
)
def test_picture_has_ticks_whatever_the_range(value: Callable[[int], float]) -> None:
    figure = draw(journal(2, value=value))
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 1


def test_picture_of_runs_without_any_signal_has_gaps_in_place_of_lines() -> None:
    figure = draw(journal(2, value=lambda _: 0.0))
    drawn = [line.get_ydata() for axes in figure.axes for line in axes.lines]
    assert len(drawn) == 8
    assert np.isnan(drawn).all()


def test_picture_needs_something_to_show() -> None:
    with pytest.raises(ValueError, match="no grad/ metric"):
        figures.gradient_variance(journal(2, names=()), title="t", trained="kl")
