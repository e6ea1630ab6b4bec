"""A running bridge stands still, becomes a record and sockets, and goes on in another process.

The former process (:class:`Standing`)::

    stand still   nobody is admitted, every carrier gets GOAWAY and ends, no target is read
    record        sessions without carriers, what targets were not given yet, their sockets
    then either   go_on(): nothing has happened but that carriers ended
    or            release(): sockets and sessions are the other process's. What targets had been
                  given and their sockets not yet taken is still written from here, and the
                  other process told when it is gone; it writes nothing there before. (One that
                  is replaced meanwhile hears so all the same, and passes it on.)

The new process (:class:`Following`) makes the sessions, and once nothing can be taken back
puts each stream on its socket. Clients see carriers end and dial again; R11 and R12 do the rest.

What cannot go along ends, told as :attr:`Reason.SHUTDOWN`: streams that a service has
taken, associations, streams of which the bridge's end is no socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final, cast

from ptproxy.buffer import Buffer
from ptproxy.errors import Reason, StateError
from ptproxy.log import get_logger
from ptproxy.session import BridgeSession
from ptproxy.session import Stream as SessionStream
from ptproxy.target import Target, TargetError
from ptproxy.tunnel.bridge import Bridge
from ptproxy.tunnel.bridge_tunnel import BridgeTunnel
from ptproxy.tunnel.handover_channel import close_all
from ptproxy.tunnel.handover_record import (
    CLIENT_ENDED,
    EOF_WAITING,
    TARGET_ENDED,
    UNSENT,
    EndRecord,
    Kind,
    TunnelRecord,
)
from ptproxy.tunnel.incoming import TunnelIncoming
from ptproxy.tunnel.relay import Ended, StreamEnd, TcpEnd
from ptproxy.tunnel.stream import TunnelStream
from ptproxy.tunnel.tcp import BufferedReads

LOOK_EVERY: Final = 0.02
"""Seconds between looks whether targets have taken what was still to be written to them."""

TakeOver = Callable[[TunnelIncoming, socket.socket, Ended], None]
"""Puts a stream that was accepted before on its target's socket, of which so much has ended:
:meth:`ptproxy.proxy.bridge_exit.BridgeExit.take_over`."""

log = get_logger(__name__)


class _Held(BufferedReads):
    """Stands on a target's connection in the place of its end, and keeps what happens for it."""

    __slots__ = ("_behind", "_ended", "_late", "_lost", "end", "stream", "transport")

    def __init__(self, end: TcpEnd, stream: TunnelStream) -> None:
        self.end = end
        self.stream = stream
        self.transport = end.transport
        self._behind = not stream.is_reading()
        self._late: list[bytes] = []
        self._ended = False
        self._lost: tuple[Exception | None] | None = None
        self.transport.pause_reading()
        self.transport.set_protocol(self)
        stream.pause_reading()

    def duplicate(self) -> int:
        """The socket once more, for whoever closes it; raises ``OSError``."""
        return os.dup(self.transport.get_extra_info("socket").fileno())

    @property
    def unsent(self) -> int:
        """Bytes that the target's socket has not taken, here or in the process before this one."""
        if self.stream.held_back:
            return 1
        return 0 if self._lost is not None else self.transport.get_write_buffer_size()

    @property
    def disturbed(self) -> bool:
        """Whether something was read here that the other process can never read."""
        return bool(self._late)

    def data_received(self, data: Buffer) -> None:
        """Reading is paused; a transport that had begun to read may bring this all the same."""
        self._late.append(bytes(data))

    def eof_received(self) -> bool:
        """As above; the other process will see it, too."""
        self._ended = True
        return True

    def pause_writing(self) -> None:
        """The target is behind."""
        self._behind = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._behind = False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._lost = (exc,)

    def go_on(self) -> None:
        """Put the end back, and tell it what has happened."""
        self.transport.set_protocol(self.end)
        for data in self._late:
            self.end.data_received(data)
        if self._ended:
            self.end.eof_received()
        if self._lost is not None:
            self.end.connection_lost(*self._lost)
            return
        if not self.stream.writing_paused:
            self.transport.resume_reading()
        if not self._behind:
            self.stream.resume_reading()

    def release(self) -> None:
        """The stream is the other process's."""
        self.stream.forsake()
        if self.end.on_end is not None:
            self.end.on_end()
        del self.end.other

    def drop(self) -> None:
        """Let go of the socket; the target hears nothing of it, as the other process has it, too."""
        self.transport.abort()


