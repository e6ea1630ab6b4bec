"""What a lookup is allowed: how many nodes it asks at a time, how long it waits, when it has enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from ptproxy.dht.contact import Contact
from ptproxy.dht.density import NO_CAP, DensityCap, Seats
from ptproxy.dht.diversity import Diversity
from ptproxy.dht.table import K

PARALLEL: Final = 3
"""Queries out at a time for upkeep (α of Kademlia, section 2.3)."""
PATHS: Final = 8
"""Disjoint paths for private records (d of S/Kademlia, section 4.4), one query out on each."""
OUT: Final = 3
"""Times as many queries may be out as there are places: slow ones free theirs, and a crowd of quick nodes
could make all others look slow."""
WIDTH: Final = 8
"""Nodes that each of those paths asks itself: else one whose first answer is hostile ends at once."""
MAX_ASKED: Final = 320
"""Nodes that one lookup asks at most: 8 paths of 20 replicas each, twice over."""

Admit: TypeAlias = Callable[[Contact, float], bool | None]
"""Whether a contact's signature verifies and its id is what its key and work make; None: unknown for now."""
Judge: TypeAlias = Callable[[bytes], int | None]
"""The sequence of a record that belongs to the location sought; None for any other bytes."""


class Waits(Protocol):
    """How long a query may take: :class:`~ptproxy.dht.round_trips.RoundTrips`, say. Asked anew each time."""

    @property
    def slow(self) -> float:
        """Seconds until somebody else may be asked as well."""

    @property
    def timeout(self) -> float:
        """Seconds until it is given up."""


@dataclass(frozen=True, slots=True)
class LookupRules:
    """What a lookup is allowed. The first four are Kademlia's; the others can be left out in a simulation."""

    count: int = K
    parallel: int = PARALLEL
    paths: int = 1
    width: int = 0
    """Nodes that each path asks at least though others have asked closer ones."""
    max_asked: int = MAX_ASKED
    diversity: Diversity = field(default_factory=Diversity)
    cap: DensityCap | None = field(default_factory=DensityCap)
    enough: int = 1
    """Verified records until a search ends; for a record that changes, more than one, or all (0)."""

    @property
    def is_hasty(self) -> bool:
        """Whether who should have the record is asked alone: one is enough, and one path looks for it."""
        return self.enough == 1 and self.paths == 1

    def seats(self, network_size: float | None) -> Seats:
        """The seats around a target in a network of that many nodes."""
        return NO_CAP if self.cap is None else self.cap.seats(network_size)


UPKEEP: Final = LookupRules()
PRIVATE: Final = LookupRules(parallel=PATHS, paths=PATHS, width=WIDTH, enough=0)
