"""On which kind of device the runs of a grid ran, and that they should be of one kind."""

from collections.abc import Sequence

from vaebench.cpu import describe_cpu
from vaebench.report.cells import Cell
from vaebench.report.loading import Record, counted
from vaebench.schema.labels import cell_label

NAMED = 3  # cells that a note names for a kind of device


def device_kind(record: Record) -> str:
    """The kind of device that a run ran on: ``cpu (AMD EPYC)``."""
    environment = record.get("environment", {})
    device = environment.get("device") or "unknown device"
    name = environment.get("device_name") or environment.get("cpu")
    if device == "cpu" and name:
        name = describe_cpu({"cpu": name, "cpu_kind": environment.get("cpu_kind")})
    return f"{device} ({name})" if name else str(device)


def by_device(cells: Sequence[Cell]) -> dict[str, list[Record]]:
    """The complete runs by the kind of device that they ran on."""
    kinds: dict[str, list[Record]] = {}
    for cell in cells:
        for record in cell.records:
            kinds.setdefault(device_kind(record), []).append(record)
    return kinds


def device_notes(cells: Sequence[Cell]) -> list[str]:
    """A note that the runs are not all of one kind of device, if so, and which ran on which."""
    kinds = by_device(cells)
    if len(kinds) < 2:
        return []
    said = "; ".join(f"{kind}: {_runs(records)}" for kind, records in kinds.items())
    return [
        "The runs did not all run on one kind of device. Devices round differently, so a "
        f"difference between rows may be one between devices. {said}."
    ]


def _runs(records: Sequence[Record]) -> str:
    """How many runs there are; where they are of few cells, which."""
    seeds: dict[str, list[str]] = {}
    for record in records:
        seeds.setdefault(cell_label(record["cell"]), []).append(str(record["seed"]))
    text = counted(len(records), "run")
    if len(seeds) > NAMED:
        return text
    named = (f"{label}, seed{'s' * (len(n) > 1)} {', '.join(n)}" for label, n in seeds.items())
    return f"{text} ({'; '.join(named)})"
