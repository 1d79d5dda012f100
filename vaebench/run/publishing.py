"""The end of a run that several processes might do: it is published once, by the first."""

import shutil
from contextlib import suppress

from vaebench.run.record import Task
from vaebench.schema.labels import run_label
from vaebench.storage import LostError, RunStore, lease_of, publish

RESUMED_FROM = ("checkpoint.pt", "best.pt")  # of no use to a complete run: more epochs are another


def publish_run(task: Task) -> None:
    """Publish the run of a task that has a record; one that is alone in its folder lies there.

    Checkpoints of a complete run are dropped, unless the task keeps them.

    Raises:
        LostError: Another process has taken it over; where this attempt is kept is in the message.
        ResultsError: A link stands in the way.
        OSError: The folder cannot be written.
    """
    lease = lease_of(task.folder)
    if lease is None:
        return
    store = RunStore(task.folder)
    is_complete = (store.record or {}).get("status") == "complete"
    if is_complete and not task.keep_checkpoints:
        for name in RESUMED_FROM:
            (store.path / name).unlink(missing_ok=True)
    if not is_complete and not lease.is_current():
        discard(task)
        raise LostError("another process has taken it over, of which this one had not been heard")
    if late := publish(lease):
        label = run_label(task.cell, task.config.seed)
        raise LostError(
            f"{label} ({task.key}): was done, but another process had taken it over; the first "
            f"that is published counts, this one is kept in {late.kept}"
        )


def discard(task: Task) -> None:
    """Remove what an attempt left that was taken over before it was complete."""
    with suppress(LostError):
        if (lease := lease_of(task.folder)) is not None:
            shutil.rmtree(task.folder, ignore_errors=True)
            lease.release()
