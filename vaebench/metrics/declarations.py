"""What a number says about itself. Tables, arrows and comparisons read that, and nothing else."""

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
