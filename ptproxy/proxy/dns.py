"""A local DNS port that asks a resolver through the tunnel.

Queries over UDP travel over one TCP stream to the resolver (RFC 7766: pipelined,
answered in any order), so that none is lost on the way; queries over TCP get a
stream of their own, as any forwarded connection. Answers are handed on as they
are; one that is larger than the program takes (512 bytes, or what its OPT
record says: RFC 6891 section 6.2.3) is cut to its question with TC set, upon
which programs ask again over TCP (RFC 1035 section 4.2.1).
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any, Final, cast

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, RemoteProtocolError
from ptproxy.log import get_logger
from ptproxy.proxy.udp_port import UdpPort
from ptproxy.target import Target
from ptproxy.tunnel.stream import Dialer

MAX_WAITING: Final = 512
"""Queries without an answer yet; a program beyond that gets none, and asks again."""
PATIENCE: Final = 10.0
"""Seconds for an answer: by then programs have given up."""
IDLE: Final = 30.0
"""Seconds without a query after which the stream to the resolver is closed."""
MAX_QUERY: Final = 4096
"""Bytes of a query: real ones have some 50."""
PLAIN_ANSWER: Final = 512
"""Bytes of an answer over UDP without OPT (RFC 1035 section 2.3.4)."""
MOST_ANSWER: Final = 4096
"""... and with OPT, whatever it says (RFC 6891 section 6.2.5 suggests so)."""
HEADER: Final = 12

log = get_logger(__name__)


class DnsError(RemoteProtocolError):
    """Bytes that are no DNS message."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is needed of a query to answer it."""

    number: int
    """Its id."""
    question: bytes
    """The question section: one question."""
    room: int
    """Bytes that an answer may have."""

    @classmethod
    def parse(cls, data: bytes) -> Query:
        """A query with one question; raises :class:`DnsError`."""
        if not HEADER <= len(data) <= MAX_QUERY or data[2] & 0x80:
            raise DnsError("no query")
        counts = [int.from_bytes(data[at : at + 2], "big") for at in (4, 6, 8, 10)]
        if counts[0] != 1:
            raise DnsError("not one question")
        end = question_end(data)
        room = PLAIN_ANSWER
        # OPT is the root's, type 41; its class is the size. Queries have nothing else behind the question.
        if counts[1:3] == [0, 0] and counts[3] and data[end : end + 3] == b"\x00\x00\x29":
            room = int.from_bytes(data[end + 3 : end + 5], "big")
        return cls(
            int.from_bytes(data[:2], "big"), data[HEADER:end], min(max(room, PLAIN_ANSWER), MOST_ANSWER)
        )

    def failed(self) -> bytes:
        """SERVFAIL: the resolver is not reached."""
        return self.number.to_bytes(2, "big") + b"\x81\x82\x00\x01" + bytes(6) + self.question

    def answer(self, data: bytes) -> bytes:
        """The resolver's answer as the program gets it; raises :class:`DnsError` for another question's."""
        if len(data) < HEADER or not data[2] & 0x80:
            raise DnsError("no answer")
        number = self.number.to_bytes(2, "big")
        if int.from_bytes(data[4:6], "big") == 1:
            end = question_end(data)
            if data[HEADER:end].lower() != self.question.lower():
                raise DnsError("the answer to another question")
            if len(data) > self.room:
                flags = bytes((data[2] | 0x02, data[3]))
                return number + flags + b"\x00\x01" + bytes(6) + data[HEADER:end]
        elif len(data) > self.room:
            raise DnsError("too large, and no question to cut it to")
        return number + data[2:]


def question_end(data: bytes) -> int:
    """Where the first question of a message ends; raises :class:`DnsError`."""
    at = HEADER
    while True:
        if at >= len(data) or at > HEADER + 255:
            raise DnsError("a name without an end")
        length = data[at]
        at += 1 + length
        if length > 63:
            raise DnsError("a compressed or over-long label in a question")
        if not length:
            break
    if at + 4 > len(data):
        raise DnsError("a question cut short")
    return at + 4


@dataclass(slots=True)
class _Waiting:
    """A query that the resolver has not answered."""

    query: Query
    address: Any
    since: float


