"""The way to a bridge: its addresses, TCP, and TLS 1.3 with the certificate checked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ptproxy.auth.credentials import StaticKey
from ptproxy.codec.interface import Appearance, CodecSettings, Greeting
from ptproxy.config.link import Link as BridgeLine
from ptproxy.errors import DialError, LocalProtocolError, PtproxyError, Reason
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.client_tls import ClientTls, speaks_http2
from ptproxy.tunnel.outward import Outward
from ptproxy.tunnel.racing import Racing
from ptproxy.ways import Degree, Ending, Obstructed, Race, Stage, degree_of

if TYPE_CHECKING:
    from ptproxy.tunnel.chromium import Chromium

CONNECT_TIMEOUT: Final = 15.0
"""Seconds for TCP and TLS to one address of the bridge."""
NAME_TIMEOUT: Final = 10.0
"""Seconds for the look-up of the bridge's name: some systems ask a silent server for half a minute."""
MAX_ADDRESSES: Final = 8
"""Addresses of one bridge name that are tried."""
ENDINGS: Final = {
    Reason.REFUSED: Ending.REFUSED,
    Reason.TIMED_OUT: Ending.SILENCE,
    Reason.CONNECTION_LOST: Ending.RESET,
    Reason.NETWORK_UNREACHABLE: Ending.UNREACHABLE,
    Reason.NAME_NOT_FOUND: Ending.NOT_FOUND,
}
"""What the reasons of a failed connect say."""


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach one bridge: its line, which key is ours, how TLS is done and what it looks like."""

    line: BridgeLine
    key: StaticKey
    tls: ClientTls
    codecs: tuple[str, ...]
    appearance: Appearance | None = None
    """The browser that is imitated; None: none is, and no page is visited."""
    browser: Chromium | None = None
    """What carries the connections where they are to be a real browser's."""
    progressed: Callable[[], None] | None = None
    """Told when TLS with the bridge stands: who races ways gives this one time then."""

    fronts: tuple[Route, ...] = ()
    """Where else the same bridge is reached, best first."""

    def settings(self) -> CodecSettings:
        """What the codecs say of themselves."""
        line = self.line
        return CodecSettings.of(line.server_name, line.port, line.path, self.appearance)


def by_fronts(line: BridgeLine, make: Callable[[BridgeLine], Route]) -> Route:
    """The route to a bridge, with all its fronts; ``make`` gives that of a line with one front."""
    first, *further = map(make, line.by_front())
    return replace(first, line=line, fronts=tuple(further))


async def connect_tls(
    loop: asyncio.AbstractEventLoop, connection: Connection, route: Route, greeting: Greeting
) -> bytes:
    """Connect to the bridge over TLS 1.3 and check who it says it is; the leaf's SHA-256.

    Of several addresses of the bridge's name the one whose TCP answers first counts, and the
    others where its TLS does not come about. Raises :class:`~ptproxy.ways.Obstructed` (a
    :class:`~ptproxy.errors.DialError`) or :class:`~ptproxy.errors.AuthenticationError`.
    """
    line = route.line
    if route.browser is not None:
        raise LocalProtocolError("nobody but the browser connects to the bridge")
    if route.tls.outward.names_go_along:
        hosts = [line.host]
    else:
        hosts = await bridge_addresses(loop, line.host, line.port)
    reaching = Reaching(route.tls.outward, hosts)
    while True:
        try:
            digest = await route.tls.connect(
                loop,
                connection,
                (min(hosts), line.port),
                CONNECT_TIMEOUT,
                greeting,
                line.server_name,
                reaching,
            )
        except DialError as error:
            stage = Stage.TLS if reaching.reached else Stage.TCP
            if stage is Stage.TLS and len(reaching.hosts) > 1:
                reaching.leave()
                continue
            degree = degree_of(stage, ENDINGS.get(error.reason, Ending.OTHER))
            raise Obstructed(degree, error.reason, f"{error} ({degree})") from None
        break
    if connection.ended:  # closed before we were told that it was open
        raise Obstructed(Degree.OPENING_RESET, Reason.TUNNEL_DOWN, "the bridge closed the connection at once")
    if route.progressed is not None:
        route.progressed()
    connection.apart = speaks_http2(connection.transport)
    return digest


class Reaching:
    """TCP to the first of a name's addresses that answers (RFC 8305 section 5); its TLS asks for it."""

    def __init__(self, outward: Outward, hosts: list[str]) -> None:
        self.hosts = interleaved(hosts)
        self.reached = ""
        """The address whose TCP stands, "" before."""
        self._outward = outward

    def leave(self) -> None:
        """The address that was reached is of no use."""
        self.hosts.remove(self.reached)
        self.reached = ""

    async def connect(self, loop: asyncio.AbstractEventLoop, address: tuple[str, int]) -> socket.socket:
        """As :meth:`Outward.connect`; of ``address`` only the port counts."""
        if len(self.hosts) == 1:
            sock = await self._outward.connect(loop, (self.hosts[0], address[1]))
            self.reached = self.hosts[0]
            return sock
        racing = Racing(loop, _ToAddresses(self, self._outward, loop, address[1]))
        race = Race(self.hosts, _itself)
        try:
            self.reached, sock = await racing.run(race)
        except BaseException:
            await racing.close()
            raise
        try:
            await racing.close()
        except asyncio.CancelledError:  # nobody else knows of it
            sock.close()
            raise
        return sock


class _ToAddresses:
    """A race of addresses."""

    def __init__(
        self, reaching: Reaching, outward: Outward, loop: asyncio.AbstractEventLoop, port: int
    ) -> None:
        self._reaching = reaching
        self._outward = outward
        self._loop = loop
        self._port = port

    async def attempt(self, candidate: str, progressed: Callable[[], None]) -> tuple[str, socket.socket]:
        del progressed
        return candidate, await self._outward.connect(self._loop, (candidate, self._port))

    def failed(self, candidate: str, error: PtproxyError | OSError) -> bool:
        del candidate, error
        return False

    def unwanted(self, result: tuple[str, socket.socket]) -> None:
        result[1].close()


def _itself(host: str) -> str:
    return host


def interleaved(hosts: list[str]) -> list[str]:
    """Addresses with their families in turn, each family in its order (RFC 8305 section 4)."""
    first = ":" in hosts[0]
    one = [host for host in hosts if (":" in host) is first]
    other = [host for host in hosts if (":" in host) is not first]
    ordered: list[str] = []
    for index in range(max(len(one), len(other))):
        ordered += one[index : index + 1] + other[index : index + 1]
    return ordered


async def bridge_addresses(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[str]:
    """The addresses of the bridge itself; its name, unlike a target's, is looked up here."""
    if ":" in host or host.replace(".", "").isdigit():
        return [host]
    try:
        async with asyncio.timeout(NAME_TIMEOUT):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:  # TimeoutError is one
        raise Obstructed(Degree.NAME, Reason.NAME_NOT_FOUND, "the bridge's name is not found") from None
    return list(dict.fromkeys(str(address[4][0]) for address in found))[:MAX_ADDRESSES]
