"""One run, top to bottom: data in, record out. Read this first.

:func:`run` does what happens to one cell for one seed; :func:`load_run` reads what it left.
"""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vaebench import datasets
from vaebench.config import NUMBERS_VERSION, RunConfig, make_run
from vaebench.environment import describe, peak_memory, resolve_device
from vaebench.errors import ResultsError, VaebenchError
from vaebench.estimators import ESTIMATORS
from vaebench.likelihoods import LIKELIHOODS
from vaebench.metrics import COSTS, METRICS, evaluate, measure, ssim_window
from vaebench.models import MODELS, Shape
from vaebench.run.pictures import draw_figures, figure_arrays, is_snapshot_epoch, save_snapshot
from vaebench.seeding import seeded, stream
from vaebench.storage import RunStore, dump_json, dump_yaml, write_atomic
from vaebench.training import OPTIMIZERS, SCHEDULES, EpochStatistics, Plan, State, train
from vaebench.vae import VAE, flops_per_image, parameter_count

EVALUATION_DRAWS = 16
TRAIN_PART = 10_000  # training images on which the final ELBO is measured too

OnEpoch = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """A run to do, and where. What is not in ``config`` does not change its numbers.

    Attributes:
        config: The resolved configuration.
        cell: The values of the grid's axes.
        folder: Of the run, see :mod:`vaebench.storage`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        data_dir: Where data sets lie; None for the default.
        jobs: Runs that share the machine, for the record.
    """

    config: RunConfig
    cell: dict[str, Any]
    folder: Path
    device: str = "auto"
    data_dir: Path | None = None
    jobs: int = 1


def run(task: Task, on_epoch: OnEpoch = lambda _: None) -> dict[str, Any]:
    """Do a run, or finish it from its last checkpoint, and return its record.

    A run that fails is a result too: its record has the status ``failed`` and the reason.

    Arguments:
        task: What to run.
        on_epoch: Called with the journal's line after each epoch.

    Raises:
        KeyboardInterrupt: After the record has been marked ``interrupted``.
    """
    store = RunStore(task.folder)
    write_atomic(store.path / "config.yaml", dump_yaml(task.config.to_dict()))
    try:
        with _one_thread():
            record = _run(task, store, on_epoch)
    except KeyboardInterrupt:
        close(task, "interrupted", "interrupted from the keyboard")
        raise
    except VaebenchError as error:
        return close(task, "failed", str(error))
    except Exception as error:
        write_atomic(store.path / "error.txt", traceback.format_exc())
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return close(task, "failed", f"{reason} (see {store.path.name}/error.txt)")
    write_atomic(store.path / "record.json", dump_json(record))
    return record


def _run(task: Task, store: RunStore, on_epoch: OnEpoch) -> dict[str, Any]:
    config, seed = task.config, task.config.seed
    device = torch.device(resolve_device(task.device))

    # The data: one tensor for each split, on the device.
    splits = datasets.load(data_dir=task.data_dir, **config.dataset.model_dump())
    x = splits.train.x.to(device)
    validation = splits.validation.x.to(device)
    test = splits.test.x.to(device)

    # The model and its optimiser, as they begin or as the last checkpoint left them.
    state = build(config, splits.shape, device)
    resume(state, store)

    # The training. What an epoch leaves is on the disk before the next begins; the checkpoint
    # carries the epoch's journal line, so that the two cannot disagree after a crash.
    peak = peak_memory(device.type)
    resumed_at = state.epoch
    estimator = ESTIMATORS[config.estimator.name]
    for statistics in train(state, estimator, x, validation, plan(config), seed=seed):
        if is_snapshot_epoch(statistics.epoch, config.training.epochs):
            save_snapshot(store, state.vae, test, seed=seed, epoch=statistics.epoch)
        if state.best_epoch == statistics.epoch:
            store.save_tensors("best.pt", {"model": state.vae.state_dict()})
        line = journal_line(statistics)
        store.save_tensors("checkpoint.pt", state.state_dict() | {"line": line})
        store.append(line)
        on_epoch(line)
    peak_mb = peak() if state.epoch > resumed_at else None

    # The weights that are measured: of the last epoch, or of the best on validation.
    if config.evaluate == "best":
        best = store.load_tensors("best.pt")
        if best is None:
            raise ResultsError(f"{store.path}: best.pt is gone; use --rerun all")
        state.vae.load_state_dict(best["model"])
    store.save_tensors("weights.pt", state.vae.state_dict())

    # The measurement, with one ELBO estimator for all cells, at beta 1.
    shape = (EVALUATION_DRAWS, len(test), config.model.latent_dim)
    noise = torch.randn(shape, generator=stream(seed, "evaluation"))
    part = x[:TRAIN_PART]
    part_noise = torch.randn(
        (EVALUATION_DRAWS, len(part), config.model.latent_dim),
        generator=stream(seed, "evaluation/train"),
    )
    on_test = evaluate(state.vae, test, noise)
    on_train = evaluate(state.vae, part, part_noise)
    journal = store.journal
    seconds = sum(line["metrics"]["train/seconds"] for line in journal) / len(journal)
    metrics: dict[str, float | None] = {
        **measure(on_test, "test"),
        **measure(on_train, "train_eval", ["elbo", "rate", "distortion"]),
        "cost/images_per_second": len(x) / seconds,
        "cost/seconds_per_epoch": seconds,
        "cost/peak_memory_mb": peak_mb,
        "cost/parameters": parameter_count(state.vae),
        "cost/flops_per_image": flops_per_image(state.vae, splits.shape),
    }

    # The pictures, made from arrays that stay beside them.
    store.save_arrays(figure_arrays(state.vae, splits, on_test, seed=seed, options=config.figures))
    draw_figures(store, label(task.cell, seed))

    record = _record(task, "complete", None)
    record["metrics"] = metrics
    record["rate_per_dimension"] = on_test.rate_per_dimension.mean(dim=0).tolist()
    record["metric_declarations"] = declarations()
    record["notes"] = notes(config, splits)
    if state.best_epoch:
        record["best"] = {"epoch": state.best_epoch, "val/elbo": state.best_elbo}
    record["environment"]["dataset"] = {
        "name": splits.name,
        "digest": splits.digest,
        "shape": list(splits.shape),
        "train": len(x),
        "validation": len(validation),
        "test": len(test),
    }
    return record


