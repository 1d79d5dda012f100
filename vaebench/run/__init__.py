"""One run, top to bottom: data in, record out. Read this first.

:func:`run` does what happens to one cell for one seed; :func:`load_run` reads what it left. Beside
it: ``building`` (configuration to model), ``pictures`` (arrays and figures), ``record`` (what a run
says of itself), ``loading``.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vaebench import datasets
from vaebench.environment import peak_memory, resolve_device
from vaebench.errors import ResultsError, VaebenchError
from vaebench.estimators import ESTIMATORS
from vaebench.metrics import evaluate, measure
from vaebench.run.building import build, build_vae, model_cost, plan, require_trainable
from vaebench.run.loading import LoadedRun, load_run
from vaebench.run.pictures import draw_figures, figure_arrays, is_snapshot_epoch, save_snapshot
from vaebench.run.record import (
    Task,
    close,
    declarations,
    journal_line,
    make_record,
    notes,
)
from vaebench.seeding import stream
from vaebench.storage import RunStore, dump_json, dump_yaml, run_label, write_atomic
from vaebench.training import State, train
from vaebench.vae import flops_per_image, parameter_count

__all__ = [
    "LoadedRun",
    "Task",
    "build",
    "build_vae",
    "close",
    "load_run",
    "model_cost",
    "run",
]

EVALUATION_DRAWS = 16
TRAIN_PART = 10_000  # training images on which the final ELBO is measured too

OnEpoch = Callable[[dict[str, Any]], None]


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
    store.clean()
    write_atomic(store.path / "config.yaml", dump_yaml(task.config.to_dict()))
    try:
        with _same_arithmetic():
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
    require_trainable(state.vae, len(x), config.training.batch_size)
    resume(state, store)

    # The training. What an epoch leaves is on the disk before the next begins; the checkpoint
    # carries the epoch's journal line, so that the two cannot disagree after a crash.
    peak = peak_memory(device.type)
    resumed_at = state.epoch
    estimator = ESTIMATORS[config.estimator.name]
    for statistics in train(state, estimator, x, validation, plan(config), seed=seed):
        if is_snapshot_epoch(statistics.epoch):
            save_snapshot(store, state.vae, test, seed=seed, epoch=statistics.epoch)
        if state.best_epoch == statistics.epoch:
            store.save_tensors("best.pt", {"model": state.vae.state_dict()})
        line = journal_line(statistics)
        store.save_tensors("checkpoint.pt", state.state_dict() | {"line": line})
        store.append(line)
        on_epoch(line)
    peak_mb = peak() if state.epoch > resumed_at else None

    # The weights that are measured: of the last epoch, or of the best on validation.
    measured = state.epoch
    if config.evaluate == "best":
        best = store.load_tensors("best.pt")
        if best is None:
            raise ResultsError(f"{store.path}: best.pt is gone; use --rerun all")
        state.vae.load_state_dict(best["model"])
        measured = state.best_epoch
    store.save_tensors("weights.pt", state.vae.state_dict())
    save_snapshot(store, state.vae, test, seed=seed, epoch=measured)

    # The measurement, with one ELBO estimator for all cells, at beta 1.
    shape = (EVALUATION_DRAWS, len(test), config.model.latent_dim)
    noise = torch.randn(shape, generator=stream(seed, "evaluation"))
    part = x[:TRAIN_PART]
    if config.dataset.binarize == "dynamic":  # drawn once, as validation and test are
        part = datasets.binarize(part, stream(0, f"{splits.name}/binarize/train"))
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
    draw_figures(store, run_label(task.cell, seed))

    record = make_record(task, "complete", None)
    record["metrics"] = metrics
    record["rate_per_dimension"] = on_test.rate_per_dimension.mean(dim=0).tolist()
    record["metric_declarations"] = declarations()
    record["notes"] = notes(config, splits)
    validated = journal[measured - 1]["metrics"].get("val/elbo")
    record["measured"] = {"epoch": measured, "val/elbo": validated}
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


def resume(state: State, store: RunStore) -> None:
    """Take up the last checkpoint. A damaged one is set aside, and the run starts anew."""
    try:
        checkpoint = store.load_tensors("checkpoint.pt")
        if checkpoint is not None:
            if not {"line", *state.state_dict()} <= checkpoint.keys():
                raise ResultsError(f"{store.path}: checkpoint.pt: not that of a run")
            store.append(checkpoint["line"])
            state.load_state_dict(checkpoint)
        elif store.journal:
            raise ResultsError(f"{store.path}: a journal, but no checkpoint")
    except ResultsError:
        config = (store.path / "config.yaml").read_bytes()
        store.set_aside()
        write_atomic(store.path / "config.yaml", config)


@contextmanager
def _same_arithmetic() -> Iterator[None]:
    """What moves the last bits, or more, is the same in every run of a machine.

    One CPU thread (threads of several workers would collide, too); on CUDA no TF32, which PyTorch
    allows in convolutions alone and would favour one model, and no choice of kernels by timing.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    exact = {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": False}
    try:
        with torch.backends.cudnn.flags(**exact):
            yield
    finally:
        torch.set_num_threads(before)
