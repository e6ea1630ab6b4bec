"""When a record is published, and under which sequence: so that nothing about it says whose it is.

A record goes out once in each slot of its epochs (``epoch``: five slots of six hours), newly sealed, at a
moment drawn from its secret: restarts change nothing, and records of one publisher share no
rhythm. What it says may change or not: from outside that is the same.

::

    moment of slot s = opens(epoch) + 6 h * s + 15 min + 5.5 h * u / 65536
    u                = bytes 2s and 2s + 1 of the secret's times (``record_secret``), as a number
    sequence         = slot u16 │ count u16

``count`` is 0, and rises only when something must not wait for the next slot (:meth:`announce`),
or when a node says that it holds as much already (:meth:`refused`). So all records of
the network have the same few sequences.

Plain state without I/O. The order of calls::

    for turn in publication.due(now):
        while not publication.work(turn.epoch, target, tries=100):
            ...                                         # 40 ms of CPU; once in an epoch
        record = publication.seal(turn, issuer, rng)    # the same one however often it is asked for
        save(publication.progress)
        ... write it at its locations ...
        publication.published(turn)                     # or .refused(turn, held)
    wait until publication.deadline(now)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ptproxy.dht import epoch as epochs
from ptproxy.dht.epoch import SLOT, SLOTS
from ptproxy.dht.identifier import Rng
from ptproxy.dht.record import Record
from ptproxy.dht.record_secret import MAX_EPOCH, MAX_SEQUENCE, RecordKeys, RecordSecret, RecordType
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import LocalProtocolError

MARGIN: Final = 900
"""Seconds at both ends of a slot in which nothing goes out: clocks differ, and the first opens the epoch."""
MAX_RAISES: Final = 4
"""Times that a record goes above another one in a slot: who has the secret must not keep us busy."""

_COUNT_BITS: Final = 16
_NEVER: Final = -1


@dataclass(frozen=True, slots=True)
class Turn:
    """One record to publish."""

    epoch: int
    slot: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the record of one epoch is: what should survive a restart."""

    sequence: int
    """The highest one sealed, or seen at a node."""
    slot: int
    """The last slot in which it went out; -1: none yet."""


class _Day:
    """The record of one epoch."""

    __slots__ = (
        "content",
        "keys",
        "nonce",
        "raises",
        "record",
        "sequence",
        "slot",
        "tried",
        "turn",
        "urgent",
    )

    def __init__(self, keys: RecordKeys) -> None:
        self.keys = keys
        self.nonce: bytes | None = None
        self.tried = 0
        self.sequence = _NEVER
        self.slot = _NEVER
        self.urgent = False
        self.raises = 0
        self.turn: Turn | None = None
        """The turn that is sealed and not out yet, with its content and record."""
        self.content = b""
        self.record: Record | None = None


