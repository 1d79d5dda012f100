"""The best seed of a cell as an MLflow model: images in, posterior-mean reconstructions out.

The format is pt2 (``torch.export``): a traced graph and its weights, no pickle, loaded by
``mlflow.pytorch.load_model("models:/m-...")`` without vaebench. Only MLflow's client is used, since
``mlflow.pytorch.log_model`` would need its global state.
"""

import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vaebench.errors import ResultsError
from vaebench.plugins import known, told
from vaebench.schema.labels import cell_label
from vaebench.schema.record import plugin_digests
from vaebench.schema.trial import is_trial
from vaebench.text import one_line
from vaebench.tracking.payload import Seed, final_points, run_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from torch import nn

MAX_SAID = 300  # characters of why there is no model
EXAMPLES = 2  # torch.export would freeze a batch size of 1


class NoModelError(ResultsError):
    """A model that no graph can be made of."""


class Made(NamedTuple):
    """MLflow's id of a model, empty where there is none, and what is said of it."""

    model_id: str
    described: str


def has_model(run: Seed) -> bool:
    """Whether a model can be made of a run.

    Published folders lack what it is made of, and a plugin that is not loaded is not loaded for it.
    None is made of a trial.
    """
    record = run.store.record or {}
    used = plugin_digests(record)
    there = all((run.store.path / name).exists() for name in ("weights.pt", "arrays.npz"))
    loaded = used.keys() <= {plugin.name for plugin in known()}
    return there and loaded and not is_trial(record.get("config"))


def logged_model(client: "MlflowClient", experiment_id: str, run: Seed, mlflow_run_id: str) -> Made:
    """Log a finished run's model, see :func:`log_model`; say why where there cannot be one."""
    try:
        model_id = log_model(client, experiment_id, run, mlflow_run_id)
    except NoModelError as error:
        return Made("", f"none: {one_line(error, MAX_SAID)}")
    return Made(model_id, f"`models:/{model_id}`")


def log_model(client: "MlflowClient", experiment_id: str, run: Seed, mlflow_run_id: str) -> str:
    """Log a finished run's model with its final metrics; takes about a second.

    Arguments:
        client: A client of the store.
        experiment_id: Where the model is listed.
        run: The run, complete, with its ``arrays.npz`` and ``weights.pt``.
        mlflow_run_id: Its run in MLflow, of which the model becomes an output.

    Returns:
        MLflow's id of the model; ``models:/<id>`` loads it.

    Raises:
        NoModelError: The model is one of a plugin, and ``torch.export`` cannot make a graph of it.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    made = client.search_logged_models([experiment_id], f"source_run_id = '{mlflow_run_id}'")
    for model in made:
        if str(model.status) == "READY":
            return str(model.model_id)
        client.delete_logged_model(str(model.model_id))  # of a call that did not get that far
    model = client.create_logged_model(
        experiment_id,
        name=re.sub(r"[/:.%\"']", "_", run_name(run.cell)),  # which MLflow forbids in a model's
        source_run_id=mlflow_run_id,
        model_type="vae",
        tags={"vaebench.run_id": run.run_id, "vaebench.cell": cell_label(run.cell)},
        params={key: str(value) for key, value in run.cell.items()},
    )
    model_id = str(model.model_id)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model")
            try:
                save_model(run, path, model_id=model_id, mlflow_run_id=mlflow_run_id)
            except Exception as error:
                if isinstance(error, OSError) or not plugin_digests(run.store.record or {}):
                    raise
                raise NoModelError(f"torch.export refused it: {told(error)}") from error
            client.log_model_artifacts(model_id, str(path))
    except BaseException:
        with suppress(Exception):  # it is deleted by the next try in any case
            client.finalize_logged_model(model_id, "FAILED")
        raise
    client.log_outputs(mlflow_run_id, [LoggedModelOutput(model_id, step=0)])
    points = final_points(run.store.record or {"metrics": {}})
    metrics = [Metric(*point, model_id=model_id) for point in points]
    client.log_batch(mlflow_run_id, metrics=metrics, synchronous=True)
    client.finalize_logged_model(model_id, "READY")
    return model_id


def save_model(run: Seed, path: Path, *, model_id: str, mlflow_run_id: str) -> None:
    """Write the run's reconstruction as a folder that MLflow loads.

    Raises:
        ResultsError: The run's folder lacks its weights or its arrays.
    """
    import mlflow
    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    arrays = run.store.arrays()
    if arrays is None:
        raise ResultsError(f"{run.store.path}: no arrays.npz; train the run again with --rerun all")
    example = arrays["originals"][:EXAMPLES].astype(np.float32)
    images = Schema([TensorSpec(np.dtype(np.float32), (-1, *example.shape[1:]))])
    torch_version = torch.__version__.partition("+")[0]  # +cu130 is on no package index
    mlflow.pytorch.save_model(
        _reconstruction(run.store.path),
        str(path),
        mlflow_model=Model(run_id=mlflow_run_id, model_id=model_id),
        serialization_format="pt2",
        signature=ModelSignature(inputs=images, outputs=images),
        input_example=example,
        # named here: MLflow would load the model in another process to find out, half a minute
        pip_requirements=[f"mlflow=={mlflow.__version__}", f"torch=={torch_version}"],
    )


def _reconstruction(path: Path) -> "nn.Module":
    from torch import Tensor, nn

    from vaebench.run import load_run

    class Reconstruction(nn.Module):
        """Images (B, C, H, W) in [0, 1] to the mean image of their posterior mean."""

        def __init__(self) -> None:
            super().__init__()
            self.vae = load_run(path, whole=True).model.cpu()

        def forward(self, x: Tensor) -> Tensor:
            code = self.vae.encoder(x).mean
            images: Tensor = self.vae.likelihood.mean(self.vae.decoder(code))
            return images

    return Reconstruction().eval()