class Standing:
    """A bridge that stands still, and the record of its sessions."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._held: list[_Held] = []
        self._closing: list[TunnelStream] = []
        self._opening: list[tuple[BridgeTunnel, TunnelStream]] = []
        self._unsent: list[int] = []
        self.tunnels: list[TunnelRecord] = []
        """The record."""

    def stand_still(self) -> None:
        """Nothing happens from now on; the record is made. :meth:`go_on` follows, or :meth:`release`."""
        self._bridge.stand_still()
        for tunnel in list(self._bridge.sessions.values()):
            self._take(tunnel)

    def duplicates(self) -> list[int]:
        """The targets' sockets by their places in the record, for the caller to close; raises ``OSError``.

        Another thread may send these while transports here come and go.
        """
        found: list[int] = []
        try:
            found.extend(held.duplicate() for held in self._held)
        except OSError:
            close_all(found)
            raise
        return found

    @property
    def streams(self) -> int:
        """How many streams go along."""
        return sum(len(tunnel.ends) for tunnel in self.tunnels)

    def check(self) -> None:
        """To be called before nothing can be taken back; raises :class:`~ptproxy.errors.StateError`."""
        if any(held.disturbed for held in self._held):
            raise StateError("a target was read after its stream had stood still")

    def go_on(self) -> None:
        """The bridge goes on here."""
        for tunnel in list(self._bridge.sessions.values()):
            tunnel.go_on()
        self._bridge.go_on()
        for held in self._held:
            held.go_on()
        for tunnel, stream in self._opening:
            if not stream.is_closing():
                tunnel.offer(stream)

    def release(self) -> None:
        """The other process goes on; nothing that happens here concerns it any more."""
        self._bridge.forget_sessions()
        for place, held in enumerate(self._held):
            held.release()
            if place not in self._unsent:
                held.drop()
        for stream in self._closing:
            stream.lost(None)

    async def flush(self, gone: Callable[[int], None]) -> None:
        """Wait until every target has taken what was written to it; ``gone`` is told of each one's place.

        To be cancelled by whoever has waited long enough.
        """
        waiting = list(self._unsent)
        try:
            while waiting:
                for place in [place for place in waiting if not self._held[place].unsent]:
                    waiting.remove(place)
                    self._held[place].drop()
                    gone(place)
                if waiting:
                    await asyncio.sleep(LOOK_EVERY)
        finally:
            for place in waiting:
                self._held[place].drop()

    # ---- taking stock --------------------------------------------------------------------------------

    def _take(self, tunnel: BridgeTunnel) -> None:
        ends = [
            end
            for _, stream in sorted(tunnel.session.streams.items())
            if (end := self._end_of(tunnel, stream)) is not None
        ]
        session = tunnel.bridge_session
        tunnel.stand_still()
        self.tunnels.append(
            TunnelRecord(tunnel.session_id, tunnel.public, tunnel.peer, session.to_record(), ends)
        )

    def _end_of(self, tunnel: BridgeTunnel, stream: SessionStream) -> EndRecord | None:
        """What the bridge has of a stream; None for one that is reset, as it cannot go along."""
        owner = stream.owner
        if isinstance(owner, TunnelStream) and not stream.local:
            unread, eof_waiting = owner.unread
            eof = EOF_WAITING * eof_waiting
            if owner.abandoned is not None:
                owner.abandoned()  # whoever dials for it, or thinks about it, stops
                owner.abandoned = None
                self._opening.append((tunnel, owner))
                return EndRecord(stream.id, Kind.OPENING, eof, unread=unread)
            if owner.is_closing():
                self._closing.append(owner)
                return EndRecord(stream.id, Kind.CLOSING)
            end = _target_of(owner)
            if end is not None and Target.parse(stream.target).service_name is None:
                held = _Held(end, owner)
                self._held.append(held)
                flags = eof | TARGET_ENDED * end.ended
                if held.unsent:
                    flags |= UNSENT
                    self._unsent.append(len(self._held) - 1)
                flags |= CLIENT_ENDED * cast("StreamEnd", owner.get_protocol()).ended
                return EndRecord(stream.id, Kind.COUPLED, flags, len(self._held) - 1, unread)
        stream.owner = None
        stream.reset(Reason.SHUTDOWN, tunnel.now())
        if owner is not None:
            owner.lost(Reason.SHUTDOWN)
        return None


def _target_of(stream: TunnelStream) -> TcpEnd | None:
    """The end that the stream is coupled with, if it is a plain socket's."""
    protocol = stream.get_protocol()
    end = getattr(protocol, "other", None) if isinstance(protocol, StreamEnd) else None
    if not isinstance(end, TcpEnd) or end.lost or end.transport.is_closing():
        return None
    plain = end.transport.get_extra_info("ssl_object") is None
    return end if plain and end.transport.get_extra_info("socket") is not None else None


