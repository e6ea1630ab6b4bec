"""What the random walk knows of every stream, and every way a session can be at fault.

A :class:`Pair` is one stream as the two applications see it: an :class:`End` at
the opener and, once it was dialled, one at the acceptor. Byte k of a direction is
``CONTENT[base + k]`` with a base of its own for each stream and direction, so a
gap, a doubled byte and a byte of another stream all show at once. A :class:`Side`
takes a session's events and raises a :class:`Fault` for each that the other
side's application did not cause.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from ptproxy.errors import Reason
from ptproxy.session import Stream, events

CONTENT = random.Random(27).randbytes(1 << 14)
"""Every stream's bytes are a slice of these."""

MOST_BYTES = 4096
"""Bytes a direction may carry in one walk; keeps slices inside CONTENT."""


class Fault(Exception):
    """Something that a session must never do."""


class WrongByte(Fault):
    """A gap, a doubled byte, a byte of another place, or bytes beyond what was written."""


class CreditExceeded(Fault):
    """More unread bytes than the receiver ever allowed."""


class ToldTwice(Fault):
    """An end of stream, reset or acceptance was told twice, or something after the end."""


class ToldUnasked(Fault):
    """An event that the other application did not cause."""


class DialledTwice(Fault):
    """One OPEN led to two dials."""


class IdReused(Fault):
    """A stream number was given out a second time."""


class NeverArrived(Fault):
    """At rest something that was asked for has not happened."""


class LeftBehind(Fault):
    """At rest a stream, a tombstone or a debt is still there."""


class RetentionPinned(Fault):
    """A reader that stalls keeps its sender's bytes unacknowledged."""


class NoSilence(Fault):
    """The sessions go on talking or waking with nothing left to say."""


class BudgetExceeded(Fault):
    """Retained bytes or granted credit above the limits."""


class NotReady(Fault):
    """A carrier outside ``ready`` had something to send, or a writer was never told to go on."""


class SessionBroken(Fault):
    """An exception out of a session whose peer and application are honest."""


class Unsaid(Fault):
    """Something was due by the rules, and the side that owes it had nothing to send."""


class SaidOutOfOrder(Fault):
    """Frames left in another order, or larger, than R27 or R23 has them."""


class TakenBack(Fault):
    """A permission or an acknowledgement that came has gone again (R7)."""


class MovedEarly(Fault):
    """A voluntary move while a BIND was owed (R14)."""


class MovedWrongly(Fault):
    """A stream is bound where the rules do not have it (R12, R25)."""


class TakenAfterGoaway(Fault):
    """A stream was opened, or taken, after GOAWAY (R25)."""


class HostileAccepted(Fault):
    """A frame that the rules forbid was taken."""


class Pair:
    """One stream, seen from above: both ends and what may happen to it."""

    __slots__ = ("acceptor", "base", "datagrams", "key", "left", "opener", "target")

    def __init__(self, index: int) -> None:
        self.key = (0, 0)
        self.target = b"<%d>" % index
        self.base = index * 1031 % 4096
        self.opener: End | None = None
        self.acceptor: End | None = None
        self.left = False
        self.datagrams: tuple[set[bytes], set[bytes]] = (set(), set())


class End:
    """One application's end of a stream: what it did and what it was told."""

    __slots__ = (
        "accepted",
        "base_in",
        "base_out",
        "consumed",
        "datagrams",
        "delivered",
        "eof_sent",
        "eof_told",
        "first",
        "index",
        "over",
        "pair",
        "polite",
        "reason",
        "side",
        "stalled",
        "stream",
        "waiting",
        "written",
    )

    def __init__(self, side: Side, stream: Stream, pair: Pair, index: int) -> None:
        self.side = side
        self.stream = stream
        self.pair = pair
        self.index = index
        self.base_out = pair.base + index * 4096
        self.base_in = pair.base + (1 - index) * 4096
        self.written = self.delivered = self.consumed = self.first = 0
        self.eof_sent = self.eof_told = self.accepted = False
        self.waiting = self.stalled = False
        self.polite = True
        self.datagrams: deque[bytes] = deque()  # those that wait, by R23
        self.over = ""
        self.reason: Reason | None = None
        stream.owner = self

    @property
    def peer(self) -> End | None:
        """The other application's end, if the stream was dialled."""
        return self.pair.acceptor if self.index == 0 else self.pair.opener

    def __repr__(self) -> str:
        return f"{self.side.name} stream {self.stream.id}"

    def close(self, how: str) -> None:
        """The application will hear nothing more of this stream."""
        self.over = how
        self.side.ends.pop(self.stream.id, None)
        if how == "finished" and self.consumed < self.delivered:
            self.side.leftover.append(self)
        else:
            self.side.unread -= self.delivered - self.consumed
            self.consumed = self.delivered


