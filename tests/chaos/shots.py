"""What is killed, when and how: a plan that depends on nothing but its seed."""

import random
from dataclasses import asdict, dataclass
from typing import Any

# phase -> which process it happens in, and how many of its events a process sees at the least
PHASES: dict[str, tuple[str, int]] = {
    "starting": ("both", 2),
    "training": ("worker", 12),
    "checkpointing": ("worker", 8),
    "journal": ("worker", 4),
    "evaluation": ("worker", 4),
    "figures": ("worker", 16),
    "record": ("worker", 2),
    "tracking": ("parent", 24),
    "reporting": ("parent", 8),
}
LATE = 0.15  # seconds after an event, at the most, that a shot falls
PAUSE = 0.2  # seconds between the two interrupts of an impatient user


@dataclass(frozen=True)
class Shot:
    """One kill.

    Attributes:
        number: Which of the plan's.
        phase: A key of ``PHASES``.
        event: Counted from 1 within a process, of that phase: when it is fired.
        victim: ``worker`` (the process that does the phase), ``parent``, or ``all``.
        signal: Its name.
        delay: Seconds between the event and the kill; 0: at the event itself.
        twice: Whether the signal is sent again.
    """

    number: int
    phase: str
    event: int
    victim: str
    signal: str
    delay: float
    twice: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        twice = " twice" if self.twice else ""
        return f"#{self.number} {self.signal}{twice} of {self.victim} while {self.phase}"


def plan(seed: int, count: int) -> list[Shot]:
    """Draw shots; each phase gets as many as the others, give or take one."""
    draw = random.Random(seed)
    phases = [list(PHASES)[n % len(PHASES)] for n in range(count)]
    draw.shuffle(phases)
    return [_shot(draw, number, phase) for number, phase in enumerate(phases, 1)]


def _shot(draw: random.Random, number: int, phase: str) -> Shot:
    where, events = PHASES[phase]
    victims = ["parent"] * 3 + ["all"] * 2 + ["worker"] * (5 if where == "worker" else 0)
    victim = draw.choice(victims)
    signal, twice = "SIGKILL", False
    if victim == "worker" and draw.random() < 0.2:
        signal = "SIGTERM"
    if victim == "parent":
        signal = draw.choice(["SIGKILL", "SIGKILL", "SIGINT", "SIGINT", "SIGTERM"])
        twice = signal != "SIGKILL" and draw.random() < 0.3
    delay = 0.0 if draw.random() < 0.5 else round(draw.uniform(0, LATE), 3)
    return Shot(number, phase, draw.randint(1, events), victim, signal, delay, twice)