class _Nobody(asyncio.Protocol):
    """On a stream that has ended both ways here."""


class Following:
    """The sessions of a former process, in a new one."""

    def __init__(self, bridge: Bridge, tunnels: Sequence[TunnelRecord], descriptors: Sequence[int]) -> None:
        """Make the sessions, which stand still until :meth:`go_on`; the descriptors become this object's.

        Raises :class:`~ptproxy.errors.StateError` for what this bridge's limits can never let be,
        or a target that it cannot read.
        """
        self._bridge = bridge
        self._sockets: list[socket.socket] = []
        self._ends: list[tuple[BridgeTunnel, TunnelStream, EndRecord]] = []
        self._waiting: dict[int, TunnelStream] = {}
        left = list(descriptors)
        try:
            while left:
                self._sockets.append(socket.socket(fileno=left[0]))
                del left[0]
            bridge.stand_still()
            for record in tunnels:
                self._make(record)
        except (OSError, TargetError) as error:
            raise StateError("what was handed over cannot be used") from error
        finally:
            for descriptor in left:
                os.close(descriptor)

    @property
    def streams(self) -> int:
        """How many streams have come along."""
        return len(self._ends)

    def go_on(self, take_over: TakeOver) -> None:
        """The former process has let go: streams are put on their sockets, clients are admitted."""
        for tunnel in list(self._bridge.sessions.values()):
            tunnel.go_on()
        self._bridge.go_on()
        for tunnel, stream, record in self._ends:
            if record.kind is Kind.OPENING:
                if not stream.is_closing():
                    tunnel.offer(stream)
            elif record.kind is Kind.CLOSING:
                stream.set_protocol(_Nobody())
                stream.start()
                stream.close()
            else:
                self._couple(tunnel, stream, record, take_over)
        self._ends.clear()
        self._sockets.clear()

    def unsent_gone(self, place: int) -> None:
        """The former process has written all that it had for the target at ``place``."""
        stream = self._waiting.pop(place, None)
        if stream is not None:
            stream.let_go()

    def former_ended(self) -> None:
        """The former process is gone: what it had not written is lost, and so are those streams."""
        waiting, self._waiting = self._waiting, {}
        for stream in waiting.values():
            log.warning("a stream is broken off: the former process ended with bytes for its target")
            stream.reset(Reason.CONNECTION_LOST)

    def close(self) -> None:
        """Close the sockets that no stream is on: everything was given up."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.close()

    def _make(self, record: TunnelRecord) -> None:
        bridge = self._bridge
        session = BridgeSession.from_record(
            record.session, bridge.session_limits(), bridge.settings.retention, bridge.loop.time()
        )
        tunnel = bridge.make_tunnel(session, record.session_id, record.public, record.peer)
        tunnel.stand_still()
        for end in record.ends:
            stream = TunnelStream(tunnel, None)
            state = session.streams[end.id]
            Target.parse(state.target)  # it was one, when the stream was opened
            stream.follow(state, end.unread, eof_waiting=bool(end.flags & EOF_WAITING))
            self._ends.append((tunnel, stream, end))

    def _couple(self, tunnel: BridgeTunnel, stream: TunnelStream, record: EndRecord, take: TakeOver) -> None:
        sock, flags = self._sockets[record.socket], record.flags
        if stream.is_closing():  # its client is not welcome any more
            sock.close()
            return
        if flags & UNSENT:
            stream.held_back = True
            self._waiting[record.socket] = stream
        incoming = TunnelIncoming(stream, Target.parse(stream.state.target), b"", tunnel.peer)
        take(incoming, sock, Ended(client=bool(flags & CLIENT_ENDED), target=bool(flags & TARGET_ENDED)))
