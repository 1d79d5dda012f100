"""What a benchmark measured: values in turns, their median and spread, and ratios of the turns."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

from vaebench.cpu import describe_cpu
from vaebench.errors import ConfigError

MARGIN = 0.15  # a ratio that falls by more than this part is a regression, not noise


@dataclass(frozen=True)
class Measurement:
    """One contender, or one command, over all turns.

    Attributes:
        name: Of what was measured.
        unit: ``images/s``, ``s`` or ``MB``.
        values: One of each turn.
    """

    name: str
    unit: Literal["images/s", "s", "s/run", "MB"]
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
        values: One of each turn; above 1 where the first was better.
    """

    name: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle turn."""
        return median(self.values)


@dataclass(frozen=True)
class Result:
    """All that a benchmark found.

    Attributes:
        name: Of the benchmark.
        question: What it is to answer.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Result":
        """What :meth:`to_dict` returned."""
        return cls(
            **plain
            | {
                "measurements": [Measurement(**each) for each in plain["measurements"]],
                "ratios": [Ratio(**each) for each in plain["ratios"]],
            }
        )


def ratio(first: Measurement, second: Measurement) -> Ratio:
    """Turn by turn, how many times better the first is; of seconds, fewer are better."""
    pairs = zip(first.values, second.values, strict=True)
    more_is_better = first.unit == "images/s"
    values = [a / b if more_is_better else b / a for a, b in pairs]
    return Ratio(f"{first.name} / {second.name}", values)


def require_same_cpu(baseline: Result, environment: dict[str, Any]) -> None:
    """Refuse a baseline that another kind of CPU has measured: its ratios are not these.

    Arguments:
        baseline: An earlier state.
        environment: Of what is to be compared with it, from :func:`vaebench.environment.describe`.

    Raises:
        ConfigError: The CPU is another one by name or kind, or the baseline does not say its kind.
            (That the kind could not be found out, there and here, is no obstacle.)
    """
    there, here = describe_cpu(baseline.environment), describe_cpu(environment)
    if "cpu_kind" not in baseline.environment:
        raise ConfigError(
            f"baseline {baseline.name}: does not say of which kind its CPU ({there}) was; here it "
            f"is {here}: measure the earlier state again"
        )
    if any(baseline.environment.get(key) != environment[key] for key in ("cpu", "cpu_kind")):
        raise ConfigError(
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
