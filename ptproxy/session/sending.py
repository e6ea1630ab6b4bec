"""Draining a carrier: frames made from state, control first, then interactive, then bulk (R10, R27)."""

from __future__ import annotations

from itertools import islice
from math import inf
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.session import frames
from ptproxy.session.carrier import Carrier
from ptproxy.session.credit import Credit
from ptproxy.session.frames import ASSOCIATION, BIND, MAX_RESUME, PING, PONG
from ptproxy.session.stream import Stream

MAX_ALONG: Final = 16
"""Waiting streams of a carrier that are looked at for a WINDOW to take along: the next ones to be served."""


class Sending(Credit):
    """The rules of what leaves, and in which order."""

    def data_to_send(self, number: int, budget: int, now: float) -> list[Buffer]:
        """Frames for carrier ``number``, made now; stops once ``budget`` bytes are reached (R10, R27).

        The buffers are immutable and good for as long as they are held. A dead carrier gives nothing.
        """
        self._now = now
        carrier = self.carriers.get(number)
        if carrier is None:
            self.ready.discard(number)
            return []
        out: list[Buffer] = []
        if carrier.interactive and self._late:
            self._take_windows_along(carrier, now)
        size = self._say_control(carrier, out, budget, now) if carrier.dirty else 0
        while (carrier.interactive or carrier.bulk) and size < budget:
            size += self._send_from(self._next_stream(carrier), carrier, out, budget - size, now)
        if carrier.ping_due:
            self._say_of_carriers(carrier, out, now)
        if not (carrier.dirty or carrier.interactive or carrier.bulk):
            self.ready.discard(number)
        return out

    # ---- control (R10) -----------------------------------------------------------------------

    def _say_control(self, carrier: Carrier, out: list[Buffer], budget: int, now: float) -> int:
        """R10, R27: everything owed on a carrier, from its marks; returns the bytes said."""
        size = self._say_of_carriers(carrier, out, now)
        for say in (self._say_binds, self._say_asks, self._say_endings, self._say_windows):
            if size < budget:
                size += say(carrier, out, budget - size, now)
        carrier.dirty = carrier.owes
        return size

    def _say_of_carriers(self, carrier: Carrier, out: list[Buffer], now: float) -> int:
        """CHALLENGE, PROOF, CLOSED, GOAWAY, PING, PONG: bounded, so not cut by the budget."""
        start = len(out)
        while carrier.opaque:
            out.append(frames.opaque(*carrier.opaque.popleft()))
        if carrier.closed:
            out.extend(map(frames.closed, carrier.closed))
            carrier.closed.clear()
            self._probe(carrier, now)
        if carrier.goaways:
            out.extend(map(frames.goaway, carrier.goaways))
            carrier.goaways.clear()
        if carrier.pong is not None:
            out.append(frames.ping(PONG, carrier.pong))
            carrier.pong = None
        if carrier.ping_due:
            carrier.ping_due = False
            carrier.ping_value += 1
            carrier.ping_at = carrier.pinged_at = now
            out.append(frames.ping(PING, carrier.ping_value))
        return sum(map(len, out[start:]))

    def _say_binds(self, carrier: Carrier, out: list[Buffer], budget: int, now: float) -> int:
        """R12: BIND and MOVE; several BINDs together are a RESUME."""
        if not carrier.binds:
            return 0
        size = 0
        entries: list[tuple[int, int, int, int]] = []
        for number, kind in list(carrier.binds.items()):
            if size + len(entries) * frames.RESUME_ENTRY >= budget or len(entries) == MAX_RESUME:
                break
            del carrier.binds[number]
            stream = self.streams[number]
            stream.binds &= ~carrier.bit
            carrier.windows.pop(number, None)
            received, limit = self._window_to_say(stream, carrier)
            # A stream may have moved on: only its own carrier's BIND may say the latest generation.
            generation = stream.generation - (stream.carrier != carrier.number)
            if kind == BIND:
                entries.append((number, generation, received, limit))
            else:
                frame = frames.bind(kind, number, generation, received, limit)
                out.append(frame)
                size += len(frame)
            self._expect(stream, carrier, now)
            self._forget_if_over(stream)
        if entries:
            out.append(frames.bind(BIND, *entries[0]) if len(entries) == 1 else frames.resume(entries))
            size += len(out[-1])
        return size

    def _say_asks(self, carrier: Carrier, out: list[Buffer], budget: int, now: float) -> int:
        """R14: ASK; it says received and limit as a WINDOW does."""
        size = 0
        for number in list(carrier.asks):
            if size >= budget:
                break
            del carrier.asks[number]
            stream = self.streams[number]
            carrier.windows.pop(number, None)
            out.append(frames.ask(number, *self._window_to_say(stream, carrier)))
            size += len(out[-1])
            self._asked[number] = (carrier.number, now)
            self._arm_net(now + self.limits.safety_net)
            self._forget_if_over(stream)
        return size

    def _say_endings(self, carrier: Carrier, out: list[Buffer], budget: int, now: float) -> int:
        """R16, R17: RESET and GONE."""
        size = 0
        for number in list(carrier.resets):
            if size >= budget:
                return size
            del carrier.resets[number]
            tombstone = self.tombstones[number]
            tombstone.said |= carrier.bit
            tombstone.said_at = now
            self._watch(carrier, now)
            out.append(frames.reset(number, tombstone.code))
            size += 9
        if carrier.gones and size < budget:
            said = list(carrier.gones)[: (budget - size) // frames.HEADER + 1]
            for number in said:
                del carrier.gones[number]
            out.append(b"".join(map(frames.gone, said)))
            size += frames.HEADER * len(said)
        return size

    def _take_windows_along(self, carrier: Carrier, now: float) -> None:
        """R8: WINDOWs that are owed for a while leave with small DATA, not by themselves later."""
        limits, late = self.limits, self._late
        latest = now + limits.acknowledge_within - limits.along_after
        for stream in islice(carrier.interactive.values(), MAX_ALONG):
            if stream.debts & carrier.bit and late.get(stream.id, inf) <= latest:
                carrier.windows[stream.id] = None
                carrier.dirty = True
                if stream.debts == carrier.bit:
                    del late[stream.id]

    def _say_windows(self, carrier: Carrier, out: list[Buffer], budget: int, now: float) -> int:
        """R7, R9: OPENED and WINDOW."""
        size = 0
        for number in list(carrier.openeds):
            if size >= budget:
                return size
            del carrier.openeds[number]
            out.append(frames.opened(number))
            size += frames.HEADER
        windows = carrier.windows
        for number in list(windows) if windows else ():
            if size >= budget:
                break
            del windows[number]
            stream = self.streams[number]
            out.append(frames.window(number, *self._window_to_say(stream, carrier)))
            size += 24
            self._probe(carrier, now)
            if stream.finished:
                self._forget_if_over(stream)
        return size

    # ---- streams (R27) -----------------------------------------------------------------------

    def _next_stream(self, carrier: Carrier) -> Stream:
        """R27: interactive before bulk, yet bulk gets at least its share; round robin inside each.

        To be asked only while one of them waits.

        A DATA can be cut at any byte, so every turn uses up its quantum exactly
        and deficit round robin has no deficits to carry.
        """
        interactive, bulk = carrier.interactive, carrier.bulk
        limits = self.limits
        if interactive and bulk:
            turn = (limits.bulk_share - 1) * limits.shared_frame
            queue = interactive if carrier.interactive_run < turn else bulk
        else:
            queue = interactive or bulk
        if queue is bulk:
            carrier.interactive_run = 0
        stream = queue.popitem(last=False)[1]
        stream.queue = None
        return stream

    def _frame_size(self, stream: Stream, carrier: Carrier, budget: int, now: float) -> int:
        """R27: most payload bytes of the next DATA: little while a second stream is active."""
        limits = self.limits
        if carrier.last_stream != stream.id:
            if carrier.last_stream:
                carrier.shared_until = now + limits.active_time
            carrier.last_stream = stream.id
        if carrier.interactive or carrier.bulk or now < carrier.shared_until:
            return limits.shared_frame
        return min(limits.lone_frame, max(budget, limits.shared_frame))

    def _send_from(self, stream: Stream, carrier: Carrier, out: list[Buffer], budget: int, now: float) -> int:
        """One turn of one stream: OPEN if need be, one DATA, EOF, datagrams; returns the bytes said."""
        size = 0
        if not stream.open_sent:
            size = self._say_open(stream, out)
        buffer = stream.buffer
        sent = stream.sent
        end, limit = buffer.end, stream.limit
        payload = (end if end < limit else limit) - sent
        if payload > 0:
            most = self._frame_size(stream, carrier, budget, now)
            if payload > most:
                payload = most
            self._say_data(stream, out, sent, payload)
            sent += payload
            stream.sent = sent
            size += 16 + payload
        if sent == limit and sent < end:
            self._await(stream)
        if sent == stream.final:
            out.append(frames.eof(stream.id, sent))
            size += 16
            sent += 1
            stream.sent = sent
        if sent > stream.high:
            stream.high = sent
        if stream.blocked and sent >= end and stream.id in self._blocked:
            self._press_for(stream)
        if stream.datagrams:
            size += self._say_datagrams(stream, out, budget - size)
        if self._note_burst(stream, size, now):
            carrier.interactive_run += size
        if stream.id not in carrier.outstanding and self._is_outstanding(stream):
            self._expect(stream, carrier, now)
        if sent < end or stream.final is not None or stream.datagrams:
            self._wake(stream, now)
        return size

    def _say_data(self, stream: Stream, out: list[Buffer], offset: int, size: int) -> None:
        """One DATA; small pieces are joined to one buffer, large ones are passed on as they are."""
        header = frames.data_header(stream.id, offset, size)
        if size < self.limits.join_below:
            whole = stream.buffer.chunk_at(offset, size)
            if whole is not None:
                out.append(header + whole)
                return
        first = len(out)
        out.append(header)
        stream.buffer.copy_to(out, offset, size)
        if size < (len(out) - first - 1) * self.limits.join_below:
            out[first:] = [b"".join(out[first:])]

    def _say_open(self, stream: Stream, out: list[Buffer]) -> int:
        """R6, R11: OPEN with its first data, before anything else of the stream on this carrier."""
        start, limits = stream.sent, self.limits
        size = (
            min(stream.buffer.end, stream.limit, limits.open_data, limits.initial_window) if not start else 0
        )
        flags = ASSOCIATION if stream.is_association else 0
        limit = self._grant(stream)
        out.append(frames.open_header(stream.id, stream.generation, flags, limit, stream.target, size))
        length = len(out[-1]) + size
        if size:
            stream.buffer.copy_to(out, 0, size)
            stream.sent = size
        stream.open_sent = stream.open_left = True
        if not stream.accepted:
            self._await(stream)
        return length

    def _say_datagrams(self, stream: Stream, out: list[Buffer], budget: int) -> int:
        """R23: waiting datagrams, a quantum of them at most."""
        size = 0
        budget = min(budget, self.limits.shared_frame)
        while stream.datagrams and size <= budget:
            address, data = self._next_datagram(stream)
            out.append(frames.datagram_header(stream.id, address, len(data)) + data)
            size += len(out[-1])
        return size

    def _expect(self, stream: Stream, carrier: Carrier, now: float) -> None:
        """R20: something of the stream is unacknowledged on ``carrier`` from now on."""
        if stream.id not in carrier.outstanding:
            carrier.outstanding[stream.id] = now
            self._watch(carrier, now)

    def _probe(self, carrier: Carrier, now: float) -> None:
        """R20: a WINDOW or CLOSED left on ``carrier``; nothing will acknowledge it."""

    def _press_for(self, stream: Stream) -> None:
        """R21: all of a stream is out that its share lets be kept: it waits for an acknowledgement."""

    def _watch(self, carrier: Carrier, now: float) -> None:
        """R20: time begins to count on ``carrier``."""
        raise NotImplementedError
