"""The client's way to a WebTunnel bridge: a TLS connection for each of tor's, upgraded, then tor's bytes."""

from __future__ import annotations

import asyncio
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import AuthenticationError, CodecError, DialError, Reason
from ptproxy.log import get_logger
from ptproxy.pt.lines import make_tls
from ptproxy.pt.upgrade import UpgradeAnswer, upgrade_request
from ptproxy.pt.webtunnel_line import WebTunnelLine, parse_webtunnel
from ptproxy.target import Target
from ptproxy.tunnel.client_tls import ClientTls
from ptproxy.tunnel.connect import bridge_addresses
from ptproxy.tunnel.outward import Outward
from ptproxy.tunnel.stream import Stream
from ptproxy.tunnel.tcp import BufferedReads
from ptproxy.tunnel.tls import ClientTrust

TIMEOUT: Final = 20.0
"""Seconds for one address: TCP, TLS and the upgrade."""

log = get_logger(__name__)


class WebTunnelWay:
    """How WebTunnel's bridges are reached (see :class:`~ptproxy.pt.tor_client.Way`)."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, outward: Outward, trust: ClientTrust | None = None
    ) -> None:
        """``trust``: the system's authorities unless another is given."""
        self._loop = loop
        self._outward = outward
        self._trust = trust if trust is not None else ClientTrust()
        self._tls: dict[str, ClientTls] = {}

    def check(self, arguments: dict[str, str]) -> None:
        """See :class:`~ptproxy.pt.tor_client.Way`."""
        parse_webtunnel(arguments)

    async def dial(
        self, arguments: dict[str, str], bridge: Target, protocol: asyncio.Protocol, first_data: bytes
    ) -> Stream:
        """See :class:`~ptproxy.pt.tor_client.Way`; the bridge line's own address means nothing."""
        del bridge
        line = parse_webtunnel(arguments)
        if line.fingerprint not in self._tls:
            self._tls[line.fingerprint] = make_tls(line.fingerprint, self._trust, self._outward)
        tls = self._tls[line.fingerprint]
        names_go_along = self._outward.names_go_along
        hosts = [line.host] if names_go_along else await bridge_addresses(self._loop, line.host, line.port)
        failure = DialError(Reason.NAME_NOT_FOUND)
        for host in hosts:
            try:
                return await self._upgraded(tls, line, host, protocol, first_data)
            except DialError as error:
                failure = error
            except (AuthenticationError, CodecError) as error:
                log.warning("the bridge is not reached", why=str(error))
                raise DialError(Reason.GENERAL, str(error)) from None
        raise failure

    async def _upgraded(
        self, tls: ClientTls, line: WebTunnelLine, host: str, protocol: asyncio.Protocol, first_data: bytes
    ) -> Stream:
        upgrading = _Upgrading(self._loop)
        await tls.connect(self._loop, upgrading, (host, line.port), TIMEOUT, "websocket", line.server_name)
        transport = upgrading.transport
        try:
            transport.write(upgrade_request(line))
            async with asyncio.timeout(TIMEOUT):
                await upgrading.done
        except BaseException as error:
            transport.abort()
            if isinstance(error, TimeoutError):
                raise DialError(Reason.TIMED_OUT) from None
            raise
        if transport.is_closing():  # lost in the very moment in which it was upgraded
            raise DialError(Reason.CONNECTION_LOST)
        upgrading.inner = protocol
        protocol.connection_made(transport)
        if first_data:
            transport.write(first_data)
        self._loop.call_soon(upgrading.go_on)
        return transport


class _Upgrading(BufferedReads):
    """The connection until it is upgraded; then it passes everything on to the stream's protocol.

    It stays on the transport, because that of a browser's TLS fills buffers and
    a stream's protocol has none.
    """

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self.inner: asyncio.Protocol | None = None
        self._answer = UpgradeAnswer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # BaseTransport only by its annotation

    def go_on(self) -> None:
        """The stream's protocol is there: deliver what came behind the answer, and read on."""
        if self.inner is not None and not self.transport.is_closing():
            self.transport.resume_reading()  # first: tor, behind with the rest, pauses it again
            if self._answer.rest:
                self.inner.data_received(self._answer.rest)

    def data_received(self, data: Buffer) -> None:
        if self.inner is not None:
            self.inner.data_received(data)  # type: ignore[arg-type]  # a view, as tunnel.stream has it
            return
        if self.done.done():
            self._answer.rest += bytes(data)
            return
        try:
            if self._answer.receive_data(data):
                self.transport.pause_reading()  # what comes now is the stream's
                self.done.set_result(None)
        except CodecError as error:
            self.done.set_exception(error)

    def eof_received(self) -> bool | None:
        return None if self.inner is None else self.inner.eof_received()

    def pause_writing(self) -> None:
        if self.inner is not None:
            self.inner.pause_writing()

    def resume_writing(self) -> None:
        if self.inner is not None:
            self.inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.inner is not None:
            self.inner.connection_lost(exc)
        elif not self.done.done():
            self.done.set_exception(DialError(Reason.CONNECTION_LOST, "the web server closed the connection"))
            self.done.exception()  # whoever waited may have given up
