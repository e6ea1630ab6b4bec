"""What frames do: DATA, EOF, OPEN, datagrams and the words about carriers (R2, R5, R6, R8, R23)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ptproxy.buffer import Buffer
from ptproxy.errors import LocalProtocolError, Reason, SessionError
from ptproxy.session import frames
from ptproxy.session.budget import RetentionBudget
from ptproxy.session.carrier import Carrier
from ptproxy.session.ending import Ending
from ptproxy.session.events import (
    ChallengeReceived,
    DatagramReceived,
    DataReceived,
    EofReceived,
    Event,
    GoawayReceived,
    ProofReceived,
    StreamAccepted,
    StreamOpened,
)
from ptproxy.session.frames import ASSOCIATION, CHALLENGE, DATA, Frame
from ptproxy.session.limits import Limits
from ptproxy.session.stream import Stream

_Receive = Callable[[Carrier, Frame, float], None]


class Receiving(Ending):
    """The rules of what arrives."""

    def __init__(
        self, limits: Limits | None = None, retention: RetentionBudget | None = None, now: float = 0.0
    ) -> None:
        super().__init__(limits, retention, now)
        self._receive: dict[int, _Receive] = {
            frames.EOF: self._receive_eof,
            frames.OPEN: self._receive_open,
            frames.OPENED: self._receive_opened,
            frames.WINDOW: self._receive_window,
            frames.BIND: self._receive_bind,
            frames.MOVE: self._receive_bind,
            frames.ASK: self._receive_ask,
            frames.RESET: self._receive_reset,
            frames.GONE: self._receive_gone,
            frames.CLOSED: self._receive_closed,
            frames.PING: self._receive_ping,
            frames.PONG: self._receive_pong,
            frames.DATAGRAM: self._receive_datagram,
            frames.GOAWAY: self._receive_goaway,
            frames.CHALLENGE: self._receive_opaque,
            frames.PROOF: self._receive_opaque,
        }

    def receive_data(self, number: int, data: Buffer, now: float) -> list[Event]:
        """Feed what carrier ``number`` received, cut anywhere; nothing is read of a dead one (R2).

        ``data`` may be reused once the events have been dealt with. Raises
        :class:`~ptproxy.errors.SessionError`, after which the session must be closed.
        """
        self._now = now
        carrier = self.carriers.get(number)
        if carrier is None:
            return []
        parser = carrier.parser
        receive = self._receive
        try:
            for frame in parser.receive_data(data):
                kind = frame[0]
                if kind == DATA:
                    self._receive_bytes(carrier, frame, now)
                else:
                    receive[kind](carrier, frame, now)
                    if carrier.number not in self.carriers:
                        return self._take_events()
        except SessionError:
            self._events = []
            raise
        if parser.error is not None:
            self._events = []
            raise parser.error
        if self._blocked:
            self._unblock_some()
        if carrier.leaving:
            carrier.heard_at = now
        return self._take_events()

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # ---- bytes (R5, R8, R9) ------------------------------------------------------------------

    def _receive_bytes(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R5: a piece of a DATA that ends at ``end``: what is new of it is delivered."""
        _, number, offset, data, end = frame
        stream = self.streams.get(number)
        if stream is None:
            if not self._was_seen(number):
                raise SessionError("DATA for a stream that never was")
            return  # forgotten, or reset here: ignored (R17)
        received = stream.received
        if offset > received or end > stream.granted or stream.peer_final is not None:
            self._check_bytes(stream, offset, end)
        if not stream.accepted:
            self._accept_implied(stream)
        fresh = offset + len(data)
        if fresh > received:
            stream.received = fresh
            self._events.append(
                DataReceived(stream, data if offset == received else data[received - offset :])
            )
        if not stream.debts & carrier.bit or number not in self._late:
            self._note_debt(stream, carrier, now)
        if stream.received - stream.said_received >= stream.ack_step:
            self._window_due(stream)

    def _check_bytes(self, stream: Stream, offset: int, end: int) -> None:
        """R5: a gap, more than was granted, or bytes beyond EOF are errors."""
        if offset > stream.received:
            raise SessionError("DATA beyond what was received")
        if end > stream.granted:
            raise SessionError("DATA beyond the limit")
        if stream.peer_final is not None and end > stream.peer_final:
            raise SessionError("DATA beyond EOF")

    def _accept_implied(self, stream: Stream) -> None:
        """Bytes from an acceptor tell as much as OPENED, when a dead carrier took that with it."""
        if stream.local:
            stream.accepted = True
            if not stream.blocked and stream.buffer.end <= stream.limit:  # else it waits for credit still
                self._waiting.pop(stream.id, None)
            self._events.append(StreamAccepted(stream))

    def _receive_eof(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R4, R5: the peer's final offset; a WINDOW is owed at once (R8)."""
        _, number, final = frame
        stream = self._stream(number)
        if stream is None:
            self._answer_forgotten(carrier, number)
            return
        known = stream.peer_final
        if final != (stream.received if known is None else known):
            raise SessionError("EOF at an impossible offset")
        if known is None:
            stream.peer_final = final
            stream.received = final + 1
            if not stream.accepted:
                self._accept_implied(stream)
            self._events.append(EofReceived(stream))
        self._note_debt(stream, carrier, now)
        self._window_due(stream)
        self._check_finished(stream)

    # ---- opening (R6, R7) --------------------------------------------------------------------

    def _receive_open(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R6: an unseen id is a new stream; of a known one it is a binding and bytes by offset 0."""
        _, number, generation, _, limit, target, data = frame
        if self._is_local(number):
            raise SessionError("OPEN with an id of the other side")
        stream = self.streams.get(number)
        if stream is not None:
            self._take_limit(stream, limit)
            self._bound_by_open(stream, carrier, generation, now)
            self._wake(stream, now)
            if stream.final is None:
                self._unblock(stream)  # the WINDOW that raised the limit first may be lost
            self._note_debt(stream, carrier, now)
            if data:
                self._receive_bytes(carrier, (DATA, number, 0, data, len(data)), now)
        elif self._was_seen(number):
            self._answer_forgotten(carrier, number)
        else:
            self._mark_seen(number)
            refusal = self._refusal()
            if refusal is not None:
                self._bury(number, refusal, carrier.number, now)
                return
            stream = Stream(self, number, target, False, now)
            stream.generation = generation
            self._admit(stream, carrier, frame, now)

    def _refusal(self) -> Reason | None:
        """R25 and the bounds: why no further stream is taken; raises when the peer ignores the answer."""
        if len(self.tombstones) >= self.limits.max_tombstones:
            raise SessionError("too many streams refused")
        if self._goaway_sent:
            return Reason.SHUTDOWN
        if len(self.streams) + self._unread_over >= self.limits.max_streams:
            return Reason.LIMIT
        return None

    def _admit(self, stream: Stream, carrier: Carrier, frame: Frame, now: float) -> None:
        """R6: a new stream of the peer's, with its first data inside the initial window."""
        _, _, _, flags, limit, _, data = frame
        if flags & ASSOCIATION:
            stream.is_association = True
        else:
            stream.limit = limit
            self._set_window(stream, self.limits.initial_window)
        if len(data) > self._grant(stream):
            raise SessionError("first data beyond the initial window")
        stream.received = len(data)
        self.streams[stream.id] = stream
        self._place(stream, carrier.number)
        self._note_debt(stream, carrier, now)
        self._events.append(StreamOpened(stream, data))

    def accept_stream(self, stream: Stream, now: float) -> None:
        """R7: OPENED is owed, with the WINDOW that acknowledges the OPEN; see ``Stream.accept``."""
        self._now = now
        stream.accepted = True
        self._owe_opened(stream)
        self._window_due(stream)

    def _owe_opened(self, stream: Stream) -> None:
        """R7: OPENED, said again wherever the stream is bound until the session forgets it."""
        carrier = self.carriers.get(stream.carrier) if stream.carrier is not None else None
        if carrier is not None and stream.accepted and not stream.local:
            carrier.openeds[stream.id] = None
            self._mark(carrier)

    def _receive_opened(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R7: the far side reached the target; told once."""
        stream = self._stream(frame[1])
        self._prove(carrier, now)
        if stream is not None:
            if not stream.local:
                raise SessionError("OPENED from the side that opened")
            if not stream.accepted:
                self._accept_implied(stream)

    # ---- datagrams (R23) ---------------------------------------------------------------------

    def send_stream_datagram(self, stream: Stream, address: bytes, data: bytes, now: float) -> None:
        """R23: queue a datagram, dropping the oldest; see ``Stream.send_datagram``."""
        if not stream.is_association or stream.final is not None:
            raise LocalProtocolError("a datagram on a stream of bytes, or after send_eof")
        if len(data) > frames.MAX_DATAGRAM or len(address) > frames.MAX_ADDRESS:
            raise LocalProtocolError("no datagram is that large")
        queue = stream.datagrams
        if queue is None:
            queue = stream.datagrams = deque()
        queue.append((address, data))
        stream.datagram_bytes += len(data)
        self.account.keep(len(data), now)
        limits = self.limits
        while len(queue) > limits.max_datagrams or stream.datagram_bytes > limits.max_datagram_bytes:
            self._next_datagram(stream)
        self._wake(stream, now)

    def _receive_datagram(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R23: handed over as it comes; of a forgotten association it is ignored."""
        del carrier, now
        _, number, address, data = frame
        stream = self._stream(number)
        if stream is not None:
            if not stream.is_association:
                raise SessionError("DATAGRAM on a stream of bytes")
            self._events.append(DatagramReceived(stream, address, data))

    # ---- carriers (R2, R20, R25) -------------------------------------------------------------

    def _receive_ping(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R20: the last PING is answered; R10: earlier ones are not."""
        del now
        carrier.pong = frame[1]
        self._mark(carrier)

    def _receive_opaque(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """CHALLENGE and PROOF go to whoever verifies."""
        del now
        received = ChallengeReceived if frame[0] == CHALLENGE else ProofReceived
        self._events.append(received(carrier.number, frame[1]))

    def _receive_goaway(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R25: nothing new on a carrier, or in the session."""
        del carrier
        number = frame[1]
        if not number:
            self._goaway_received = True
            self._events.append(GoawayReceived(None))
        elif number in self.carriers:
            self._events.append(GoawayReceived(number))
            self._leave(self.carriers[number], now)

    def _receive_pong(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R20: a round trip was measured."""
        raise NotImplementedError

    def _receive_closed(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R2: the peer regards a carrier as dead."""
        raise NotImplementedError

    def _receive_bind(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R12, R15: the client binds a stream."""
        raise NotImplementedError

    def _receive_ask(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R14: the bridge asks for a stream's carrier."""
        raise NotImplementedError

    def _bound_by_open(self, stream: Stream, carrier: Carrier, generation: int, now: float) -> None:
        """R6: an OPEN of a known stream binds it."""
        raise NotImplementedError

    def _leave(self, carrier: Carrier, now: float) -> None:
        """R25: a carrier is to be left by its streams."""
        raise NotImplementedError
