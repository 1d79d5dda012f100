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
        configs: Of the runs that are complete.
        data_dir: Where data sets lie; None for the default.
        listener: Told of what is measured, and of a failure.

    Returns:
        Whether the file has been written: it had other rows, or was not there.
    """
    if not configs:
        return False
    path = folder / FILE

    def begin(what: str) -> None:
        listener.measuring(f"reference rows, {what}: kept for later grids")

    known: list[dict[str, Any]] = []
    with suppress(ResultsError):  # a damaged one is written anew
        known = read_reference(path, folder)
    try:
        rows = {row["key"]: row for row in reference_rows(configs, data_dir, begin)}
        kept = [row for row in known if not any(_replaces(new, row) for new in rows.values())]
        both = {**{row["key"]: row for row in kept}, **rows}
        current_rows = list(both.values())[-MAX_ROWS:]
        if current_rows == known:
            return False
        content = {"schema_version": REFERENCE_VERSION, "rows": current_rows}
        write_atomic(path, dump_json(content), folder)
        return True
    except Exception as error:  # whatever a data set, a plugin's model or a disk raises
        listener.warning(f"no reference rows in the report: {one_line(str(error), MAX_REASON)}")
        return False


def _replaces(new: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether a row is of older data, or the same as a new one by an older definition."""
    same_data = new["config"]["dataset"]["name"] == dig(row["config"], "dataset", "name")
    same_row = (new["kind"], new["config"]) == (row["kind"], row["config"])
    return same_row or (same_data and new["digest"] != row["digest"])
