"""One run: what its record says, that it repeats, resumes and loads, and how it fails."""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import numbers, results, settings, task, without_figures
from torch import Tensor

from vaebench import datasets
from vaebench.config import NUMBERS_VERSION, make_run
from vaebench.declarations import COSTS
from vaebench.errors import ConfigError, ResultsError, VaebenchError
from vaebench.files import dump_yaml
from vaebench.metrics import METRICS, evaluate, ssim_per_image
from vaebench.run import Task, build, load_run, pictures, run
from vaebench.schema.labels import run_label
from vaebench.seeding import stream
from vaebench.storage import RunStore

FIELDS = {
    "measured",
    "schema_version",
    "run_id",
    "status",
    "cell",
    "seed",
    "attempt",
    "config",
    "support",
    "importance_weighted",
    "metrics",
    "rate_per_dimension",
    "metric_declarations",
    "environment",
    "reason",
    "started",
    "finished",
    "best",
    "notes",
    "epochs",
    "versions",
}


class Stop:
    """Interrupts a run after an epoch, as a Ctrl-C would."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, line: dict[str, Any]) -> None:
        if line["epoch"] == self.epoch:
            raise KeyboardInterrupt


def everything(folder: Path) -> dict[str, Any]:
    """What a run left that another run of the same configuration must leave, bit for bit."""
    store = RunStore(folder)
    weights, arrays, record = store.load_tensors("weights.pt"), store.arrays(), store.record
    assert weights is not None
    assert arrays is not None
    assert record is not None
    return {
        "weights": {name: value.numpy().tobytes() for name, value in weights.items()},
        "arrays": {name: value.tobytes() for name, value in arrays.items()},
        "journal": numbers(store.journal),
        "metrics": results(record),
        "rates": record["rate_per_dimension"],
        "best": record["best"],
    }


# ---------------------------------------------------------------- the record


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A small run with everything that a run leaves, figures included."""
    small = task(tmp_path_factory.mktemp("finished") / "run", seed=3, loss="mse", model="cnn")
    record = run(small)
    assert record["status"] == "complete", record["reason"]
    return small


@pytest.fixture
def record(finished: Task) -> dict[str, Any]:
    found = RunStore(finished.folder).record
    assert found is not None
    return found


def test_a_record_has_every_field(finished: Task, record: dict[str, Any]) -> None:
    assert set(record) == FIELDS
    assert record["run_id"] == finished.config.run_id
    assert record["status"] == "complete"
    assert record["reason"] is None
    assert record["cell"] == {"model": "cnn", "loss": "mse", "estimator": "kl"}
    assert (record["seed"], record["attempt"], record["epochs"]) == (3, 1, 2)
    assert record["config"] == finished.config.to_dict()
    components = dict.fromkeys(("model", "loss", "estimator", "dataset"), 1)
    assert record["versions"] == {"numbers": NUMBERS_VERSION, **components}
    assert 0 < record["finished"] - record["started"] < 600_000
    environment = record["environment"]
    assert (environment["device"], environment["threads"], environment["jobs"]) == ("cpu", 1, 1)
    splits = datasets.load(**finished.config.dataset.model_dump())
    assert environment["dataset"] == {
        "name": "digits",
        "digest": splits.digest,
        "shape": [1, 8, 8],
        "train": 64,
        "validation": 32,
        "test": 300,
    }


def test_a_record_has_every_metric_finite_and_declared(record: dict[str, Any]) -> None:
    expected = {
        *(f"test/{name}" for name in METRICS if name not in ("log_px", "bits_per_dim")),
        *(f"train_eval/{name}" for name in ("elbo", "rate", "distortion")),
        *(f"cost/{name}" for name in COSTS),
    }
    assert set(record["metrics"]) == expected
    for name, value in record["metrics"].items():
        if name == "cost/peak_memory_mb" and value is None:
            continue
        assert math.isfinite(value), name
    declared = record["metric_declarations"]
    assert set(declared) == {name.split("/")[1] for name in expected}
    assert declared["elbo"] == {
        "title": "ELBO",
        "unit": "nats",
        "direction": "higher",
        "comparable": "likelihood",
        "version": 1,
    }


