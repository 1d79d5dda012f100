"""Reference rows of a data set: what real images, the exact linear optimum and no training reach.

Which split is compared with which:

- ``real``: the data set's own validation images against its test images, both gray, in the features
  of the classifier that judges generated images. Neither the classifier nor any model was trained
  on them, so they are what a perfect generator would draw. A data set without validation images
  gives its training images instead. No other row's precision or recall means more than this.
- ``ppca``: fitted to the training split as a run of the grid has it, measured on the test split, in
  closed form but for the codes from which it generates.
- ``untrained``: a model of the grid as it starts, measured as any run on the test split.

Rows are kept in the data directory, ``references/<key>.json``, under a hash of all that they depend
on: a data set's are measured once, in a second (digits) or half a minute (MNIST).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from vaebench import datasets
from vaebench.config import NUMBERS_VERSION, RunConfig, make_run
from vaebench.datasets import Splits
from vaebench.datasets.files import data_directory
from vaebench.datasets.pixels import quantized
from vaebench.errors import VaebenchError
from vaebench.files import dump_json, write_atomic
from vaebench.likelihoods import LIKELIHOODS
from vaebench.metrics import (
    METRICS,
    Generation,
    Latents,
    Reference,
    measure,
    reference,
    ssim_per_image,
)
from vaebench.metrics.ppca import Ppca, Spectrum, spectrum
from vaebench.metrics.subject import GENERATED
from vaebench.run.arithmetic import same_arithmetic
from vaebench.run.building import build, model_cost
from vaebench.run.declared import measured_names
from vaebench.run.measuring import drawn_once, make_subject
from vaebench.schema.reference import REFERENCE_VERSION, read_reference
from vaebench.seeding import stream
from vaebench.vae import start_likelihood

RECIPE = 1  # raise it whenever the same row would get other numbers
MAX_OF_A_KIND = 4  # rows of a data set: the first latent sizes, the first losses of a grid

Row = dict[str, Any]
_JUDGED = ("precision", "recall", "classifier_frechet")
_NAMED = {"real": "real images", "ppca": "exact pPCA", "untrained": "an untrained model"}


def reference_rows(
    configs: Sequence[RunConfig], data_dir: Path | None, begin: Callable[[str], None]
) -> Iterator[Row]:
    """The rows of the data sets, latent sizes and losses of finished runs, one after the other.

    Arguments:
        configs: Of the runs; of their models, the cheapest of each loss is measured untrained.
        data_dir: Where data sets lie; None for the default.
        begin: Told which row is measured, before it is.

    Raises:
        Exception: Whatever a measurement raises.
    """
    load = cache(lambda text: datasets.load(data_dir=data_dir, **json.loads(text)))
    spectra: dict[str, Spectrum] = {}

    def splits_of(config: RunConfig) -> Splits:
        found: Splits = load(json.dumps(config.dataset.arguments))
        return found

    def real(config: RunConfig) -> Row | None:
        return _real(config, data_dir)

    def ppca(config: RunConfig) -> Row | None:
        splits, name = splits_of(config), json.dumps(config.dataset.model_dump())
        try:
            if name not in spectra:
                spectra[name] = spectrum(drawn_once(config, splits.train.x))
            fitted = Ppca.fit(spectra[name], config.model.latent_dim)
        except ValueError:  # too large, or too few dimensions: there is no such optimum
            return None
        return _ppca(config, fitted, splits, data_dir)

    def untrained(config: RunConfig) -> Row:
        return _untrained(config, splits_of(config), data_dir)

    kinds: dict[str, tuple[Callable[[RunConfig], Row | None], Iterable[RunConfig]]] = {
        "real": (real, _first(configs, lambda c: (c.dataset.name, str(c.dataset.options)))),
        "ppca": (ppca, _first(configs, lambda c: (c.dataset, c.model.latent_dim))),
        "untrained": (untrained, _first(_by_cost(configs), lambda c: (c.dataset, c.loss))),
    }
    for kind, (measured, chosen) in kinds.items():
        for config in chosen:
            digest = datasets.digest(config.dataset.name, data_dir, **config.dataset.options)
            if digest is None:
                continue
            about = _about(kind, config)
            key = _key(kind, digest, about)
            row = _kept(key, data_dir)
            if row is None:
                begin(f"{_NAMED[kind]} of {config.dataset.name}")
                with same_arithmetic():
                    row = measured(config)
                if row is None:
                    continue
                names = [name.partition("/")[2] for name in row["metrics"]]
                row = {
                    "kind": kind,
                    "key": key,
                    "digest": digest,
                    "config": about,
                    **row,
                    "versions": {name: METRICS[name].declaration.version for name in names},
                }
                _keep(row, data_dir)
            yield row


def _first(configs: Iterable[RunConfig], what: Callable[[RunConfig], Any]) -> list[RunConfig]:
    """A configuration of each kind, the first few."""
    found: dict[Any, RunConfig] = {}
    for config in configs:
        found.setdefault(what(config), config)
    return list(found.values())[:MAX_OF_A_KIND]


def _by_cost(configs: Sequence[RunConfig]) -> list[RunConfig]:
    return sorted(configs, key=lambda config: (model_cost(config)[1], config.seed))


def _about(kind: str, config: RunConfig) -> dict[str, Any]:
    """What of a configuration a row depends on."""
    dataset = config.dataset.model_dump(mode="json")
    if kind == "real":
        return {"dataset": {k: dataset[k] for k in ("name", dataset["name"]) if k in dataset}}
    if kind == "ppca":
        model = {"name": "linear", "latent_dim": config.model.latent_dim}
        return {"dataset": dataset, "model": model}
    dumped = config.to_dict()
    about = {key: dumped[key] for key in ("dataset", "model", "loss", "seed")}
    sources = {plugin.name: plugin.digest for plugin in config.plugins}
    return about | ({"plugins": sources} if sources else {})


def _key(kind: str, digest: str, about: dict[str, Any]) -> str:
    versions = {name: METRICS[name].declaration.version for name in METRICS if _is_ours(name)}
    depends = [kind, digest, about, versions, NUMBERS_VERSION, RECIPE]
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:12]


def _is_ours(name: str) -> bool:
    """Whether a metric is none of a plugin: of these there are no reference rows."""
    return METRICS.plugin(name) is None


def _judge(config: RunConfig, splits: Splits, data_dir: Path | None) -> Reference:
    options = tuple(sorted(config.dataset.options.items()))
    return reference(splits.name, splits.digest, data_dir, options)


def _real(config: RunConfig, data_dir: Path | None) -> Row | None:
    splits = datasets.load(config.dataset.name, data_dir=data_dir, **config.dataset.options)
    if not splits.labelled:  # no classifier, in whose features they could be compared
        return None
    judge = _judge(config, splits, data_dir)
    held_out = splits.validation if len(splits.validation.x) else splits.train
    features = judge.features_of(held_out.x[:GENERATED]).double()
    part = Generation(features, judge.features.double(), judge.radii)
    metrics = {f"test/{name}": METRICS[name].function(part) for name in _JUDGED}
    return {"metrics": metrics, "images": len(features), "classifier": judge.describe()}


def _ppca(config: RunConfig, fitted: Ppca, splits: Splits, data_dir: Path | None) -> Row:
    loss = {"name": "mse", "mse": {"sigma2": fitted.sigma2, "output": "linear"}}
    model = {"name": "linear", "latent_dim": config.model.latent_dim}
    own = make_run({"dataset": config.dataset.model_dump(), "model": model, "loss": loss})
    measured = fitted.evaluation(splits.test.x)
    if config.dataset.dequantize == "uniform":
        measured = measured._replace(x=quantized(measured.x))
    codes = fitted.posterior_means(drawn_once(config, splits.train.x)).float()
    parts: dict[str, Any] = {
        "evaluation": measured,
        "similarity": ssim_per_image(measured.x, measured.reconstruction),
        "latents": Latents(codes, splits.train.y, measured.mean, splits.test.y),
    }
    if splits.labelled:
        judge = _judge(config, splits, data_dir)
        prior = torch.randn(GENERATED, config.model.latent_dim, generator=stream(0, "generation"))
        generated = [
            judge.features_of(fitted.decode(z, splits.shape).clamp(0.0, 1.0))
            for z in torch.split(prior, 500)
        ]
        parts["generation"] = Generation(
            torch.cat(generated).double(), judge.features.double(), judge.radii
        )
    known = filter(_is_ours, measured_names(own, labelled=splits.labelled))
    names = [name for name in known if METRICS[name].part in parts]
    metrics = {f"test/{name}": METRICS[name].function(parts[METRICS[name].part]) for name in names}
    # the exact posterior is diagonal: the bound is tight
    metrics["test/log_px"] = metrics["test/elbo"]
    return {"metrics": metrics, "support": LIKELIHOODS["mse"].support, "sigma2": fitted.sigma2}


def _untrained(config: RunConfig, splits: Splits, data_dir: Path | None) -> Row:
    state = build(config, splits.shape, "cpu")
    drawn = drawn_once(config, splits.train.x)
    start_likelihood(state.vae, drawn)
    subject = make_subject(config, state.vae, splits, drawn, data_dir)
    known = filter(_is_ours, measured_names(config, labelled=splits.labelled))
    names = [name for name in known if not METRICS[name].opt_in]
    support = LIKELIHOODS[config.loss.name].support
    return {"metrics": measure(subject, "test", names), "support": support}


def _path(key: str, data_dir: Path | None) -> Path:
    return data_directory(data_dir) / "references" / f"{key}.json"


def _kept(key: str, data_dir: Path | None) -> Row | None:
    """A row that was measured before; None where there is none, or none that can be used."""
    try:
        rows = read_reference(_path(key, data_dir))
    except (VaebenchError, OSError):
        return None
    return rows[0] if len(rows) == 1 and rows[0]["key"] == key else None


def _keep(row: Row, data_dir: Path | None) -> None:
    content = dump_json({"schema_version": REFERENCE_VERSION, "rows": [row]})
    try:
        write_atomic(_path(row["key"], data_dir), content)
    except OSError:  # it is measured again next time
        return
