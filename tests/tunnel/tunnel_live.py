"""A bridge and a client's dialer in one loop over real sockets, for the tunnel's tests."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ptproxy.auth.access import Access, AccessList
from ptproxy.auth.binding import Binding
from ptproxy.auth.credentials import StaticKey
from ptproxy.codec.interface import CodecSettings
from ptproxy.config.link import Link
from ptproxy.errors import Reason
from ptproxy.session import RetentionBudget
from ptproxy.target import Target
from ptproxy.tunnel.bridge import Bridge, BridgeSettings
from ptproxy.tunnel.client_tls import PythonTls
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.listen import listen_tcp
from ptproxy.tunnel.tls import ClientTrust, bridge_context, leaf_digest

RNG = random.SystemRandom()
ECHO = Target.address("192.0.2.1", 7)
"""The exit below echoes for this target."""
SILENT = Target.address("192.0.2.1", 9)
"""... takes everything and never reads for this one."""
REFUSED = Target.address("192.0.2.1", 1)
PENDING = Target.address("192.0.2.1", 2)
"""... never decides."""
SOURCE = Target.address("192.0.2.1", 19)
"""... sends for good."""


def make_certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


class Echo(asyncio.Protocol):
    """Sends back what comes, with flow control, and closes at the end."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: Any) -> None:
        self.transport.write(data)

    def eof_received(self) -> bool:
        self.transport.close()
        return True

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class Silent(asyncio.Protocol):
    """Never reads."""

    def connection_made(self, transport: Any) -> None:
        transport.pause_reading()


class Source(asyncio.Protocol):
    """Sends for good; position k holds byte k modulo 251."""

    block = bytes(range(251)) * 260

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.paused = self.over = False
        asyncio.get_running_loop().call_soon(self.send)

    def send(self) -> None:
        if not self.paused and not self.over:
            self.transport.write(self.block)
            asyncio.get_running_loop().call_soon(self.send)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True


class Receiver:
    """An association that sends every datagram back."""

    association: Any

    def datagram_received(self, source: Target, data: bytes) -> None:
        self.association.send_datagram(source, data)

    def association_lost(self, exc: Exception | None) -> None:
        pass


class TestExit:
    """The far side: decides at once, by target; notes what was asked."""

    __test__ = False

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def stream_opened(self, incoming: Any) -> None:
        self.asked.append(incoming)
        target = incoming.target
        if target.kind == "datagrams":
            receiver = Receiver()
            receiver.association = incoming.accept_association(receiver)
        elif target == REFUSED:
            incoming.refuse(Reason.REFUSED)
        elif target != PENDING:
            incoming.accept({ECHO: Echo, SILENT: Silent, SOURCE: Source}[target]())


class TestSite:
    """Takes strangers: answers every byte string with the same line and closes."""

    __test__ = False

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.transports: list[asyncio.Transport] = []

    def adopt(self, transport: Any, received: bytes) -> None:
        self.received.append(received)
        self.transports.append(transport)
        date = email.utils.formatdate(usegmt=True).encode()
        transport.write(
            b"HTTP/1.1 404 Not Found\r\nDate: " + date + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        transport.close()


class Collect(asyncio.Protocol):
    """A local program: keeps what comes, says when enough came or it is over."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.eof = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.writable = asyncio.Event()
        self.writable.set()
        self._changed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: Any) -> None:
        self.data += data
        self._changed.set()

    def eof_received(self) -> bool:
        self.eof.set()
        return True

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)
        self._changed.set()

    async def until(self, size: int) -> bytes:
        """The first ``size`` bytes, once they are there."""
        while len(self.data) < size and not self.lost.done():
            self._changed.clear()
            await self._changed.wait()
        return bytes(self.data[:size])


class Live:
    """A running bridge and the means to make clients of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = asyncio.get_running_loop()
        self.certificate, self.private_key = make_certificate(folder)
        self.digest = leaf_digest(self.certificate)
        self.key = StaticKey.generate(RNG)
        self.client_key = StaticKey.generate(RNG)
        self.access = AccessList(Access.OPEN)
        self.exit = TestExit()
        self.site = TestSite()
        self.port = 0
        self.seal = False
        self.dialers: list[TunnelDialer] = []
        self.retention = RetentionBudget(256 << 20)

    async def start(self, **settings: Any) -> None:
        """Start the bridge, on the port it had before if it had one."""
        tls = bridge_context(self.certificate, self.private_key)
        arrivals: list[Callable[[], Any]] = []
        self.server = await listen_tcp(self.loop, lambda: arrivals[0](), "127.0.0.1", self.port, tls=tls)
        self.port = self.server.sockets[0].getsockname()[1]
        self.bridge = Bridge(
            self.loop,
            self.settings(**settings),
            self.exit,
            self.site,
        )
        arrivals.append(self.bridge.arrival)

    def settings(self, **settings: Any) -> BridgeSettings:
        """The bridge's, with these changed."""
        return BridgeSettings(
            key=self.key,
            codecs=("websocket", "http", "random"),
            codec_settings=CodecSettings(f"localhost:{self.port}", "/live"),
            bindings=[Binding.certificate(self.digest)],
            seal=self.seal,
            access=self.access,
            retention=self.retention,
            **settings,
        )

    async def stop(self) -> None:
        """Stop the bridge at once."""
        self.server.close()
        await self.bridge.stop(0)
        await self.server.wait_closed()  # a connection that arrived just now is nobody's yet

    def route(self, codec: str = "websocket", port: int = 0, **changes: Any) -> Route:
        """How a client reaches the bridge, through ``port`` if given."""
        fields: dict[str, Any] = {
            "key": self.key.public,
            "host": "127.0.0.1",
            "port": port or self.port,
            "path": "/live",
            "server_name": "localhost",
            "codecs": (codec,),
            "pin": self.digest,
            "seal": self.seal,
            "binding": True,
            "token": b"",
        }
        line = Link(**(fields | changes))
        return Route(line, self.client_key, PythonTls(ClientTrust(pin=line.pin)), line.codecs)

    def dialer(
        self, codec: str = "websocket", carriers: int = 1, port: int = 0, **changes: Any
    ) -> TunnelDialer:
        """A dialer, not started; stopped with the bridge."""
        dialer = TunnelDialer(self.loop, self.route(codec, port, **changes), carriers=carriers)
        self.dialers.append(dialer)
        return dialer

    async def client(self, codec: str = "websocket", **kwargs: Any) -> TunnelDialer:
        """A started dialer."""
        dialer = self.dialer(codec, **kwargs)
        await dialer.start()
        return dialer


@asynccontextmanager
async def live(folder: Path, **settings: Any) -> AsyncIterator[Live]:
    """A bridge for the time of a test; nothing may be left of it afterwards."""
    running = Live(folder)
    running.seal = settings.pop("seal", False)
    running.site = settings.pop("site", running.site)
    await running.start(**settings)
    try:
        yield running
    finally:
        for dialer in running.dialers:
            await dialer.stop()
        await running.stop()
        for transport in running.site.transports:
            transport.abort()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
