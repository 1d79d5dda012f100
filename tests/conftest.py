"""What every test stands on: one thread, deterministic hypothesis, untouched global randomness.

Tests mirror the modules: ``test_<module>.py``. Whatever runs over a registry (``MODELS``,
``LIKELIHOODS``, ``ESTIMATORS``, ...) also tests the entries that are added later. Tiny models and
images are in ``tiny.py``, made-up results folders in ``records.py``.
"""

import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets  # noqa: F401 (its first import draws from `random`; let it be here)
import torch
from hypothesis import settings

torch.set_num_threads(1)  # as in a run: thread counts move the last bits
os.environ["MLFLOW_HTTP_REQUEST_BACKOFF_JITTER"] = "0"  # a retry would draw from `random`

settings.register_profile("vaebench", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("vaebench")


def global_random_states() -> dict[str, Any]:
    """Return the states of the global random streams, as values that compare with ``==``."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global state is what is watched)
    return {
        "torch": torch.random.get_rng_state().numpy().tobytes(),
        "numpy": (kind, np.asarray(keys).tobytes(), *rest),
        "random": random.getstate(),
    }


@pytest.fixture(autouse=True, scope="session")
def data_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Classifiers are kept in the user's data directory only if the user names one."""
    with pytest.MonkeyPatch.context() as patch:
        if "VAEBENCH_DATA" not in os.environ:
            patch.setenv("VAEBENCH_DATA", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(autouse=True)
def no_mlflow_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user's environment says of MLflow counts in no test."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store of MLflow, made once as vaebench makes it; tests copy it."""
    from vaebench.tracking.store import open_client, prepare_mlflow

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    (path.parent / ".mlflow.db.new").write_bytes(b"half made by a process that was killed")
    prepare_mlflow()
    open_client(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


@pytest.fixture(autouse=True)
def untouched_global_randomness() -> Iterator[None]:
    """Fail a test that moved a global random stream: every draw has a stream with a name."""
    before = global_random_states()
    yield
    after = global_random_states()
    moved = [name for name in before if before[name] != after[name]]
    if moved:
        pytest.fail(
            f"the test moved the global random state of {', '.join(moved)}; "
            f"draw from vaebench.seeding.stream(seed, name)"
        )
