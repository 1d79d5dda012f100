"""Results on disk: journals that survive a torn line, folders of runs, locks.

What is read is not trusted: every file has a size that it may not exceed, YAML and JSON are plain
data, and no file of tensors or arrays can run code or claim more memory than it has bytes.

::

    <results>/<grid>/grid.yaml                  the manifest
    <results>/<grid>/.lock  .holder             who works on it
    <results>/<grid>/runs/<run_id>/config.yaml  the resolved configuration
                                   journal.jsonl     one line per epoch
                                   checkpoint.pt     to resume from
                                   best.pt           best weights on validation
                                   weights.pt        the weights that were measured
                                   decoder.safetensors  the measured decoder, small
                                   arrays.npz        what the figures are made from
                                   images/  figures/
                                   record.json       written last
                                   error.txt         where it failed, if it did
    <results>/<grid>/tuning/<run_id>/           likewise, of a tuning run: no figures, no weights

Reading imports neither torch nor mlflow.
"""

from vaebench.storage.locks import Held, hold, network_file_system
from vaebench.storage.runs import RunStore, run_store

__all__ = [
    "Held",
    "RunStore",
    "hold",
    "network_file_system",
    "run_store",
]