class Publication:
    """One secret's record of one type, over all epochs."""

    __slots__ = ("_days", "content", "kind", "last_epoch", "secret")

    def __init__(
        self, secret: RecordSecret, kind: RecordType, content: bytes, last_epoch: int = MAX_EPOCH
    ) -> None:
        """``last_epoch``: the epoch after which nothing is published any more."""
        self.secret = secret
        self.kind = kind
        self.content = content
        """What goes out from the next turn on."""
        self.last_epoch = last_epoch
        self._days: dict[int, _Day] = {}

    # ---- what its owner wants -------------------------------------------------------------

    def announce(self, content: bytes) -> None:
        """Say ``content`` at once, in every epoch in which something else was said."""
        self.content = content
        for day in self._days.values():
            if day.sequence != _NEVER:
                day.urgent = True
                day.raises = 0

    def withdraw(self, content: bytes, now: float) -> None:
        """Say ``content`` at once wherever something was said, and nothing in epochs that come."""
        self.announce(content)
        said = (epoch for epoch, day in self._days.items() if day.sequence != _NEVER)
        self.last_epoch = max(said, default=epochs.epoch_of(now) - 1)

    @property
    def progress(self) -> dict[int, Progress]:
        """By epoch. Without it nodes say after a restart what they hold, which costs a round of refusals."""
        return {
            epoch: Progress(day.sequence, day.slot)
            for epoch, day in self._days.items()
            if day.sequence != _NEVER
        }

    def resume(self, progress: Mapping[int, Progress]) -> None:
        """Go on where :attr:`progress` was before a restart."""
        for epoch, was in progress.items():
            day = self._of(epoch)
            day.sequence, day.slot = was.sequence, was.slot

    # ---- what is to be done ---------------------------------------------------------------

    def is_over(self, now: float) -> bool:
        """Whether there will never be a turn again."""
        return epochs.epoch_of(now) > self.last_epoch

    def due(self, now: float) -> list[Turn]:
        """What to publish now: at most a turn for each open epoch."""
        current = epochs.epoch_of(now)
        self._days = {epoch: day for epoch, day in self._days.items() if epoch >= current}
        turns = (self._turn(epoch, now) for epoch in epochs.open_epochs(now) if epoch <= self.last_epoch)
        return [turn for turn in turns if turn is not None]

    def deadline(self, now: float) -> float | None:
        """Unix seconds at which :meth:`due` has something next, not before ``now``; None: never again."""
        if self.due(now):
            return now
        current = epochs.epoch_of(now)
        soon = (
            moment
            for epoch in (current, current + 1)
            if epoch <= self.last_epoch
            for slot, moment in enumerate(self.moments(epoch))
            if moment > now and slot > self._of(epoch).slot
        )
        return min(soon, default=None)

    def moments(self, epoch: int) -> list[float]:
        """Unix seconds at which the record of ``epoch`` goes out, one in each slot."""
        times = self._of(epoch).keys.times
        fractions = (int.from_bytes(times[2 * slot : 2 * slot + 2], "big") / 0x10000 for slot in range(SLOTS))
        return [
            epochs.opens(epoch) + SLOT * slot + MARGIN + fraction * (SLOT - 2 * MARGIN)
            for slot, fraction in enumerate(fractions)
        ]

    # ---- doing it -------------------------------------------------------------------------

    def keys(self, epoch: int) -> RecordKeys:
        """The keys of the record in ``epoch``: they say its locations."""
        return self._of(epoch).keys

    def work(self, epoch: int, target: WorkTarget, tries: int) -> bool:
        """Go on with the search for the work of the record in ``epoch``: True once it is found."""
        day = self._of(epoch)
        if day.nonce is None:
            day.nonce = day.keys.find_work(target, day.tried, tries)
            day.tried += tries
        return day.nonce is not None

    def seal(self, turn: Turn, issuer: SigningKey, rng: Rng) -> Record:
        """The record of ``turn``; :class:`LocalProtocolError` before :meth:`work` is done."""
        day = self._of(turn.epoch)
        if day.nonce is None:
            raise LocalProtocolError("a record is sealed once its work has been found")
        if day.record is None or day.turn != turn or day.content != self.content:
            day.record = day.keys.seal(self.content, turn.sequence, issuer, day.nonce, rng)
            day.turn, day.content = turn, self.content
            day.sequence = max(day.sequence, turn.sequence)
        return day.record

    def published(self, turn: Turn) -> None:
        """``turn`` is out: enough nodes have it."""
        day = self._of(turn.epoch)
        day.slot = max(day.slot, turn.slot)
        if day.turn == turn:
            if day.content == self.content:
                day.urgent = False
            day.turn = day.record = None
            day.raises = 0

    def refused(self, turn: Turn, held: int) -> None:
        """A node holds another record with the sequence ``held``, not below that of ``turn``.

        After a restart that is our own from before; at any other time somebody with the secret has
        written it. The next turn goes above it, at once a few times, then in the next slot; above
        the highest sequence there is nothing until the epoch ends.
        """
        day = self._of(turn.epoch)
        day.sequence = max(day.sequence, held)
        day.turn = day.record = None
        day.raises += 1
        day.urgent = day.raises < MAX_RAISES
        if not day.urgent:
            day.slot, day.raises = max(day.slot, turn.slot), 0

    # ---- inside ---------------------------------------------------------------------------

    def _of(self, epoch: int) -> _Day:
        day = self._days.get(epoch)
        if day is None:
            day = self._days[epoch] = _Day(self.secret.keys(self.kind, epoch))
        return day

    def _turn(self, epoch: int, now: float) -> Turn | None:
        day = self._of(epoch)
        slot = epochs.slot_of(epoch, now)
        # A new invite in a day that has begun must not wait; before the day begins there is time.
        at_once = day.urgent or (day.slot == _NEVER and slot > 0)
        if not at_once and (slot <= day.slot or now < self.moments(epoch)[slot]):
            return None
        if day.turn is not None and day.content == self.content:
            return day.turn
        sequence = max(slot << _COUNT_BITS, day.sequence + 1)
        return Turn(epoch, slot, sequence) if sequence <= MAX_SEQUENCE else None

    def __repr__(self) -> str:
        return f"<Publication {self.kind.name.lower()}>"
