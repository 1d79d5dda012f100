"""Results on disk: journals that survive a torn line, folders of runs, leases.

What is read is not trusted: every file has a size that it may not exceed, YAML and JSON are plain
data, and no file of tensors or arrays can run code or claim more memory than it has bytes.

::

    <results>/<grid>/grid.yaml                  the manifest
    <results>/<grid>/.work/                     who works on it, and what is not yet published
    <results>/<grid>/runs/<run_id>/config.yaml  the resolved configuration
                                   journal.jsonl     one line per epoch
                                   checkpoint.pt     to resume from, until it is complete
                                   best.pt           best weights on validation, likewise
                                   weights.pt        the weights that were measured
                                   decoder.safetensors  the measured decoder, small
                                   arrays.npz        what the figures are made from
                                   images/  figures/
                                   record.json       written last
                                   error.txt         where it failed, if it did
                                   attempts/         what was set aside, or came late
    <results>/<grid>/tuning/<run_id>/           likewise, of a tuning run: no figures, no weights

A run is done in a folder of its own below ``.work`` and renamed to its place when it has ended.
Reading imports neither torch nor mlflow.
"""

from vaebench.storage.attempts import (
    Late,
    attempt_at,
    content_of,
    find_run,
    lease_of,
    publish,
    published_of,
    take_up,
    worker_of,
)
from vaebench.storage.holders import Holder, Watch
from vaebench.storage.leases import GRACE, Lease, LostError, Taken, locked, only_one, renewed
from vaebench.storage.members import Held, has_others, join
from vaebench.storage.mounts import network_file_system
from vaebench.storage.runs import RunStore, run_store

__all__ = [
    "GRACE",
    "Held",
    "Holder",
    "Late",
    "Lease",
    "LostError",
    "RunStore",
    "Taken",
    "Watch",
    "attempt_at",
    "content_of",
    "find_run",
    "has_others",
    "join",
    "lease_of",
    "locked",
    "network_file_system",
    "only_one",
    "publish",
    "published_of",
    "renewed",
    "run_store",
    "take_up",
    "worker_of",
]
