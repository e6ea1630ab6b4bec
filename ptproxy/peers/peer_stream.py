"""One stream between two peers as a transport: it meets the peer, and meets it again whenever that breaks.

The application sees an :class:`asyncio.Transport`, as a tunnel's streams are (:mod:`ptproxy.tunnel.stream`):
credit pauses writing, each direction ends by itself, ``connection_lost`` gets a
:class:`~ptproxy.errors.DialError` that says why, or None after a clean end. It sees nothing of meetings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from ptproxy.buffer import Buffer
from ptproxy.e2e.stream import (
    DataReceived,
    EndSignal,
    EofReceived,
    Event,
    MeetingFailed,
    Role,
    SealedStream,
    Seed,
    StreamFailed,
    StreamReset,
    TurnsApartError,
    TurnSecrets,
)
from ptproxy.errors import DialError, Reason
from ptproxy.log import get_logger
from ptproxy.peers.peer_meetings import LINGER, Connection, Meetings, Surroundings

GOODBYE_WAIT: Final = 10.0
"""Seconds that the peer has to hear of a reset over the meeting."""

log = get_logger(__name__)


class PeerStream(asyncio.Transport):
    """A stream to a contact."""

    def __init__(
        self,
        around: Surroundings,
        contact: bytes,
        purpose: bytes,
        seed: Seed,
        role: Role,
        protocol: asyncio.Protocol,
        *,
        linger: float = LINGER,
    ) -> None:
        super().__init__()
        self.contact = contact
        self.purpose = purpose
        self.sealed = SealedStream(seed, role)
        """The stream without I/O."""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the peer is there for the first time; DialError where it never comes."""
        self.meetings = 0
        """How often the two have met."""
        self._around = around
        self._meetings = Meetings(around, self, linger)
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.Protocol = protocol
        self._connection: Connection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._goodbye: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._unread = bytearray()
        self._paused = False
        self._writing_paused = False
        self._eof_sent = self._eof_waiting = False
        self._closing = False
        self._lost = False
        self.ended = False
        """Whether nothing more is sent or received."""
        self._end: DialError | None = None

    # ---- the transport's interface ----------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``"contact"``: the contact's id; ``"purpose"``: what the stream is for."""
        return {"contact": self.contact, "purpose": self.purpose}.get(name, default)

    def is_closing(self) -> bool:
        """Whether the stream was closed or lost."""
        return self._lost or self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the stream to another protocol."""
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that is told."""
        return self._protocol

    def is_reading(self) -> bool:
        """Whether data is handed over as it arrives."""
        return not self._paused

    def pause_reading(self) -> None:
        """Keep what arrives; the peer stops when its window is used up."""
        self._paused = True

    def resume_reading(self) -> None:
        """Hand over what was kept, then what arrives."""
        if self._paused and not self._lost:
            self._paused = False
            self._loop.call_soon(self._deliver)

    def write(self, data: Buffer) -> None:
        """Send ``data``; ``pause_writing`` is called while the peer is behind."""
        if self._eof_sent or self._lost or not data:
            return
        self.sealed.send_data(data if type(data) is bytes else bytes(data))
        if not self._writing_paused and self.sealed.send_room() <= 0:
            self._writing_paused = True
            self._protocol.pause_writing()
        self._schedule()

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Send several buffers."""
        for data in list_of_data:
            self.write(data)

    def write_eof(self) -> None:
        """Say that nothing more will be written; reading goes on."""
        if not self._eof_sent and not self._lost:
            self._eof_sent = True
            self.sealed.send_eof()
            self._schedule()

    def can_write_eof(self) -> bool:
        """Streams can be half-closed."""
        return True

    def get_write_buffer_size(self) -> int:
        """0: what was written is the stream's; see ``pause_writing``."""
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Credit decides, not a size: (0, 0)."""
        return 0, 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Credit decides; accepted and ignored."""

    def close(self) -> None:
        """End both ways: what was written arrives, what still comes is thrown away."""
        if not self._closing and not self._lost:
            self._closing = True
            self.write_eof()
            self._discard_unread()

    def abort(self) -> None:
        """Break the stream: the peer sees a reset (:attr:`Reason.CANCELLED`)."""
        self.reset(Reason.CANCELLED)

    def reset(self, reason: Reason) -> None:
        """Break the stream for ``reason``."""
        self._break(reason, None)

    # ---- what the conversation tells --------------------------------------------------------------

    def summoned(self, number: int) -> None:
        """MEET came."""
        if self._meetings.summoned(number) and self._connection is not None:
            self._connection.break_off()

    def told_end(self, reason: Reason) -> None:
        """END came: the peer has given the stream up, refused it, or does not know it (any more)."""
        self._finish(None if self.sealed.over and self.opened.done() else DialError(reason))

    def told_finished(self) -> None:
        """FINISHED came: true, or the peer's fault."""
        both = self.sealed.outgoing.final is not None and self.sealed.incoming.final is not None
        self._finish(None if both or self.sealed.over else DialError(Reason.GENERAL))

    def give_up(self, reason: Reason) -> None:
        """Nobody wants this stream any more: both sides are told."""
        self._around.tell(self.contact, EndSignal(self.sealed.seed.stream, reason))
        self._finish(DialError(reason))

    async def run(self) -> None:
        """Meet the peer until the stream is over."""
        try:
            await self._meetings.run()
        finally:
            self._finish(DialError(Reason.SHUTDOWN))

    # ---- the connection's side --------------------------------------------------------------------

    def joined(self, connection: Connection) -> None:
        """The two are joined."""
        if self.ended or connection.number != self.sealed.number:
            connection.break_off()
            return
        self._connection = connection
        try:
            self.sealed.begin_meeting(self._turns, self._loop.time(), self._around.rng)
        except TurnsApartError:
            connection.break_off()
            return
        self.pump()

    def received(self, connection: Connection, data: Buffer) -> None:
        """Bytes came on a meeting."""
        if connection is not self._connection or self.ended:
            return
        events = self.sealed.receive_data(data, self._loop.time())
        meeting = self.sealed.meeting
        if not connection.confirmed and meeting is not None and meeting.confirmed:
            connection.confirmed = True
            self._is_there()
        for event in events:
            self._take_in(event)
        self._deliver()
        self._writable()
        self.pump()

    def parted(self, connection: Connection) -> None:
        """A meeting is over."""
        if connection is self._connection:
            self._connection = None
        self._stop_timer()

    def pump(self) -> None:
        """Send what is to be sent, as far as the connection takes it."""
        self._scheduled = False
        connection = self._connection
        now = self._loop.time()
        while connection is not None and not connection.paused:
            batch = self.sealed.data_to_send(now)
            if not batch:
                break
            connection.transport.writelines(batch)
        if self.sealed.finished and not self.ended:
            if connection is not None:
                connection.transport.close()
            self._finish(None)
        else:
            self._set_timer()

    def _turns(self) -> TurnSecrets | None:
        session = self._around.session(self.contact)
        return None if session is None else TurnSecrets.of(session, self.sealed.seed.stream)

    def _is_there(self) -> None:
        """The peer has proved to be there."""
        self.meetings += 1
        self._meetings.went_well()
        if not self.opened.done():
            self.opened.set_result(None)
            self._protocol.connection_made(self)

    def _take_in(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self._take_in_data(event.data)
        elif isinstance(event, EofReceived):
            self._eof_waiting = True
        elif isinstance(event, StreamReset):
            self._lose(DialError(event.reason))
        elif isinstance(event, StreamFailed):
            log.warning("a contact's stream broke a rule", reason=str(event.error))
            self._break(Reason.GENERAL, DialError(Reason.GENERAL))
        elif isinstance(event, MeetingFailed):
            log.info("a meeting did not verify", reason=str(event.error))
            if self._connection is not None:
                self._connection.break_off()

    # ---- the application's side -------------------------------------------------------------------

    def _take_in_data(self, data: Buffer) -> None:
        """Hand over what comes; what cannot be is copied: a view of a byte would keep its whole record."""
        if self._lost:
            return
        if self._unread or (self._paused and not self._closing):
            self._unread += data
            return
        self.sealed.consume(len(data))
        if not self._closing:
            self._protocol.data_received(data)  # type: ignore[arg-type]  # a view, as a tunnel's streams give

    def _deliver(self) -> None:
        """Hand over what was kept, then the end."""
        if self._unread and not self._paused and not self._lost:
            data, self._unread = bytes(self._unread), bytearray()
            self.sealed.consume(len(data))
            self._protocol.data_received(data)
        if self._eof_waiting and not self._unread and not self._paused and not self._lost:
            self._eof_waiting = False
            if not self._closing and not self._protocol.eof_received():
                self.close()
        if self.ended and not self._unread and not self._eof_waiting:
            self._lose(self._end)
        self._schedule()

    def _writable(self) -> None:
        """Credit came back, perhaps."""
        if self._writing_paused and self.sealed.send_room() > 0 and not self._lost:
            self._writing_paused = False
            self._protocol.resume_writing()

    def _discard_unread(self) -> None:
        """Nobody will read it: give its credit back."""
        self.sealed.consume(len(self._unread))
        self._unread.clear()
        self._eof_waiting = False
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and not self.ended:
            self._scheduled = True
            self._loop.call_soon(self.pump)

    def _set_timer(self) -> None:
        self._stop_timer()
        deadline = None if self.ended else self.sealed.deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._on_deadline)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_deadline(self) -> None:
        if self.sealed.stalled(self._loop.time()) and self._connection is not None:
            log.info("a meeting stalls")
            self._connection.break_off()
        else:
            self.pump()

    # ---- ends -------------------------------------------------------------------------------------

    def _break(self, reason: Reason, told: DialError | None) -> None:
        """Reset the stream; the peer hears it over the meeting if there is one, else in a signal."""
        if self._lost or self.ended:
            return
        self.sealed.reset(reason)
        self._lose(told)
        if self._connection is not None and self._connection.confirmed:
            self._goodbye = self._loop.call_later(GOODBYE_WAIT, self._finish, None)
            self._schedule()
        else:
            self._end = told
            self.give_up(reason)

    def _finish(self, error: DialError | None) -> None:
        """Nothing more is sent or received; told to the application behind what it has not read yet."""
        if self.ended:
            return
        self.ended = True
        self._end = error
        self._stop_timer()
        if self._goodbye is not None:
            self._goodbye.cancel()
        self._meetings.wake()
        connection, self._connection = self._connection, None
        if connection is not None:
            if not self.sealed.finished:
                connection.break_off()
            connection.connection_lost(None)
        if not self.opened.done():
            self.opened.set_exception(error if error is not None else DialError(Reason.CANCELLED))
            self.opened.exception()  # whoever waits for it is told; nobody has to
            self._lost = True
        elif error is not None or not (self._unread or self._eof_waiting):
            self._lose(error)

    def _lose(self, error: DialError | None) -> None:
        """Tell the protocol, once, on the next turn (as transports do)."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._unread.clear()
        if self.opened.done() and self.opened.exception() is None:
            self._loop.call_soon(self._protocol.connection_lost, error)

    def __repr__(self) -> str:
        return f"<PeerStream {self.sealed!r}>"
