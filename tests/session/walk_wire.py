"""What the random walk reads on the wire, and what each side owes by it.

A :class:`Watch` knows one side by the frames that came to it and left it, and by
the fields that PROTOCOL.md names (carrier, generation, limit, received). Whatever
the rules make of a frame is a debt: WINDOW for what came of a stream (R8, R9), BIND
for ASK (R14), GONE or RESET for what came of a forgotten one (R16, R17). When a side
says that it has nothing to send and no deadline has passed, no debt may be due.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from walk_oracle import (
    DialledTwice,
    MovedEarly,
    MovedWrongly,
    NotReady,
    SaidOutOfOrder,
    TakenBack,
    Unsaid,
)

from ptproxy.session.frames import (
    ASK,
    BIND,
    CLOSED,
    DATA,
    DATAGRAM,
    EOF,
    GONE,
    HEADER,
    MOVE,
    OPEN,
    PING,
    RESET,
    RESUME,
    RESUME_ENTRY,
    WINDOW,
)

Word = tuple[int, int, int, int, int, int]
"""A frame: where it ends in its carrier's bytes, type, stream, generation, received, limit.

DATA has its offsets in the place of the last two; CLOSED its carrier, and what has no ``received`` the
length of its body, in the place of that. A RESUME is its BINDs.
"""

_HEAD = Struct(">II").unpack_from
_OFFSET = Struct(">Q").unpack_from
_WINDOW = Struct(">QQ").unpack_from
_BIND = Struct(">IQQ").unpack_from
_ENTRY = Struct(">IIQQ").unpack_from
_OPEN = Struct(">IBQ").unpack_from
_NUMBER = Struct(">I").unpack_from

OF_STREAMS = frozenset((DATA, EOF, OPEN, DATAGRAM))
"""What leaves after all control (R27)."""

SAYING = frozenset((WINDOW, BIND, MOVE, ASK, OPEN))
"""What says a limit, and but for OPEN what was received."""


ENDED = GONE
"""The debt of whoever hears of a stream it has forgotten: GONE, or its tombstone's RESET."""


def split(data: bytes, start: int) -> tuple[list[Word], int]:
    """The frames of one drain, whose first byte is the carrier's ``start``-th; and how many they are."""
    words: list[Word] = []
    at = count = 0
    while at < len(data):
        head, stream = _HEAD(data, at)
        kind = head >> 24
        at += HEADER
        stop = at + (head & 0xFFFFFF)
        end = start + stop
        if kind == DATA:
            (offset,) = _OFFSET(data, at)
            words.append((end, kind, stream, 0, offset, offset + stop - at - 8))
        elif kind in (WINDOW, ASK):
            words.append((end, kind, stream, 0, *_WINDOW(data, at)))
        elif kind in (BIND, MOVE):
            words.append((end, kind, stream, *_BIND(data, at)))
        elif kind == OPEN:
            generation, _, limit = _OPEN(data, at)
            words.append((end, kind, stream, generation, 0, limit))
        elif kind == RESUME:
            for entry in range(at, stop, RESUME_ENTRY):
                words.append((end, BIND, *_ENTRY(data, entry)))
        else:
            known = _NUMBER(data, at)[0] if kind == CLOSED else stop - at
            words.append((end, kind, stream, 0, known, 0))
        at = stop
        count += 1
    return words, count


def check_order(name: str, words: list[Word], shared_frame: int) -> None:
    """R27: in one drain control leaves first, and DATA is small beside another stream's."""
    first = largest = 0
    of_streams = shared = False
    for _, kind, number, _, start, end in words:
        if kind in OF_STREAMS:
            of_streams = True
            if kind == DATA:
                largest = max(largest, end - start)
                first = first or number
                shared = shared or number != first
        elif of_streams and kind != PING:  # it may test what has just left
            raise SaidOutOfOrder(f"{name}: control of type {kind} after bytes of streams")
    if shared and largest > shared_frame:
        raise SaidOutOfOrder(f"{name}: DATA of {largest} bytes beside another stream's")


