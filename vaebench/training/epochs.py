"""What an epoch of training was, in numbers."""

from typing import NamedTuple


class Means(NamedTuple):
    """Means over the images of a split, in nats.

    Attributes:
        elbo: The bound.
        rate: KL(q(z|x) || p(z)), or None where the estimator's bound does not split.
        distortion: -E log p(x|z), likewise.
    """

    elbo: float
    rate: float | None
    distortion: float | None


class EpochStatistics(NamedTuple):
    """What one epoch of training was.

    Attributes:
        epoch: 1 for the first.
        train: Means over the training images, as the estimator saw them while it learned.
        validation: Means over the validation split after the epoch, at beta 1; None without one.
        beta: The weight of the rate in this epoch's objective.
        learning_rate: The learning rate in this epoch.
        seconds: Wall time of the epoch's draws and training steps, validation apart.
        validation_seconds: Wall time of the validation; None without one.
        cpu_seconds: CPU time of this process, all its threads, over the span of ``seconds``: unlike
            wall time, it hardly grows when other processes share the CPU. On a GPU it is the CPU
            time of the host, which says nothing of the GPU's work.
        validation_cpu_seconds: The same over the span of ``validation_seconds``; None without one.
    """

    epoch: int
    train: Means
    validation: Means | None
    beta: float
    learning_rate: float
    seconds: float
    validation_seconds: float | None
    cpu_seconds: float
    validation_cpu_seconds: float | None
