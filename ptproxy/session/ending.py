"""How streams end: RESET and its tombstone, GONE, and what is said of forgotten streams (R16, R17)."""

from __future__ import annotations

from math import inf

from ptproxy.errors import LocalProtocolError, Reason, SessionError
from ptproxy.session.budget import HASTE
from ptproxy.session.carrier import Carrier
from ptproxy.session.events import StreamReset
from ptproxy.session.frames import Frame
from ptproxy.session.sending import Sending
from ptproxy.session.stream import Stream, Tombstone


class Ending(Sending):
    """The rules of RESET and GONE."""

    def reset_stream(self, stream: Stream, reason: Reason, now: float) -> None:
        """R16: break a stream off; see ``Stream.reset``. After both EOFs there is nothing left to break."""
        self._now = now
        self._discard_unread(stream)
        if not stream.over and not stream.finished:
            carrier = stream.carrier
            self._drop(stream)
            if stream.open_left or len(self.tombstones) < self.limits.max_tombstones // 2:
                self._bury(stream.id, reason, carrier, now)

    def _discard_unread(self, stream: Stream) -> None:
        """The application reads nothing more of a stream: it leaves the receive budget."""
        if stream.over:
            self._consume_over(stream, stream.granted - stream.read)
            return
        self._granted_unread -= stream.granted - stream.read
        self._set_window(stream, 0)
        stream.read = stream.granted

    def _bury(self, number: int, reason: Reason, carrier: int | None, now: float) -> None:
        """R16: a tombstone stands in the stream's place until GONE; its RESET goes out."""
        code = reason if reason < Reason.TUNNEL_DOWN else Reason.GENERAL
        tombstone = Tombstone(number, code, now)
        self.tombstones[number] = tombstone
        self._owe_reset(tombstone, carrier)

    def _owe_reset(self, tombstone: Tombstone, number: int | None = None) -> None:
        """R11, R16: RESET goes out on carrier ``number``, or else on any live one."""
        carrier = self.carriers.get(number) if number is not None else None
        carrier = carrier or self._choose_carrier()
        if carrier is not None:
            carrier.resets[tombstone.id] = None
            self._mark(carrier)

    def _repeat_reset(self, tombstone: Tombstone, dead: Carrier) -> None:
        """R16: a RESET is repeated like data when a carrier on which it was said dies."""
        lost = tombstone.said & dead.bit
        tombstone.said &= ~dead.bit
        if lost or tombstone.id in dead.resets:
            self._owe_reset(tombstone)

    def _owe_gone(self, carrier: Carrier, number: int) -> None:
        """R17: GONE goes out on ``carrier``."""
        carrier.gones[number] = None
        self._mark(carrier)
        self._check_backlog(carrier)

    def _check_backlog(self, carrier: Carrier) -> None:
        """R10: marks are bounded by what the peer lets stand; one that asks and never reads is hostile."""
        if carrier.backlog > self.limits.max_backlog:
            raise SessionError("too many answers owed")

    def _answer_forgotten(self, carrier: Carrier, number: int) -> None:
        """R16, R17: EOF, BIND, ASK, OPEN of a stream that is no more: RESET of the tombstone, else GONE."""
        tombstone = self.tombstones.get(number)
        if tombstone is None:
            self._owe_gone(carrier, number)
        else:
            self._owe_reset(tombstone, carrier.number)
            self._check_backlog(carrier)

    def _receive_reset(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R16: the stream is dropped, the application told once, GONE answered."""
        del now
        _, number, code = frame
        if number in self.streams or self._was_seen(number):
            stream = self._stream(number)
            if stream is not None:
                self._end_by_reset(stream, Reason.parse(code))
        elif self._is_local(number):
            raise SessionError("RESET of a stream that never was")
        else:
            self._see_reset(number)
        self._owe_gone(carrier, number)

    def _see_reset(self, number: int) -> None:
        """R6: RESET of an unseen id marks it seen: a late OPEN must not dial."""
        self._mark_seen(number)

    def _end_by_reset(self, stream: Stream, reason: Reason) -> None:
        """R16: the peer broke the stream off; after both EOFs that is a clean end."""
        if stream.finished:
            self._forget(stream)
            return
        if reason >= Reason.TUNNEL_DOWN:
            reason = Reason.GENERAL
        self._events.append(StreamReset(stream, reason))
        self._discard_unread(stream)
        self._drop(stream)

    def _receive_gone(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R17: GONE ends a tombstone, or a stream whose two EOFs are through; it is never answered."""
        number = frame[1]
        self._prove(carrier, now)
        if self.tombstones.pop(number, None) is not None:
            for other in self.carriers.values():
                other.resets.pop(number, None)
            return
        stream = self._stream(number)
        if stream is None:
            return
        final = stream.final
        if final is None or stream.high != final + 1 or stream.peer_final is None:
            raise SessionError("GONE of a stream in mid-life")
        self._take_received(stream, final + 1, now)  # GONE is then the lost last acknowledgement
        stream.debts = stream.binds = 0
        self._check_finished(stream)

    def close(self, reason: Reason, now: float) -> list[StreamReset]:
        """End the session here and now: every stream is reset locally, and nothing is sent any more.

        Carriers are left to whoever owns their connections.
        """
        self._now = now
        events = []
        for stream in list(self.streams.values()):
            if not stream.finished:
                events.append(StreamReset(stream, reason))
            self._discard_unread(stream)
            self._drop(stream)
        self.tombstones.clear()
        self.carriers.clear()
        self.ready.clear()
        self.account.close()
        self._deadline = inf
        self.closed = True
        return events

    # ---- the application's ends --------------------------------------------------------------

    def send_stream_data(self, stream: Stream, data: bytes, now: float) -> None:
        """R11: keep ``data`` until it is acknowledged; see ``Stream.send_data``."""
        if stream.final is not None or stream.is_association:
            raise LocalProtocolError("bytes after send_eof, or on an association")
        self._now = now
        buffer = stream.buffer
        if not self.account.retained:
            self._arm(now + self.limits.pressure_time / HASTE)
        buffer.append(data)
        self.account.keep(len(data), now)
        if stream.queue is None:
            self._wake(stream, now)
        if buffer.end > stream.limit:
            self._await(stream)

    def send_stream_eof(self, stream: Stream, now: float) -> None:
        """R4: the final offset is known now; see ``Stream.send_eof``."""
        stream.final = stream.buffer.end
        self._wake(stream, now)
