"""Synthetic results folders for tests: manifest, records, journals and pictures, without training.

The numbers are made up, but hang together as real ones do: elbo = -(rate + distortion), the mse
rows carry their constant, seeds scatter. To test a report of something unusual, call
:func:`make_results` and edit the files it wrote with :func:`edit_record`.
"""

import hashlib
import io
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

AXES: dict[str, list[Any]] = {
    "model": ["fnn", "cnn"],
    "loss": ["bce", "mse"],
    "estimator": ["sgvb", "kl"],
}
EPOCHS = 10
START = 1_700_000_000_000  # unix milliseconds
TITLES = {
    "elbo": ("ELBO", "nats", "higher", "likelihood"),
    "rate": ("Rate", "nats", None, "likelihood"),
    "distortion": ("Distortion", "nats", "lower", "likelihood"),
    "ssim": ("SSIM", "", "higher", "dataset"),
    "psnr": ("PSNR", "dB", "higher", "dataset"),
    "mse_px": ("MSE per pixel", "", "lower", "dataset"),
    "mae_px": ("MAE per pixel", "", "lower", "dataset"),
    "active_units": ("Active units", "", None, "dataset"),
    "images_per_second": ("Images per second", "images/s", "higher", "machine"),
    "seconds_per_epoch": ("Seconds per epoch", "s", "lower", "machine"),
    "cpu_seconds_per_epoch": ("CPU seconds per epoch", "s", "lower", "machine"),
    "peak_memory_mb": ("Peak memory", "MB", "lower", "machine"),
    "parameters": ("Parameters", "", None, "dataset"),
    "flops_per_image": ("FLOPs per image", "", None, "dataset"),
}
DECLARATIONS = {
    name: {
        "title": title,
        "unit": unit,
        "direction": direction,
        "comparable": comparable,
        "version": 1,
    }
    for name, (title, unit, direction, comparable) in TITLES.items()
}


