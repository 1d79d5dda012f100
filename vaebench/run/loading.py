"""Reading a finished run."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vaebench.config import RunConfig, make_run
from vaebench.config.run import TRAINED_WITH
from vaebench.datasets import DATASETS
from vaebench.errors import ResultsError
from vaebench.plugins import load, loaded
from vaebench.run.building import build_vae
from vaebench.run.decoder_file import read_decoder
from vaebench.run.published import PublishedVAE
from vaebench.schema.labels import run_label
from vaebench.schema.record import plugin_digests, versions
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

    def __repr__(self) -> str:
        name = run_label(self.record["cell"], self.record["seed"])
        part = ", its decoder alone" if self.lacks else ""
        return f"<LoadedRun {self.record['run_id']}: {name}{part}>"

    @property
    def lacks(self) -> str | None:
        """What a published run lacks, in words; None of a run that is whole."""
        return self.model.lacks if isinstance(self.model, PublishedVAE) else None


def load_run(
    path: Path | str,
    *,
    plugins: Iterable[str | Path] = (),
    trust_changed: bool = False,
    whole: bool = False,
) -> LoadedRun:
    """Load a finished run from its folder, or from the artifact ``run`` that MLflow keeps of it.

    Arguments:
        path: The run's folder.
        plugins: Files or modules of the plugins that it was trained with, unless they are loaded.
            They are code, and run; what the folder says makes nothing run.
        trust_changed: Whether a plugin may have another source than in training. The model is then
            what the source says now, with the weights of then.
        whole: Refuse a published run, of which there is only the decoder.

    Raises:
        ConfigError: A plugin cannot be loaded, or the stored configuration is none.
        ResultsError: The folder holds no finished run; its weights are gone, damaged, larger than
            those of its model, or in the order of an older version; or a plugin is not loaded or
            has changed.
    """
    load(map(str, plugins))
    store = RunStore(Path(path))
    record, raw = finished(store)
    require_plugins(store.path, record)
    decoder = store.path / "decoder.safetensors"
    if not whole and not (store.path / "weights.pt").exists() and decoder.exists():
        config = make_run(raw, source=f"{path}/config.yaml")
        model = PublishedVAE(read_decoder(decoder), store.path).eval()
        return LoadedRun(model, config, record["metrics"], record)
    config = make_run(raw, source=f"{path}/config.yaml")
    changed = changed_plugin(config, record)
    if changed and not trust_changed:
        raise ResultsError(
            f"{path}: was trained with another source of the plugin {changed} than is loaded; "
            f"restore it, or say trust_changed=True"
        )
    if config.model.name == "cnn" and (versions(record)["numbers"] or 0) < CNN_FEATURES_SINCE:
        raise ResultsError(
            f"{path}: an older vaebench trained this cnn, whose features had another order; "
            f"train it anew (--rerun all)"
        )
    shape = DATASETS[config.dataset.name].shape_with(config.dataset.options)
    with seeded(0, "load"):
        vae = build_vae(config.model, config.loss, shape)
    expected = sum(tensor.nbytes for tensor in vae.state_dict().values())
    weights = store.load_tensors("weights.pt", max_bytes=2 * expected + OVERHEAD)
    if weights is None:
        raise no_weights(store)
    if why := misfit(weights, vae.state_dict()):
        raise ResultsError(f"{path}: weights.pt: {why}")
    vae.load_state_dict(dict(weights))  # without what else a file may say of it
    return LoadedRun(vae.eval(), config, record["metrics"], record)


def require_plugins(folder: Path, record: Mapping[str, Any]) -> None:
    """Make sure that a run's components are known: what its plugins provide has been entered.

    Raises:
        ResultsError: The first plugin that is missing, and what it provides.
    """
    known = {plugin.name for plugin in loaded()}
    for entry in record.get("plugins") or ():
        provided = [str(each) for each in entry.get("provides") or ()]
        absent = [each for each in provided if not _is_entered(each)]
        if entry.get("name") not in known and absent:
            raise ResultsError(
                f"{folder}: needs the {' and the '.join(absent)} of the plugin "
                f"{entry.get('name')}, which no results folder makes run; name its file "
                f"(--plugin, or plugins=[...])"
            )


def _is_entered(provided: str) -> bool:
    """Whether there is what a record says that a plugin provides: ``model residual``."""
    key, _, name = provided.partition(" ")
    return name in TRAINED_WITH.get(key, {})


def changed_plugin(config: RunConfig, record: Mapping[str, Any]) -> str | None:
    """The first plugin whose source is another than that of a finished run; None if there is none.

    Arguments:
        config: The run's configuration, with the plugins of now.
        record: The run's record.
    """
    then = plugin_digests(record)
    now = {plugin.name: plugin.digest for plugin in config.plugins}
    for name in sorted(then.keys() | now.keys()):
        if name not in then or name not in now:
            return name
        if then[name] != now[name] and None not in (then[name], now[name]):  # not from a prompt
            return name
    return None


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
