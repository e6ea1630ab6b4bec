"""Credit and acknowledgement: WINDOW both ways, what is owed where, room to send (R7-R9, R18, R21, R22).

WINDOW(received, limit) is acknowledgement and permission in one. A receiver
owes one on every carrier from which something of the stream came; a sender
frees what it kept and goes on.
"""

from __future__ import annotations

from ptproxy.errors import LocalProtocolError, SessionError
from ptproxy.session.budget import EAGERNESS
from ptproxy.session.carrier import Carrier
from ptproxy.session.events import StreamFinished, StreamWritable
from ptproxy.session.frames import Frame
from ptproxy.session.state import SessionState
from ptproxy.session.stream import Stream


class Credit(SessionState):
    """The rules of WINDOW."""

    # ---- owing (R8, R9) ----------------------------------------------------------------------

    def _note_debt(self, stream: Stream, carrier: Carrier, now: float) -> None:
        """R9: a WINDOW is owed on the carrier from which something came, soon at latest.

        At once where the stream has moved on: the peer may wait for it before it does (R15).
        """
        stream.debts |= carrier.bit
        if stream.carrier != carrier.number:
            self._window_due(stream)
        elif stream.id not in self._late:
            due = now + self.limits.acknowledge_within
            self._late[stream.id] = due
            self._arm(due)

    def _window_due(self, stream: Stream) -> None:
        """R8: the WINDOWs that are owed go out with the next drain."""
        for carrier in self.carriers.values():
            if stream.debts & carrier.bit:
                carrier.windows[stream.id] = None
                self._mark(carrier)

    def _owe_window(self, stream: Stream, carrier: Carrier) -> None:
        """A WINDOW goes out on ``carrier`` with its next drain."""
        stream.debts |= carrier.bit
        carrier.windows[stream.id] = None
        self._mark(carrier)

    def _move_debt(self, stream: Stream, dead: Carrier) -> bool:
        """R9: whether a debt, or the last WINDOW said, died with ``dead`` and must be said elsewhere."""
        lost = (stream.debts | stream.said) & dead.bit
        stream.debts &= ~dead.bit
        stream.said &= ~dead.bit
        return bool(lost)

    def _window_to_say(self, stream: Stream, carrier: Carrier) -> tuple[int, int]:
        """(received, limit) for a frame that leaves on ``carrier`` now; the debt there is paid (R7)."""
        self._grant(stream)
        stream.said_received = stream.received
        stream.debts &= ~carrier.bit
        stream.said |= carrier.bit
        return stream.received, stream.granted

    def _grant(self, stream: Stream) -> int:
        """R7, R8: the limit to say now, read + window; once granted it is never withdrawn."""
        limit = stream.read + stream.window
        if limit > stream.granted:
            self._granted_unread += limit - stream.granted
            stream.granted = limit
        return stream.granted

    def _acknowledge_late(self, now: float) -> None:
        """R8: debts that have waited long enough are due."""
        late = self._late
        for number, due in list(late.items()):
            if due > now:
                self._arm(due)
                break
            del late[number]
            stream = self.streams.get(number)
            if stream is not None and stream.debts:
                self._window_due(stream)

    # ---- reading (R8, R22) -------------------------------------------------------------------

    def consume_stream(self, stream: Stream, size: int, now: float) -> None:
        """R8: the application has taken ``size`` bytes; see ``Stream.consume``."""
        if stream.over:
            self._consume_over(stream, size)
            return
        read = stream.read + size
        final = stream.peer_final
        if size < 0 or read > (stream.received if final is None else final):
            raise LocalProtocolError("consumed more than was delivered")
        stream.read = read
        self._granted_unread -= size
        if final is not None or not stream.window:
            return
        if read - stream.window_mark >= stream.window:
            self._resize_window(stream, now)
        if read + stream.window - stream.granted >= stream.ack_step and stream.carrier is not None:
            self._owe_window(stream, self.carriers[stream.carrier])

    def _consume_over(self, stream: Stream, size: int) -> None:
        """What an application reads of a stream that the session has forgotten leaves the receive budget."""
        left = stream.granted - stream.read
        if left:
            size = min(size, left)
            stream.read += size
            self._granted_unread -= size
            self._set_window(stream, left - size)
            if size == left:
                self._unread_over -= 1

    def _resize_window(self, stream: Stream, now: float) -> None:
        """R22: the application has drained a window: it grows if that was quick and the budget allows."""
        limits = self.limits
        window = stream.window
        if self._windows > limits.receive_budget or self.account.is_overdrawn:
            # never below what is granted: that is not withdrawn
            window = max(min(window, limits.initial_window), stream.granted - stream.read)
        elif now - stream.window_at <= limits.growth_time:
            larger = min(window * limits.window_growth, limits.max_window)
            if not self.account.may_permit(larger - window):
                larger = window
            if self._windows + larger - window <= limits.receive_budget:
                window = max(window, larger)
        self._set_window(stream, window)
        stream.window_mark = stream.read
        stream.window_at = now

    def _set_window(self, stream: Stream, window: int) -> None:
        """The stream's window, and with it how often it is acknowledged (R8)."""
        self._windows += window - stream.window
        self.account.permit(window - stream.window)
        stream.window = window
        stream.ack_step = max(1, min(self.limits.acknowledge_after, window // 4))

    def _first_window(self) -> int:
        """R22: a new stream's window: less than usual when many are open."""
        limits = self.limits
        if self._windows + limits.initial_window > limits.receive_budget or self.account.is_overdrawn:
            return max(1, limits.initial_window // 4)
        return limits.initial_window

    # ---- being acknowledged (R7, R12) --------------------------------------------------------

    def _receive_window(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R7: WINDOW; of a forgotten stream it is ignored (R17)."""
        _, number, received, limit = frame
        stream = self._stream(number)
        self._prove(carrier, now)
        if stream is not None:
            self._take_window(stream, carrier, received, limit, now)

    def _take_window(self, stream: Stream, carrier: Carrier, received: int, limit: int, now: float) -> None:
        """R7: both fields are monotone; received above what was sent is an error."""
        if received > stream.high:
            raise SessionError("acknowledgement of what was never sent")
        self._take_limit(stream, limit)
        progress = received > stream.acknowledged
        if not stream.open_acknowledged:
            stream.open_acknowledged = progress = True
            if not stream.open_sent:
                stream.open_sent = True
                self._opened_elsewhere(stream, now)
        self._take_received(stream, received, now)
        if stream.held and carrier.number == stream.carrier:
            stream.held = False
        if stream.draining and stream.acknowledged >= stream.sent:
            stream.draining = 0
        self._settle(stream, progress, now)
        self._check_finished(stream)
        if stream.queue is None:
            self._wake(stream, now)
        if stream.blocked and stream.final is None:
            self._unblock(stream)

    def _take_limit(self, stream: Stream, limit: int) -> None:
        """R7: a limit only rises."""
        if limit > stream.limit and not stream.is_association:
            stream.limit = limit
            if stream.accepted or not stream.local:
                self._waiting.pop(stream.id, None)

    def _take_received(self, stream: Stream, received: int, now: float) -> None:
        """R7, R12: the acknowledgement only rises; past ``sent``, ``sent`` jumps to it."""
        if received <= stream.acknowledged:
            return
        stream.acknowledged = received
        buffer = stream.buffer
        self.account.release(buffer.release(min(received, buffer.end)), now)
        stream.sent = max(stream.sent, received)

    def _opened_elsewhere(self, stream: Stream, now: float) -> None:
        """An OPEN about to be repeated was acknowledged: the peer must still learn of the carrier."""
        raise NotImplementedError

    def _prove(self, carrier: Carrier, now: float) -> None:
        """R20: something shows that our bytes arrive on ``carrier``."""
        raise NotImplementedError

    # ---- what is outstanding (R20) -----------------------------------------------------------

    def _is_outstanding(self, stream: Stream) -> bool:
        """Whether anything of the stream waits for an acknowledgement."""
        return stream.acknowledged < stream.high or not stream.open_acknowledged

    def _settle(self, stream: Stream, progress: bool, now: float) -> None:
        """R20: note progress, or that nothing of the stream is outstanding any more."""
        outstanding = self._is_outstanding(stream)
        if outstanding and not progress:
            return
        stream.nudges = 0
        for carrier in self.carriers.values():
            if carrier.outstanding.pop(stream.id, None) is not None and outstanding:
                carrier.outstanding[stream.id] = now

    def _await(self, stream: Stream) -> None:
        """R20: OPENED or credit is waited for: what said it may be lost on a carrier not known to be dead."""
        if stream.id not in self._waiting:
            until = self._now + self.limits.safety_net
            self._waiting[stream.id] = until
            self._arm_net(until)

    # ---- room to send (R21) ------------------------------------------------------------------

    def stream_room(self, stream: Stream) -> int:
        """R21: bytes that may still be taken for the stream; see ``Stream.send_room``."""
        buffer = stream.buffer
        retained = buffer.end - buffer.start
        credit = stream.limit - stream.acknowledged
        kept = buffer.kept
        share = self._stream_share(kept) - kept
        room = credit - retained
        if share < room:
            room = share
        if room <= 0:
            stream.blocked = True
            if credit <= retained:
                self._await(stream)
            if share < credit - retained:
                self._blocked[stream.id] = stream
                self._arm(self._now + self.limits.budget_poll)
        return room

    def _stream_share(self, kept: int) -> int:
        """R21: a stream's part of what its session may keep: as between sessions, so between streams."""
        free = self.account.room()
        all_free = kept + free
        return all_free if all_free < EAGERNESS * free else EAGERNESS * free

    def _unblock(self, stream: Stream) -> None:
        """Tell the application of room it was told it had not."""
        if not stream.blocked:
            return
        stream.blocked = False
        self._blocked.pop(stream.id, None)
        if self.stream_room(stream) > 0:
            self._events.append(StreamWritable(stream))

    def _unblock_some(self) -> None:
        """R21: streams that wait for the session's share, oldest first, as far as there is room."""
        for stream in list(self._blocked.values()):
            if stream.final is not None or stream.limit - stream.acknowledged <= stream.retained:
                self._blocked.pop(stream.id, None)  # has ended, or waits for the peer's WINDOW
                continue
            self._unblock(stream)
            if stream.blocked:
                break

    def _next_datagram(self, stream: Stream) -> tuple[bytes, bytes]:
        """R23: take the oldest waiting datagram out of the queue and of the budget."""
        assert stream.datagrams is not None
        address, data = stream.datagrams.popleft()
        stream.datagram_bytes -= len(data)
        self.account.release(len(data), self._now)
        return address, data

    # ---- the end (R18) -----------------------------------------------------------------------

    def _both_ended(self, stream: Stream) -> bool:
        """R18: our EOF is acknowledged, and the peer's was received."""
        final, peer_final = stream.final, stream.peer_final
        return (
            final is not None
            and peer_final is not None
            and stream.acknowledged == final + 1
            and stream.received == peer_final + 1
        )

    def _check_finished(self, stream: Stream) -> None:
        """R18: tell the application of the end, once; forget the stream as soon as nothing is owed."""
        if not stream.finished:
            if not self._both_ended(stream):
                return
            stream.finished = True
            self._events.append(StreamFinished(stream))
        self._forget_if_over(stream)

    def _forget_if_over(self, stream: Stream) -> None:
        """R18: a stream is forgotten when it has ended and no WINDOW or BIND is owed on a live carrier."""
        if stream.finished and not stream.debts and not stream.binds and not stream.over:
            self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        """The stream leaves all tables; what the application has not read stays in the receive budget."""
        self._drop(stream)
        delivered = stream.received if stream.peer_final is None else min(stream.received, stream.peer_final)
        self._granted_unread -= stream.granted - max(stream.read, delivered)
        stream.granted = delivered
        if stream.read < delivered:
            self._unread_over += 1
            self._set_window(stream, delivered - stream.read)

    def _drop(self, stream: Stream) -> None:
        """Take a stream out of every table, with all it keeps."""
        stream.over = True
        self._set_window(stream, 0)
        del self.streams[stream.id]
        self._place(stream, None)
        self._blocked.pop(stream.id, None)
        self._late.pop(stream.id, None)
        self._waiting.pop(stream.id, None)
        self._asking.pop(stream.id, None)
        self._asked.pop(stream.id, None)
        if stream.retained:
            self.account.release(stream.buffer.release(stream.buffer.end), self._now)
        while stream.datagrams:
            self._next_datagram(stream)
        for carrier in self.carriers.values():
            carrier.windows.pop(stream.id, None)
            carrier.openeds.pop(stream.id, None)
            carrier.binds.pop(stream.id, None)
            carrier.asks.pop(stream.id, None)
            carrier.outstanding.pop(stream.id, None)
