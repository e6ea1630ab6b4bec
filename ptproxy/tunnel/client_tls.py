"""How a client's connections greet their bridge: as Python programs do, or as a browser does.

``tls.fingerprint`` chooses. Whichever it is connects to an address, shakes
hands, checks the certificate (:class:`~ptproxy.tunnel.tls.ClientTrust`) and
tells its digest; what the server chose of the protocols offered is asked of the
transport (:func:`speaks_http2`).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol

from ptproxy.codec.interface import Greeting
from ptproxy.errors import AuthenticationError
from ptproxy.tunnel.outward import STRAIGHT, Connects, Outward
from ptproxy.tunnel.tcp import BufferedReads, connect_tcp
from ptproxy.tunnel.tls import ClientTrust, check_leaf, client_context


class ClientTls(Protocol):
    """Makes a client's TLS connections."""

    @property
    def outward(self) -> Outward:
        """How connections leave this machine."""

    @property
    def resumable(self) -> bool:
        """Whether the next connection can resume an earlier one, as a browser's would."""

    async def connect(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: BufferedReads,
        address: tuple[str, int],
        timeout: float,  # noqa: ASYNC109  (a limit of the connect itself, reported as a DialError)
        greeting: Greeting,
        server_name: str,
        outward: Connects | None = None,
    ) -> bytes:
        """Connect ``protocol`` to an IP literal and port; SHA-256 of the certificate shown.

        ``outward`` makes the socket, None: :attr:`outward` does.
        Raises :class:`~ptproxy.errors.DialError` where nothing is reached and
        :class:`~ptproxy.errors.AuthenticationError` where it is not trusted.
        """


class PythonTls:
    """The hello of Python's ``ssl``: HTTP/1.1 only, recognisable."""

    resumable = True

    def __init__(self, trust: ClientTrust, outward: Outward = STRAIGHT) -> None:
        """Raises :class:`~ptproxy.errors.StartError` for unusable files."""
        self.outward = outward
        self._context = client_context(trust)
        self._pin = trust.pin

    async def connect(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: BufferedReads,
        address: tuple[str, int],
        timeout: float,  # noqa: ASYNC109  (a limit of the connect itself, reported as a DialError)
        greeting: Greeting,
        server_name: str,
        outward: Connects | None = None,
    ) -> bytes:
        """See :class:`ClientTls`; the greeting is always the same."""
        del greeting
        try:
            transport = await connect_tcp(
                loop, protocol, *address, timeout,
                tls=self._context, server_hostname=server_name, outward=outward or self.outward,
            )  # fmt: skip
        except ssl.SSLCertVerificationError as error:
            raise AuthenticationError(
                f"the bridge's certificate is not trusted: {error.verify_message}"
            ) from None
        except ssl.SSLError as error:
            why = (error.reason or "handshake failed").lower().replace("_", " ")
            raise AuthenticationError(f"no TLS 1.3 with the bridge: {why}") from None
        try:
            return check_leaf(transport.get_extra_info("ssl_object"), self._pin)
        except AuthenticationError:
            transport.abort()
            raise


class BrowserLikeTls:
    """A browser's hellos: of a page, and of a WebSocket that resumes what the page left."""

    def __init__(self, fingerprint: str, trust: ClientTrust, outward: Outward = STRAIGHT) -> None:
        """``fingerprint``: ``chrome`` or ``firefox``.

        Raises :class:`~ptproxy.errors.StartError` where the library is missing
        or fails its check, and for unusable files.
        """
        from ptproxy.tunnel.boring.browser_tls import HELLOS  # noqa: PLC0415  (a library of megabytes)
        from ptproxy.tunnel.boring.curl_tls import chosen_browser_tls  # noqa: PLC0415

        self._tls = chosen_browser_tls()
        self._tls.outward = self.outward = outward
        self._tls.trust(trust)
        self._trust = trust
        self._hellos = HELLOS[fingerprint]
        self._over_http2 = True

    @property
    def resumable(self) -> bool:
        """Whether a ticket is left."""
        return self._tls.resumable

    async def connect(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: BufferedReads,
        address: tuple[str, int],
        timeout: float,  # noqa: ASYNC109  (as above)
        greeting: Greeting,
        server_name: str,
        outward: Connects | None = None,
    ) -> bytes:
        """See :class:`ClientTls`."""
        hello = self._hellos[greeting]
        if hello.browser == "firefox" and not self._over_http2:
            hello = self._hellos["page"]  # it offers HTTP/2 for a WebSocket, too, until it knows better
        transport, digest = await self._tls.connect(
            loop, protocol, address, timeout, hello, server_name, self._trust, outward
        )
        if greeting == "visit":
            self._over_http2 = speaks_http2(transport)
        return digest


def speaks_http2(transport: asyncio.BaseTransport) -> bool:
    """Whether the server chose HTTP/2 on a connection."""
    tls = transport.get_extra_info("ssl_object")
    return tls is not None and tls.selected_alpn_protocol() == "h2"
