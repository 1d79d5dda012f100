"""``reference.json`` beside ``grid.yaml``: the reference rows of what a grid has finished."""

from collections.abc import Sequence
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
) -> None:
    """Measure the reference rows of finished runs and keep them with those of earlier calls.

    Nothing is measured without a finished run, nor what was measured before. A failure is a
    warning: the grid's own results stand without these rows.

    Arguments:
        folder: The grid's folder.
        configs: Of the runs that are complete.
        data_dir: Where data sets lie; None for the default.
        listener: Told of what is measured, and of a failure.
    """
    if not configs:
        return
    path = folder / FILE

    def begin(what: str) -> None:
        listener.measuring(f"reference rows, {what}: kept for later grids")

    known: list[dict[str, Any]] = []
    with suppress(ResultsError):  # a damaged one is written anew
        known = read_reference(path, folder)
    try:
        rows = {row["key"]: row for row in reference_rows(configs, data_dir, begin)}
        current = {(row["config"]["dataset"]["name"], row["digest"]) for row in rows.values()}
        names = {name for name, _ in current}
        kept = [
            row
            for row in known
            if (name := dig(row["config"], "dataset", "name")) not in names
            or (name, row["digest"]) in current
        ]
        both = {**{row["key"]: row for row in kept}, **rows}
        content = {"schema_version": REFERENCE_VERSION, "rows": list(both.values())[-MAX_ROWS:]}
        write_atomic(path, dump_json(content), folder)
    except Exception as error:  # whatever a data set, a plugin's model or a disk raises
        listener.warning(f"no reference rows in the report: {one_line(str(error), MAX_REASON)}")
