"""What this installation's own client says first: its connecting code greets a server of ours."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, cast

from ptproxy.buffer import Buffer
from ptproxy.codec.interface import Greeting
from ptproxy.errors import StartError
from ptproxy.inspect.greeting import HTTP2, GreetingServer, HeardHello
from ptproxy.tunnel.client_tls import BrowserLikeTls, ClientTls, PythonTls
from ptproxy.tunnel.tcp import BufferedReads
from ptproxy.tunnel.tls import ClientTrust

TIMEOUT: Final = 10.0
"""Seconds for a connection to a server on this machine."""
ORDERS: Final[tuple[tuple[Greeting, ...], ...]] = (("visit", "page"), ("visit", "websocket"))
"""Connections of one client, one after another: it visits the site before anything else."""
PYTHON: Final = "python"
FINGERPRINTS: Final = ("chrome", "firefox", PYTHON)
"""Whose hellos the client's own code can say."""


@dataclass(frozen=True, slots=True)
class Said:
    """One hello of the client's own."""

    greeting: Greeting
    """As which of a browser's connections."""
    after: Greeting | None
    """What came before it, whose tickets it may offer."""
    heard: HeardHello

    @property
    def use(self) -> str:
        """``page`` or ``websocket``."""
        return "page" if self.greeting == "visit" else self.greeting


async def own_hellos(
    fingerprint: str, name: str, certificate: bytes, private_key: bytes, leaf: bytes
) -> list[Said]:
    """Every kind of hello that ``fingerprint`` has, said to a server that is known by ``name``.

    ``leaf`` is the SHA-256 of the certificate. Raises
    :class:`~ptproxy.errors.PtproxyError` where this installation cannot say
    them or the server is not reached.
    """
    said: dict[tuple[Greeting, Greeting | None], Said] = {}
    async with GreetingServer(certificate, private_key, alpn=HTTP2) as server:
        for order in ORDERS:
            client, before = _client(fingerprint, ClientTrust(pin=leaf)), None
            for greeting in order:
                await _greet(client, server.address, greeting, name)
                said.setdefault((greeting, before), Said(greeting, before, server.heard[-1]))
                before = greeting
    return list(said.values())


def _client(fingerprint: str, trust: ClientTrust) -> ClientTls:
    """A client's TLS that has no ticket yet."""
    if fingerprint not in FINGERPRINTS:
        raise StartError(f"a hello of {fingerprint} is another program's: let it greet a --listen address")
    return PythonTls(trust) if fingerprint == PYTHON else BrowserLikeTls(fingerprint, trust)


async def _greet(client: ClientTls, address: tuple[str, int], greeting: Greeting, name: str) -> None:
    """Connect, ask, and wait until the server ends it: by then its tickets have come."""
    more = "Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n" if greeting == "websocket" else ""
    guest = _Guest(f"GET / HTTP/1.1\r\nHost: {name}\r\n{more}\r\n".encode("ascii", "replace"))
    await client.connect(asyncio.get_running_loop(), guest, address, TIMEOUT, greeting, name)
    async with asyncio.timeout(TIMEOUT):
        await guest.ended.wait()


class _Guest(BufferedReads):
    """Asks, and waits."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask; HTTP/1.1 will do whatever was agreed on."""
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: Buffer) -> None:
        """The answer is of no interest."""

    def eof_received(self) -> bool:
        """The server has said all."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        del exc
        self.ended.set()
