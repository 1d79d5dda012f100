"""What a run says of itself: the journal's line of an epoch, and the record at its end."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaebench.config import RunConfig
from vaebench.datasets import Splits
from vaebench.declarations import COSTS, Spent, definition
from vaebench.environment import describe, resolve_device
from vaebench.estimators import ESTIMATORS
from vaebench.files import dump_json
from vaebench.fitted_gaussian import FittedGaussian
from vaebench.likelihoods import LIKELIHOODS
from vaebench.metrics import METRICS, Subject, ssim_window
from vaebench.schema.record import SCHEMA_VERSION
from vaebench.storage import RunStore
from vaebench.training import EpochStatistics, State
from vaebench.vae import VAE, flops_per_image, parameter_count

SIGMA2_MARGIN = 0.05  # between a learned variance and the squared error that it should equal


@dataclass(frozen=True)
class Task:
    """A run to do, and where. What is not in ``config`` is not what is compared.

    Attributes:
        config: The resolved configuration.
        cell: The values of the grid's axes.
        folder: The folder to do it in, see :mod:`vaebench.storage`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        data_dir: Where data sets lie; None for the default.
        jobs: Runs that share the machine, for the record.
        retries: How often it has failed and was taken up again, for the record.
        metrics: Names of metrics to measure of a finished run, which is all that is then done;
            None: do the run.
        tune: Whether it is a tuning run: trained as any run, then only scored on validation.
        keep_checkpoints: Whether what it resumes from stays when it is complete.
    """

    config: RunConfig
    cell: dict[str, Any]
    folder: Path
    device: str = "auto"
    data_dir: Path | None = None
    jobs: int = 1
    retries: int = 0
    metrics: tuple[str, ...] | None = None
    tune: bool = False
    keep_checkpoints: bool = False

    @property
    def key(self) -> str:
        """The run's id, by its folder: pydantic, which makes it, turns interrupts into errors."""
        return self.folder.name


def journal_line(statistics: EpochStatistics) -> dict[str, Any]:
    """An epoch as the journal keeps it, stamped now (Unix time in milliseconds)."""
    means = {"train": statistics.train, "val": statistics.validation}
    values: dict[str, float | None] = {
        f"{split}/{name}": value
        for split, mean in means.items()
        if mean is not None
        for name, value in mean._asdict().items()
    }
    values |= {
        "train/beta": statistics.beta,
        "train/learning_rate": statistics.learning_rate,
        "train/seconds": statistics.seconds,
        "train/cpu_seconds": statistics.cpu_seconds,
        "val/seconds": statistics.validation_seconds,
        "val/cpu_seconds": statistics.validation_cpu_seconds,
    }
    metrics = {name: value for name, value in values.items() if value is not None}
    return {"epoch": statistics.epoch, "time": now(), "metrics": metrics}


def close(task: Task, status: str, reason: str, failure: str | None = None) -> dict[str, Any]:
    """Write and return the record of a run that did not complete; one that did keeps its own.

    A finished run that was only to be measured keeps its own, too; what is returned says so.
    ``failure``: its kind, see :mod:`vaebench.run.failures`.
    """
    store = RunStore(task.folder)
    finished = store.record
    if task.metrics is not None:
        return (finished or {}) | {"status": status, "reason": reason}
    if finished is not None and finished["status"] == "complete":
        return finished
    record = make_record(task, status, reason) | ({"failure": failure} if failure else {})
    store.write("record.json", dump_json(record))
    return record


def make_record(task: Task, status: str, reason: str | None) -> dict[str, Any]:
    """What is known of a run whatever became of it; a completed one adds its measurements."""
    store = RunStore(task.folder)
    journal = store.journal
    try:
        device = resolve_device(task.device)
        environment = describe(device, threads=1, jobs=task.jobs)
    except Exception:  # a record must be possible when the device is what failed
        environment = {"device": task.device, "jobs": task.jobs}
    started = now()  # or when the first epoch began
    if journal:
        started = int(journal[0]["time"] - 1000 * journal[0]["metrics"]["train/seconds"])
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": task.config.run_id,
        "status": status,
        "cell": task.cell,
        "seed": task.config.seed,
        "attempt": store.attempt,
        "versions": task.config.versions,
        "config": task.config.to_dict(),
        "support": LIKELIHOODS[task.config.loss.name].support,
        "importance_weighted": ESTIMATORS[task.config.estimator.name].importance_weighted,
        "metrics": {},
        "metric_declarations": {},
        "rate_per_dimension": [],
        "best": None,
        "measured": None,
        "epochs": journal[-1]["epoch"] if journal else 0,
        "started": started,
        "finished": now(),
        "environment": environment,
        "notes": [],
        "reason": reason,
        **({"retries": task.retries} if task.retries else {}),
    }


