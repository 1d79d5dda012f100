"""What a benchmark found, for people (a table, a picture) and for the next comparison (JSON)."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from vaebench.bench.measured import Measurement, Result
from vaebench.cpu import describe_cpu
from vaebench.errors import ConfigError
from vaebench.figures import to_png, turns
from vaebench.report.markup import bullets, escape, grid_lines
from vaebench.report.rounding import decimals_of, rounded
from vaebench.storage import dump_json, write_atomic

MOST_BYTES = 10_000_000


def text(result: Result) -> str:
    """The tables in Markdown."""
    parts = [f"# {escape(result.name)}", "", escape(result.question), ""]
    parts += [*_table(result.measurements), ""]
    if result.ratios:
        rows = [
            [escape(each.name), *_spread(each.values, 2), str(len(each.values))]
            for each in result.ratios
        ]
        headings = ["turn by turn", "times", "lowest", "highest", "turns"]
        parts += [*grid_lines(headings, rows, right=range(1, 5)), ""]
    if result.remarks:
        parts += [*bullets(result.remarks), ""]
    environment = result.environment
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    parts += [
        f"{escape(describe_cpu(environment))}, {environment['cores']} cores, "
        f"Python {environment['python']}, {escape(packages)}.",
    ]
    return "\n".join(parts) + "\n"


def _table(measurements: Sequence[Measurement]) -> list[str]:
    rows = []
    for each in measurements:
        shown = _spread(each.values, decimals_of(each.values, each.unit))
        rows.append([escape(each.name), *shown, each.unit, str(len(each.values))])
    headings = ["", "median", "lowest", "highest", "unit", "turns"]
    return grid_lines(headings, rows, right=[1, 2, 3, 5])


def _spread(values: Sequence[float], decimals: int) -> list[str]:
    return [rounded(value, decimals) for value in (median(values), min(values), max(values))]


def save(result: Result, folder: Path) -> list[Path]:
    """Write ``<name>.json``, ``<name>.md`` and ``<name>.png`` into a folder; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents: dict[str, str | bytes] = {
        f"{result.name}.json": dump_json(result.to_dict()),
        f"{result.name}.md": text(result),
        f"{result.name}.png": to_png(_picture(result)),
    }
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return [folder / name for name in contents]


def _picture(result: Result) -> Any:
    unit = result.measurements[0].unit
    shown = [each for each in result.measurements if each.unit == unit]
    return turns(
        {each.name: each.values for each in shown},
        title=result.question or result.name,
        unit={"images/s": "images per second", "s": "seconds"}.get(unit, unit),
    )


def load_result(path: Path) -> Result:
    """Read a result that :func:`save` wrote.

    Raises:
        ConfigError: It cannot be read, or is none.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        result = Result.from_dict(json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(result.environment, dict):
            raise TypeError("no environment")
        return result
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConfigError(f"{path}: not the JSON of a benchmark") from error