def test_the_metrics_of_a_record_hang_together(record: dict[str, Any]) -> None:
    metrics = record["metrics"]
    for split in ("test", "train_eval"):
        rate, distortion = metrics[f"{split}/rate"], metrics[f"{split}/distortion"]
        assert metrics[f"{split}/elbo"] == pytest.approx(-(rate + distortion), rel=1e-12)
        assert rate >= 0
    assert len(record["rate_per_dimension"]) == 2
    assert sum(record["rate_per_dimension"]) == pytest.approx(metrics["test/rate"], rel=1e-9)
    assert metrics["cost/images_per_second"] == pytest.approx(
        64 / metrics["cost/seconds_per_epoch"]
    )
    # D/2 log(2 pi sigma2) of 64 pixels at sigma2 = 0.5 is what a perfect reconstruction would cost
    assert metrics["test/distortion"] > 32 * math.log(math.pi)


def test_a_run_leaves_its_journal_checkpoints_tiles_and_figures(finished: Task) -> None:
    store = RunStore(finished.folder)
    assert [line["epoch"] for line in store.journal] == [1, 2]
    for line in store.journal:
        assert set(line) == {"epoch", "time", "metrics"}
        assert set(line["metrics"]) == {
            *(f"{split}/{term}" for split in ("train", "val") for term in ("elbo", "rate")),
            "train/distortion",
            "val/distortion",
            "train/beta",
            "train/learning_rate",
            "train/seconds",
            "val/seconds",
            "train/cpu_seconds",
            "val/cpu_seconds",
        }
    for name in ("checkpoint.pt", "best.pt", "weights.pt", "config.yaml"):
        assert (store.path / name).stat().st_size > 0
    assert sorted(path.name for path in store.images.iterdir()) == [
        "reconstruction-0001.png",
        "reconstruction-0002.png",
        "samples-0001.png",
        "samples-0002.png",
    ]
    assert {path.name for path in store.figures.iterdir()} == {
        "reconstructions.png",
        "samples.png",
        "manifold.png",
        "latent.png",
        "interpolations.png",
        "curves.png",
        "rate_per_dimension.png",
    }
    assert not list(store.path.rglob("*.tmp"))


def test_the_arrays_are_what_the_figures_need(finished: Task) -> None:
    arrays = RunStore(finished.folder).arrays()
    assert arrays is not None
    shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes == {
        "originals": (64, 1, 8, 8),
        "reconstructions": (64, 1, 8, 8),
        "samples": (64, 1, 8, 8),
        "rate": (300,),
        "distortion": (300,),
        "squared_error": (300,),
        "ssim": (300,),
        "ranked": (24,),
        "ranked_originals": (24, 1, 8, 8),
        "ranked_reconstructions": (24, 1, 8, 8),
        "latent_log_var": (300, 2),
        "latent_mean": (300, 2),
        "latent_2d": (300, 2),
        "labels": (300,),
        "rate_per_dimension": (2,),
        "interpolations": (6, 10, 1, 8, 8),
        "manifold": (20, 20, 1, 8, 8),
        "manifold_axis": (20,),
    }
    test = datasets.load("digits").test
    np.testing.assert_array_equal(arrays["originals"], test.x[:64].numpy())
    np.testing.assert_array_equal(arrays["labels"], test.y.numpy())
    np.testing.assert_array_equal(arrays["latent_2d"], arrays["latent_mean"])
    assert all(
        np.isfinite(array).all() for name, array in arrays.items() if array.dtype.kind == "f"
    )
    assert 0 <= arrays["reconstructions"].min() <= arrays["reconstructions"].max() <= 1


