"""Streams to and from contacts: who opens what, which signal belongs to which stream, how many there may be.

::

    streams = PeerStreams(dialer, messenger_signal, session)
    streams.offer(b"irc", lambda incoming: incoming.accept(protocol))
    stream = await streams.open_stream(contact, b"irc", protocol)
    streams.signal_received(contact, body)      # whatever the conversation brings under the kind "signal"
    streams.end_contact(contact)                # its identity has changed, or it was removed
    await streams.close()

Accepting tells the contact that we are there: a program that does not want to answer takes
:meth:`IncomingStream.ignore`, which says nothing; so does a purpose that nobody has offered. Streams live in
memory: they outlive connections and bridges, not the program.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Final

from ptproxy.e2e import Rng, Session
from ptproxy.e2e.stream import (
    MAX_PURPOSE,
    SEED,
    STREAM_ID,
    EndSignal,
    FinishedSignal,
    MeetSignal,
    OpenSignal,
    Role,
    Seed,
    StreamSignal,
    StreamSignalError,
    parse_signal,
)
from ptproxy.errors import DialError, LocalProtocolError, PtproxyError, Reason
from ptproxy.log import get_logger
from ptproxy.peers.peer_meetings import LINGER, Home
from ptproxy.peers.peer_stream import PeerStream
from ptproxy.tunnel.stream import Dialer

MAX_STREAMS: Final = 64
"""Streams at a time: a window of 4 MiB each way is theirs at most."""
MAX_STREAMS_OF_ONE: Final = 8
"""... with one contact."""
MAX_REMEMBERED: Final = 32
"""Streams of one contact that are over and remembered, for a peer that has missed the last word."""
MAX_SIGNALS: Final = 64
"""Signals to one contact that wait to be handed to the conversation; beyond, the oldest are dropped."""
CLOSE_WAIT: Final = 5.0
"""Seconds that the last signals have to reach the conversation's store."""
OPEN_WAIT: Final = 120.0
"""Seconds that :meth:`PeerStreams.open_stream` waits for the peer, two waits at a rendezvous."""

DialerFor = Callable[[bytes, Home], Dialer | None]
"""A dialer to the bridge of our own mailbox, or of a contact's, under a key for meeting this contact."""
SendSignal = Callable[[bytes, bytes], Awaitable[None]]
"""Sends bytes to a contact in the conversation."""
SessionOf = Callable[[bytes], Session | None]
"""The session that is sent in with a contact; None while nothing may be sent (stranger, changed identity)."""

log = get_logger(__name__)


class IncomingStream:
    """A stream that a contact has opened and nobody has taken yet."""

    def __init__(self, streams: PeerStreams, contact: bytes, signal: OpenSignal) -> None:
        self.contact = contact
        self.purpose = signal.purpose
        self._streams = streams
        self._signal = signal

    def accept(self, protocol: asyncio.Protocol) -> PeerStream:
        """Take it: the contact is met, ``connection_made`` is called when it is there.

        Where it does not come, nothing is called.
        """
        return self._streams._accept(self.contact, self._signal, protocol)

    def refuse(self, reason: Reason = Reason.NOT_PERMITTED) -> None:
        """Say no."""
        self._streams.tell(self.contact, EndSignal(self._signal.stream, reason))

    def ignore(self) -> None:
        """Say nothing: the contact cannot tell it from our being away."""