def completed_record(
    task: Task,
    splits: Splits,
    state: State,
    subject: Subject,
    metrics: dict[str, float],
    measured: int,
    peak_mb: float | None,
) -> dict[str, Any]:
    """The record of a run whose ``metrics`` are measured, on the weights of epoch ``measured``.

    ``peak_mb``: peak of memory in the training; None where it is not known.
    """
    config, vae, journal = task.config, state.vae, RunStore(task.folder).journal
    flops = flops_per_image(vae, splits.shape)
    spent = Spent(journal, len(splits.train.x), peak_mb, parameter_count(vae), flops, vae)
    names = measured_names(config)
    record = make_record(task, "complete", None)
    record["metrics"] = {
        **metrics,
        **{f"cost/{name}": cost.function(spent) for name, cost in COSTS.items()},
    }
    record["rate_per_dimension"] = subject.evaluation.rate_per_dimension.mean(dim=0).tolist()
    if "log_px" in names:
        record["log_px"] = subject.evidence.describe()
    record["metric_declarations"] = declarations(config, [*names, *COSTS])
    if isinstance(fitted := vae.likelihood, FittedGaussian):
        # of sampled codes; under a bound of importance weights their errors are weighed by them
        record["sigma2"] = {"value": fitted.sigma2, "mean_squared_error": fitted.squared_error}
    record["notes"] = notes(config, splits, vae)
    validated = journal[measured - 1]["metrics"].get("val/elbo")
    record["measured"] = {"epoch": measured, "val/elbo": validated}
    if state.best_epoch:
        record["best"] = {"epoch": state.best_epoch, "val/elbo": state.best_elbo}
    dataset = {
        "name": splits.name,
        "digest": splits.digest,
        "shape": list(splits.shape),
        "train": len(splits.train.x),
        "validation": len(splits.validation.x),
        "test": len(splits.test.x),
    }
    classifier = subject.reference().describe()
    record["environment"] |= {"dataset": dataset, "classifier": classifier}
    return record


def measured_names(config: RunConfig) -> list[str]:
    """Metrics that are measured of a run: all but those that are opt-in or mean nothing there."""
    return [
        name
        for name, metric in METRICS.items()
        if name not in _impossible(config) and (not metric.opt_in or _samples(config, name))
    ]


def declarations(config: RunConfig, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What metrics and costs of a run declare, by the name behind the slash."""
    declared = {}
    for name in names:
        declaration = (COSTS[name] if name in COSTS else METRICS[name]).declaration
        samples = _samples(config, name)
        declared[name] = (declaration.with_samples(samples) if samples else declaration).to_dict()
    return declared


def outdated(config: RunConfig, record: dict[str, Any]) -> list[str]:
    """Metrics that a record lacks, or has by an older definition or with another K."""
    old = []
    for name, now in declarations(config, measured_names(config)).items():
        then = definition(record["metric_declarations"].get(name, {}))
        current = then[0] > now["version"] or then == definition(now)
        if record["metrics"].get(f"test/{name}") is None or not current:
            old.append(name)
    return old


def _samples(config: RunConfig, name: str) -> int | None:
    """K of an opt-in metric; None where it is not asked for."""
    samples: int | None = getattr(config.metrics, name, None)
    return samples


def _is_relaxed(config: RunConfig) -> bool:
    """Whether the loss is a distribution of binary pixels, and the pixels are gray."""
    return LIKELIHOODS[config.loss.name].support == "binary" and config.dataset.binarize == "none"


def _impossible(config: RunConfig) -> dict[str, str]:
    """Metrics that mean nothing for a run, and why."""
    reasons = {}
    if config.dataset.dequantize == "none":
        reasons["bits_per_dim"] = "the images are not dequantised"
    if _is_relaxed(config):
        reasons["log_px"] = f"{config.loss.name} on gray pixels is not a normalised density"
    return reasons


def unmeasured_notes(config: RunConfig) -> list[str]:
    """What was asked for and is not measured, and why."""
    return [
        f"{METRICS[name].declaration.title} is not measured: {why}."
        for name, why in _impossible(config).items()
        if _samples(config, name)
    ]


def _sigma2_notes(fitted: FittedGaussian) -> list[str]:
    said = [f"sigma2 was fitted: {fitted.sigma2:.4g} squared pixel units."]
    error = fitted.squared_error
    if error and abs(fitted.sigma2 / error - 1) > SIGMA2_MARGIN:
        said.append(
            f"The learned sigma2, {fitted.sigma2:.4g}, is {fitted.sigma2 / error - 1:+.0%} from "
            f"the mean squared error of the training split, {error:.4g}: it has not converged; "
            f"train longer, or choose sigma2: optimal."
        )
    return said


def notes(config: RunConfig, splits: Splits, vae: VAE) -> list[str]:
    """What a reader of the numbers must know."""
    window = ssim_window(*splits.shape[1:])
    said = [f"SSIM window: {window.description}; data range 1."]
    if _is_relaxed(config):
        said.append(
            f"{config.loss.name} on gray pixels is the relaxed Bernoulli: not a normalised density."
        )
    if isinstance(vae.likelihood, FittedGaussian):
        said += _sigma2_notes(vae.likelihood)
    if config.dataset.validation == "test":
        said.append(
            "The test split served as validation split: whatever was selected on it (schedule, "
            "early stopping, best epoch) has seen the test images."
        )
    return said + unmeasured_notes(config)


def now() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
