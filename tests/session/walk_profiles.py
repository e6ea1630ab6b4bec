"""How often a random walk takes each of its steps: plain walks, and those with much of what is rare."""

from __future__ import annotations

from dataclasses import dataclass, field

WEIGHTS: dict[str, float] = {
    "exchange": 16,
    "drain": 18,
    "deliver": 24,
    "write": 24,
    "consume": 14,
    "time": 5,
    "open": 4,
    "accept": 7,
    "eof": 3,
    "reset": 1,
    "cut": 4,
    "notice": 4,
    "mistake": 1.5,
    "dial": 5,
    "attach": 6,
    "move": 4,
    "overtake": 2,
    "leave": 2,
    "goaway": 0.3,
    "associate": 0.4,
    "datagram": 1,
    "restart": 0,
}
"""How often each step is drawn; a walk scales each by a factor of its own."""

PHASES: tuple[dict[str, float], ...] = (
    {"open": 3.0, "dial": 2.0, "eof": 0.3, "cut": 0.5},
    {"open": 0.3, "write": 2.0, "move": 2.0, "overtake": 3.0, "eof": 0.5},
    {"open": 0.5, "eof": 8.0, "reset": 3.0, "overtake": 2.0, "cut": 2.0, "notice": 2.0, "dial": 2.0},
)
"""A walk opens streams, uses them, and ends them while carriers break."""

FACTORS = (0.3, 1.0, 1.0, 1.0, 3.0)
"""By one of these a walk multiplies each weight."""

RARE = ("early_reset", "crossing", "late_move", "stale", "unheard", "second_move", "late_open")
"""Steps that bring about what random ones do once in thousands of walks; a plain walk takes none."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of walk."""

    name: str
    weights: dict[str, float] = field(default_factory=dict)
    """By what a step's weight is multiplied; the weight itself of one in :data:`RARE`."""
    few_datagrams: bool = False
    """Associations hold three datagrams or twelve bytes."""
    contention: bool = False
    """It ends with streams that compete for a carrier (:mod:`walk_order`)."""

    def of(self, phase: dict[str, float], factors: list[float]) -> list[float]:
        """The weights of the steps in :data:`RARE` and :data:`WEIGHTS` in one phase."""
        rare = [self.weights.get(name, 0.0) for name in RARE]
        usual = [
            weight * phase.get(name, 1.0) * self.weights.get(name, 1.0) * factor
            for (name, weight), factor in zip(WEIGHTS.items(), factors, strict=True)
        ]
        return rare + usual


PLAIN = Profile("plain")
PROFILES = (
    PLAIN,
    PLAIN,
    PLAIN,
    PLAIN,
    Profile(
        "lossy",
        {"cut": 3, "notice": 2, "mistake": 3, "dial": 3, "attach": 2, "exchange": 0.5},
        contention=True,
    ),
    Profile(
        "moving",
        {
            "move": 4,
            "overtake": 4,
            "goaway": 10,
            "leave": 2,
            "dial": 2,
            "stale": 2,
            "unheard": 2,
            "second_move": 2,
        },
    ),
    Profile("datagrams", {"associate": 10, "datagram": 25, "goaway": 3}, few_datagrams=True),
    Profile(
        "ending",
        {
            "eof": 2,
            "reset": 2,
            "crossing": 2,
            "early_reset": 2,
            "late_move": 2,
            "late_open": 1,
            "move": 2,
            "dial": 2,
            "attach": 2,
        },
    ),
)
"""Half of all walks are plain. The seed's remainder by their number chooses."""


def profile_of(seed: int) -> Profile:
    """The kind of walk that a seed is."""
    return PROFILES[seed % len(PROFILES)]
