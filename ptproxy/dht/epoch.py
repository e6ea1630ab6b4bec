"""When a record is good: days of the world's clock, each opened six hours before it begins.

::

    opens(e)         begins(e)                                  ends(e)
       │  slot 0        │  slot 1    slot 2    slot 3    slot 4    │
       └── 6 h ─────────┴── 6 h ─────┴─────────┴─────────┴─────────┘   30 h in all

Nodes take and keep a record of epoch e from ``opens(e)`` to ``ends(e)`` by their own
clock, whoever brings it: so no record outlives 30 h, and one that is no longer
published is gone after that, whoever would like to keep it. Everybody's epochs begin at
the same time: an offset of one's own would link one's records from day to day.
"""

from __future__ import annotations

from typing import Final

EPOCH: Final = 86_400
"""Seconds of an epoch; they begin at midnight UTC."""
AHEAD: Final = 21_600
"""Seconds that an epoch is open before it begins, so that its records are there when it does."""
SLOT: Final = 21_600
"""Seconds in which a record is published once (issue: every six hours, with jitter)."""
SLOTS: Final = (AHEAD + EPOCH) // SLOT
"""Slots of one epoch: 5."""
LIFE: Final = AHEAD + EPOCH
"""Seconds that a record can be found at most: 30 h."""


def epoch_of(now: float) -> int:
    """The epoch that ``now`` (unix seconds) lies in."""
    return int(now // EPOCH)


def begins(epoch: int) -> int:
    """Unix seconds of its first moment."""
    return epoch * EPOCH


def opens(epoch: int) -> int:
    """Unix seconds from which on its records are taken."""
    return begins(epoch) - AHEAD


def ends(epoch: int) -> int:
    """Unix seconds from which on nobody takes, keeps or looks for its records."""
    return begins(epoch + 1)


def is_open(epoch: int, now: float) -> bool:
    """Whether records of ``epoch`` are taken and handed out ``now``."""
    return opens(epoch) <= now < ends(epoch)


def open_epochs(now: float) -> tuple[int, ...]:
    """The current epoch, and the next one while it is open too: what a publisher keeps published."""
    current = epoch_of(now)
    return (current, current + 1) if is_open(current + 1, now) else (current,)


def epochs_to_search(now: float) -> tuple[int, int]:
    """Where a reader looks, in this order: the current epoch, then the neighbour whose border is nearer.

    The second helps a reader whose clock is wrong by less than half a day, and one
    for whom the border passes while it looks.
    """
    current = epoch_of(now)
    second = current + 1 if now % EPOCH >= EPOCH / 2 else current - 1
    return current, second


def slot_of(epoch: int, now: float) -> int:
    """Which slot of an open ``epoch`` it is ``now``: 0 to 4."""
    return int((now - opens(epoch)) // SLOT)
