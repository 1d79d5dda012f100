"""What is done of a run in a trial, see :mod:`vaebench.schema.trial`."""

from pathlib import Path

from vaebench import datasets
from vaebench.config import RunConfig
from vaebench.datasets import Split, Splits
from vaebench.schema.trial import MEASURED, TRAINED


def load_splits(config: RunConfig, data_dir: Path | None) -> Splits:
    """The images of a run; in a trial the first of each split.

    Raises:
        DataError: As for :func:`vaebench.datasets.load`.
    """
    splits = datasets.load(data_dir=data_dir, **config.dataset.arguments)
    return _first(splits, config.training.batch_size) if config.trial else splits


def _first(splits: Splits, batch_size: int) -> Splits:
    trained = min(TRAINED, len(splits.train.x))
    if trained % batch_size == 1 < trained:  # batch normalisation cannot train on one image
        trained -= 1
    return Splits(
        name=splits.name,
        digest=splits.digest,
        train=Split(splits.train.x[:trained], splits.train.y[:trained]),
        validation=Split(splits.validation.x[:MEASURED], splits.validation.y[:MEASURED]),
        test=Split(splits.test.x[:MEASURED], splits.test.y[:MEASURED]),
    )