def test_the_arrays_have_what_was_measured_of_every_test_image(
    finished: Task, record: dict[str, Any]
) -> None:
    arrays = RunStore(finished.folder).arrays()
    assert arrays is not None
    for name in ("rate", "distortion", "squared_error", "ssim"):
        metric = {"squared_error": "mse_px"}.get(name, name)
        assert arrays[name].dtype == np.float32
        mean = arrays[name].mean(dtype=np.float64)
        assert mean == pytest.approx(record["metrics"][f"test/{metric}"], rel=1e-6)
    error = ((arrays["originals"] - arrays["reconstructions"]) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(arrays["squared_error"][:64], error, rtol=1e-5)
    with torch.no_grad():
        q = load_run(finished.folder).model.encoder(datasets.load("digits").test.x)
    np.testing.assert_allclose(arrays["latent_log_var"], q.log_var.numpy(), atol=1e-5)


def test_the_arrays_show_the_best_the_median_and_the_worst_reconstructions(finished: Task) -> None:
    arrays = RunStore(finished.folder).arrays()
    assert arrays is not None
    ascending = np.sort(arrays["squared_error"])
    expected = [*ascending[:8], *ascending[146:154], *ascending[-8:]]
    np.testing.assert_array_equal(arrays["squared_error"][arrays["ranked"]], expected)
    originals, reconstructions = arrays["ranked_originals"], arrays["ranked_reconstructions"]
    np.testing.assert_array_equal(
        originals, datasets.load("digits").test.x[arrays["ranked"]].numpy()
    )
    errors = ((originals - reconstructions) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(errors, expected, rtol=1e-5)


@pytest.mark.slow
def test_the_pictures_of_every_seed_and_cell_show_the_same_codes(
    finished: Task, tmp_path: Path
) -> None:
    other = task(tmp_path, seed=4, training__epochs=1)
    run(other)
    z = torch.randn(64, 2, generator=stream(0, "figures"))
    for folder in (finished.folder, other.folder):
        arrays = RunStore(folder).arrays()
        assert arrays is not None
        with torch.no_grad():
            samples = load_run(folder).model.decode(z).numpy()
        np.testing.assert_allclose(arrays["samples"], samples, atol=1e-6)
        tile = folder / "images" / f"samples-{RunStore(folder).journal[-1]['epoch']:04d}.png"
        assert tile.read_bytes() == pictures.tile(torch.from_numpy(samples))


def test_ssim_is_computed_once_of_every_test_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    counts: list[int] = []

    def counted(x: Tensor, y: Tensor) -> Any:
        counts.append(len(x))
        return ssim_per_image(x, y)

    monkeypatch.setattr("vaebench.metrics.subject.ssim_per_image", counted)
    run(task(tmp_path, training__epochs=1))
    assert counts == [300]


# ---------------------------------------------------------------- load_run


def test_a_loaded_run_reproduces_its_stored_test_metrics(finished: Task) -> None:
    loaded = load_run(finished.folder)
    assert loaded.config.to_dict() == finished.config.to_dict()
    assert loaded.record["run_id"] == finished.config.run_id
    assert not loaded.model.training
    test = datasets.load(**loaded.config.dataset.model_dump()).test.x
    noise = torch.randn((16, len(test), 2), generator=stream(3, "evaluation"))
    again = evaluate(loaded.model, test, noise)
    compared = [n for n, m in METRICS.items() if m.part == "evaluation" and n != "bits_per_dim"]
    assert len(compared) > 5  # bits per dimension are measured on dequantised data only
    for name in compared:
        value = METRICS[name].function(again)
        assert value == pytest.approx(loaded.metrics[f"test/{name}"], rel=1e-6)
    arrays = RunStore(finished.folder).arrays()
    assert arrays is not None
    with torch.no_grad():
        reconstruction = loaded.model.reconstruct(test[:64]).numpy()
        np.testing.assert_allclose(reconstruction, arrays["reconstructions"], atol=1e-6)
        mean = loaded.model.encoder(test).mean.numpy()
    np.testing.assert_allclose(mean, arrays["latent_mean"], atol=1e-5)


def copied(finished: Task, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("weights.pt", b"PK\x03\x04 torn", r"weights\.pt: damaged"),
        ("record.json", None, "not the folder of a finished run"),
        ("record.json", b"{", r"record\.json: damaged"),
        ("record.json", b"{}", "record"),
        ("config.yaml", None, r"config\.yaml"),
    ],
)
def test_a_run_that_cannot_be_loaded_says_why(
    finished: Task, tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    folder = copied(finished, tmp_path)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ResultsError, match=reason) as caught:
        load_run(folder)
    assert str(folder) in str(caught.value)


def test_a_published_run_gives_its_decoder_and_says_what_it_lacks(
    finished: Task, tmp_path: Path
) -> None:
    whole, folder = load_run(finished.folder), copied(finished, tmp_path)
    assert whole.lacks is None
    for name in ("weights.pt", "arrays.npz"):
        (folder / name).unlink()
    run = load_run(folder)
    assert run.metrics == whole.metrics
    assert run.config == whole.config
    assert run.model.precision == "int8"
    assert "int8" in run.lacks
    z = torch.randn(3, 4, whole.model.latent_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = run.model.decode(z) - whole.model.decode(z)
    assert difference.shape[:2] == (3, 4)
    assert 0 < difference.abs().max() < 0.02
    x = torch.zeros(1, 1, 8, 8)
    for lacking in (lambda: run.model.encoder, lambda: run.model.reconstruct(x)):
        with pytest.raises(ResultsError, match="no encoder: a published run has only its decoder"):
            lacking()
    with pytest.raises(ResultsError, match=r"weights\.pt is not there"):
        load_run(folder, whole=True)
    (folder / "decoder.safetensors").unlink()
    with pytest.raises(ResultsError, match=r"weights\.pt is not there"):
        load_run(folder)


def test_a_stored_configuration_that_is_wrong_is_named_when_a_run_is_loaded(
    finished: Task, tmp_path: Path
) -> None:
    folder = copied(finished, tmp_path)
    (folder / "config.yaml").write_text("modle: fnn\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: modle: unknown key"):
        load_run(folder)


def test_weights_of_another_architecture_are_an_error_that_names_the_file(
    finished: Task, tmp_path: Path
) -> None:
    folder = copied(finished, tmp_path)
    RunStore(folder).save_tensors("weights.pt", {"other": torch.zeros(1)})
    with pytest.raises(ResultsError, match=r"weights\.pt"):
        load_run(folder)


@pytest.mark.parametrize(("extra", "fits"), [(100_000, True), (2_000_000, False)])
def test_weights_far_larger_than_their_model_are_refused_unread(
    finished: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: int, fits: bool
) -> None:
    folder = copied(finished, tmp_path)
    path = folder / "weights.pt"
    os.truncate(path, path.stat().st_size + extra)
    opened: list[Any] = []
    monkeypatch.setattr("vaebench.files.zipfile.ZipFile", opened.append)
    with pytest.raises(ResultsError, match="damaged: " if fits else "damaged: larger than 1 MB"):
        load_run(folder)
    assert len(opened) == fits


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_that_is_not_complete_is_not_loaded(
    finished: Task, tmp_path: Path, status: str
) -> None:
    folder = copied(finished, tmp_path)
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": status, "reason": "why"}))
    with pytest.raises(ResultsError, match=f"the run is {status}: why"):
        load_run(folder)


@pytest.mark.parametrize(("model", "numbers"), [("cnn", 2), ("cnn", 3), ("fnn", 2)])
def test_a_cnn_whose_features_had_another_order_is_not_loaded(
    finished: Task, tmp_path: Path, model: str, numbers: int
) -> None:
    folder = copied(finished, tmp_path)
    config = make_run({**finished.config.to_dict(), "model": model})
    (folder / "config.yaml").write_text(dump_yaml(config.to_dict()))
    RunStore(folder).save_tensors("weights.pt", build(config, (1, 8, 8), "cpu").vae.state_dict())
    record = json.loads((folder / "record.json").read_text())
    if numbers < 3:  # as records had it before version 3
        del record["versions"]
        record["numbers_version"] = numbers
    (folder / "record.json").write_text(json.dumps(record))
    if (model, numbers) == ("cnn", 2):
        with pytest.raises(ResultsError, match="features had another order"):
            load_run(folder)
    else:
        assert load_run(folder).config == config


def test_a_folder_that_is_not_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="not the folder of a finished run"):
        load_run(tmp_path / "nothing")


# ---------------------------------------------------------------- repeating


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_figures(monkeypatch)


@pytest.mark.usefixtures("quick")
def test_the_same_configuration_gives_the_same_bits_and_another_seed_does_not(
    tmp_path: Path,
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run(task(tmp_path / name, seed=seed))["status"] == "complete"
    a, b, c = (everything(tmp_path / name) for name in "abc")
    assert a == b
    assert a["weights"] != c["weights"]
    assert all(a["metrics"][name] != c["metrics"][name] for name in ("test/elbo", "test/ssim"))
    assert a["journal"][0]["train/elbo"] != c["journal"][0]["train/elbo"]
    # the images are those of the data set, whatever the seed
    assert a["arrays"]["originals"] == c["arrays"]["originals"]


@pytest.mark.usefixtures("quick")
def test_the_number_of_threads_outside_does_not_move_a_run(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    run(task(tmp_path / "one"))
    torch.set_num_threads(4)
    try:
        run(task(tmp_path / "four"))
        assert torch.get_num_threads() == 4, "a run puts the number of threads back"
    finally:
        torch.set_num_threads(before)
    assert everything(tmp_path / "one") == everything(tmp_path / "four")


@pytest.mark.usefixtures("quick")
def test_cells_of_one_seed_start_from_the_same_weights_and_see_the_same_validation_images(
    tmp_path: Path,
) -> None:
    """Paired cells: with a learning rate that moves nothing, the estimator alone differs."""
    still = {"training__learning_rate": 1e-30, "training__epochs": 1}
    for estimator in ("sgvb", "kl"):
        assert run(task(tmp_path / estimator, estimator=estimator, **still))["status"] == "complete"
    sgvb, kl = everything(tmp_path / "sgvb"), everything(tmp_path / "kl")
    assert sgvb["weights"] == kl["weights"]
    assert sgvb["metrics"] == kl["metrics"], "one test-time estimator for all cells"
    (first,), (second,) = sgvb["journal"], kl["journal"]
    assert first["val/elbo"] == second["val/elbo"]
    assert first["train/distortion"] == second["train/distortion"], "the same order and noise"
    assert first["train/rate"] != second["train/rate"], "sampled, and in closed form"


# ---------------------------------------------------------------- resuming

RESUMED: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch-norm cnn": {"model": "cnn", "model__cnn__batch_norm": True, "loss": "mse"},
    "plateau": {
        "training__schedule": {
            "name": "plateau",
            "plateau": {"patience": 0, "factor": 0.5},
        },
        "training__learning_rate": 0.5,
    },
    "cosine": {"training__schedule": "cosine"},
    "multistep sgd": {
        "training__schedule": {"name": "multistep", "multistep": {"milestones": [2, 3]}},
        "training__optimizer": {"name": "sgd", "sgd": {"momentum": 0.9}},
        "training__learning_rate": 1e-4,
    },
    "dynamic": {"dataset__binarize": "dynamic", "estimator": "sgvb", "estimator__samples": 2},
    "warm-up": {"training__beta_warmup": 3, "training__gradient_clip": 1.0},
    "best": {"evaluate": "best", "loss": "mse", "training__learning_rate": 0.5},
    "learned": {
        "loss": {"name": "gaussian", "gaussian": {"sigma2": "learned"}},
        "training__schedule": "cosine",
    },
    "weighted": {
        "loss": {"name": "gaussian", "gaussian": {"sigma2": "optimal"}},
        "estimator": "dreg",
    },
    "early stopping": {"training__early_stopping": {"patience": 1}, "training__learning_rate": 0.5},
}


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", RESUMED)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, kind: str) -> None:
    """Trap 12."""
    overrides = {"training__epochs": 4} | RESUMED[kind]
    whole, torn = task(tmp_path / "whole", **overrides), task(tmp_path / "torn", **overrides)
    assert run(whole)["status"] == "complete"
    epochs = len(RunStore(whole.folder).journal)
    stops = range(1, epochs) if kind in ("plain", "plateau") else [epochs // 2]
    for epoch in stops:
        with pytest.raises(KeyboardInterrupt):
            run(torn, Stop(epoch))
        store = RunStore(torn.folder)
        assert len(store.journal) == epoch
        assert store.record is not None
        assert store.record["status"] == "interrupted"
        assert store.record["reason"]
        assert store.record["metrics"] == {}
    record = run(torn)
    assert (record["status"], record["attempt"]) == ("complete", 1)
    assert everything(torn.folder) == everything(whole.folder)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_cases_of_resuming_do_what_they_are_named_after(tmp_path: Path) -> None:
    """So that the comparisons above compare something."""

    def journal(kind: str) -> list[dict[str, float]]:
        small = task(tmp_path / kind, **({"training__epochs": 4} | RESUMED[kind]))
        assert run(small)["status"] == "complete"
        return numbers(RunStore(small.folder).journal)

    rates = {kind: [line["train/learning_rate"] for line in journal(kind)] for kind in RESUMED}
    assert rates["plain"] == [1e-3] * 4
    assert rates["plateau"][-1] < rates["plateau"][0]
    assert rates["cosine"] == sorted(rates["cosine"], reverse=True)
    assert rates["multistep sgd"] == pytest.approx([1e-4, 1e-4, 1e-5, 1e-6])
    assert len(rates["early stopping"]) < 4
    betas = [line["train/beta"] for line in numbers(RunStore(tmp_path / "warm-up").journal)]
    assert betas == [0.25, 0.5, 0.75, 1.0]
    best = RunStore(tmp_path / "best").record
    assert best is not None
    assert best["best"]["epoch"] < 4


@pytest.mark.usefixtures("quick")
def test_a_run_that_was_killed_between_checkpoint_and_journal_goes_on(tmp_path: Path) -> None:
    whole, torn = (task(tmp_path / name, training__epochs=3) for name in ("whole", "torn"))
    run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(torn, Stop(2))
    journal = torn.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + lines[1][:20])  # the last line is torn
    record = run(torn)
    assert (record["status"], record["attempt"]) == ("complete", 1)
    assert everything(torn.folder) == everything(whole.folder)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", ["truncated", "empty", "gone", "lost journal", "foreign"])
def test_a_run_whose_checkpoint_is_damaged_starts_anew_and_ends_the_same(
    tmp_path: Path, damage: str
) -> None:
    whole, torn = (task(tmp_path / name, training__epochs=3) for name in ("whole", "torn"))
    run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(torn, Stop(2))
    path = torn.folder / "checkpoint.pt"
    content = path.read_bytes()
    if damage == "lost journal":
        (torn.folder / "journal.jsonl").write_bytes(b"")
    elif damage == "gone":
        path.unlink()
    elif damage == "foreign":
        RunStore(torn.folder).save_tensors("checkpoint.pt", {"something": 1})
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    record = run(torn)
    assert (record["status"], record["attempt"]) == ("complete", 2)
    assert everything(torn.folder) == everything(whole.folder)
    old = RunStore(torn.folder / "attempts" / "1")
    assert len(old.journal) == (0 if damage == "lost journal" else 2), "kept, for whoever asks"


@pytest.mark.usefixtures("quick")
def test_a_finished_training_is_measured_again_without_training(tmp_path: Path) -> None:
    small = task(tmp_path / "run")
    run(small)
    first = everything(small.folder)
    (small.folder / "record.json").unlink()
    epochs: list[dict[str, Any]] = []
    record = run(small, epochs.append)
    assert epochs == []
    assert record["metrics"]["cost/peak_memory_mb"] is None
    assert everything(small.folder) == first


# ---------------------------------------------------------------- failing


@pytest.mark.usefixtures("quick")
def test_a_training_that_diverges_is_recorded_with_epoch_terms_and_a_hint(tmp_path: Path) -> None:
    small = task(
        tmp_path / "run",
        loss={"name": "mse", "mse": {"output": "linear", "sigma2": 0.01}},
        training__learning_rate=1e10,
        training__optimizer="sgd",
        training__epochs=5,
    )
    record = run(small)
    assert set(record) == FIELDS | {"failure"}
    assert record["status"] == "failed"
    assert record["metrics"] == {}
    reason = record["reason"]
    assert "in epoch 1" in reason
    assert "train elbo" in reason
    assert "training.learning_rate (now 1e+10)" in reason
    assert "\n" not in reason
    assert RunStore(small.folder).record == record
    assert not (small.folder / "weights.pt").exists()


@pytest.mark.usefixtures("quick")
def test_a_failure_that_nobody_foresaw_is_recorded_and_its_traceback_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("something\nunforeseen")

    monkeypatch.setattr("vaebench.run.measure_subject", broken)
    record = run(task(tmp_path / "run"))
    assert record["status"] == "failed"
    assert record["reason"].startswith("RuntimeError: something unforeseen (see ")
    assert record["epochs"] == 2
    assert "Traceback" in (tmp_path / "run" / "error.txt").read_text()


@pytest.mark.usefixtures("quick")
def test_a_run_that_fails_knows_what_it_failed_on_even_without_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    record = run(replace(task(tmp_path / "run"), device="cuda"))
    assert record["status"] == "failed"
    assert "cuda" in record["reason"]
    assert record["environment"] == {"device": "cuda", "jobs": 1}


@pytest.mark.usefixtures("quick")
def test_a_last_batch_of_one_image_with_batch_normalisation_is_refused(tmp_path: Path) -> None:
    """49 images in batches of 24: the last, partial batch is kept, and has one image."""
    record = run(task(tmp_path / "run", model__fnn__batch_norm=True, dataset__train=49))
    assert record["status"] == "failed"
    assert "training.batch_size 24 leaves a batch of one of 49 images" in record["reason"]
    record = run(task(tmp_path / "other", dataset__train=49))
    assert (record["status"], record["reason"]) == ("complete", None)


@pytest.mark.usefixtures("quick")
def test_more_images_than_there_are_is_a_failure_that_says_so(tmp_path: Path) -> None:
    record = run(task(tmp_path / "run", dataset__train=10_000))
    assert record["status"] == "failed"
    assert "digits: train " in record["reason"]


# ---------------------------------------------------------------- what is measured


@pytest.mark.usefixtures("quick")
def test_best_measures_the_weights_of_the_best_epoch_and_last_those_of_the_last(
    tmp_path: Path,
) -> None:
    """A learning rate this large climbs, then falls: the best epoch is not the last."""
    overrides: dict[str, Any] = {
        "loss": "mse",
        "training__learning_rate": 0.5,
        "training__epochs": 4,
    }
    last = run(task(tmp_path / "last", evaluate="last", **overrides))
    best = run(task(tmp_path / "best", evaluate="best", **overrides))
    journal = RunStore(tmp_path / "best").journal
    validation = [line["metrics"]["val/elbo"] for line in journal]
    epoch = validation.index(max(validation)) + 1
    assert epoch < 4
    assert best["best"] == {"epoch": epoch, "val/elbo": max(validation)}
    assert last["best"] == best["best"], "known, though not used"
    short = run(task(tmp_path / "short", **(overrides | {"training__epochs": epoch})))
    assert results(best) == results(short), "the weights of that epoch"
    assert results(last) != results(best)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_beta_moves_the_training_but_no_reported_metric(tmp_path: Path) -> None:
    """Trap 10: at a learning rate of nothing, another beta reports the same numbers."""
    still = {"training__learning_rate": 1e-30, "training__epochs": 1}
    for beta in (1.0, 50.0):
        run(task(tmp_path / str(beta), training__beta=beta, **still))
    one, fifty = everything(tmp_path / "1.0"), everything(tmp_path / "50.0")
    assert one["metrics"] == fifty["metrics"]
    assert [{**line, "train/beta": 0} for line in one["journal"]] == [
        {**line, "train/beta": 0} for line in fifty["journal"]
    ]
    moved = [
        run(task(tmp_path / f"m{beta}", training__beta=beta, training__epochs=4))["metrics"]
        for beta in (1.0, 50.0)
    ]
    assert moved[1]["test/rate"] < moved[0]["test/rate"]


@pytest.mark.usefixtures("quick")
def test_what_was_selected_on_the_test_split_is_noted(tmp_path: Path) -> None:
    note = "The test split served as validation split"
    on_test = run(task(tmp_path / "a", dataset__validation="test", training__epochs=1))
    apart = run(task(tmp_path / "b", training__epochs=1))
    assert any(text.startswith(note) for text in on_test["notes"])
    assert not any(text.startswith(note) for text in apart["notes"])
    assert on_test["environment"]["dataset"]["validation"] == 300


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("loss", "binarize", "relaxed"),
    [("bce", "none", True), ("bce", "static", False), ("mse", "none", False)],
)
def test_the_notes_say_the_window_of_ssim_and_whether_bce_is_relaxed(
    tmp_path: Path, loss: str, binarize: str, relaxed: bool
) -> None:
    record = run(task(tmp_path, loss=loss, dataset__binarize=binarize, training__epochs=1))
    assert any("SSIM window: uniform 7x7" in note for note in record["notes"])
    assert any("relaxed Bernoulli" in note for note in record["notes"]) is relaxed


@pytest.mark.usefixtures("quick")
def test_without_a_validation_split_there_is_no_validation_and_no_best(tmp_path: Path) -> None:
    record = run(task(tmp_path, dataset__validation=0, training__epochs=1))
    assert record["status"] == "complete"
    assert record["best"] is None
    (line,) = RunStore(tmp_path).journal
    assert not [name for name in line["metrics"] if name.startswith("val/")]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("latent_dim", [1, 3])
def test_other_latent_sizes_than_two_have_traversals_and_two_components(
    tmp_path: Path, latent_dim: int
) -> None:
    record = run(task(tmp_path, model__latent_dim=latent_dim, training__epochs=1))
    assert record["status"] == "complete", record["reason"]
    arrays = RunStore(tmp_path).arrays()
    assert arrays is not None
    assert arrays["traversals"].shape == (latent_dim, 11, 1, 8, 8)
    np.testing.assert_allclose(arrays["traversal_values"], np.linspace(-3, 3, 11), atol=1e-6)
    assert arrays["latent_2d"].shape == (300, 2)
    assert "manifold" not in arrays


def test_the_quantiles_of_the_manifold_are_the_priors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    run(task(tmp_path, figures__manifold="quantiles", training__epochs=1))
    arrays = RunStore(tmp_path).arrays()
    assert arrays is not None
    probabilities = [0.5 * (1 + math.erf(z / math.sqrt(2))) for z in arrays["manifold_axis"]]
    np.testing.assert_allclose(probabilities, np.linspace(0.025, 0.975, 20), atol=1e-6)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ({"model": "cnn", "loss": "mse", "estimator": "kl"}, "cnn / mse / kl, seed 4"),
        ({"model": "fnn", "model.latent_dim": 8}, "fnn / latent_dim=8, seed 4"),
    ],
)
def test_a_run_is_named_by_its_cell_and_seed(cell: dict[str, Any], expected: str) -> None:
    assert run_label(cell, 4) == expected


