"""MLflow, the window on the results folder; the only part of vaebench that imports mlflow.

The results folder is the truth. What is in it can be shown in MLflow at any time and any number
of times, and shows the same: runs are found again by their tags, metrics keep the time stamps of
the journal, pictures have deterministic names. So a tracking server that is down costs nothing but
the view of it. Nothing here touches MLflow's global state.

::

    store      which URI, which experiment, how to open it
    payload    what is said about a run: parameters, tags, names, metrics (no MLflow)
    describe   the descriptions on MLflow's pages
    client     the runs of one grid in MLflow, and the ways to add to them
    publisher  a grid's folder -> grid run, cell runs, one run per seed
    models     the best seed of each cell as an MLflow model, without pickle
    views      saved views of the MLflow page, and links that open them
    replay     all of a grid, any number of times: ``vaebench sync``
    writer     the thread that follows a training grid
    server     ``vaebench ui``
    failures   what MLflow's errors mean, and that no password is in them

To show something more, add it to ``payload`` (a value) or to ``publisher`` (a file).
"""

from vaebench.tracking.publisher import Outcome
from vaebench.tracking.replay import sync, sync_all
from vaebench.tracking.server import ui
from vaebench.tracking.store import Window, connect
from vaebench.tracking.views import Link
from vaebench.tracking.writer import Writer

__all__ = ["Link", "Outcome", "Window", "Writer", "connect", "sync", "sync_all", "ui"]