def make_results(
    root: Path,
    *,
    name: str = "grid",
    axes: Mapping[str, Sequence[Any]] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    settings: Mapping[str, Any] | None = None,
    question: str = "Which model reconstructs best?",
    pictures: bool = False,
    arrays: bool = False,
) -> Path:
    """Write a finished grid below ``root`` and return its folder."""
    grid = root / name
    planned = []
    axes = AXES if axes is None else axes
    for values in itertools.product(*axes.values()):
        cell = dict(zip(axes, values, strict=True))
        for seed in seeds:
            config = make_config(cell, seed, settings)
            run_id = hashlib.sha256(repr((cell, config)).encode()).hexdigest()[:12]
            planned.append({"run_id": run_id, "cell": cell, "seed": seed})
            write_run(grid / "runs" / run_id, cell, seed, config)
            if pictures:
                _write_tiles(grid / "runs" / run_id / "images", seed)
            if arrays:
                _write_arrays(grid / "runs" / run_id, seed)
    manifest = {
        "name": name,
        "question": question,
        "axes": {key: list(values) for key, values in axes.items()},
        "seeds": list(seeds),
        "numbers_version": 1,
        "settings": dict(settings or {"training": {"epochs": EPOCHS, "batch_size": 256}}),
        "runs": planned,
    }
    grid.mkdir(parents=True, exist_ok=True)
    (grid / "grid.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    return grid


def make_config(
    cell: Mapping[str, Any], seed: int, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The resolved configuration of a run."""
    loss = cell.get("loss", "bce")
    options = {"sigma2": 0.5, "output": "sigmoid"} if loss == "mse" else {}
    return {
        "dataset": {"name": cell.get("dataset", "digits"), "binarize": "none", "validation": 360},
        "model": {
            "name": cell.get("model", "fnn"),
            "latent_dim": cell.get("model.latent_dim", 8),
        },
        "loss": {"name": loss, loss: options},
        "estimator": {"name": cell.get("estimator", "kl"), "samples": 1},
        "seed": seed,
        "training": {"epochs": EPOCHS, "batch_size": 256},
        **(settings or {}),
    }


def make_metrics(cell: Mapping[str, Any], seed: int) -> dict[str, float | None]:
    """Made-up numbers, the same for the same cell and seed."""
    key = hashlib.sha256(repr((sorted(cell.items(), key=str), seed)).encode()).digest()
    noise = np.random.default_rng(int.from_bytes(key[:8], "big")).normal(size=8)
    cnn, mse = cell.get("model") == "cnn", cell.get("loss") == "mse"
    rate = (9.0 if mse else 16.0) + 0.1 * float(noise[0])
    distortion = (468.0 if mse else 86.0) + (1.3 if cnn else 0.0) + 0.2 * float(noise[1])
    ssim = 0.82 + (0.03 if mse else 0.0) + 0.002 * float(noise[2])
    mse_px = 0.021 - 0.1 * (ssim - 0.82)
    seconds = (9.0 if cnn else 3.5) + 0.05 * abs(float(noise[3]))
    return {
        "test/elbo": -(rate + distortion),
        "test/rate": rate,
        "test/distortion": distortion,
        "test/ssim": ssim,
        "test/psnr": -10 * float(np.log10(mse_px)),
        "test/mse_px": mse_px,
        "test/mae_px": 2 * mse_px,
        "test/active_units": 8.0,
        "train_eval/elbo": 1.5 - (rate + distortion) + 0.05 * float(noise[4]),
        "train_eval/rate": rate,
        "train_eval/distortion": distortion - 1.5,
        "cost/images_per_second": 50_000 / seconds,
        "cost/seconds_per_epoch": seconds,
        "cost/cpu_seconds_per_epoch": 0.9 * seconds,
        "cost/peak_memory_mb": 512.25,
        "cost/parameters": 1_082_144 if not cnn else 1_010_017,
        "cost/flops_per_image": 2_157_568 if not cnn else 9_400_320,
    }


def make_record(run_id: str, cell: Mapping[str, Any], seed: int, config: Any) -> dict[str, Any]:
    """The record of a complete run."""
    metrics = make_metrics(cell, seed)
    return {
        "run_id": run_id,
        "status": "complete",
        "cell": dict(cell),
        "seed": seed,
        "attempt": 1,
        "config": config,
        "metrics": metrics,
        "rate_per_dimension": [float(metrics["test/rate"] or 0) / 8] * 8,
        "metric_declarations": DECLARATIONS,
        "environment": {
            "vaebench": "0.1.0",
            "python": "3.11.7",
            "platform": "Linux x86_64",
            "cpu": "Example CPU",
            "cores": 2,
            "device": "cpu",
            "device_name": "Example CPU",
            "threads": 1,
            "jobs": 2,
            "packages": {"torch": "2.14.0", "numpy": "2.4.6"},
            "git": {"commit": "0123abc", "dirty": False},
            "dataset": {
                "name": "digits",
                "digest": "d1",
                "train": 1077,
                "validation": 360,
                "test": 360,
            },
        },
        "reason": None,
        "started": START,
        "finished": START + 60_000,
        "best": {"epoch": 9, "val/elbo": float(metrics["test/elbo"] or 0) - 0.2},
        "measured": {"epoch": 10, "val/elbo": float(metrics["test/elbo"] or 0) - 0.3},
        "notes": ["SSIM window: uniform 7x7."],
    }


def write_run(folder: Path, cell: Mapping[str, Any], seed: int, config: dict[str, Any]) -> None:
    """Write the folder of a complete run."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    write_journal(folder, EPOCHS)
    record = make_record(folder.name, cell, seed, config)
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


def write_journal(folder: Path, epochs: int) -> None:
    """Write a journal of ``epochs`` lines, a second apart."""
    lines = (
        json.dumps({"epoch": e, "time": START + 1000 * e, "metrics": {"train/elbo": -200.0 + e}})
        for e in range(1, epochs + 1)
    )
    (folder / "journal.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def edit_record(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Let ``change`` edit a run's record in place."""
    path = folder / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def assign(grid: Path, metric: str, value: Callable[[dict[str, Any], int], float | None]) -> None:
    """Set a metric of every run of a grid to a function of its cell and seed."""
    for folder in run_dirs(grid):
        edit_record(folder, lambda r: r["metrics"].__setitem__(metric, value(r["cell"], r["seed"])))


def edit_manifest(grid: Path, **fields: Any) -> None:
    """Set keys of a grid's manifest."""
    path = grid / "grid.yaml"
    manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**manifest, **fields}, sort_keys=False), encoding="utf-8")


def run_dirs(grid: Path) -> list[Path]:
    """The folders of the manifest's runs, in its order."""
    manifest = yaml.safe_load((grid / "grid.yaml").read_text(encoding="utf-8"))
    return [grid / "runs" / run["run_id"] for run in manifest["runs"]]


def fail(folder: Path, reason: str, status: str = "failed") -> None:
    """Make a run one that did not complete."""
    edit_record(folder, lambda r: r.update(status=status, reason=reason, metrics={}, best=None))


def _write_tiles(folder: Path, seed: int) -> None:
    folder.mkdir()
    for kind in ("reconstruction", "samples"):
        for epoch in (1, 2, EPOCHS):
            pixels = np.full((82, 82), (40 * epoch + 25 * seed) % 256, np.uint8)
            Image.fromarray(pixels).save(folder / f"{kind}-{epoch:04d}.png")


def _write_arrays(folder: Path, seed: int) -> None:
    def images(salt: int) -> Any:
        return np.random.default_rng(salt).random((64, 1, 8, 8), np.float32)

    buffer = io.BytesIO()
    names = {"originals": 0, "reconstructions": 1 + seed, "samples": 1000 + seed}
    np.savez(buffer, allow_pickle=False, **{key: images(salt) for key, salt in names.items()})
    (folder / "arrays.npz").write_bytes(buffer.getvalue())
