"""Who does tasks, one at a time each, as the pool sees them, and what they say."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from vaebench.executors.worker import Kind
from vaebench.run import Task


class Event(NamedTuple):
    """Something that happened to a task.

    Attributes:
        kind: ``started``, ``epoch`` (``data`` is the journal's line), ``warning`` (its text),
            ``lost`` (another process does it), or ``done`` (the record).
        task: The task.
        data: As ``kind`` says; empty for ``started`` and ``lost``.
    """

    kind: Kind
    task: Task
    data: dict[str, Any]


Hear = Callable[[Event], None]


class Doer(Protocol):
    """Who does one task at a time: a worker process, or a task of Ray.

    Attributes:
        task: What it does; None: it is idle.
        due: When the task will have taken too long, by the monotonic clock.
        is_late: Whether it took too long, and is being ended.
        gpu: The GPU that it is bound to; None: to none.
        alone: Whether its task is to have its GPU for itself.
        moves: Whether it died with its machine, which says nothing of its task.
    """

    task: Task | None
    due: float
    is_late: bool
    gpu: str | None
    alone: bool
    moves: bool

    def give(self, task: Task, seconds: float) -> None:
        """Begin a task that may take so many seconds."""

    def expire(self) -> None:
        """End it, as it takes too long; its death is a message like any other."""

    def kill(self) -> None:
        """Begin to end it."""

    def end(self, *, seconds: float = 0.0) -> tuple[str, str]:
        """Wait until it has ended; say how it died, and where, if that is known."""


D = TypeVar("D", bound=Doer)
D_co = TypeVar("D_co", covariant=True)


class Source(Protocol[D_co]):
    """What doers say: kind and data, or None when one is dead, each with its doer."""

    def get(self, *, timeout: float) -> tuple[D_co, list[Any] | None]:
        """The next message.

        Raises:
            queue.Empty: There was none for so many seconds.
        """