def build(config: RunConfig, shape: Shape, device: torch.device | str) -> State:
    """Build the model from the stream ``init`` of its seed, on the CPU, then move it.

    Arguments:
        config: Of the run.
        shape: Of the images, (C, H, W).
        device: Where the model is to live.
    """
    with seeded(config.seed, "init"):
        vae = build_vae(config, shape)
    # channels last: a fifth faster for convolutions, and nothing to fully connected layers
    vae = vae.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    training = config.training
    optimizer = OPTIMIZERS[training.optimizer.name](
        vae, training.learning_rate, **training.optimizer.options
    )
    schedule = SCHEDULES[training.schedule.name](
        optimizer, training.epochs, **training.schedule.options
    )
    return State(vae, optimizer, schedule)


def build_vae(config: RunConfig, shape: Shape) -> VAE:
    """Build the model, with weights drawn from PyTorch's current stream on its current device."""
    latent_dim = config.model.latent_dim
    networks = MODELS[config.model.name](shape, latent_dim, **config.model.options)
    likelihood = LIKELIHOODS[config.loss.name](**config.loss.options)
    return VAE(networks, likelihood, latent_dim)


def model_cost(config: RunConfig) -> tuple[int, int]:
    """Parameters, and FLOPs per image, of a run's model, without data or memory.

    Raises:
        ValueError: The model cannot be built so.
    """
    shape = datasets.DATASETS[config.dataset.name].shape
    with torch.device("meta"):
        vae = build_vae(config, shape)
    return parameter_count(vae), flops_per_image(vae, shape)


def plan(config: RunConfig) -> Plan:
    """Read the training plan off the configuration."""
    training = config.training
    return Plan(
        epochs=training.epochs,
        batch_size=training.batch_size,
        samples=config.estimator.samples,
        beta=training.beta,
        beta_warmup=training.beta_warmup,
        gradient_clip=training.gradient_clip,
        early_stopping=training.early_stopping.patience if training.early_stopping else None,
        dynamic=config.dataset.binarize == "dynamic",
    )


def resume(state: State, store: RunStore) -> None:
    """Take up the last checkpoint. A damaged one is set aside, and the run starts anew."""
    try:
        checkpoint = store.load_tensors("checkpoint.pt")
        if checkpoint is not None:
            store.append(checkpoint["line"])
            state.load_state_dict(checkpoint)
        elif store.journal:
            raise ResultsError(f"{store.path}: a journal, but no checkpoint")
    except ResultsError:
        config = (store.path / "config.yaml").read_bytes()
        store.set_aside()
        write_atomic(store.path / "config.yaml", config)


