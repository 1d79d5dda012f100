"""What a run says of itself: the journal's line of an epoch, and the record at its end."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaebench.config import RunConfig
from vaebench.datasets import Splits
from vaebench.declarations import COSTS, Spent
from vaebench.environment import describe, resolve_device
from vaebench.estimators import ESTIMATORS
from vaebench.files import dump_json
from vaebench.fitted_gaussian import FittedGaussian
from vaebench.likelihoods import LIKELIHOODS
from vaebench.metrics import METRICS, Subject, ssim_window
from vaebench.run.declared import declarations, is_relaxed, measured_names, unmeasured_notes
from vaebench.schema.record import SCHEMA_VERSION
from vaebench.schema.trial import TEXT
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
        **described_plugins(task.config),
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


def described_plugins(config: RunConfig) -> dict[str, Any]:
    """What a record says of the plugins that a run was trained with; nothing where it needs none.

    Never where they lie: records are published.
    """
    used = [
        {
            "name": plugin.name,
            "digest": plugin.digest,
            **({"distribution": plugin.distribution} if plugin.distribution else {}),
            "provides": provides,
        }
        for plugin, provides in config.plugins.items()
    ]
    return {"plugins": used} if used else {}


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
    names = measured_names(config, labelled=splits.labelled)
    record = make_record(task, "complete", None)
    record["metrics"] = {
        **metrics,
        **{f"cost/{name}": cost.function(spent) for name, cost in COSTS.items()},
    }
    record["rate_per_dimension"] = subject.evaluation.rate_per_dimension.mean(dim=0).tolist()
    if "log_px" in names:
        record["log_px"] = subject.evidence.describe()
    done = [name for name in names if f"test/{name}" in metrics]
    record["metric_declarations"] = declarations(config, [*done, *COSTS])
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
        **({} if splits.labelled else {"labelled": False}),
    }
    record["environment"]["dataset"] = dataset
    if splits.labelled and not config.trial:
        record["environment"]["classifier"] = subject.reference().describe()
    return record


def _unlabelled_note(splits: Splits) -> list[str]:
    titles = [m.declaration.title for m in METRICS.values() if m.needs_labels]
    if splits.labelled:
        return []
    return [f"{', '.join(titles)}: not measured, as the images have no labels."]


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
    said = [f"{TEXT}."] if config.trial else []
    said += [f"SSIM window: {window.description}; data range 1."]
    if is_relaxed(config):
        said.append(
            f"{config.loss.name} on {'colour' if splits.shape[0] == 3 else 'gray'} pixels is the "
            f"relaxed Bernoulli: not a normalised density."
        )
    if isinstance(vae.likelihood, FittedGaussian):
        said += _sigma2_notes(vae.likelihood)
    if config.dataset.validation == "test":
        said.append(
            "The test split served as validation split: whatever was selected on it (schedule, "
            "early stopping, best epoch) has seen the test images."
        )
    return said + _unlabelled_note(splits) + unmeasured_notes(config)


def now() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
