"""How fast this is, next to what people would use instead: ratios of what ran in turns.

A benchmark is a YAML file (see ``settings``) of one kind: ``steps`` lets training loops take turns
at the same work, ``grid`` times whole commands, ``records`` the harness at scale. Each gives a
:class:`Result`: a table, a picture, JSON. Times of a shared machine say little; ratios of
contenders that took turns on it say more, and only ratios are ever compared with a baseline.
"""

from vaebench.bench.measured import (
    MARGIN,
    Measurement,
    Ratio,
    Result,
    regressions,
    require_same_cpu,
)
from vaebench.bench.running import run_benchmark
from vaebench.bench.settings import Benchmark, read_benchmark, require_installed
from vaebench.bench.writing import load_result, save, text

__all__ = [
    "MARGIN",
    "Benchmark",
    "Measurement",
    "Ratio",
    "Result",
    "load_result",
    "read_benchmark",
    "regressions",
    "require_installed",
    "require_same_cpu",
    "run_benchmark",
    "save",
    "text",
]