def journal_line(statistics: EpochStatistics) -> dict[str, Any]:
    """An epoch as the journal keeps it, stamped now (Unix time in milliseconds)."""
    metrics: dict[str, float] = {}
    for split, means in (("train", statistics.train), ("val", statistics.validation)):
        if means is not None:
            values = means._asdict().items()
            metrics |= {f"{split}/{name}": value for name, value in values if value is not None}
    metrics["train/beta"] = statistics.beta
    metrics["train/learning_rate"] = statistics.learning_rate
    metrics["train/seconds"] = statistics.seconds
    return {"epoch": statistics.epoch, "time": _now(), "metrics": metrics}


def close(task: Task, status: str, reason: str) -> dict[str, Any]:
    """Write and return the record of a run that did not complete."""
    record = _record(task, status, reason)
    write_atomic(task.folder / "record.json", dump_json(record))
    return record


def _record(task: Task, status: str, reason: str | None) -> dict[str, Any]:
    store = RunStore(task.folder)
    journal = store.journal
    try:
        device = resolve_device(task.device)
        environment = describe(device, threads=1, jobs=task.jobs)
    except Exception:  # a record must be possible when the device is what failed
        environment = {"device": task.device, "jobs": task.jobs}
    return {
        "run_id": task.config.run_id,
        "status": status,
        "cell": task.cell,
        "seed": task.config.seed,
        "attempt": store.attempt,
        "numbers_version": NUMBERS_VERSION,
        "config": task.config.to_dict(),
        "metrics": {},
        "metric_declarations": {},
        "rate_per_dimension": [],
        "best": None,
        "epochs": journal[-1]["epoch"] if journal else 0,
        "started": _started(journal),
        "finished": _now(),
        "environment": environment,
        "notes": [],
        "reason": reason,
    }


def declarations() -> dict[str, dict[str, Any]]:
    """What every number of a record declares, by the name behind the slash."""
    declared = {name: metric.declaration for name, metric in METRICS.items()} | COSTS
    return {name: dict(vars(declaration)) for name, declaration in declared.items()}


def notes(config: RunConfig, splits: datasets.Splits) -> list[str]:
    """What a reader of the numbers must know."""
    window = ssim_window(*splits.shape[1:])
    found = [f"SSIM window: {window.description}; data range 1."]
    likelihood = LIKELIHOODS[config.loss.name]
    if likelihood.support == "binary" and config.dataset.binarize == "none":
        found.append(
            f"{config.loss.name} on gray pixels is the relaxed Bernoulli: not a normalised density."
        )
    if config.dataset.validation == "test":
        found.append(
            "The test split served as validation split: whatever was selected on it (schedule, "
            "early stopping, best epoch) has seen the test images."
        )
    return found


def label(cell: dict[str, Any], seed: int) -> str:
    """A run's name for titles: ``cnn / mse / kl, seed 0``."""
    values = [
        str(value) if key in ("model", "loss", "estimator") else f"{key.split('.')[-1]}={value}"
        for key, value in cell.items()
    ]
    return f"{' / '.join(values)}, seed {seed}"


class LoadedRun(NamedTuple):
    """A finished run.

    Attributes:
        model: The measured weights, on the CPU, in evaluation mode.
        config: The resolved configuration.
        metrics: Final metrics by name.
        record: Everything else.
    """

    model: VAE
    config: RunConfig
    metrics: dict[str, float | None]
    record: dict[str, Any]


def load_run(path: Path | str) -> LoadedRun:
    """Load a finished run from its folder, or from the artifact ``run`` that MLflow keeps of it.

    Raises:
        ResultsError: The folder holds no finished run, or its weights are gone or damaged.
    """
    store = RunStore(Path(path))
    record, raw = store.record, store.config
    if record is None or raw is None:
        raise ResultsError(f"{path}: not the folder of a finished run (config.yaml, record.json)")
    if record["status"] != "complete":
        raise ResultsError(f"{path}: the run is {record['status']}: {record['reason']}")
    weights = store.load_tensors("weights.pt")
    if weights is None:
        raise ResultsError(f"{path}: weights.pt is not there; train the run again to have it")
    config = make_run(raw, source=f"{path}/config.yaml")
    channels, height, width = record["environment"]["dataset"]["shape"]
    with seeded(0, "load"):
        vae = build_vae(config, (channels, height, width))
    vae.load_state_dict(weights)
    return LoadedRun(vae.eval(), config, record["metrics"], record)


def _started(journal: list[dict[str, Any]]) -> int:
    """When the first epoch began, Unix time in milliseconds."""
    if not journal:
        return _now()
    first = journal[0]
    return int(first["time"] - 1000 * first["metrics"]["train/seconds"])


def _now() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def _one_thread() -> Iterator[None]:
    """One CPU thread, since thread counts move the last bits, and threads of workers collide."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
