"""The random walk's applications: streams opened, written, stalled, read, moved, ended and given up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from walk_carriers import Carriers
from walk_oracle import CONTENT, MOST_BYTES, BudgetExceeded, End, IdReused, Pair, Side, TakenAfterGoaway

from ptproxy.errors import LocalProtocolError, Reason

REASONS = (Reason.CANCELLED, Reason.GENERAL, Reason.REFUSED, Reason.CONNECTION_LOST, Reason.LIMIT)

PAUSES = (0.001, 0.02, 0.1, 0.3, 1.0, 1.5, 4.0, 11.0)
"""Seconds that a step of time takes at most: around every interval of the rules."""


def _size(datagrams: Iterable[bytes]) -> int:
    """The bytes of waiting datagrams without the address ("addr" and its length)."""
    return sum(len(data) - 6 for data in datagrams)


class Streams(Carriers):
    """Applications on both sides; every method of no arguments is a step of the walk."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        super().__init__(seed, trace)
        self.all_polite = self.draw() < 0.5
        self.resting = False
        self.datagrams = 0

    def style(self, end: End) -> None:
        """How this end's application behaves."""
        end.polite = self.all_polite or self.draw() < 0.7
        end.stalled = not self.resting and self.draw() < 0.2

    def some_end(self) -> End | None:
        """Any living end of any stream."""
        side = self.sides[self.draw() < 0.5]
        ends = list(side.ends.values())
        if not ends:
            return None
        return ends[int(self.draw() * len(ends))]

    def open(self) -> None:
        """An application opens a stream, with or without first data."""
        side = self.sides[self.draw() < 0.5]
        count = (0, 0, 1, 3, 8)[int(self.draw() * 5)]
        if len(side.ends) < 6:
            self.open_one(side, count)

    def open_one(self, side: Side, count: int) -> End | None:
        """Open a stream with ``count`` bytes of first data."""
        session = side.session
        pair = Pair(len(self.pairs))
        first = CONTENT[pair.base : pair.base + count]
        carrier = None
        if session.carriers and side is self.client and self.draw() < 0.3:
            numbers = sorted(set(session.carriers) - side.leaving)
            carrier = numbers[int(self.draw() * len(numbers))] if numbers else None
        try:
            stream = session.open_stream(pair.target, first, self.now, carrier)
        except LocalProtocolError:
            if not (side.goaway_said or side.goaway_heard):
                raise
            return None
        if side.goaway_said or side.goaway_heard:
            raise TakenAfterGoaway(f"{side.name}: opens {stream.id}")
        return self.opened(side, stream, pair, count)

    def opened(self, side: Side, stream: Any, pair: Pair, count: int) -> End:
        """Note a stream that an application has opened."""
        number = stream.id
        key = self.key(side, number)
        if key in self.pairs:
            raise IdReused(f"{side.name}: stream {number}")
        if number % 2 != side.parity:
            raise IdReused(f"{side.name}: stream {number} has the other side's parity")
        self.log(f"{side.name} opens {number} with {count} bytes")
        self.pairs[key] = pair
        pair.key = key
        end = pair.opener = End(side, stream, pair, 0)
        end.written = end.first = count
        side.ends[number] = end
        self.style(end)
        self.figures.streams += 1
        return end

    def associate(self) -> None:
        """The client opens an association for datagrams."""
        side = self.client
        if side.goaway_said or side.goaway_heard or len(side.ends) >= 6:
            return
        pair = Pair(len(self.pairs))
        self.opened(side, side.session.open_association(pair.target, self.now), pair, 0)

    def datagram(self) -> None:
        """An association sends one."""
        end = self.some_end()
        if end is None or not end.stream.is_association or (end.index and not end.accepted):
            return
        self.datagrams += 1
        data = b"%d" % self.datagrams
        if self.profile.few_datagrams:
            data += b"." * int(self.draw() * 10)
        end.pair.datagrams[end.index].add(b"addr|" + data)
        self.log(f"{end!r} sends datagram {self.datagrams}")
        end.stream.send_datagram(b"addr", data, self.now)
        queue = end.datagrams
        queue.append(b"\0\4addr" + data)
        limits = self.limits
        while len(queue) > limits.max_datagrams or _size(queue) > limits.max_datagram_bytes:
            queue.popleft()

    def accept(self) -> None:
        """A dial ends well, or not."""
        end = self.some_end()
        if end is None or end.index == 0 or end.accepted or end.stalled:
            return
        if self.draw() < 0.9:
            self.accept_one(end)
        else:
            self.reset_one(end)

    def accept_one(self, end: End) -> None:
        """A dial ends well."""
        self.log(f"{end!r} accepts")
        end.accepted = True
        end.stream.accept(self.now)

    def write(self) -> None:
        """An application writes a few bytes."""
        end = self.some_end()
        if end is not None:
            self.write_one(end, 1 + int(self.draw() * 8))

    def write_one(self, end: End, count: int) -> None:
        """An application writes, a polite one no more than there is room for."""
        stream = end.stream
        if end.eof_sent or stream.is_association or (end.index and not end.accepted):
            return
        if end.polite:
            room = stream.send_room()
            if room <= 0:
                end.waiting = True
                return
            end.waiting = False
            count = min(count, room)
        if end.written + count > MOST_BYTES:
            return
        start = end.base_out + end.written
        self.log(f"{end!r} writes {count} at {end.written}")
        end.written += count
        self.figures.bytes += count
        stream.send_data(CONTENT[start : start + count], self.now)

    def eof(self) -> None:
        """An application ends its direction."""
        end = self.some_end()
        if end is not None:
            self.eof_one(end)

    def eof_one(self, end: End) -> None:
        """An application ends its direction."""
        if end.eof_sent or end.stream.is_association or (end.index and not end.accepted):
            return
        self.log(f"{end!r} sends EOF at {end.written}")
        end.eof_sent = True
        end.waiting = False
        end.stream.send_eof(self.now)

    def reset(self) -> None:
        """An application gives a stream up."""
        end = self.some_end()
        if end is not None:
            self.reset_one(end)

    def reset_one(self, end: End) -> None:
        """An application gives a stream up."""
        end.reason = reason = REASONS[int(self.draw() * len(REASONS))]
        self.log(f"{end!r} resets for {reason.name}")
        end.close("reset")
        end.stream.reset(reason, self.now)

    def consume(self) -> None:
        """An application reads some of what it was given."""
        end = self.some_end()
        if end is None or self.draw() < 0.2:
            for side in self.sides:
                if side.leftover:
                    end = side.leftover.pop()
                    self.consume_one(end, end.delivered - end.consumed)
            return
        if not end.stalled and (end.index == 0 or end.accepted):
            self.consume_one(end, 1 + int(self.draw() * (end.delivered - end.consumed)))
            self.check_budget()

    def consume_one(self, end: End, count: int) -> None:
        """An application reads some of what it was given."""
        count = min(count, end.delivered - end.consumed)
        if count:
            self.log(f"{end!r} consumes {count}")
            end.consumed += count
            end.side.unread -= count
            end.stream.consume(count, self.now)

    def check_budget(self) -> None:
        """Retained bytes and granted credit are what the streams say, and inside the limits (R21, R22)."""
        for side in self.sides:
            session = side.session
            streams = session.streams.values()
            datagrams = sum(_size(end.datagrams) for end in side.ends.values() if end.datagrams)
            retained = sum(stream.buffer.kept for stream in streams) + datagrams
            if retained != session.account.retained:
                raise BudgetExceeded(f"{side.name}: account of {session.account.retained} for {retained}")
            first = sum(end.first for end in side.ends.values())
            budget = max(self.retention, self.floor) + datagrams + first
            if self.all_polite and not self.resting and retained > budget:
                raise BudgetExceeded(f"{side.name}: {retained} bytes retained")
            unread = sum(stream.granted - stream.read for stream in streams if stream.id in side.ends)
            count = len(streams) + session._unread_over
            most = self.limits.receive_budget + count * self.limits.initial_window
            if unread > session._granted_unread or session._granted_unread > most:
                raise BudgetExceeded(f"{side.name}: {session._granted_unread} bytes granted")

    # -- moves and time --------------------------------------------------------------

    def time(self) -> None:
        """Time passes, and whoever has a deadline hears of it, at times late."""
        self.now += PAUSES[int(self.draw() * len(PAUSES))] * self.draw()
        for side in self.sides:
            self.wake(side)

    def wake(self, side: Side) -> None:
        """Tell a session that its deadline has passed."""
        deadline = side.session.deadline()
        if deadline is not None and deadline <= self.now:
            if self.trace is not None:
                self.log(f"{side.name} is woken")
            self.take(side, side.session.on_deadline(self.now))
            side.watch.sync(self.now)
        side.watch.check(self.now)

    def move(self) -> None:
        """The client binds a stream to another carrier, with a rewind or a drain."""
        ends = list(self.client.ends.values())
        numbers = sorted(set(self.client.session.carriers) - self.client.leaving)
        if ends and numbers:
            end = ends[int(self.draw() * len(ends))]
            self.move_one(end, numbers[int(self.draw() * len(numbers))], self.draw() < 0.5)

    def move_one(self, end: End, number: int, drain: bool) -> None:
        """Bind one stream to a carrier."""
        stream, client = end.stream, self.client
        self.log(f"client {'drains' if drain else 'binds'} {stream.id} to {number}")
        before, owed = stream.carrier, client.watch.owes_bind(stream)
        if drain:
            client.session.drain(stream, number, self.now)
        else:
            client.session.bind(stream, number, self.now)
        client.watch.moved(stream, before, owed)

    def overtake(self) -> None:
        """Both ends write and send, and before any of it arrives the stream moves with a drain."""
        ends = [end for end in self.client.ends.values() if end.stream.carrier is not None]
        if not ends:
            return
        end = ends[int(self.draw() * len(ends))]
        peer = end.peer
        numbers = sorted(set(self.client.session.carriers) - {end.stream.carrier})
        if not numbers or peer is None or peer.over or peer.side is not self.bridge:
            return
        for one in (end, peer):
            self.write_one(one, 3)
            number = one.stream.carrier
            if number is not None:
                self.drain_one(one.side, number, 1000)
        if end.stream.carrier is not None:
            self.move_one(end, numbers[int(self.draw() * len(numbers))], True)

    def goaway(self) -> None:
        """A side announces that a carrier, rarely the session, takes nothing new."""
        side = self.some_side()
        numbers = sorted(side.session.carriers)
        if not numbers:
            return
        if self.draw() < 0.15:
            self.log(f"{side.name} says GOAWAY")
            side.goaway_said = True
            side.session.send_goaway(None)
        else:
            number = numbers[int(self.draw() * len(numbers))]
            self.log(f"{side.name} says GOAWAY of {number}")
            side.leaving.add(number)
            side.watch.leave(number)
            side.session.send_goaway(number)

    def leave(self) -> None:
        """The client moves what is on a carrier that goes away, and closes it once it is empty."""
        client = self.client
        if not client.leaving:
            return
        number = min(client.leaving)
        staying = [end for end in client.ends.values() if end.stream.carrier == number]
        others = sorted(set(client.session.carriers) - client.leaving)
        if not staying:
            pipe = self.pipes.get(number)
            if pipe is not None:
                self.lose(pipe, client)
            client.leaving.discard(number)
        elif others:
            self.move_one(staying[0], others[int(self.draw() * len(others))], True)
