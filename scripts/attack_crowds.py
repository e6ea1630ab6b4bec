"""Attacks by connections: many that say nothing, little or the same again. Each knows only the link.

Every case opens connections from 127.0.0.2 to 127.0.0.99, as fast as it can but no more than it is told,
and keeps each for as long as the bridge does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ptproxy.auth.binding import Binding
from ptproxy.auth.credentials import StaticKey
from ptproxy.auth.opening import ClientOpening, Hello
from ptproxy.codec import codec_table
from ptproxy.codec.interface import CodecSettings
from ptproxy.config.link import Link

SOURCES = [f"127.0.0.{number}" for number in range(2, 100)]
AT_ONCE = 64
"""Connections in their beginning at the same time."""
DRIP = 0.5
"""Seconds between two bytes of whoever is slow."""
RNG = random.SystemRandom()


@dataclass(slots=True)
class Against:
    """Whom to attack, and how much."""

    link: str
    target: int
    count: int
    seconds: float
    line: Link = field(init=False)
    end: float = field(init=False)

    def __post_init__(self) -> None:
        self.line = Link.parse(self.link)
        self.end = time.monotonic() + self.seconds

    @property
    def over(self) -> bool:
        return time.monotonic() > self.end


def lax() -> ssl.SSLContext:
    """A stranger's TLS, who checks nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


class Held(asyncio.Protocol):
    """Keeps a connection, and notes how it begins to be answered."""

    def __init__(self, seen: Counter[str], slowly: bytes = b"") -> None:
        self._seen = seen
        self._slowly = slowly
        self._timer: asyncio.TimerHandle | None = None
        self.first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._seen["open"] += 1
        self._seen["most open"] = max(self._seen["most open"], self._seen["open"])
        if self._slowly:
            self._drip()

    def _drip(self) -> None:
        self.transport.write(self._slowly[:1])
        self._slowly = self._slowly[1:]
        if self._slowly:
            self._timer = asyncio.get_running_loop().call_later(DRIP, self._drip)

    def data_received(self, data: bytes) -> None:
        if not self.first.done():
            self.first.set_result(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._seen["open"] -= 1
        self._seen["ended"] += 1
        if self._timer is not None:
            self._timer.cancel()
        if not self.first.done():
            self.first.set_result(b"")


async def connect(
    it: Against, source: str, make: Callable[[], Held], context: ssl.SSLContext | None = None
) -> Held:
    """One connection from ``source``, through TLS with a context."""
    sock = socket.socket()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        sock.bind((source, 0))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (it.line.host, it.line.port))
        name = it.line.server_name if context is not None else None
        _, held = await loop.create_connection(make, sock=sock, ssl=context, server_hostname=name)
    except BaseException:
        sock.close()
        raise
    return held


async def crowd(it: Against, one: Callable[[str], Awaitable[None]]) -> int:
    """Have ``one`` done so many times from one source after another, until the time is over; how many."""
    sources: Iterator[str] = itertools.cycle(SOURCES)
    done = 0

    async def work() -> None:
        nonlocal done
        while done < it.count and not it.over:
            done += 1
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(10.0):
                    await one(next(sources))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return done


async def _kept(it: Against, seen: Counter[str], one: Callable[[str], Awaitable[None]]) -> dict[str, Any]:
    """A crowd whose connections are kept until the time is over."""
    done = await crowd(it, one)
    await asyncio.sleep(max(it.end - time.monotonic(), 0.0))
    return {
        "done": done,
        "wrong": [],
        "note": f"{seen['most open']} open at once, {seen['ended']} ended by the bridge",
    }


async def silent(it: Against) -> dict[str, Any]:
    """Connections that say nothing at all."""
    seen: Counter[str] = Counter()

    async def one(source: str) -> None:
        await connect(it, source, lambda: Held(seen))

    return await _kept(it, seen, one)


