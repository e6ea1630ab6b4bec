"""How a WebSocket of people talking goes, as data: its pauses, and the sizes of its messages by kind.

A mapping, in a class's ``up`` or ``down``; sizes are payload bytes of messages::

    talk:
      first: [[101, ..., 556]]            down: what the server says of its own after the upgrade
      lead_of: 0.4                        down: until somebody speaks, a line more in this share ...
      lead_ms: [150, 900]                 ... after so long, and then perhaps one more
      before: [[9, ..., 16], [4, ..., 5]] up: what comes right before a line, as "is typing" does ...
      before_of: 0.3                      ... in this share of them
      line: [[39, ..., 139], [16, ..., 98]]
      answer: [[16, ..., 36], [13, ..., 26]]    down: the word for word answer to what came
      answer_ms: [4, 16]                  after so long
      pause_ms: [60, 200]                 until what a line had no room for goes on
      fit: 0.4                            share of lines whose size is drawn again until all has room
      ping_s: 20                          down: a ping after so long, counted from the last one; 0: none

Each list of sizes holds equally spaced quantiles; the first is for the first message of its kind, the
last for all that come after: servers that compress with a context say the same in fewer bytes each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

from ptproxy.codec.shape_reading import Place

Sizes = tuple[tuple[int, ...], ...]
"""Quantiles, for the first message of a kind, the second and so on."""

Kind = Literal["first", "before", "line", "answer"]
"""What a message is to whoever reads along."""

MESSAGE_LIMITS: Final = (1, 4096)
"""Payload bytes of a message: what one byte of ours can cost at most."""
LEAST_LINE: Final = 8
"""... of a line: each carries something, so that all payload leaves."""
MAX_QUANTILES: Final = 32
MAX_TURNS: Final = 4
"""Lists of one kind: a shape stays small enough to be pushed."""
MAX_PAUSE: Final = 1_000.0
"""Milliseconds: payload is held back for so long, many times over where it is long."""
PING_LIMITS: Final = (0.0, 3_600.0)
LEAST_PING: Final = 1.0
"""Seconds between pings; 0: none."""
MOST_LEAD: Final = 0.8
"""Share of lines that nobody needs after which comes one more: five of them on average."""
FIT_DRAWS: Final = 12
"""Sizes drawn at most for one line that is to have room for all."""


@dataclass(frozen=True, slots=True)
class Talk:
    """One direction's figures."""

    first: Sizes = ()
    lead_of: float = 0.0
    lead: tuple[float, ...] = (0.15, 0.9)
    """Seconds, least and most."""
    before: Sizes = ()
    before_of: float = 0.0
    line: Sizes = ()
    answer: Sizes = ()
    answer_after: tuple[float, ...] = (0.004, 0.016)
    """Seconds, least and most."""
    pause: tuple[float, ...] = (0.06, 0.2)
    """Seconds, least and most."""
    fit: float = 0.0
    ping: float = 0.0
    """Seconds."""

    @classmethod
    def parse(cls, place: Place) -> Talk:
        """From a mapping; :class:`~ptproxy.codec.shape_reading.ShapeError` where it is none."""
        kinds = {kind: _turns(place, kind) for kind in ("first", "before", "line", "answer")}
        if not kinds["line"]:
            raise place.wrong("line", "is missing")
        if any(turn[0] < LEAST_LINE for turn in kinds["line"]):
            raise place.wrong("line", f"a line has {LEAST_LINE} bytes at least")
        ping = place.number("ping_s", *PING_LIMITS, 0.0)
        if 0.0 < ping < LEAST_PING:
            raise place.wrong("ping_s", f"{ping:g} is less than {LEAST_PING:g}")
        return cls(
            **kinds,
            lead_of=place.number("lead_of", 0.0, MOST_LEAD, 0.0),
            lead=_seconds(place, "lead_ms", (0.15, 0.9)),
            before_of=place.number("before_of", 0.0, 1.0, 0.0),
            answer_after=_seconds(place, "answer_ms", (0.004, 0.016)),
            pause=_seconds(place, "pause_ms", (0.06, 0.2)),
            fit=place.number("fit", 0.0, 1.0, 0.0),
            ping=ping,
        )

    def sizes(self, kind: Kind) -> Sizes:
        """The sizes of one kind of message."""
        return {"first": self.first, "before": self.before, "line": self.line, "answer": self.answer}[kind]

    def to_mapping(self) -> dict[str, Any]:
        """As it is written."""
        kinds = {"first": self.first, "before": self.before, "line": self.line, "answer": self.answer}
        return {
            **{kind: [list(turn) for turn in turns] for kind, turns in kinds.items() if turns},
            "lead_of": self.lead_of,
            "lead_ms": [_milliseconds(value) for value in self.lead],
            "before_of": self.before_of,
            "answer_ms": [_milliseconds(value) for value in self.answer_after],
            "pause_ms": [_milliseconds(value) for value in self.pause],
            "fit": self.fit,
            "ping_s": self.ping,
        }


def draw_size(sizes: Sizes, turn: int, rng: Random) -> int:
    """The size of a message, the ``turn``-th (from 0) of its kind."""
    quantiles = sizes[min(turn, len(sizes) - 1)]
    at = rng.random() * (len(quantiles) - 1)
    below = quantiles[int(at)]
    above = quantiles[min(int(at) + 1, len(quantiles) - 1)]
    return round(below + (at - int(at)) * (above - below))


def _turns(place: Place, key: str) -> Sizes:
    if not place.has(key):
        return ()
    turns = place.items(key, most=MAX_TURNS)
    return tuple(inner.sizes(key, *MESSAGE_LIMITS, least=1, most=MAX_QUANTILES) for inner in turns)


def _seconds(place: Place, key: str, default: tuple[float, float]) -> tuple[float, ...]:
    if not place.has(key):
        return default
    return tuple(value / 1000 for value in place.numbers(key, 0.0, MAX_PAUSE, least=2, most=2))


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 6)
