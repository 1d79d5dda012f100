"""Reading a finished run."""

from pathlib import Path
from typing import Any, NamedTuple

from vaebench.config import RunConfig, make_run
from vaebench.datasets import DATASETS
from vaebench.errors import ResultsError
from vaebench.run.building import build_vae
from vaebench.run.decoder_file import read_decoder
from vaebench.run.published import PublishedVAE
from vaebench.schema.record import versions
from vaebench.seeding import seeded
from vaebench.storage import RunStore
from vaebench.tensors import misfit
from vaebench.vae import VAE

CNN_FEATURES_SINCE = 3  # NUMBERS_VERSION: since then a cnn's linear layers see channels last
OVERHEAD = 1_000_000  # bytes that a file of weights may have beyond twice the weights themselves


class LoadedRun(NamedTuple):
    """A finished run.

    Attributes:
        model: The measured weights, on the CPU, in evaluation mode; of a published run, which has
            none, a :class:`~vaebench.run.published.PublishedVAE` that only decodes, in int8.
        config: The resolved configuration.
        metrics: Final metrics by name.
        record: Everything else.
    """

    model: VAE
    config: RunConfig
    metrics: dict[str, float | None]
    record: dict[str, Any]

    @property
    def lacks(self) -> str | None:
        """What a published run lacks, in words; None of a run that is whole."""
        return self.model.lacks if isinstance(self.model, PublishedVAE) else None


def load_run(path: Path | str, *, whole: bool = False) -> LoadedRun:
    """Load a finished run from its folder, or from the artifact ``run`` that MLflow keeps of it.

    Arguments:
        path: The folder.
        whole: Refuse a published run, of which there is only the decoder.

    Raises:
        ResultsError: The folder holds no finished run, or its weights are gone, damaged, larger
            than those of its model, or in the order of an older version.
    """
    store = RunStore(Path(path))
    record, raw = finished(store)
    decoder = store.path / "decoder.safetensors"
    if not whole and not (store.path / "weights.pt").exists() and decoder.exists():
        config = make_run(raw, source=f"{path}/config.yaml")
        model = PublishedVAE(read_decoder(decoder), store.path).eval()
        return LoadedRun(model, config, record["metrics"], record)
    config = make_run(raw, source=f"{path}/config.yaml")
    if config.model.name == "cnn" and (versions(record)["numbers"] or 0) < CNN_FEATURES_SINCE:
        raise ResultsError(
            f"{path}: an older vaebench trained this cnn, whose features had another order; "
            f"train it anew (--rerun all)"
        )
    with seeded(0, "load"):
        vae = build_vae(config.model, config.loss, DATASETS[config.dataset.name].shape)
    expected = sum(tensor.nbytes for tensor in vae.state_dict().values())
    weights = store.load_tensors("weights.pt", max_bytes=2 * expected + OVERHEAD)
    if weights is None:
        raise no_weights(store)
    if why := misfit(weights, vae.state_dict()):
        raise ResultsError(f"{path}: weights.pt: {why}")
    vae.load_state_dict(dict(weights))  # without what else a file may say of it
    return LoadedRun(vae.eval(), config, record["metrics"], record)


def finished(store: RunStore) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record and the configuration of a finished run.

    Raises:
        ResultsError: The folder holds no finished run.
    """
    record, raw, path = store.record, store.config, store.path
    if record is None or raw is None:
        raise ResultsError(f"{path}: not the folder of a finished run (config.yaml, record.json)")
    if record["status"] != "complete":
        raise ResultsError(f"{path}: the run is {record['status']}: {record.get('reason')}")
    return record, raw


def no_weights(store: RunStore) -> ResultsError:
    """The error that a run's weights are gone."""
    return ResultsError(
        f"{store.path}: weights.pt is not there (published results have none); "
        f"train it under another --name"
    )