class PeerStreams:
    """All streams of one identity."""

    def __init__(
        self,
        dialer: DialerFor,
        signal: SendSignal,
        session: SessionOf,
        *,
        rng: Rng = os.urandom,
        linger: float = LINGER,
    ) -> None:
        """``linger``: seconds that a stream waits for its peer after a break."""
        self.dialer = dialer
        self.session = session
        self.rng = rng
        self._signal = signal
        self._linger = linger
        self._offers: dict[bytes, Callable[[IncomingStream], None]] = {}
        self._streams: dict[tuple[bytes, bytes], PeerStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._finished: dict[bytes, OrderedDict[bytes, bool]] = {}
        """By contact: its streams that are over, and whether they ended well."""
        self._signals: dict[bytes, deque[bytes]] = {}
        """By contact: what waits to be said to it. The contacts take turns."""
        self._sender: asyncio.Task[None] | None = None
        self._closed = False

    def offer(self, purpose: bytes, incoming: Callable[[IncomingStream], None]) -> None:
        """Call ``incoming`` for each stream that a contact opens for ``purpose``; it must not block."""
        self._offers[_checked(purpose)] = incoming

    def streams(self, contact: bytes) -> list[PeerStream]:
        """The streams with a contact that are not over."""
        return [stream for (whose, _), stream in self._streams.items() if whose == contact]

    async def open_stream(
        self, contact: bytes, purpose: bytes, protocol: asyncio.Protocol, *, wait: float = OPEN_WAIT
    ) -> PeerStream:
        """Open a stream to a contact; when it returns the contact is there, and has taken it.

        :class:`~ptproxy.errors.DialError`: the contact has refused it (NOT_PERMITTED, LIMIT), does
        not come within ``wait`` seconds (TIMED_OUT), there is no rendezvous (UNSUPPORTED), nothing may
        be sent to this contact (NOT_PERMITTED). Cancelling it gives the stream up.
        """
        if self._closed or self.session(contact) is None:
            raise DialError(Reason.NOT_PERMITTED)
        if not self._may_have_another(contact):
            raise DialError(Reason.LIMIT)
        seed = Seed(self.rng(STREAM_ID), self.rng(SEED))
        signal = OpenSignal(seed.stream, seed.secret, _checked(purpose))
        stream = self._start(contact, signal, Role.OPENER, protocol)
        self.tell(contact, signal)
        try:
            async with asyncio.timeout(wait):
                await asyncio.shield(stream.opened)
        except TimeoutError:
            stream.give_up(Reason.TIMED_OUT)
            raise DialError(Reason.TIMED_OUT) from None
        except asyncio.CancelledError:
            stream.give_up(Reason.CANCELLED)
            raise
        return stream

    def signal_received(self, contact: bytes, body: bytes) -> None:
        """A signal came in the conversation with ``contact``; what is not one is ignored."""
        try:
            signal = parse_signal(body)
        except StreamSignalError:
            log.debug("not a signal of a stream")
            return
        if self._closed:
            return
        stream = self._streams.get((contact, signal.stream))
        if isinstance(signal, OpenSignal):
            if stream is None and signal.stream not in self._finished.get(contact, ()):
                self._offered(contact, signal)
        elif stream is None:
            if isinstance(signal, MeetSignal):
                self._stale(contact, signal.stream)
        elif isinstance(signal, MeetSignal):
            stream.summoned(signal.number)
        elif isinstance(signal, EndSignal):
            stream.told_end(signal.reason)
        else:
            stream.told_finished()

    def end_contact(self, contact: bytes) -> None:
        """End every stream with a contact: its identity has changed, or it was removed."""
        for stream in self.streams(contact):
            stream.give_up(Reason.NOT_PERMITTED)

    def tell(self, contact: bytes, signal: StreamSignal) -> None:
        """Send a signal, as soon as the conversation takes it."""
        if not self._closed:
            waiting = self._signals.setdefault(contact, deque(maxlen=MAX_SIGNALS))
            body = signal.serialize()
            if body not in waiting:  # who asks the same a hundred times is told once
                waiting.append(body)
            if self._sender is None:
                self._sender = asyncio.ensure_future(self._send_signals())

    async def close(self) -> None:
        """End every stream, and tell the contacts, as far as that takes no longer than ``CLOSE_WAIT``."""
        for stream in list(self._streams.values()):
            stream.give_up(Reason.SHUTDOWN)
        self._closed = True
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._sender is not None:
            await asyncio.wait({self._sender}, timeout=CLOSE_WAIT)
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
            self._sender = None

    def _offered(self, contact: bytes, signal: OpenSignal) -> None:
        """A contact opens a stream."""
        incoming = self._offers.get(signal.purpose)
        if incoming is None or self.session(contact) is None:
            return  # as if we were away
        incoming(IncomingStream(self, contact, signal))

    def _accept(self, contact: bytes, signal: OpenSignal, protocol: asyncio.Protocol) -> PeerStream:
        if (contact, signal.stream) in self._streams:
            raise LocalProtocolError("stream: accepted twice")
        stream = self._start(contact, signal, Role.ACCEPTOR, protocol)
        if not self._may_have_another(contact, more=0):
            stream.give_up(Reason.LIMIT)
        return stream

    def _may_have_another(self, contact: bytes, more: int = 1) -> bool:
        return (
            len(self._streams) + more <= MAX_STREAMS
            and len(self.streams(contact)) + more <= MAX_STREAMS_OF_ONE
        )

    def _start(
        self, contact: bytes, signal: OpenSignal, role: Role, protocol: asyncio.Protocol
    ) -> PeerStream:
        """A stream begins to look for its peer."""
        seed = Seed(signal.stream, signal.seed)
        stream = PeerStream(self, contact, signal.purpose, seed, role, protocol, linger=self._linger)
        key = contact, signal.stream
        self._streams[key] = stream
        task = asyncio.ensure_future(stream.run())
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            del self._streams[key]
            over = self._finished.setdefault(contact, OrderedDict())
            over[signal.stream] = stream.sealed.finished
            while len(over) > MAX_REMEMBERED:
                over.popitem(last=False)

        task.add_done_callback(ended)
        return stream

    def _stale(self, contact: bytes, stream: bytes) -> None:
        """MEET for a stream that is not here."""
        over = self._finished.get(contact)
        well = None if over is None else over.get(stream)
        if well is None:
            return  # never accepted, or long ago: as if we were away
        self.tell(contact, FinishedSignal(stream) if well else EndSignal(stream, Reason.SESSION_LOST))

    async def _send_signals(self) -> None:
        """Hand the signals to the conversations, one of each contact in turn; then end."""
        try:
            while self._signals:
                contact = next(iter(self._signals))
                waiting = self._signals.pop(contact)
                body = waiting.popleft()
                if waiting:
                    self._signals[contact] = waiting  # behind the others
                try:
                    await self._signal(contact, body)
                except PtproxyError as error:
                    log.debug("a signal was not sent", reason=str(error))
        finally:
            if not self._closed:
                self._sender = None


def _checked(purpose: bytes) -> bytes:
    """A purpose; LocalProtocolError where it is none."""
    if not 0 < len(purpose) <= MAX_PURPOSE or not all(0x21 <= byte <= 0x7E for byte in purpose):
        raise LocalProtocolError("stream: a purpose is a short word")
    return purpose
