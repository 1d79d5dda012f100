"""What a number says about itself: the type, the rules for it, costs, and the order in tables.

Tables, arrows and comparisons read declarations and nothing else. A metric's entry stands beside
its function, in :data:`vaebench.metrics.METRICS`; records carry what was declared, so that reports
need neither. To add a cost, declare it in :data:`COSTS`; to place a metric, name it in
:data:`ORDER`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Direction = Literal["higher", "lower"] | None
Comparable = Literal["likelihood", "dataset", "machine"]


@dataclass(frozen=True)
class Declaration:
    """What a number says about itself; stored beside it in every record.

    Attributes:
        title: For table heads.
        unit: Nats, dB, ... or the empty string.
        direction: Which way is better, or None where neither is.
        comparable: Between which cells: those of one ``likelihood`` (its options, the data set and
            its binarisation included), of one ``dataset``, or of one ``machine`` and job count.
        version: Raised when the same weights would get another value.
        samples: K, where the number of samples is the user's choice and part of what is measured.
    """

    title: str
    unit: str
    direction: Direction
    comparable: Comparable
    version: int = 1
    samples: int | None = None

    def with_samples(self, samples: int) -> "Declaration":
        """Name K in the title as well: values of different K are declared differently."""
        return replace(self, title=f"{self.title}, K = {samples:,}", samples=samples)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a record has them; ``samples`` only where it says something."""
        values = dict(vars(self))
        if self.samples is None:
            del values["samples"]
        return values


def definition(declared: Mapping[str, Any]) -> tuple[int, int | None]:
    """Version and K of a declaration as a record has it: values of one definition compare."""
    version = declared.get("version")
    return version if isinstance(version, int) else 1, declared.get("samples")


def merged(
    declared: Iterable[Mapping[str, dict[str, Any]]],
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The declarations of several records, and the names declared in different ways.

    A number whose declarations differ (another version, say) keeps its title but loses its
    direction: values of different definitions are not ranked.
    """
    found: dict[str, dict[str, Any]] = {}
    clashes: dict[str, None] = {}
    for entries in declared:
        for name, entry in entries.items():
            if found.setdefault(name, entry) != entry:
                clashes[name] = None
    for name in clashes:
        found[name] = {**found[name], "direction": None}
    return found, list(clashes)


def in_order(names: Iterable[str]) -> list[str]:
    """Metrics in the order of :data:`ORDER`, then those that it does not name."""
    given = dict.fromkeys(names)
    return [*(name for name in ORDER if name in given), *(n for n in given if n not in ORDER)]


ORDER = (
    *("elbo", "rate", "distortion", "log_px"),
    *("ssim", "psnr", "mse_px", "mae_px"),
    *("active_units", "knn_accuracy"),
    *("classifier_frechet", "precision", "recall"),
)

COST_MEANINGS = {
    "images_per_second": "Training images per second of `seconds_per_epoch`.",
    "seconds_per_epoch": "Wall time of an epoch's draws and training steps, mean over epochs.",
    "cpu_seconds_per_epoch": "CPU time of the same, of all threads; on a GPU, the host's CPU time.",
    "peak_memory_mb": "Memory of the training process; on a GPU, what PyTorch allocated there.",
    "parameters": "Trainable parameters of encoder and decoder.",
    "flops_per_image": "Two per multiply-add, one forward pass of encoder and decoder.",
}

COSTS: dict[str, Declaration] = {
    "images_per_second": Declaration("Images per second", "images/s", "higher", "machine"),
    "seconds_per_epoch": Declaration("Seconds per epoch", "s", "lower", "machine"),
    "cpu_seconds_per_epoch": Declaration("CPU seconds per epoch", "s", "lower", "machine"),
    "peak_memory_mb": Declaration("Peak memory", "MB", "lower", "machine"),
    "parameters": Declaration("Parameters", "", None, "dataset"),
    "flops_per_image": Declaration("FLOPs per image", "", None, "dataset"),
}