class Side:
    """One session with the applications above it."""

    __slots__ = (
        "carriers_given_up",
        "ends",
        "goaway_heard",
        "goaway_said",
        "heard",
        "initial",
        "leaving",
        "leftover",
        "most_unread",
        "name",
        "parity",
        "session",
        "suspected",
        "told",
        "trace",
        "unread",
        "watch",
        "window",
        "world",
    )

    def __init__(self, name: str, session: Any, world: Any, parity: int) -> None:
        self.name = name
        self.session = session
        self.world = world
        self.parity = parity
        self.ends: dict[int, End] = {}
        self.unread = self.heard = 0
        self.most_unread = world.limits.receive_budget
        self.window = world.limits.max_window
        self.initial = world.limits.initial_window
        self.goaway_said = self.goaway_heard = False
        self.leftover: list[End] = []  # finished, but not read to the end
        self.leaving: set[int] = set()
        self.suspected: set[int] = set()
        self.carriers_given_up: set[int] = set()
        self.trace = world.trace
        self.watch: Any = None
        self.told = {
            events.DataReceived: self._data,
            events.EofReceived: self._eof,
            events.StreamOpened: self._opened,
            events.StreamAccepted: self._accepted,
            events.StreamReset: self._reset,
            events.StreamFinished: self._finished,
            events.StreamWritable: self._writable,
            events.DatagramReceived: self._datagram,
            events.CarrierSuspected: self._suspected,
            events.CarrierGivenUp: self._given_up,
            events.GoawayReceived: self._goaway,
        }

    def take(self, batch: list[Any]) -> None:
        """Act on a session's events as an application does; a :class:`Fault` where one is wrong."""
        told = self.told
        self.heard += len(batch)
        for event in batch:
            if self.trace is not None:
                shown = [getattr(event, name) for name in event.__slots__]
                shown = [value.nbytes if isinstance(value, memoryview) else value for value in shown]
                self.trace(f"    {self.name} told {type(event).__name__}{tuple(shown)}")
            told[type(event)](event)

    def end_of(self, stream: Stream) -> End:
        """The living end of a stream, or a fault: something is told after the end."""
        end = stream.owner
        if end is None or end.side is not self:
            raise ToldUnasked(f"{self.name}: event of stream {stream.id} that no application knows")
        if end.over:
            raise ToldTwice(f"{end!r}: event after {end.over}")
        return end

    def _opened(self, event: Any) -> None:
        stream = event.stream
        pair = self.world.pairs.get(self.world.key(self, stream.id))
        if pair is None:
            raise ToldUnasked(f"{self.name}: stream {stream.id} was never opened")
        if pair.acceptor is not None:
            raise DialledTwice(f"{self.name}: stream {stream.id}")
        if stream.id in self.watch.resets:
            raise DialledTwice(f"{self.name}: stream {stream.id} after its RESET")
        if self.goaway_said:
            raise TakenAfterGoaway(f"{self.name}: stream {stream.id}")
        if bytes(stream.target) != pair.target:
            raise WrongByte(f"{self.name}: stream {stream.id} has another target")
        end = pair.acceptor = End(self, stream, pair, 1)
        self.ends[stream.id] = end
        self.world.style(end)
        if len(event.first_data):
            self._take_data(end, event.first_data)

    def _accepted(self, event: Any) -> None:
        end = self.end_of(event.stream)
        if end.accepted:
            raise ToldTwice(f"{end!r}: accepted")
        if end.index != 0 or end.peer is None or not end.peer.accepted:
            raise ToldUnasked(f"{end!r}: accepted")
        end.accepted = True

    def _data(self, event: Any) -> None:
        self._take_data(self.end_of(event.stream), event.data)

    def _take_data(self, end: End, data: Any) -> None:
        start = end.base_in + end.delivered
        count = len(data)
        peer = end.peer
        assert peer is not None
        if end.eof_told or data != CONTENT[start : start + count] or end.delivered + count > peer.written:
            raise WrongByte(f"{end!r}: {count} bytes at {end.delivered} of {peer.written}")
        end.delivered += count
        self.unread += count
        if end.delivered - end.consumed > self.window:
            raise CreditExceeded(f"{end!r}: {end.delivered - end.consumed} unread")
        if self.unread > self.most_unread + self.initial * (len(self.ends) + len(self.leftover)):
            raise CreditExceeded(f"{self.name}: {self.unread} unread in all")

    def _eof(self, event: Any) -> None:
        end = self.end_of(event.stream)
        peer = end.peer
        if end.eof_told:
            raise ToldTwice(f"{end!r}: EOF")
        if peer is None or not peer.eof_sent:
            raise ToldUnasked(f"{end!r}: EOF")
        if end.delivered != peer.written:
            raise WrongByte(f"{end!r}: EOF after {end.delivered} of {peer.written}")
        end.eof_told = True

    def _reset(self, event: Any) -> None:
        stream = event.stream
        end = self.end_of(stream)
        if event.reason is Reason.SESSION_LOST:
            if self.name != "client" or not self.world.lost:
                raise ToldUnasked(f"{end!r}: session lost")
            if end.index == 0 and not end.pair.left:
                raise ToldUnasked(f"{end!r}: session lost though its OPEN never left")
            end.close("session lost")
            return
        peer = end.peer
        given_up = event.reason is Reason.LIMIT and self.world.pressing  # R21: by the session itself
        if given_up and (peer is None or peer.over != "reset" or peer.reason is not Reason.LIMIT):
            end.reason = Reason.LIMIT
            end.close("reset")
            return
        refusing = self.world.other(self).goaway_said or self.world.refusing
        if event.reason is Reason.SHUTDOWN and peer is None and refusing:
            end.close("refused")
            return
        if peer is None or peer.over != "reset":
            raise ToldUnasked(f"{end!r}: reset")
        if event.reason is not peer.reason:
            raise WrongByte(f"{end!r}: reset for {event.reason} instead of {peer.reason}")
        end.close("reset told")

    def _finished(self, event: Any) -> None:
        end = self.end_of(event.stream)
        if not (end.eof_sent and end.eof_told):
            raise ToldUnasked(f"{end!r}: finished")
        self.watch.finished(event.stream)
        end.close("finished")

    def _writable(self, event: Any) -> None:
        self.end_of(event.stream).waiting = False

    def _datagram(self, event: Any) -> None:
        end = self.end_of(event.stream)
        data = bytes(event.address) + b"|" + bytes(event.data)
        sent = end.pair.datagrams[1 - end.index]
        if data not in sent:
            raise ToldUnasked(f"{end!r}: datagram {data!r}")
        sent.discard(data)

    def datagram_left(self, number: int, data: bytes) -> None:
        """R23: a datagram leaves (its address's length, address and bytes): the oldest that waits."""
        end = self.ends[number]
        if not end.datagrams or end.datagrams.popleft() != data:
            raise SaidOutOfOrder(f"{end!r}: datagram {data!r}")

    def _suspected(self, event: Any) -> None:
        if self.name != "client":
            raise ToldUnasked("a bridge suspects a carrier")
        self.suspected.add(event.carrier)

    def _given_up(self, event: Any) -> None:
        self.carriers_given_up.add(event.carrier)
        self.suspected.discard(event.carrier)

    def _goaway(self, event: Any) -> None:
        if event.carrier is None:
            self.goaway_heard = True
        else:
            self.leaving.add(event.carrier)
            self.watch.leave(event.carrier)