class Binding:
    """The highest generation that was said of a stream, and on which carriers (R12)."""

    __slots__ = ("carriers", "generation")

    def __init__(self) -> None:
        self.generation = -1
        self.carriers: set[int] = set()

    def note(self, generation: int, carrier: int) -> None:
        """A BIND, MOVE or OPEN said so."""
        if generation > self.generation:
            self.generation = generation
            self.carriers = {carrier}
        elif generation == self.generation:
            self.carriers.add(carrier)


class Watch:
    """One side of the walk, as the wire shows it."""

    def __init__(self, side: Any, world: Any) -> None:
        self.side = side
        self.session = side.session
        self.late = side.session.limits.acknowledge_within
        """Seconds within which a WINDOW is due (R8)."""
        self.world = world
        self.is_client = side.name == "client"
        self.owed: dict[tuple[int, int, int], float] = {}  # (carrier, stream, what): when it is due
        self.moved_debts: dict[int, float] = {}  # R9: streams whose debt died with a carrier: when it is due
        self.said_on: dict[int, set[int]] = {}  # R9: the carriers on which a WINDOW was said
        self.said_received: dict[int, int] = {}
        self.received: dict[int, int] = {}  # by stream: what was there when it was last looked at
        self.limits: dict[int, int] = {}  # the highest limit that came
        self.acknowledged: dict[int, int] = {}  # and the highest acknowledgement
        self.bindings: dict[int, Binding] = {}  # said by the client, heard by the bridge
        self.asked: dict[int, set[int]] = {}  # R14: the carriers of the bridge's questions
        self.broken: set[int] = set()  # RESET or GONE of these came
        self.resets: set[int] = set()
        self.hasty: set[int] = set()  # forgotten with a BIND owed
        self.closed: set[int] = set()
        self.excused: set[int] = set()  # R25: streams that may stay on a carrier that goes away
        self.attached: list[tuple[int, tuple[int, ...]]] = []  # R2: numbers with their ALIVE
        self.carriers: set[int] = set()
        self.changed_at = 0.0

    # -- what leaves -----------------------------------------------------------------

    def said(self, words: list[Word], data: bytes, carrier: int) -> None:
        """One drain of a carrier: order (R27, R23), and the debts it pays."""
        check_order(self.side.name, words, self.world.limits.shared_frame)
        owed = self.owed
        for end, kind, number, generation, received, _ in words:
            if kind == DATA:
                continue
            if kind in (WINDOW, BIND, MOVE, ASK):
                owed.pop((carrier, number, WINDOW), None)
                self.moved_debts.pop(number, None)
                self.said_on.setdefault(number, set()).add(carrier)
                self.said_received[number] = received
                if kind == ASK:
                    self.asked.setdefault(number, set()).add(carrier)
                elif kind != WINDOW:
                    owed.pop((carrier, number, BIND), None)
            elif kind in (RESET, GONE):
                owed.pop((carrier, number, ENDED), None)
                self.broken.add(number)
            elif kind == DATAGRAM:
                after = len(data) - (words[-1][0] - end)
                self.side.datagram_left(number, data[after - received : after])
            if self.is_client and kind in (BIND, MOVE, OPEN):
                self.bindings.setdefault(number, Binding()).note(generation, carrier)

    # -- what comes ------------------------------------------------------------------

    def heard(self, words: list[Word], carrier: int, now: float) -> None:
        """Frames that have come whole on a carrier, after the session has dealt with them."""
        streams = self.session.streams
        with_bytes = set()
        said = set()
        for _, kind, number, generation, received, limit in words:
            if kind == DATA:
                if number in streams and number not in with_bytes:
                    self.heard_of(streams[number], carrier, kind, now)
                with_bytes.add(number)
                continue
            if kind == CLOSED:
                self.closed.add(received)
                if received == carrier:
                    break  # the rest was not read
            elif kind == RESET:
                self.resets.add(number)
                self.end(number)
                self.owe(carrier, number, ENDED, now)
            elif kind == GONE:
                self.end(number)
            elif kind in (EOF, OPEN, BIND, MOVE, ASK):
                if number in streams:
                    self.heard_of(streams[number], carrier, kind, now)
                else:
                    self.owe(carrier, number, ENDED, now)
            if kind in SAYING:
                said.add(number)
                self.limits[number] = max(limit, self.limits.get(number, 0))
                self.acknowledged[number] = max(received, self.acknowledged.get(number, 0))
            if not self.is_client and kind in (BIND, MOVE, OPEN):
                self.bindings.setdefault(number, Binding()).note(generation, carrier)
        if not self.hasty <= self.broken:
            raise Unsaid(f"{self.side.name}: {self.hasty} forgotten with a BIND owed")
        self.hasty.clear()
        self.sync(now)
        for number in said:
            self.check_fields(number)

    def heard_of(self, stream: Any, carrier: int, kind: int, now: float) -> None:
        """What a living stream owes for a frame: R9, and how soon by R8; R14's answer."""
        number = stream.id
        if kind == ASK:
            self.owe(carrier, number, BIND, now)
            self.excused.add(number)
            return
        due = now + self.late if kind in (DATA, OPEN) else now
        if kind == OPEN and self.is_client:
            self.excused.add(number)
        elif kind == DATA and stream.received > self.received.get(number, 0):
            self.received[number] = stream.received
            step = max(1, min(self.world.limits.acknowledge_after, stream.window // 4))
            if stream.received - self.said_received.get(number, 0) >= step:
                due = now
        if kind in (BIND, MOVE) and stream.carrier is not None:
            self.asked.pop(number, None)
        self.owe(carrier, number, WINDOW, due)

    def owe(self, carrier: int, number: int, what: int, due: float) -> None:
        """Something about a stream is due on a carrier."""
        key = (carrier, number, what)
        self.owed[key] = min(due, self.owed.get(key, due))

    def end(self, number: int) -> None:
        """RESET or GONE came: nothing else is owed about the stream."""
        self.broken.add(number)
        self.moved_debts.pop(number, None)
        for key in [key for key in self.owed if key[1] == number]:
            del self.owed[key]

    def check_fields(self, number: int) -> None:
        """R7: nothing that came is taken back, and it is used. R12: the highest generation is followed."""
        stream = self.session.streams.get(number)
        if stream is None:
            return
        limit = 0 if stream.is_association else self.limits.get(number, 0)
        if stream.limit < limit or stream.acknowledged < self.acknowledged.get(number, 0):
            raise TakenBack(
                f"{self.side.name}: {stream!r} acknowledged {stream.acknowledged} of {stream.limit}"
            )
        end = stream.owner
        if end.waiting and not end.over and number not in self.session._blocked:  # those look by themselves
            kept = stream.buffer.kept
            share = self.session._stream_share(kept)
            if stream.limit - stream.acknowledged > stream.retained and share > kept:
                raise NotReady(f"{end!r}: not told of room")
        binding = None if self.is_client else self.bindings.get(number)
        if binding is not None and stream.carrier is not None and stream.carrier not in binding.carriers:
            raise MovedWrongly(f"{stream!r} follows another BIND than {binding.generation}")

    # -- carriers --------------------------------------------------------------------

    def sync(self, now: float) -> None:
        """Note carriers that came or were given up (R9: debts move)."""
        carriers = self.session.carriers
        if self.carriers != carriers.keys():
            dead = self.carriers - carriers.keys()
            self.carriers = set(carriers)
            self.changed_at = now
            for number in sorted(dead):
                self.died(number, now)
            for number in self.side.leaving:
                self.leave(number)

    def died(self, carrier: int, now: float) -> None:
        """R9: a debt, and the last WINDOW said there, move to the stream's carrier.

        That is the carrier of the moment, which the frames that follow may change at once: so
        whatever is said of the stream on a live one from now on pays the debt.
        """
        moved = {key[1] for key in self.owed if key[0] == carrier and key[2] == WINDOW}
        for key in [key for key in self.owed if key[0] == carrier]:
            del self.owed[key]
        for number, carriers in self.said_on.items():
            if carrier in carriers:
                carriers.discard(carrier)
                moved.add(number)
        for asked in self.asked.values():
            asked.discard(carrier)
        for number in moved | self.moved_debts.keys():
            stream = self.session.streams.get(number)
            if stream is None or stream.carrier is None:
                self.moved_debts.pop(number, None)  # its next BIND or ASK says it
            elif number in moved:
                self.moved_debts[number] = now + self.late  # it may have got there since

    def attach(self, number: int, alive: tuple[int, ...], now: float) -> None:
        """R2: the bridge has taken a carrier, which must not have been given up."""
        given_up = any(number < other and number not in named for other, named in self.attached)
        if given_up or number in self.closed:
            raise DialledTwice(f"carrier {number} was given up, and is taken")
        self.attached.append((number, alive))
        self.sync(now)

    def owes_bind(self, stream: Any) -> bool:
        """R14: whether a BIND of the stream must leave: the client has moved it, or was asked."""
        binding = self.bindings.get(stream.id)
        said = binding.generation if binding is not None else 0
        asked = any(key[1] == stream.id and key[2] == BIND for key in self.owed)
        return asked or (stream.open_acknowledged and said < stream.generation)

    def leave(self, carrier: int) -> None:
        """R25: a carrier goes away; streams with a BIND owed cannot move now (R14)."""
        if self.is_client:
            for stream in self.session.streams.values():
                if stream.carrier == carrier and self.owes_bind(stream):
                    self.excused.add(stream.id)

    def moved(self, stream: Any, before: int | None, owed: bool) -> None:
        """R14: a voluntary move was asked for."""
        if owed and stream.carrier != before:
            raise MovedEarly(f"{stream!r} leaves {before} with a BIND owed")

    def finished(self, stream: Any) -> None:
        """R18: a stream that has ended is forgotten with a BIND owed only if the peer has forgotten it."""
        if self.is_client and stream.over and self.owes_bind(stream):
            self.hasty.add(stream.id)

    # -- nothing is left to say ------------------------------------------------------

    def check(self, now: float) -> None:
        """A side without anything ready and without a deadline passed owes nothing that is due."""
        session = self.session
        if session.ready:
            return
        deadline = session.deadline()
        if deadline is not None and deadline <= now:
            return
        for key, due in list(self.owed.items()):
            if due <= now:
                carrier, number, what = key
                if what != ENDED and (number in self.broken or number in session.tombstones):
                    del self.owed[key]
                    continue
                raise Unsaid(f"{self.side.name}: {what} of stream {number} on {carrier} since {due:.3f}")
        for number, due in list(self.moved_debts.items()):
            stream = session.streams.get(number)
            if stream is None or stream.carrier is None or number in self.broken:
                del self.moved_debts[number]
            elif due <= now:
                raise Unsaid(
                    f"{self.side.name}: WINDOW of stream {number}, "
                    f"lost with a carrier at {due - self.late:.3f}"
                )
        if self.is_client:
            self.check_bindings()
        elif self.carriers and now >= self.changed_at + self.world.limits.ask_delay:
            self.check_questions()

    def check_questions(self) -> None:
        """R14: of every stream without a carrier a question stands on a live one."""
        for stream in self.session.streams.values():
            homeless = stream.carrier is None and stream.open_acknowledged and not stream.finished
            if homeless and not self.asked.get(stream.id):
                raise Unsaid(f"bridge: ASK of {stream!r}")

    def check_bindings(self) -> None:
        """R12: the latest generation names one carrier. R25: streams have left what goes away."""
        streams = self.session.streams
        for number, binding in self.bindings.items():
            if len(binding.carriers) > 1:
                stream = streams.get(number)
                latest = stream is not None and stream.generation == binding.generation
                if latest and stream.carrier is not None and len(binding.carriers & self.carriers) > 1:
                    raise MovedWrongly(f"{stream!r}: {binding.generation} said on {binding.carriers}")
        leaving = self.side.leaving
        if leaving and self.world.strict and self.carriers - leaving:
            for stream in streams.values():
                if stream.carrier in leaving and stream.id not in self.excused and not stream.finished:
                    raise MovedWrongly(f"{stream!r} stays on a carrier that goes away")
