"""Measuring a model: along its training, at the end of its run, and again for what is new."""

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaebench.config import RunConfig
from vaebench.datasets import Split, Splits
from vaebench.datasets.pixels import binarize, dequantized
from vaebench.environment import resolve_device
from vaebench.errors import ResultsError
from vaebench.files import dump_json
from vaebench.metrics import METRICS, ON_TRAIN, Subject, measure, reference
from vaebench.metrics.subject import EVALUATION_DRAWS
from vaebench.plugins import told
from vaebench.run.arithmetic import same_arithmetic
from vaebench.run.building import placed
from vaebench.run.declared import declarations, samples, unmeasured_notes
from vaebench.run.failures import failed
from vaebench.run.loading import load_run
from vaebench.run.record import Task, now
from vaebench.run.trial import load_splits
from vaebench.schema.trial import DRAWS
from vaebench.seeding import stream
from vaebench.storage import RunStore
from vaebench.training import EpochStatistics
from vaebench.training.gradient_variance import gradient_variance
from vaebench.vae import VAE

TRAIN_PART = 10_000  # training images on which the final ELBO is measured too


def make_subject(
    config: RunConfig, vae: VAE, splits: Splits, x: Tensor, data_dir: Path | None
) -> Subject:
    """Say what is measured: the test images, the same way for all cells.

    ``x``: the training images, see :func:`drawn_once`; ``data_dir``: None for the default.
    """
    options = tuple(sorted(config.dataset.options.items()))
    return Subject(
        vae=vae,
        images=Split(splits.test.x.to(x.device), splits.test.y),
        training=Split(x, splits.train.y),
        seed=config.seed,
        reference=partial(reference, splits.name, splits.digest, data_dir, options),
        samples=samples(config, "log_px"),
        draws=DRAWS if config.trial else EVALUATION_DRAWS,
        dequantized=config.dataset.dequantize == "uniform",
    )


def drawn_once(config: RunConfig, x: Tensor) -> Tensor:
    """Training images as they are measured: drawn once, as validation and test are."""
    if config.dataset.dequantize == "uniform":
        return dequantized(x, stream(0, f"{config.dataset.name}/dequantize/train"))
    if config.dataset.binarize != "dynamic":
        return x
    return binarize(x, stream(0, f"{config.dataset.name}/binarize/train"))


def measure_subject(
    subject: Subject, names: Iterable[str], missed: list[str] | None = None
) -> dict[str, float]:
    """Values on the test images and, of the bound, on a part of the training images.

    Arguments:
        subject: What is measured.
        names: Of metrics.
        missed: Gets a note for each metric of a plugin that raises something, and is left out; None
            where that is to be raised.
    """
    names, own = list(names), dict[str, float]()
    if missed is not None:
        for name in [name for name in names if METRICS.plugin(name)]:
            names.remove(name)
            try:
                own |= measure(subject, "test", [name])
            except Exception as error:
                missed.append(f"{METRICS[name].declaration.title} was not measured: {told(error)}.")
    part = Split(subject.training.x[:TRAIN_PART], subject.training.y[:TRAIN_PART])
    on_train = replace(subject, images=part, noise="evaluation/train")
    return {
        **measure(subject, "test", names),
        **measure(on_train, "train_eval", [name for name in ON_TRAIN if name in names]),
        **own,
    }


def diagnose(
    config: RunConfig, vae: VAE, x: Tensor, statistics: EpochStatistics
) -> dict[str, float]:
    """Metrics of the diagnostics that the configuration asks for, as the journal names them.

    ``grad/<part>_variance/<estimator>`` and ``grad/<part>_snr/<estimator>``, see
    :class:`~vaebench.training.gradient_variance.GradientVariance`; on the first batch of the
    training images. What is not finite is left out.
    """
    if not config.diagnostics.gradient_variance:
        return {}
    measured = gradient_variance(
        vae,
        drawn_once(config, x[: config.training.batch_size]),
        samples=config.estimator.samples,
        beta=statistics.beta,
        seed=config.seed,
        epoch=statistics.epoch,
    )
    return {
        f"grad/{name}/{estimator}": value
        for estimator, values in measured.items()
        for name, value in values._asdict().items()
        if math.isfinite(value)
    }


def remeasure(task: Task) -> dict[str, Any]:
    """Measure ``task.metrics`` of a finished run on its stored weights, and return its record.

    Nothing else in the record moves. Of a run that cannot be measured, the record stays as it is;
    what is returned has the status ``failed`` and the reason.
    """
    try:
        with same_arithmetic():
            record = _remeasured(task, task.metrics or ())
    except Exception as error:
        return failed(task, error)
    RunStore(task.folder).write("record.json", dump_json(record))
    return record


def _remeasured(task: Task, names: tuple[str, ...]) -> dict[str, Any]:
    config, (vae, _, _, record) = task.config, load_run(task.folder, whole=True)
    splits = load_splits(config, task.data_dir)
    if splits.digest != record["environment"]["dataset"]["digest"]:
        raise ResultsError(f"{task.folder}: was trained on another {splits.name} than lies here")
    device = torch.device(resolve_device(task.device))
    x = drawn_once(config, splits.train.x).to(device)
    subject = make_subject(config, placed(vae, device), splits, x, task.data_dir)
    measured = measure_subject(subject, names)
    judged = any(METRICS[name].part == "generation" for name in names)
    described = {"classifier": subject.reference().describe()} if judged else {}
    evidence = {"log_px": subject.evidence.describe()} if "log_px" in names else {}
    new_notes = [note for note in unmeasured_notes(config) if note not in record["notes"]]
    return (
        record
        | evidence
        | {
            "metrics": record["metrics"] | measured,
            "metric_declarations": record["metric_declarations"] | declarations(config, names),
            "environment": record["environment"] | described,
            "notes": record["notes"] + new_notes,
            "evaluated": now(),
        }
    )
