"""TLS 1.3 with a browser's ClientHello: connections of BoringSSL's as asyncio transports.

One :class:`BrowserTls` serves a process: it found the library's functions,
proved on a socket pair that they do what they should
(:mod:`ptproxy.tunnel.boring.check`), holds the authorities that are trusted,
and keeps session tickets, so that what follows a page load resumes it as a
browser would.

The stream is raw whatever protocol the peer chose: where ALPN says ``h2``,
the caller speaks HTTP/2 from its first byte, preface included.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Hashable
from typing import Final

from ptproxy.errors import AuthenticationError, DialError, StartError
from ptproxy.tunnel.boring.boringssl import VERIFY_NONE, VERIFY_PEER, BoringSSL, load
from ptproxy.tunnel.boring.connection import TlsConnection, TlsStream, Want
from ptproxy.tunnel.boring.hello import (
    CHROME_PAGE,
    CHROME_VISIT,
    CHROME_WEBSOCKET,
    FIREFOX,
    FIREFOX_VISIT,
    FIREFOX_WEBSOCKET,
    Hello,
    HelloMaker,
    Ssl,
)
from ptproxy.tunnel.boring.tickets import Tickets
from ptproxy.tunnel.boring.transport import BrowserTransport
from ptproxy.tunnel.outward import STRAIGHT, Connects
from ptproxy.tunnel.polling import polled
from ptproxy.tunnel.tcp import reason_of
from ptproxy.tunnel.tls import ClientTrust, check_leaf

HELLOS: Final[dict[str, dict[str, Hello]]] = {
    "chrome": {"visit": CHROME_VISIT, "page": CHROME_PAGE, "websocket": CHROME_WEBSOCKET},
    "firefox": {"visit": FIREFOX_VISIT, "page": FIREFOX, "websocket": FIREFOX_WEBSOCKET},
}
"""By ``tls.fingerprint`` and by use."""


class BrowserTls:
    """What all of a process's connections with a browser's hello share.

    Raises :class:`~ptproxy.errors.StartError` where the library is missing;
    used from one thread.
    """

    def __init__(self, library: BoringSSL | None = None) -> None:
        self.library = load() if library is None else library
        self._maker = HelloMaker(self.library)
        self._stores: dict[ClientTrust, int] = {}
        self.tickets = Tickets(self.library.SSL_SESSION_free)
        self.outward = STRAIGHT

    @property
    def resumable(self) -> bool:
        """Whether a ticket is left."""
        return len(self.tickets) > 0

    def trust(self, trust: ClientTrust) -> None:
        """Load the authorities of ``trust``; :class:`~ptproxy.errors.StartError` for an unusable file.

        Connections do it themselves the first time; at the start a person is told.
        """
        if trust.certificate is not None:
            raise StartError(
                "tls.client_certificate: only with tls.fingerprint: python (browsers seldom have one)"
            )
        if trust.pin is None and trust not in self._stores:
            self._stores[trust] = _certificate_store(self.library, trust)

    def prepare(self, hello: Hello, server_name: str, trust: ClientTrust, peer: tuple[str, int]) -> Ssl:
        """An SSL object that will greet ``server_name``, with the latest ticket of ``peer`` if any."""
        self.trust(trust)
        library = self.library
        key = (hello.browser, peer, server_name, trust)
        made = self._maker.make(hello, server_name, lambda session: self._keep(key, session))
        pointer = made.pointer
        if trust.pin is not None:
            library.SSL_set_verify(pointer, VERIFY_NONE, None)  # check_leaf does it
        else:
            library.SSL_set_verify(pointer, VERIFY_PEER, None)
            library.SSL_set1_verify_cert_store(pointer, self._stores[trust])
            if not _expect_name(library, pointer, server_name):
                made.close()
                raise AuthenticationError("the bridge's name is not one that a certificate can hold")
        library.SSL_set_quiet_shutdown(pointer, int(not hello.close_notify))
        session = self.tickets.take(key) if hello.resumes else None
        if session is not None:
            library.SSL_set_session(pointer, session)
            library.SSL_set_options(pointer, hello.options_when_resuming)
            library.SSL_SESSION_free(session)
        return made

    async def connect(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BufferedProtocol,
        address: tuple[str, int],
        timeout: float,  # noqa: ASYNC109  (a limit of the connect itself, reported as a DialError)
        hello: Hello,
        server_name: str,
        trust: ClientTrust,
        outward: Connects | None = None,
    ) -> tuple[BrowserTransport, bytes]:
        """Connect to an IP literal and port within ``timeout`` seconds; the transport and the leaf's SHA-256.

        Raises :class:`~ptproxy.errors.DialError` where nothing is reached, and
        :class:`~ptproxy.errors.AuthenticationError` where what is reached is
        not trusted, shows another certificate than the pinned one, or does not
        speak TLS 1.3. Whoever is cancelled leaves nothing behind.
        """
        # Prepared first, so that the hello follows the connect at once.
        made = self.prepare(hello, server_name, trust, address)

        def begin(sock: socket.socket) -> TlsConnection:
            return TlsConnection(self.library, made, sock)

        try:
            return await open_transport(
                loop, protocol, address, timeout, begin, trust.pin, outward or self.outward
            )
        except BaseException:
            made.close()
            raise

    def close(self) -> None:
        """Free tickets and authorities; open connections keep what they need."""
        self.tickets.forget()
        for store in self._stores.values():
            self.library.X509_STORE_free(store)
        self._stores.clear()

    def _keep(self, key: Hashable, session: int) -> bool:
        self.tickets.put(key, session)
        return True


async def open_transport(
    loop: asyncio.AbstractEventLoop,
    protocol: asyncio.BufferedProtocol,
    address: tuple[str, int],
    timeout: float,  # noqa: ASYNC109  (as above)
    begin: Callable[[socket.socket], TlsStream],
    pin: bytes | None,
    outward: Connects,
) -> tuple[BrowserTransport, bytes]:
    """Connect, shake hands and check the leaf; see :meth:`BrowserTls.connect`."""
    connection: TlsStream | None = None
    try:
        async with asyncio.timeout(timeout):
            connection = begin(await outward.connect(loop, address))
            await _shake_hands(loop, connection)
        digest = check_leaf(connection, pin)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, OSError):  # TimeoutError is one
            raise DialError(reason_of(error)) from error
        raise
    transport = BrowserTransport(loop, polled(loop), connection, protocol)
    transport.start()
    return transport, digest


async def _shake_hands(loop: asyncio.AbstractEventLoop, connection: TlsStream) -> None:
    """Drive the handshake to its end."""
    watched, descriptor = polled(loop), connection.sock.fileno()
    while (want := connection.handshake()) is not Want.NOTHING:
        ready: asyncio.Future[None] = loop.create_future()
        if want is Want.READ:
            watched.add_reader(descriptor, _done, ready)
        else:
            loop.add_writer(descriptor, _done, ready)
        try:
            await ready
        finally:
            if want is Want.READ:
                watched.remove_reader(descriptor)
            else:
                loop.remove_writer(descriptor)


def _done(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _expect_name(library: BoringSSL, pointer: int, server_name: str) -> bool:
    """Have the certificate's name checked with its chain (BoringSSL's ``SSL_get0_param``)."""
    parameters = library.SSL_get0_param(pointer)
    name = server_name.encode("ascii", "replace")
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(server_name)
        return bool(library.X509_VERIFY_PARAM_set1_ip_asc(parameters, name))
    return bool(library.X509_VERIFY_PARAM_set1_host(parameters, name, len(name)))


def _certificate_store(library: BoringSSL, trust: ClientTrust) -> int:
    """The authorities of a file, or those that Python's ``ssl`` takes for the system's."""
    store: int = library.X509_STORE_new()
    if trust.authorities is not None:
        if not library.X509_STORE_load_locations(store, os.fsencode(trust.authorities), None):
            library.ERR_clear_error()
            library.X509_STORE_free(store)
            raise StartError(f"tls.trust: cannot read authorities from {trust.authorities}")
        return store
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    for der in context.get_ca_certs(binary_form=True):
        _add_certificate(library, store, der)
    folder = ssl.get_default_verify_paths().capath
    if folder is not None:  # one file for each authority, looked up by name when it is needed
        library.X509_STORE_load_locations(store, None, os.fsencode(folder))
    library.ERR_clear_error()
    return store


def _add_certificate(library: BoringSSL, store: int, der: bytes) -> None:
    """One more authority (one that BoringSSL cannot read is left out, as OpenSSL does)."""
    held = ctypes.create_string_buffer(der, len(der))
    place = ctypes.c_void_p(ctypes.addressof(held))
    certificate = library.d2i_X509(None, ctypes.byref(place), len(der))
    if certificate:
        library.X509_STORE_add_cert(store, certificate)
        library.X509_free(certificate)