def test_every_error_on_purpose_is_one_of_ours() -> None:
    assert issubclass(ResultsError, VaebenchError)
    assert issubclass(ConfigError, VaebenchError)


def test_the_settings_of_small_runs_are_valid() -> None:
    assert make_run(settings(model="cnn")).model.options["channels"] == (4,)


@pytest.mark.usefixtures("quick")
def test_gap_is_measured_on_binarised_training_images_however_they_are_binarised(
    tmp_path: Path,
) -> None:
    """At a learning rate of nothing, all that differs is when the training images are drawn."""
    still = {"training__learning_rate": 1e-30, "training__epochs": 1}
    found = {
        binarize: run(task(tmp_path / binarize, dataset__binarize=binarize, **still))["metrics"]
        for binarize in ("none", "static", "dynamic")
    }
    name = "train_eval/distortion"
    assert found["dynamic"][name] == pytest.approx(found["static"][name], rel=1e-6)
    assert found["dynamic"][name] != pytest.approx(found["none"][name], rel=1e-6)


@pytest.mark.slow
def test_record_says_which_weights_were_measured_and_their_tiles_are_kept(tmp_path: Path) -> None:
    overrides = {"training__learning_rate": 0.5, "training__epochs": 6, "loss": "mse"}
    for weights in ("best", "last"):
        record = run(task(tmp_path / weights, evaluate=weights, **overrides))
        store = RunStore(tmp_path / weights)
        epoch = record["best"]["epoch"] if weights == "best" else 6
        elbo = store.journal[epoch - 1]["metrics"]["val/elbo"]
        assert record["measured"] == {"epoch": epoch, "val/elbo": elbo}
        assert (store.images / f"reconstruction-{epoch:04d}.png").exists()
    assert record["best"]["epoch"] < 6, "else the two would be the same"


@pytest.mark.usefixtures("quick")
def test_runs_use_full_precision_and_leave_pytorch_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool, int]] = []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.set_num_threads(2)

    def look(_line: dict[str, Any]) -> None:
        cudnn = torch.backends.cudnn
        seen.append((cudnn.allow_tf32, cudnn.deterministic, torch.get_num_threads()))

    try:
        run(task(tmp_path / "run", training__epochs=1), look)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert seen == [(False, True, 1)]
    assert torch.backends.cudnn.allow_tf32
