"""MLflow, the window on the results folder; the only part of vaebench that imports mlflow.

The results folder is the truth. What is in it can be shown in MLflow at any time and any number
of times, and shows the same: runs are found again by their tags, metrics keep the time stamps of
the journal, pictures have deterministic names. So a tracking server that is down costs nothing but
the view of it. Nothing here touches MLflow's global state.

::

    store     which URI, which experiment, how to open it, what its errors mean
    content   what is said about a run: parameters, tags, names, descriptions (no MLflow)
    sync      a grid's folder -> grid run, cell runs, one run per seed
    models    the best seed of each cell as an MLflow model, without pickle
    views     saved views of the MLflow page, and links that open them
    writer    the thread that follows a training grid
    server    ``vaebench ui``

To show something more, add it to ``content`` (a value) or to ``sync`` (a file).
"""

from vaebench.tracking.server import ui
from vaebench.tracking.store import Window, connect
from vaebench.tracking.views import Link
from vaebench.tracking.writer import Outcome, Writer, sync

__all__ = ["Link", "Outcome", "Window", "Writer", "connect", "sync", "ui"]
