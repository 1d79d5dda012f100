"""What a number says about itself: the type, the rules for it, costs, and the order in tables.

Tables, arrows and comparisons read declarations and nothing else. A metric's entry stands beside
its function, in :data:`vaebench.metrics.METRICS`; records carry what was declared, so that reports
need neither. To add a cost, write a function of :class:`Spent` and enter it in :data:`COSTS`; to
place a metric, name it in :data:`ORDER`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from vaebench.plugins import Registry, no_instance

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


def definition(declared: Mapping[str, Any]) -> tuple[int, int | None, str | None]:
    """Version, K and a plugin's source, as a record has them: values of one definition compare."""
    version = declared.get("version")
    known = version if isinstance(version, int) else 1
    return known, declared.get("samples"), declared.get("source")


def merged(
    declared: Iterable[Mapping[str, dict[str, Any]]],
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The declarations of several records, and the names declared in different ways.

    A number whose declarations differ (another version, say) keeps its title but loses its
    direction: values of different definitions are not ranked.
    """
    known: dict[str, dict[str, Any]] = {}
    clashes: dict[str, None] = {}
    for entries in declared:
        for name, entry in entries.items():
            if known.setdefault(name, entry) != entry:
                clashes[name] = None
    for name in clashes:
        known[name] = {**known[name], "direction": None}
    return known, list(clashes)


def in_order(names: Iterable[str], order: Iterable[str] | None = None) -> list[str]:
    """Metrics in the order of :data:`ORDER` (or another one), then those that it does not name."""
    given, order = dict.fromkeys(names), ORDER if order is None else list(order)
    return [*(name for name in order if name in given), *(n for n in given if n not in order)]


ORDER = (
    *("elbo", "rate", "distortion", "log_px"),
    *("ssim", "psnr", "mse_px", "mae_px"),
    *("active_units", "knn_accuracy"),
    *("classifier_frechet", "precision", "recall"),
)


class Spent(NamedTuple):
    """What a finished training leaves to say what it cost.

    Attributes:
        journal: A line for each epoch, ``{"epoch": 1, "metrics": {"train/seconds": ...}}``.
        images: Training images.
        peak_memory_mb: None where it is not known.
        parameters: Trainable parameters of the model.
        flops_per_image: As :func:`vaebench.vae.flops_per_image` counts them.
        vae: The model.
    """

    journal: Sequence[Mapping[str, Any]]
    images: int
    peak_memory_mb: float | None
    parameters: int
    flops_per_image: int
    vae: Any

    def mean(self, name: str) -> float | None:
        """Mean of a number over the epochs; None where one lacks it: vaebench may be newer."""
        values = [line["metrics"].get(name) for line in self.journal]
        return None if None in values else sum(values) / len(values)


@dataclass(frozen=True)
class Cost:
    """An entry of :data:`COSTS`.

    Attributes:
        function: From what was spent to the value; its docstring explains the cost.
        declaration: What the value says about itself.
    """

    function: Callable[[Spent], float | None]
    declaration: Declaration


def images_per_second(spent: Spent) -> float | None:
    """Training images per second of `seconds_per_epoch`."""
    seconds = seconds_per_epoch(spent)
    return seconds and spent.images / seconds


def seconds_per_epoch(spent: Spent) -> float | None:
    """Wall time of an epoch's draws and training steps, mean over epochs."""
    return spent.mean("train/seconds")


def cpu_seconds_per_epoch(spent: Spent) -> float | None:
    """CPU time of the same, of all threads; on a GPU, the host's CPU time."""
    return spent.mean("train/cpu_seconds")


def peak_memory_mb(spent: Spent) -> float | None:
    """Memory of the training process; on a GPU, what PyTorch allocated there."""
    return spent.peak_memory_mb


def parameters(spent: Spent) -> float:
    """Trainable parameters of encoder and decoder."""
    return spent.parameters


def flops_per_image(spent: Spent) -> float:
    """Two per multiply-add, one forward pass of encoder and decoder."""
    return spent.flops_per_image


COSTS: Registry[Cost] = Registry(
    "cost",
    {
        "images_per_second": Cost(
            images_per_second, Declaration("Images per second", "images/s", "higher", "machine")
        ),
        "seconds_per_epoch": Cost(
            seconds_per_epoch, Declaration("Seconds per epoch", "s", "lower", "machine")
        ),
        "cpu_seconds_per_epoch": Cost(
            cpu_seconds_per_epoch, Declaration("CPU seconds per epoch", "s", "lower", "machine")
        ),
        "peak_memory_mb": Cost(
            peak_memory_mb, Declaration("Peak memory", "MB", "lower", "machine")
        ),
        "parameters": Cost(parameters, Declaration("Parameters", "", None, "dataset")),
        "flops_per_image": Cost(
            flops_per_image, Declaration("FLOPs per image", "", None, "dataset")
        ),
    },
    no_instance(Cost),
)
