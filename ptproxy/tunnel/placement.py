"""Which carrier a stream goes to, and which carriers are to be there, by a shape; without I/O.

Carriers have a class of traffic, as streams do. The rules:

- A new stream goes to a carrier of its class: one in use that is not full, else
  one that waits unused (*warm*), else an overfull one; only if there is none, to
  a carrier of another class, never one whose shape refuses it.
- A stream whose class talks in lines (``talk`` in its shape) begins where pages are, if there is such a
  carrier: what comes first, a history or a banner, is no line. It moves once it has *settled*.
- A carrier is *retired* once its first stream is older, or it has moved more
  bytes, than it drew from its shape, and while it may be dead: it takes no new
  streams and ends when it has none. One that nobody has used does not age. The
  next one is opened when a stream comes, which meanwhile goes to the retired one:
  a carrier for nobody is one more connection that is no visit.
- What does not belong where it is moves: a stream of another class, or one that
  has outlived its carrier by :data:`LEAVE_AFTER`, to a carrier in use. None is
  opened for what merely waits: an idle stream costs no page loads.
- What is opened ahead, and only while somebody is active, is the connection with
  its page and no more: until a carrier is opened on it, it is a visitor's.

Order of calls, every tick and whenever a carrier or stream came or went:
:meth:`Placement.observe`, then :meth:`~Placement.moves`, :meth:`~Placement.over`,
:meth:`~Placement.wanted` and :meth:`~Placement.wanted_ahead`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from ptproxy.codec.shape import CLASSES, Shape

MAX_CARRIERS: Final = 12
"""Carriers at once, retired ones and those to come included: a session allows 16, and some may be
dying unnoticed."""
MAX_DIALS: Final = 3
"""Carriers being opened at once: each loads a page."""
DIALS_AT_ONCE: Final = 12.0
DIALS_A_SECOND: Final = 0.5
"""Carriers that may be opened in a row, and then in the long run: whatever a shape says, page loads
cost a bounded amount of traffic. The built-in shapes take one in two to seven seconds at most."""
INTEREST: Final = 60.0
"""Seconds after the last new stream during which carriers are kept warm."""
LAPSE_FIRST: Final = 10.0
LAPSE_LAST: Final = 300.0
"""Seconds without pages loaded ahead after one that waited was closed by the site or too old: doubled
from the first to the last while none is used. Some servers close what is idle after 5 s (Apache)."""
LEAVE_AFTER: Final = 10.0
"""Seconds that streams may stay on a retired carrier: most end by themselves."""
FIRST_WORD: Final = (0.4, 2.0)
"""Seconds in which nobody says a word who has just joined a chat (p5 to p75 of cover)."""
SHORT_FOR: Final = 10.0
"""Seconds that a stream which found no room has a carrier opened for its class."""


@dataclass(slots=True)
class Place:
    """One carrier."""

    traffic: str
    age: float
    """Seconds from its first stream until it retires."""
    size: int
    """Bytes until it retires."""
    streams: int = 0
    used_at: float | None = None
    """When its first stream came; None: it is warm."""
    joined_from: float = float("-inf")
    """From when streams that began elsewhere move to it."""
    worn_at: float | None = None
    """When it had lived long enough."""
    suspect_at: float | None = None
    """Since when it may be dead; None: it has answered."""

    @property
    def retired_at(self) -> float | None:
        """Since when it takes no new streams."""
        if self.worn_at is None or self.suspect_at is None:
            return self.suspect_at if self.worn_at is None else self.worn_at
        return min(self.worn_at, self.suspect_at)


@dataclass(frozen=True, slots=True)
class Load:
    """What a carrier carries."""

    streams: int
    """Streams that count."""
    size: int
    """Bytes both ways so far."""
    suspect: bool = False
    """Something on it has waited too long for an answer (R20), and still does."""


@dataclass(frozen=True, slots=True)
class Riding:
    """A stream and where it is."""

    stream: int
    traffic: str
    """Its class; "" for one that says nothing and is nobody's reason for anything."""
    carrier: int
    settled: bool = True
    """Whether its beginning is through."""


