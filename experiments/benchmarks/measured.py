"""What a benchmark measured, for people (a table, a picture) and the next comparison (JSON)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from experiments.benchmarks.chart import turns
from vaebench.cpu import describe_cpu
from vaebench.errors import ConfigError
from vaebench.figures import to_png
from vaebench.files import dump_json, write_atomic
from vaebench.report.markup import bullets, escape, grid_lines
from vaebench.report.numbers import decimals_of, rounded

MARGIN = 0.15  # a ratio that falls by more than this part is a regression, not noise
Unit = Literal["images/s", "images/CPU s", "s", "CPU s", "s/run", "MB"]
UNITS: dict[str, str] = {  # in words
    "images/s": "images per second",
    "images/CPU s": "images per second of the CPU",
    "s": "seconds",
    "CPU s": "CPU seconds",
}


@dataclass(frozen=True)
class Measurement:
    """One contender, or one command, over all turns.

    Attributes:
        name: What was measured.
        unit: Unit of the values.
        values: One for each turn.
    """

    name: str
    unit: Unit
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle turn."""
        return median(self.values)


@dataclass(frozen=True)
class Ratio:
    """How many times better the first was than the second, turn by turn.

    Attributes:
        name: ``first / second``.
        values: One for each turn; above 1 where the first was better.
    """

    name: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle turn."""
        return median(self.values)


class Outcome(NamedTuple):
    """What a kind of benchmark returns; see :class:`Result`."""

    measurements: list[Measurement]
    ratios: list[Ratio]
    remarks: list[str]


@dataclass(frozen=True)
class Result:
    """All that a benchmark measured.

    Attributes:
        name: The benchmark's name.
        question: The question that it answers.
        settings: Its file, resolved.
        environment: What ran where.
        measurements: In the order of the settings.
        ratios: Likewise.
        remarks: What else a reader should know, a sentence each.
    """

    name: str
    question: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    measurements: list[Measurement]
    ratios: list[Ratio]
    remarks: list[str] = field(default_factory=list)


def ratio(first: Measurement, second: Measurement) -> Ratio:
    """Turn by turn, how many times better the first is; of seconds, fewer are better."""
    pairs = zip(first.values, second.values, strict=True)
    more_is_better = first.unit.startswith("images/")
    values = [a / b if more_is_better else b / a for a, b in pairs]
    return Ratio(f"{first.name} / {second.name}", values)


class OtherCpuError(ConfigError):
    """A baseline is of another kind of CPU."""


def require_same_cpu(baseline: Result, environment: dict[str, Any]) -> None:
    """Refuse a baseline of another kind of CPU: its ratios are not comparable with these.

    Arguments:
        baseline: An earlier state.
        environment: This machine, from :func:`vaebench.environment.describe`.

    Raises:
        OtherCpuError: The CPU is another one by name or kind, or the baseline does not say its
            kind. (A kind that could not be found out, neither there nor here, is no obstacle.)
    """
    there, here = describe_cpu(baseline.environment), describe_cpu(environment)
    if "cpu_kind" not in baseline.environment:
        raise OtherCpuError(
            f"baseline {baseline.name}: does not say of which kind its CPU ({there}) was; here it "
            f"is {here}: measure the earlier state again"
        )
    if any(baseline.environment.get(key) != environment[key] for key in ("cpu", "cpu_kind")):
        raise OtherCpuError(
            f"baseline {baseline.name}: was measured on another kind of CPU ({there}) than this "
            f"one ({here}), and ratios depend on it: measure the earlier state again"
        )


def regressions(baseline: Result, now: Result) -> list[str]:
    """Ratios of the baseline that have fallen by more than :data:`MARGIN`, in words."""
    known = {each.name: each for each in now.ratios}
    return [
        f"{before.name}: {before.median:.2f} times before, {after.median:.2f} now"
        for before in baseline.ratios
        if (after := known.get(before.name)) and after.median < (1 - MARGIN) * before.median
    ]


def text(result: Result) -> str:
    """The tables in Markdown."""
    parts = [f"# {escape(result.name)}", "", escape(result.question), ""]
    rows = [
        [*_row(each, decimals_of(each.values, each.unit)), each.unit, str(len(each.values))]
        for each in result.measurements
    ]
    headings = ["", "median", "lowest", "highest", "unit", "turns"]
    parts += [*grid_lines(headings, rows, right=[1, 2, 3, 5]), ""]
    if result.ratios:
        rows = [[*_row(each, 2), str(len(each.values))] for each in result.ratios]
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


def _row(each: Measurement | Ratio, decimals: int) -> list[str]:
    numbers = (each.median, min(each.values), max(each.values))
    return [escape(each.name), *(rounded(number, decimals) for number in numbers)]


def save(result: Result, folder: Path) -> list[Path]:
    """Write ``<name>.json``, ``<name>.md`` and ``<name>.png`` into a folder; return their paths."""
    unit = result.measurements[0].unit
    picture = turns(
        {each.name: each.values for each in result.measurements if each.unit == unit},
        title=result.question or result.name,
        unit=UNITS.get(unit, unit),
    )
    contents: dict[str, str | bytes] = {
        f"{result.name}.json": dump_json(asdict(result)),
        f"{result.name}.md": text(result),
        f"{result.name}.png": to_png(picture),
    }
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return [folder / name for name in contents]


def load_result(path: Path) -> Result:
    """Read a result that :func:`save` wrote.

    Raises:
        ConfigError: It cannot be read, or is none.
    """
    try:
        return TypeAdapter(Result).validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: not the JSON of a benchmark") from error
