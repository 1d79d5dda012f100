"""One run, top to bottom: data in, record out. Read this first.

From the command to the record in ten steps; 5 to 10 are :func:`run`, under these numbers:

1. ``cli`` parses, and calls one function.
2. ``config`` validates every run before the first epoch.
3. ``grid`` decides for every run: run, resume, rerun or skip.
4. ``executors`` hands a :class:`Task` (paths and names, never tensors) to a worker process.
5. ``datasets`` gives one tensor for each split. Whatever is random from here on draws from streams
   named (seed, name, epoch), on the CPU.
6. ``building`` makes the VAE on the CPU, then moves it; the last checkpoint is taken up.
7. ``training`` yields epochs: the checkpoint, which carries the journal's line, then the journal.
8. ``measuring`` measures the test images, in one way for every cell.
9. ``pictures`` keeps arrays, and draws the figures from them.
10. ``record`` says what it was; ``record.json`` is written last, and ``report`` reads nothing else.

Beside these: ``scoring`` (of a tuning run), ``failures``, ``publishing``, ``loading``, and the file
of the decoder.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vaebench.config import RunConfig
from vaebench.environment import peak_memory, resolve_device
from vaebench.errors import ResultsError, StorageError
from vaebench.estimators import ESTIMATORS
from vaebench.files import dump_json, dump_yaml
from vaebench.models import Shape
from vaebench.run.arithmetic import same_arithmetic
from vaebench.run.building import build, build_vae, fit, model_cost, plan, require_trainable
from vaebench.run.declared import measured_names
from vaebench.run.decoder_export import decoder_bytes
from vaebench.run.failures import TRANSIENT, fail, failed
from vaebench.run.loading import LoadedRun, load_run
from vaebench.run.measuring import diagnose, drawn_once, make_subject, measure_subject, remeasure
from vaebench.run.pictures import (
    draw_figures,
    draw_own_figures,
    figure_arrays,
    is_snapshot_epoch,
    save_snapshot,
)
from vaebench.run.publishing import discard, publish_run
from vaebench.run.record import (
    Task,
    close,
    completed_record,
    described_plugins,
    journal_line,
)
from vaebench.run.scoring import SCORE, scored_record
from vaebench.run.trial import load_splits
from vaebench.schema.labels import run_label
from vaebench.schema.record import plugin_digests
from vaebench.schema.trial import FIGURES, MARK
from vaebench.storage import LostError, RunStore
from vaebench.tensors import misfit
from vaebench.training import State, train
from vaebench.vae import start_likelihood

__all__ = [
    "SCORE",
    "TRANSIENT",
    "LoadedRun",
    "Task",
    "build",
    "build_vae",
    "close",
    "discard",
    "fail",
    "load_run",
    "model_cost",
    "publish_run",
    "remeasure",
    "run",
]

OnEpoch = Callable[[dict[str, Any]], None]
Warn = Callable[[str], None]


def run(
    task: Task, on_epoch: OnEpoch = lambda _: None, warn: Warn = lambda _: None
) -> dict[str, Any]:
    """Do a run, or finish it from its last checkpoint, and return its record.

    A run that fails is a result too: its record has the status ``failed`` and the reason.

    Arguments:
        task: What to run.
        on_epoch: Called with the journal's line after each epoch.
        warn: Called with what was found damaged and set aside.

    Raises:
        KeyboardInterrupt: After the record has been marked ``interrupted``.
        LostError: ``on_epoch`` says that another process does the run by now; nothing is recorded.
        StorageError: The disk is full, or cannot be written.
    """
    store = RunStore(task.folder)
    try:
        store.clean()
        store.write("config.yaml", dump_yaml(task.config.to_dict()))
        with same_arithmetic():
            record = _run(task, store, on_epoch, warn)
        store.write("record.json", dump_json(record))
    except KeyboardInterrupt:
        close(task, "interrupted", "interrupted from the keyboard")
        raise
    except LostError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and (unwritable := StorageError.of(error, store.path)):
            raise unwritable from error
        return failed(task, error)
    return record


def _run(task: Task, store: RunStore, on_epoch: OnEpoch, warn: Warn) -> dict[str, Any]:
    config, device = task.config, torch.device(resolve_device(task.device))

    # 5 the data
    splits = load_splits(config, task.data_dir)
    parts = (splits.train, splits.validation, splits.test)
    x, validation, test = (part.x.to(device) for part in parts)

    # 6 the model and its optimiser
    state = _begin(config, splits.shape, x, store, warn)

    # 7 the training, and the weights that it leaves
    shown = None if task.tune else test
    peak_mb = _train(config, store, state, (x, validation, shown), on_epoch)
    drawn = drawn_once(config, x)
    if task.tune:
        return scored_record(task, state.vae, drawn, validation)
    measured = _choose_weights(config, store, state, drawn, splits.shape)

    # 8 the measurement
    subject = make_subject(config, state.vae, splits, drawn, task.data_dir)
    missed: list[str] = []
    names = measured_names(config, labelled=splits.labelled)
    metrics = measure_subject(subject, names, missed)

    # 9 the pictures
    save_snapshot(store, state.vae, test, epoch=measured)
    arrays = figure_arrays(subject, config.figures)
    store.save_arrays(arrays)
    label = run_label(task.cell, config.seed) + (f" ({MARK.lower()})" if config.trial else "")
    draw_figures(store, arrays, label, config.estimator.name, FIGURES if config.trial else None)
    pictured, unpictured = draw_own_figures(store, arrays, label)

    # 10 the record
    record = completed_record(task, splits, state, subject, metrics, measured, peak_mb)
    record["notes"] += [*missed, *unpictured]
    return record | ({"figures": pictured} if pictured else {})


def _begin(config: RunConfig, shape: Shape, x: Tensor, store: RunStore, warn: Warn) -> State:
    """The model and its optimiser, as they begin or as the last checkpoint left them."""
    state = build(config, shape, x.device)
    require_trainable(state.vae, len(x), config.training.batch_size)
    start_likelihood(state.vae, drawn_once(config, x))
    resume(config, state, store, warn)
    return state


def _train(
    config: RunConfig,
    store: RunStore,
    state: State,
    images: tuple[Tensor, Tensor, Tensor | None],
    on_epoch: OnEpoch,
) -> float | None:
    """Train what is left to train; return the peak of memory in MB, None where it is not known.

    What an epoch leaves is on the disk before the next begins; the checkpoint carries the epoch's
    journal line, so that the two cannot disagree after a crash.
    """
    x, validation, test = images
    peak = peak_memory(x.device.type)
    resumed_at = state.epoch
    sources = {"plugins": plugin_digests(described_plugins(config))} if config.plugins else {}
    estimator = ESTIMATORS[config.estimator.name]
    for statistics in train(state, estimator, x, validation, plan(config), seed=config.seed):
        if test is not None and is_snapshot_epoch(statistics.epoch):
            save_snapshot(store, state.vae, test, epoch=statistics.epoch)
        if state.best_epoch == statistics.epoch:
            store.save_tensors("best.pt", {"model": state.vae.state_dict()})
        line = journal_line(statistics)
        line["metrics"] |= diagnose(config, state.vae, x, statistics)
        store.save_tensors("checkpoint.pt", state.state_dict() | {"line": line} | sources)
        store.append(line)
        on_epoch(line)
    return peak() if state.epoch > resumed_at else None


def _choose_weights(
    config: RunConfig, store: RunStore, state: State, x: Tensor, shape: Shape
) -> int:
    """Load and keep the weights that are measured; return their epoch: the last, or the best one.

    ``x``: the training images as they are measured, to which a likelihood may be fitted.
    """
    if config.evaluate == "best":
        best = store.load_tensors("best.pt")
        if best is None:
            raise ResultsError(f"{store.path}: best.pt is gone; use --rerun all")
        if why := misfit(best.get("model"), state.vae.state_dict()):
            raise ResultsError(f"{store.path}: best.pt: {why}; use --rerun all")
        state.vae.load_state_dict(best["model"])
    fit(config, state.vae, x)
    store.save_tensors("weights.pt", state.vae.state_dict())
    store.write("decoder.safetensors", decoder_bytes(state.vae, shape))
    return state.best_epoch if config.evaluate == "best" else state.epoch


def resume(config: RunConfig, state: State, store: RunStore, warn: Warn) -> None:
    """Take up the last checkpoint. A damaged one is set aside, and the run starts anew."""
    try:
        if store.set_aside_torn_lines():
            warn("the end of its journal was torn; it is kept in journal.torn")
        checkpoint = store.load_tensors("checkpoint.pt")
        if checkpoint is not None:
            if not {"line", *state.state_dict()} <= checkpoint.keys():
                raise ResultsError(f"{store.path}: checkpoint.pt: not that of a run")
            if why := misfit(checkpoint["model"], state.vae.state_dict()):
                raise ResultsError(f"{store.path}: checkpoint.pt: {why}")
            if checkpoint.get("plugins", {}) != plugin_digests(described_plugins(config)):
                raise ResultsError(
                    f"{store.path}: checkpoint.pt: the source of a plugin has changed"
                )
            if config.evaluate == "best" and checkpoint["best_epoch"]:
                store.load_tensors("best.pt")  # is it whole?
            store.append(checkpoint["line"])
            state.load_state_dict(checkpoint)
        elif store.journal:
            raise ResultsError(f"{store.path}: a journal, but no checkpoint")
    except ResultsError as error:
        warn(f"{error}; it starts anew, what there was is kept in attempts/{store.attempt}")
        store.set_aside()
        store.write("config.yaml", dump_yaml(config.to_dict()))
