"""Two peers who dial the same cookie get one stream: the wire format, and a peer's side.

::

    up    preface │ cookie 32 │ side u8 (1, 2)
    down  0x01 once the other side is there; then whatever the two say

The cookie is a secret of the two, exported from their ratchet and used once.
What passes is theirs to encrypt. ``PROTOCOL.md``, "Rendezvous".
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import Any, Final

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, Reason, RemoteProtocolError
from ptproxy.target import Target
from ptproxy.tunnel.relay import reset_stream
from ptproxy.tunnel.stream import Dialer, Stream

SERVICE: Final = "rendezvous"
PREFACE: Final = b"\0ptproxy rendezvous 1\n"
COOKIE: Final = 32
OPENING: Final = len(PREFACE) + COOKIE + 1
"""Bytes of an opening."""
JOINED: Final = b"\x01"
MEET_WAIT: Final = 90.0
"""Seconds that :func:`meet` waits; the bridge waits 60 by default and then says so itself."""


class RendezvousError(RemoteProtocolError):
    """Bytes that open no rendezvous, or another answer than the bridge's."""


class Side(IntEnum):
    """Which of the two one is; agreed on beforehand, as the cookie is."""

    FIRST = 1
    SECOND = 2

    @property
    def other(self) -> Side:
        """The one that is waited for."""
        return Side.SECOND if self is Side.FIRST else Side.FIRST


def opening(cookie: bytes, side: Side) -> bytes:
    """What a peer says first."""
    return PREFACE + cookie + bytes((side,))


def parse_opening(data: bytes) -> tuple[bytes, Side] | None:
    """Cookie and side at the head of ``data``, None until they are whole; raises RendezvousError."""
    if not data.startswith(PREFACE[: len(data)]):
        raise RendezvousError("not the rendezvous's protocol")
    if len(data) < OPENING:
        return None
    if data[OPENING - 1] not in (Side.FIRST, Side.SECOND):
        raise RendezvousError("neither of the two sides")
    return data[len(PREFACE) : OPENING - 1], Side(data[OPENING - 1])


class _Meeting(asyncio.Protocol):
    """A peer's stream until the other one is there; then the stream is the peer's own protocol's."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._protocol = protocol
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: Buffer) -> None:
        if bytes(data[:1]) != JOINED or self.joined.done():
            self._fail(RendezvousError("another answer than a rendezvous's"))
            reset_stream(self._transport, Reason.GENERAL)
            return
        self._transport.set_protocol(self._protocol)
        self._protocol.connection_made(self._transport)
        self.joined.set_result(None)
        if len(data) > 1:
            self._protocol.data_received(bytes(data[1:]))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc if isinstance(exc, DialError) else DialError(Reason.CONNECTION_LOST))

    def _fail(self, error: Exception) -> None:
        if not self.joined.done():
            self.joined.set_exception(error)
            self.joined.exception()


async def meet(
    dialer: Dialer, cookie: bytes, side: Side, protocol: asyncio.Protocol, target: Target | None = None
) -> Stream:
    """Wait at the bridge behind ``dialer`` for the peer who has the same cookie and the other side.

    When it returns, ``protocol`` is on the stream, ``connection_made`` has been called, and
    data may have come. Raises :class:`~ptproxy.errors.DialError` (TIMED_OUT: nobody came), or
    :class:`RendezvousError`. Cancelling it gives the stream up.
    """
    meeting = _Meeting(protocol)
    where = target if target is not None else Target.service(SERVICE)
    stream = await dialer.dial(where, meeting, opening(cookie, side))
    try:
        async with asyncio.timeout(MEET_WAIT):
            await meeting.joined
    except TimeoutError:
        stream.abort()
        raise DialError(Reason.TIMED_OUT) from None
    except BaseException:
        stream.abort()
        raise
    return stream
