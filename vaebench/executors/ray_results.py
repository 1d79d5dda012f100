"""What a node sends of a run whose folder it does not see, put into that folder by the driver."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vaebench.errors import ResultsError, StorageError
from vaebench.files import dump_yaml, make_folder, names_in
from vaebench.run import Task
from vaebench.storage import RunStore
from vaebench.storage.archives import run_files, unpack


def next_attempt(task: Task) -> int:
    """Which attempt a run is that begins anew: what lies there is set aside first."""
    store = RunStore(task.folder)
    return store.attempt + bool(_left(store))


def _left(store: RunStore) -> bool:
    return any(name != "attempts" for name in names_in(store.path, store.within))


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError.of(error, folder) or ResultsError(f"{folder}: {error}") from error


class Apart:
    """A run that is done elsewhere: its epochs are kept as they come, and its files at its end.

    What lies in its folder is set aside, as the node begins anew: it has seen no checkpoint.

    Raises:
        StorageError: The folder cannot be written.
        ResultsError: It, or what was sent, is not as it should be.
    """

    def __init__(self, task: Task) -> None:
        self.store = RunStore(task.folder)
        self._archive = task.folder.parent / "received.zip"
        with _told(task.folder):
            make_folder(task.folder)
            if _left(self.store):
                self.store.set_aside()
            self._archive.unlink(missing_ok=True)
            self.store.write("config.yaml", dump_yaml(task.config.to_dict()))

    def hear(self, kind: str, data: dict[str, Any]) -> None:
        """Keep an epoch or a piece of the archive; at its end, what the archive holds."""
        with _told(self.store.path):
            if kind == "epoch":
                self.store.append(data)
            elif kind == "piece":
                with self._archive.open("ab") as file:
                    file.write(data["bytes"])
            elif kind == "done":
                self._unpack()

    def _unpack(self) -> None:
        new = self._archive.with_name("received")
        shutil.rmtree(new, ignore_errors=True)
        make_folder(new)
        grid = unpack(self._archive, new, part=True)
        (run,) = grid.glob(f"*/{self.store.run_id}")
        for name, _ in run_files(run, new):  # the record comes last
            make_folder((self.store.path / name).parent)
            (run / name).replace(self.store.path / name)
        shutil.rmtree(new)
        self._archive.unlink()
