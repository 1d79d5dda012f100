"""Several GPUs: which there are for this process, and which of them takes the next run."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpus:
    """GPUs that runs share out among them.

    Attributes:
        names: As ``CUDA_VISIBLE_DEVICES`` has them: numbers or UUIDs.
        each: Runs that may share one.
    """

    names: tuple[str, ...]
    each: int

    def room(
        self, busy: Sequence[tuple[str | None, bool]], *, waits: bool
    ) -> tuple[str | None, str | None]:
        """The GPU that a run may have for itself now, and the one that takes another run.

        A run that is to be alone waits for the GPU with the fewest runs, which takes no other.

        Arguments:
            busy: The GPU of each run under way, and whether that is to be alone.
            waits: Whether a run waits that is to be alone.

        Returns:
            Names; None where there is no such GPU at present.
        """
        load = {name: sum(gpu == name for gpu, _ in busy) for name in self.names}
        taken = {gpu for gpu, alone in busy if alone}
        free = [name for name in self.names if name not in taken]
        emptied = None
        if waits and free:
            kept = min(free, key=load.__getitem__)
            free.remove(kept)
            emptied = None if load[kept] else kept
        room = [name for name in free if load[name] < self.each]
        return emptied, min(room, key=load.__getitem__, default=None)


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, in their order; none where CUDA is not there.

    What ``CUDA_VISIBLE_DEVICES`` names is what there is; a scheduler such as Slurm's sets it.
    """
    import torch

    count = torch.cuda.device_count()
    names = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return tuple(names[:count] or map(str, range(count)))
