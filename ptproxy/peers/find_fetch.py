"""A small text from an HTTPS address, through a tunnel: TLS, and one request of HTTP/1.0, on one stream.

HTTP/1.0, so that an answer is its bytes until the end (RFC 1945 section 7.2.2). What it says is signed;
TLS only keeps who reads along from seeing what is read.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, PtproxyError
from ptproxy.target import Target, TargetError
from ptproxy.tunnel.stream import Dialer

WAIT: Final = 60.0
"""Seconds for the whole."""
MAX_HEAD: Final = 32 << 10
"""Bytes of an answer's head."""


class FetchError(PtproxyError):
    """An address that does not answer, or with something else than a text."""


async def fetch(url: str, dialer: Dialer, most: int, context: ssl.SSLContext | None = None) -> str:
    """The text at ``url``, at most ``most`` bytes; raises :class:`FetchError`, :class:`DialError`.

    ``context``: whom to trust; the system's authorities by default.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        target = Target.address(host, port)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        asked = (
            f"GET {path} HTTP/1.0\r\nHost: {parts.netloc.rpartition('@')[2]}\r\nAccept: text/plain\r\n\r\n"
        )
        request = asked.encode("ascii")
    except (ValueError, TargetError):
        raise FetchError("the address cannot be read") from None
    if parts.scheme != "https":
        raise FetchError("the address is not https")
    reading = _Reading(context or ssl.create_default_context(), host, request, MAX_HEAD + most)
    stream = await dialer.dial(target, reading)
    try:
        async with asyncio.timeout(WAIT):
            answer = await reading.answer
    except TimeoutError:
        raise FetchError("the address does not answer in time") from None
    finally:
        stream.abort()
    return _text(answer, most)


def _text(answer: bytes, most: int) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")
    if len(head) > MAX_HEAD or len(status) < 2 or not status[0].startswith(b"HTTP/1."):
        raise FetchError("what answers at the address is no web server")
    if status[1] != b"200":
        raise FetchError(f"the address answers {status[1][:3].decode('ascii', 'replace')}, not 200")
    if len(body) > most:
        raise FetchError("the text at the address is too long")
    return body.decode("utf-8", "replace")


class _Reading(asyncio.Protocol):
    """TLS on a stream until its end."""

    def __init__(self, context: ssl.SSLContext, host: str, request: bytes, most: int) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._request = request
        self._most = most
        self._said = bytearray()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self._go_on()

    def data_received(self, data: Buffer) -> None:
        """Go on."""
        self._incoming.write(bytes(data))
        self._go_on()

    def eof_received(self) -> bool:
        """The end, however TLS was ended: a signature tells whether it is all."""
        self._incoming.write_eof()
        self._go_on()
        self._done()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        if isinstance(exc, DialError):
            self._fail(exc)
        self._done()

    def _go_on(self) -> None:
        try:
            if self._request:
                self._tls.do_handshake()
                self._tls.write(self._request)
                self._request = b""
            while data := self._tls.read(1 << 16):
                self._said += data
                if len(self._said) > self._most:
                    self._fail(FetchError("the text at the address is too long"))
                    return
            self._done()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLEOFError:
            if self._request:
                self._fail(FetchError("the address ends the connection before it has said anything"))
        except ssl.SSLError as error:
            self._fail(FetchError(f"the address is not to be trusted: {error.reason or 'TLS failed'}"))
        finally:
            if self._outgoing.pending:
                self._transport.write(self._outgoing.read())

    def _done(self) -> None:
        if not self.answer.done():
            self.answer.set_result(bytes(self._said))

    def _fail(self, error: PtproxyError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()
