"""``reference.json`` beside ``grid.yaml``: the reference rows of what a grid has finished."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vaebench.config import RunConfig
from vaebench.errors import ResultsError
from vaebench.files import dump_json, write_atomic
from vaebench.grid.listener import Listener
from vaebench.report.loading import dig
from vaebench.run.reference import reference_rows
from vaebench.schema.reference import FILE, MAX_ROWS, REFERENCE_VERSION, read_reference
from vaebench.storage import locked
from vaebench.text import one_line

MAX_REASON = 200  # characters of why there are none


def write_reference(
    folder: Path,
    configs: Sequence[RunConfig],
    data_dir: Path | None,
    listener: Listener,
) -> bool:
    """Measure the reference rows of finished runs and keep them with those of earlier calls.

    Nothing is measured without a finished run, nor what was measured before. A failure is a
    warning: the grid's own results stand without these rows.

    Arguments:
        folder: The grid's folder.
        configs: Of the runs that are complete; those of trials have none.
        data_dir: Where data sets lie; None for the default.
        listener: Told of what is measured, and of a failure.

    Returns:
        Whether the file has been written: it had other rows, or was not there.
    """
    configs = [config for config in configs if not config.trial]
    if not configs:
        return False

    told: set[str] = set()

    def begin(what: str) -> None:
        name = what.rpartition(" of ")[2]
        if name not in told:  # one line for the data set, not one for each row
            listener.measuring(f"reference rows of {name}: kept for later grids")
        told.add(name)

    try:
        return keep_rows(folder, [*reference_rows(configs, data_dir, begin)])
    except Exception as error:  # whatever a data set, a plugin's model or a disk raises
        listener.warning(f"no reference rows in the report: {one_line(str(error), MAX_REASON)}")
        return False


def keep_rows(folder: Path, rows: Sequence[dict[str, Any]]) -> bool:
    """Put rows into a grid's file, in place of those that they replace; return whether it changed.

    Raises:
        OSError: The file cannot be written.
    """
    path = folder / FILE
    with locked(folder, "reference"):  # shards of a grid end at one time
        known: list[dict[str, Any]] = []
        with suppress(ResultsError):  # a damaged one is written anew
            known = read_reference(path, folder)
        kept = [row for row in known if not any(_replaces(new, row) for new in rows)]
        both = {row["key"]: row for row in (*kept, *rows)}
        now = list(both.values())[-MAX_ROWS:]
        if now == known:
            return False
        content = {"schema_version": REFERENCE_VERSION, "rows": now}
        write_atomic(path, dump_json(content), folder)
    return True


def _replaces(new: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether a row is of older data, or the same as a new one by an older definition."""
    same_data = dig(new["config"], "dataset", "name") == dig(row["config"], "dataset", "name")
    same_row = (new["kind"], new["config"]) == (row["kind"], row["config"])
    return same_row or (same_data and new["digest"] != row["digest"])