class DnsPort:
    """A local UDP port for queries; those over TCP are a forwarded port's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dialer: Dialer, resolver: Target) -> None:
        self.waiting: dict[int, _Waiting] = {}
        """By the id that the resolver sees."""
        self._loop = loop
        self._dialer = dialer
        self._resolver = resolver
        self._port = UdpPort(loop, self.local_query)
        self._stream: _Resolver | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._asked_at = 0.0

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Listen there; returns the address. Raises ``OSError``."""
        return await self._port.listen(host, port)

    async def stop(self) -> None:
        """Answer nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.gather(self._dialling, return_exceptions=True)
        if self._stream is not None:
            self._stream.abort()
        self.waiting.clear()
        await self._port.close()

    def local_query(self, data: bytes, address: Any) -> None:
        """A program asked."""
        try:
            query = Query.parse(data)
        except DnsError:
            return
        stream = self._stream
        behind = len(self._unsent) >= MAX_WAITING or (stream is not None and stream.full)
        if behind or len(self.waiting) >= MAX_WAITING:
            return
        number = secrets.randbelow(1 << 16)
        while number in self.waiting:
            number = (number + 1) & 0xFFFF
        self._asked_at = self._loop.time()
        self.waiting[number] = _Waiting(query, address, self._asked_at)
        message = number.to_bytes(2, "big") + data[2:]
        framed = len(message).to_bytes(2, "big") + message
        if self._timer is None:
            self._timer = self._loop.call_later(PATIENCE, self._look)
        if stream is not None:
            stream.write(framed)
            return
        self._unsent.append(framed)
        if self._dialling is None:
            self._dialling = self._loop.create_task(self._dial())

    async def _dial(self) -> None:
        """A stream to the resolver, for all who wait."""
        stream = _Resolver(self, self._loop.time())
        try:
            await self._dialer.dial(self._resolver, stream, b"".join(self._unsent[:1]))
        except DialError as error:
            reason = error.reason.name.lower()
            log.info("the resolver is not reached", target=str(self._resolver), reason=reason)
            self._unsent.clear()
            self._fail_all()
            return
        finally:
            self._dialling = None
        if stream.lost:
            self._unsent.clear()
            self._fail_all()
            return
        self._stream = stream
        for framed in self._unsent[1:]:
            stream.write(framed)
        self._unsent.clear()

    def answered(self, data: bytes) -> None:
        """The resolver answered something."""
        waiting = self.waiting.pop(int.from_bytes(data[:2], "big"), None) if len(data) >= 2 else None
        if waiting is not None:
            try:
                self._port.send(waiting.query.answer(data), waiting.address)
            except DnsError as error:
                log.info("an answer of the resolver is not passed on", why=str(error))

    def stream_lost(self, stream: _Resolver) -> None:
        """The resolver ended the stream: who waits is told to ask again."""
        if self._stream is stream:
            self._stream = None
            self._fail_all()

    def _fail_all(self) -> None:
        for waiting in self.waiting.values():
            self._port.send(waiting.query.failed(), waiting.address)
        self.waiting.clear()

    def _look(self) -> None:
        """Forget who has waited too long, and close a stream that nobody uses or that says nothing."""
        self._timer = None
        now = self._loop.time()
        late = [each for each, waiting in self.waiting.items() if now - waiting.since >= PATIENCE]
        for number in late:
            del self.waiting[number]
        stream = self._stream
        if stream is not None:
            silent = bool(late) and now - stream.heard >= PATIENCE
            if silent or now - self._asked_at >= IDLE:
                self._stream = None
                stream.abort()
        if self.waiting or self._stream is not None:
            self._timer = self._loop.call_later(PATIENCE, self._look)


class _Resolver(asyncio.Protocol):
    """The stream to the resolver: messages behind their length (RFC 1035 section 4.2.2)."""

    def __init__(self, port: DnsPort, now: float) -> None:
        self.heard = now
        """When it last said something."""
        self.full = False
        """Whether it takes no more questions for now."""
        self.lost = False
        self._port = port
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The resolver has answered."""
        self._transport = cast("asyncio.Transport", transport)

    def write(self, framed: bytes) -> None:
        """Ask."""
        self._transport.write(framed)

    def abort(self) -> None:
        """End it."""
        self._transport.abort()

    def data_received(self, data: Buffer) -> None:
        """Answers, whole or in pieces."""
        self.heard = asyncio.get_running_loop().time()
        self._buffer += data
        while len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < end:
                break
            message = bytes(self._buffer[2:end])
            del self._buffer[:end]
            self._port.answered(message)

    def pause_writing(self) -> None:
        """It is behind with questions: no more for now."""
        self.full = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self.full = False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        del exc
        self.lost = True
        self._port.stream_lost(self)