async def slow_hellos(it: Against) -> dict[str, Any]:
    """A ClientHello of the right name, one byte after another."""
    seen: Counter[str] = Counter()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = lax().wrap_bio(incoming, outgoing, server_hostname=it.line.server_name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()

    async def one(source: str) -> None:
        await connect(it, source, lambda: Held(seen, hello))

    return await _kept(it, seen, one)


async def slow_heads(it: Against) -> dict[str, Any]:
    """A whole TLS handshake, then a request's head, one byte after another."""
    seen: Counter[str] = Counter()
    head = f"GET {it.line.path} HTTP/1.1\r\nHost: {it.line.server_name}\r\n".encode() + b"X-A: b\r\n" * 200
    context = lax()

    async def one(source: str) -> None:
        await connect(it, source, lambda: Held(seen, head), context)

    return await _kept(it, seen, one)


async def half_closed(it: Against) -> dict[str, Any]:
    """A whole TLS handshake, half a head, and the end of what is said; the connection stays."""
    seen: Counter[str] = Counter()
    head = f"GET {it.line.path} HTTP/1.1\r\nHost: {it.line.server_name}\r\nX-A: ".encode()
    context = lax()

    async def one(source: str) -> None:
        held = await connect(it, source, lambda: Held(seen), context)
        held.transport.write(head)
        sock = held.transport.get_extra_info("socket")
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as same:
            same.shutdown(socket.SHUT_WR)  # TCP's end, without TLS's

    return await _kept(it, seen, one)


# ---- openings ------------------------------------------------------------------------------------


class Openings:
    """Requests with an opening inside, as ``websocket`` clients say them."""

    def __init__(self, it: Against, digest: bytes) -> None:
        self._line = it.line
        self._binding = Binding.certificate(digest) if it.line.binding else Binding.none()
        self._settings = CodecSettings.of(it.line.server_name, it.line.port, it.line.path)

    def right(self) -> bytes:
        """One that verifies, of a new key; nobody can confirm it any more."""
        message = ClientOpening(
            self._line.key, StaticKey.generate(RNG), "websocket", self._line.seal, self._binding,
            Hello(b"", 1, (), int(time.time()), self._line.token), RNG,
        ).message1  # fmt: skip
        codec = codec_table()["websocket"].client(self._settings, message, RNG)
        return b"".join(map(bytes, codec.open_link().data_to_send()))

    def strange(self, right: bytes) -> bytes:
        """The same request as long, of somebody who does not know the bridge's key."""
        return re.sub(
            rb"(?<=Cookie: )([^=]+=)[^\r;]+", lambda found: found[1] + _cookie(len(found[0])), right
        )


def _cookie(size: int) -> bytes:
    return os.urandom(size).hex().encode()[:size]


async def certificate(it: Against) -> bytes:
    """SHA-256 of what the bridge shows."""
    import hashlib  # noqa: PLC0415  (here alone)

    held = await connect(it, SOURCES[0], lambda: Held(Counter()), lax())
    der = held.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    held.transport.abort()
    return hashlib.sha256(der).digest()


async def handshakes(it: Against) -> dict[str, Any]:
    """TLS handshakes, each ended as soon as it stands."""
    context, seen = lax(), Counter[str]()

    async def one(source: str) -> None:
        held = await connect(it, source, lambda: Held(seen), context)
        held.transport.abort()

    began = time.monotonic()
    done = await crowd(it, one)
    return {"done": done, "wrong": [], "note": f"{done / (time.monotonic() - began):.0f} a second"}


async def _said(it: Against, say: Callable[[], bytes], answer: bool) -> dict[str, Any]:
    """Connections that say this, and whether each is answered as an opening."""
    context, seen = lax(), Counter[str]()
    wrong: Counter[str] = Counter()

    async def one(source: str) -> None:
        held = await connect(it, source, lambda: Held(seen), context)
        held.transport.write(say())
        first = await held.first
        if first:
            seen["answered"] += 1
            if first.startswith(b"HTTP/1.1 101"):
                seen["as clients"] += 1
                if not answer:
                    wrong["a stranger was answered as a client"] += 1
        if not answer:
            held.transport.abort()

    began = time.monotonic()
    done = await crowd(it, one)
    rate = done / (time.monotonic() - began)
    note = (
        f"{rate:.0f} a second, {seen['answered']} answered, {seen['as clients']} as clients, "
        f"{seen['most open']} open at once"
    )
    return {"done": done, "wrong": [f"{text} ({times} times)" for text, times in wrong.items()], "note": note}


async def strangers(it: Against) -> dict[str, Any]:
    """Openings of those who do not know the bridge's key: the site's, each of them."""
    openings = Openings(it, await certificate(it))
    right = openings.right()
    return await _said(it, lambda: openings.strange(right), answer=False)


async def replayed(it: Against) -> dict[str, Any]:
    """One right opening again and again: the site's from the second time on."""
    openings = Openings(it, await certificate(it))
    right = openings.right()
    held = await connect(it, SOURCES[0], lambda: Held(Counter()), lax())
    held.transport.write(right)
    first = await held.first
    told = await _said(it, lambda: right, answer=False)
    if not first.startswith(b"HTTP/1.1 101"):
        told["wrong"].append("the first one was no client's either")
    return told


async def unconfirmed(it: Against) -> dict[str, Any]:
    """Right openings of new keys that are never confirmed, of somebody who has the link of an open bridge."""
    openings = Openings(it, await certificate(it))
    return await _said(it, openings.right, answer=True)


CASES = {
    "silent": silent,
    "slow-hellos": slow_hellos,
    "slow-heads": slow_heads,
    "half-closed": half_closed,
    "handshakes": handshakes,
    "strangers": strangers,
    "replayed-openings": replayed,
    "unconfirmed": unconfirmed,
}