class Placement:
    """The decisions for one session's carriers."""

    def __init__(self, shape: Shape, codecs: Sequence[str], most: int, rng: Random) -> None:
        """``codecs`` are those that the bridge speaks, the best first; ``most`` carriers of a class."""
        self.shape = shape
        self.carriers: dict[int, Place] = {}
        self._codecs = tuple(codecs)
        self._most = most
        self._rng = rng
        self._dialling: Counter[str] = Counter()
        self._visiting = 0
        self._lapses = 0
        self._ahead_from = float("-inf")
        self._short: dict[str, float] = {}
        self._active_at = float("-inf")
        self._budget = DIALS_AT_ONCE
        self._budget_at = 0.0

    def codecs(self, traffic: str) -> tuple[str, ...]:
        """The codecs for a carrier of this class, the best first: the shape's, then whatever there is."""
        first = [codec for codec in self.shape[traffic].carriers if codec in self._codecs]
        return (*first, *(codec for codec in self._codecs if codec not in first))

    # ---- carriers come and go --------------------------------------------------------------------

    def dialling(self, traffic: str) -> None:
        """A carrier of this class is being opened."""
        self._dialling[traffic] += 1

    def dialled(self, traffic: str) -> None:
        """That is over, however it ended."""
        self._dialling[traffic] -= 1

    def visiting(self) -> None:
        """A page is being loaded for a carrier to come."""
        self._visiting += 1

    def visited(self) -> None:
        """That is over, however it ended."""
        self._visiting -= 1

    def lapsed(self, now: float) -> None:
        """What waited was closed by the site, or was too old for use."""
        self._ahead_from = now + min(LAPSE_FIRST * 2**self._lapses, LAPSE_LAST)
        self._lapses = min(self._lapses + 1, 16)

    def used_ahead(self) -> None:
        """One that waited carries something."""
        self._lapses = 0

    def connecting(self, now: float) -> None:
        """For either of the two a new connection is made."""
        self._budget = min(self._allowed(now), DIALS_AT_ONCE) - 1.0
        self._budget_at = now

    def _allowed(self, now: float) -> float:
        return self._budget + (now - self._budget_at) * DIALS_A_SECOND

    def opened(self, number: int, traffic: str, now: float = float("-inf")) -> None:
        """A carrier is there, with its page loaded."""
        rotate = self.shape[traffic].rotate
        self.carriers[number] = place = Place(
            traffic, self._rng.uniform(*rotate.age), int(self._rng.uniform(*rotate.size))
        )
        if self.begins_elsewhere(traffic):
            place.joined_from = now + self._rng.uniform(*FIRST_WORD)
        self._short.pop(traffic, None)

    def gone(self, number: int) -> None:
        """A carrier has ended."""
        self.carriers.pop(number, None)

    def suspect(self, number: int, now: float) -> None:
        """A carrier may be dead: it takes no new streams until :meth:`observe` finds that it has answered."""
        place = self.carriers.get(number)
        if place is not None and place.suspect_at is None:
            place.suspect_at = now

    def observe(self, loads: Mapping[int, Load], now: float) -> None:
        """What the carriers carry now; those that have lived long enough retire, suspects are cleared."""
        for number, place in self.carriers.items():
            load = loads.get(number, Load(0, 0))
            place.streams = load.streams
            if not load.suspect:
                place.suspect_at = None
            if load.streams and place.used_at is None:
                place.used_at = now
            worn = place.used_at is not None and now - place.used_at >= place.age
            if place.worn_at is None and (worn or load.size >= place.size):
                place.worn_at = now

    @property
    def is_bare(self) -> bool:
        """Whether no carrier is there that could carry anything: one must come, whoever wants it."""
        return all(place.suspect_at is not None for place in self.carriers.values())

    # ---- streams ---------------------------------------------------------------------------------

    def place(self, traffic: str, now: float) -> int | None:
        """The carrier for a new stream; None: wait for one (it is wanted from now on)."""
        if not traffic:
            return self._anywhere()
        self._active_at = now
        number = self._room(traffic)
        if number is None:
            self._short[traffic] = now
        if self.begins_elsewhere(traffic):
            first = self._elsewhere(traffic, usable=True, other=True)
            number = number if first is None else first
        if number is None:
            number = self._least(self._usable(traffic))
        if number is None:
            number = self._elsewhere(traffic)
        if number is not None:
            place = self.carriers[number]
            place.streams += 1
            if place.used_at is None:
                place.used_at = now
        return number

    def moves(self, riding: Iterable[Riding], now: float) -> list[tuple[int, int]]:
        """Streams that are to move, each with the carrier it goes to."""
        moves = []
        crowded = len(self.carriers) >= MAX_CARRIERS
        for one in riding:
            place = self.carriers.get(one.carrier)
            if place is None:
                continue
            if not one.settled and place.retired_at is None:
                continue
            to = self._destination(one.traffic, place, now, crowded=crowded)
            if to is not None and to != one.carrier:
                moves.append((one.stream, to))
                if one.traffic:
                    place.streams -= 1
                    there = self.carriers[to]
                    there.streams += 1
                    if there.used_at is None:
                        there.used_at = now
        return moves

    def _destination(self, traffic: str, place: Place, now: float, *, crowded: bool) -> int | None:
        """Where a stream should be instead; None: where it is."""
        retired = place.retired_at
        if not traffic:
            return self._anywhere() if retired is not None else None
        if place.traffic != traffic:
            number = self._room(traffic)
            if number is not None and now < self.carriers[number].joined_from:
                return None
            if number is None:
                self._short.setdefault(traffic, now)
                if traffic in self.shape[place.traffic].never:
                    number = self._least(self._usable(traffic)) or self._elsewhere(traffic, usable=True)
            return number
        if retired is None or not (crowded or now - retired >= LEAVE_AFTER):
            return None
        used = [one for one in self._usable(traffic) if crowded or self.carriers[one].used_at is not None]
        if used or not crowded:
            return self._least(used)
        return self._elsewhere(traffic, usable=True) or self._youngest(traffic)

    # ---- which carriers there should be ------------------------------------------------------------

    def over(self, riding: Iterable[Riding], now: float) -> list[int]:
        """Carriers to close: retired and empty, or warm for nobody."""
        busy = {one.carrier for one in riding}
        over = [
            number
            for number, place in self.carriers.items()
            if place.retired_at is not None and number not in busy
        ]
        usable = [number for number in self.carriers if self._is_usable(number)]
        if not usable:
            return [
                number for number in over if number != self._youngest()
            ]  # it stays until the next has come
        if now - self._active_at > INTEREST:
            spare = [one for one in usable if self.carriers[one].used_at is None and one not in busy]
            over += spare if len(spare) < len(usable) else spare[1:]
        return over

    def wanted(self, now: float) -> list[str]:
        """The classes of carriers to open now, the most urgent first; at most as many as may be."""
        wanted: list[str] = []
        for traffic, since in list(self._short.items()):
            if now - since > SHORT_FOR:
                del self._short[traffic]
            elif not self._dialling[traffic] and self._room(traffic) is None:
                wanted.append(traffic)
        if not wanted and not self._dialling.total() and self.is_bare:
            wanted.append(self.shape.start)
        allowed: list[str] = []
        budget = self._allowed(now)
        if not self.carriers and not self._dialling.total():
            budget = max(budget, 1.0)  # to have none at all is no shape's wish
        for traffic in wanted[: max(int(budget), 0)]:
            total = len(self.carriers) + self._dialling.total() + len(allowed)
            same = len(self._usable(traffic)) + self._dialling[traffic] + allowed.count(traffic)
            dials = self._dialling.total() + len(allowed)
            if total < MAX_CARRIERS and same < self._most and dials < MAX_DIALS:
                allowed.append(traffic)
        return allowed

    def wanted_ahead(self, waiting: int, now: float) -> int:
        """How many pages to load now for carriers of the starting class to come; ``waiting`` are loaded."""
        if not self.is_wanted_ahead(now) or now < self._ahead_from:
            return 0
        start = self.shape.start
        usable = self._usable(start)
        ahead = waiting + self._visiting
        warm = sum(self.carriers[one].used_at is None for one in usable) + ahead
        dialling = self._dialling.total()
        return max(
            min(
                self.shape[start].warm_carriers - warm - self._dialling[start],
                self._most - len(usable) - self._dialling[start] - ahead,
                MAX_CARRIERS - len(self.carriers) - dialling - ahead,
                MAX_DIALS - dialling - self._visiting,
                int(self._allowed(now)),
            ),
            0,
        )

    def is_wanted_ahead(self, now: float) -> bool:
        """Whether pages that are loaded ahead are still for somebody."""
        return now - self._active_at <= INTEREST

    # ---- looking ---------------------------------------------------------------------------------

    def _is_usable(self, number: int) -> bool:
        return self.carriers[number].retired_at is None

    def _usable(self, traffic: str) -> list[int]:
        return [
            number
            for number, place in self.carriers.items()
            if place.traffic == traffic and place.retired_at is None
        ]

    def _room(self, traffic: str) -> int | None:
        """A carrier of the class that takes one more: the youngest in use, else the oldest warm one."""
        most = self.shape[traffic].streams
        warm: int | None = None
        used: int | None = None
        for number in self._usable(traffic):
            place = self.carriers[number]
            if place.used_at is None:
                warm = number if warm is None else warm
            elif place.streams < most:
                used = number
        return used if used is not None else warm

    def _least(self, numbers: Iterable[int]) -> int | None:
        """The one with the fewest streams."""
        return min(numbers, key=lambda number: self.carriers[number].streams, default=None)

    def begins_elsewhere(self, traffic: str) -> bool:
        """Whether a new stream of this class had better not begin on a carrier of its own."""
        return bool(traffic) and self.shape[traffic].up.talk is not None

    def _elsewhere(self, traffic: str, *, usable: bool = False, other: bool = False) -> int | None:
        """A carrier of any class (any ``other``) that does not refuse this one, retired ones last."""
        allowed = [
            number
            for number, place in self.carriers.items()
            if (place.traffic == traffic and not other) or traffic not in self.shape[place.traffic].never
        ]
        if other:
            allowed = [number for number in allowed if self.carriers[number].traffic != traffic]
        fresh = [number for number in allowed if self._is_usable(number)]
        if not fresh and not usable:
            fresh = allowed
        return min(
            fresh,
            key=lambda number: (self.carriers[number].used_at is None, self.carriers[number].streams),
            default=None,
        )

    def _youngest(self, traffic: str = "") -> int | None:
        """The carrier retired last, among those that do not refuse a class."""
        allowed = [
            number
            for number, place in self.carriers.items()
            if place.retired_at is not None and traffic not in self.shape[place.traffic].never
        ]
        return max(allowed, key=lambda number: self.carriers[number].retired_at or 0.0, default=None)

    def _anywhere(self) -> int | None:
        """For a stream that says nothing: a carrier that refuses nobody and stays longest, or any."""

        def rank(number: int) -> tuple[bool, bool]:
            place = self.carriers[number]
            return not self.shape[place.traffic].never, place.used_at is None

        fresh = [number for number in self.carriers if self._is_usable(number)]
        return max(fresh or self.carriers, key=rank, default=None)


def number_of(traffic: str) -> int:
    """A class as the opening tells it: 1 to 3; 0 for none."""
    return CLASSES.index(traffic) + 1 if traffic else 0


def class_of(number: int) -> str:
    """The reverse; "" for 0 and for numbers of later versions."""
    return CLASSES[number - 1] if 0 < number <= len(CLASSES) else ""
