"""What this installation's own client says first: its connecting code greets a server of ours."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final, cast

from ptproxy.buffer import Buffer
from ptproxy.errors import StartError
from ptproxy.inspect.greeting import Greeting, GreetingServer
from ptproxy.tunnel.browser_tls import HELLOS
from ptproxy.tunnel.curl_tls import chosen_browser_tls
from ptproxy.tunnel.tcp import BufferedReads, connect_tcp
from ptproxy.tunnel.tls import ClientTrust, client_context

TIMEOUT: Final = 10.0
"""Seconds for a connection to a server on this machine."""
PYTHON: Final = "python"
FINGERPRINTS: Final = (*HELLOS, PYTHON)
"""Whose hellos can be said."""


@dataclass(frozen=True, slots=True)
class Said:
    """One hello of the client's own."""

    use: str
    """``page`` or ``websocket``."""
    after: str
    """What came before it: ``nothing``, or ``a page``, whose tickets it may offer."""
    greeting: Greeting


async def own_hellos(
    fingerprint: str, name: str, certificate: bytes, private_key: bytes, leaf: bytes
) -> list[Said]:
    """Every kind of hello that ``fingerprint`` has, said to a server that is known by ``name``.

    ``leaf`` is the SHA-256 of the certificate. Raises
    :class:`~ptproxy.errors.PtproxyError` where this installation cannot say
    them or the server is not reached.
    """
    said = []
    async with GreetingServer(certificate, private_key) as server:
        for use in ("page", "websocket"):
            with contextlib.closing(_Greeter(fingerprint, name, leaf, server.address)) as client:
                for before in ("nothing", "a page"):
                    if (use, before) == ("websocket", "a page"):
                        await client.greet("page")
                    await client.greet(use)
                    said.append(Said(use, before, server.greetings[-1]))
    return said


class _Greeter:
    """A client that has no ticket yet."""

    def __init__(self, fingerprint: str, name: str, leaf: bytes, address: tuple[str, int]) -> None:
        if fingerprint not in FINGERPRINTS:
            raise StartError(
                f"a hello of {fingerprint} is another program's: let it greet a --listen address"
            )
        self._hellos = HELLOS.get(fingerprint)
        self._browser = chosen_browser_tls() if self._hellos else None
        self._name = name
        self._trust = ClientTrust(pin=leaf)
        self._address = address

    async def greet(self, use: str) -> None:
        """Connect as for ``use``, ask, and wait until the server ends it."""
        loop, name, trust = asyncio.get_running_loop(), self._name, self._trust
        guest = _Guest(_request(use, name))
        if self._browser is not None and self._hellos is not None:
            hello = self._hellos[use]
            await self._browser.connect(loop, guest, self._address, TIMEOUT, hello, name, trust)
        else:
            tls = client_context(trust)
            await connect_tcp(loop, guest, *self._address, TIMEOUT, tls=tls, server_hostname=name)
        async with asyncio.timeout(TIMEOUT):
            await guest.ended.wait()

    def close(self) -> None:
        """Forget the tickets."""
        if self._browser is not None:
            self._browser.close()


def _request(use: str, name: str) -> bytes:
    """Enough of a request for the server to see what it is for."""
    more = "Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n" if use == "websocket" else ""
    return f"GET / HTTP/1.1\r\nHost: {name}\r\n{more}\r\n".encode("ascii", "replace")


class _Guest(BufferedReads):
    """Asks, and waits for the server to end the connection: by then its tickets have come."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
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
