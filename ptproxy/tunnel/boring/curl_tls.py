"""The fall-back where BoringSSL's functions cannot be found: curl's raw stream, by its public interface.

``CURLOPT_CONNECT_ONLY`` with ``curl_easy_recv`` and ``curl_easy_send``, over a
socket of ours. What is less than in :mod:`ptproxy.tunnel.boring.browser_tls`:

- Where the peer chooses HTTP/2, curl puts its own HTTP/2 in between: such a
  connection is refused (``Reason.UNSUPPORTED``). The WebSocket hello, which
  offers HTTP/1.1 only, always works.
- Tickets are spent in curl's way (the latest first, as often as it likes), and
  Firefox's last ones lack its farewell and its resumed hello.
- A resumed connection shows no certificate: the one of the connection that the
  ticket is from is remembered.

The negotiated version is read from curl's information texts (``CURLINFO_TEXT``,
``SSL connection using TLSv1.3 / …``), the leaf from ``CURLINFO_CERTINFO``; other
kinds of text, which would hold data, are not looked at.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import socket
import ssl
from collections.abc import Hashable
from typing import Any, Final, Literal

from ptproxy.buffer import Buffer
from ptproxy.errors import AuthenticationError, DialError, Reason, StartError
from ptproxy.tunnel.boring.boringssl import library_path
from ptproxy.tunnel.boring.browser_tls import BrowserTls, open_transport
from ptproxy.tunnel.boring.check import proven_browser_tls
from ptproxy.tunnel.boring.connection import Want, address_of
from ptproxy.tunnel.boring.hello import Hello, url_of
from ptproxy.tunnel.boring.transport import BrowserTransport
from ptproxy.tunnel.outward import STRAIGHT, Connects
from ptproxy.tunnel.tls import ClientTrust, client_context

_P = ctypes.c_void_p
_I = ctypes.c_int

_AGAIN: Final = 81
"""``CURLE_AGAIN``."""
_PEER_FAILED_VERIFICATION: Final = 60
_BROKEN: Final = ("Recv failure", "Send failure", "SSL_ERROR_SYSCALL", "unexpected eof")
"""What curl says of a connection that broke, and not of one that is no TLS."""

# curl/curl.h: CURLOPT_*, CURLINFO_*
_NUMBERS: Final = {
    "VERBOSE": 41,
    "SSL_VERIFYPEER": 64,
    "SSL_VERIFYHOST": 81,
    "NOSIGNAL": 99,
    "CONNECT_ONLY": 141,
    "CERTINFO": 172,
}
_URL, _PROXY, _ERRORBUFFER, _CAINFO, _CAPATH, _SHARE = 10002, 10004, 10010, 10065, 10097, 10100
_RESOLVE, _DEBUGFUNCTION, _SOCKOPTFUNCTION, _OPENSOCKETFUNCTION = 10203, 20094, 20148, 20163
_INFO_CERTINFO: Final = 0x400000 + 34
_SHARE_TICKETS: Final = (1, 4)
"""``CURLSHOPT_SHARE``, ``CURL_LOCK_DATA_SSL_SESSION``."""

_OPEN_SOCKET = ctypes.PYFUNCTYPE(_I, _P, _I, _P)
_SOCKET_OPTIONS = ctypes.PYFUNCTYPE(_I, _P, _I, _I)
_DEBUG = ctypes.PYFUNCTYPE(_I, _P, _I, _P, ctypes.c_size_t, _P)


_EXPORTED: Final[dict[str, tuple[Any, ...]]] = {
    "curl_easy_cleanup": (None, _P),
    "curl_easy_getinfo": (_I, _P, _I),
    "curl_easy_impersonate": (_I, _P, ctypes.c_char_p, _I),
    "curl_easy_init": (_P,),
    "curl_easy_recv": (_I, _P, _P, ctypes.c_size_t, _P),
    "curl_easy_send": (_I, _P, _P, ctypes.c_size_t, _P),
    "curl_easy_setopt": (_I, _P, _I),
    "curl_multi_add_handle": (_I, _P, _P),
    "curl_multi_cleanup": (_I, _P),
    "curl_multi_info_read": (_P, _P, _P),
    "curl_multi_init": (_P,),
    "curl_multi_perform": (_I, _P, _P),
    "curl_multi_remove_handle": (_I, _P, _P),
    "curl_share_cleanup": (_I, _P),
    "curl_share_init": (_P,),
    "curl_share_setopt": (_I, _P, _I),
    "curl_slist_append": (_P, _P, ctypes.c_char_p),
    "curl_slist_free_all": (None, _P),
}
"""Result and (of those that take any number: the fixed) arguments."""


class _Message(ctypes.Structure):
    """``struct CURLMsg``."""

    _fields_ = (("kind", _I), ("easy", _P), ("result", _I))


class _List(ctypes.Structure):
    """``struct curl_slist``."""

    _fields_ = (("data", ctypes.c_char_p), ("next", _P))


class _Certificates(ctypes.Structure):
    """``struct curl_certinfo``."""

    _fields_ = (("count", _I), ("lists", ctypes.POINTER(_P)))


def chosen_browser_tls() -> BrowserTls | CurlTls:
    """What serves best here: BoringSSL itself where its functions prove good, curl's raw stream otherwise.

    Raises :class:`~ptproxy.errors.StartError` where there is neither.
    """
    library_path()  # without curl_cffi there is nothing to fall back to
    try:
        return proven_browser_tls()
    except StartError as error:
        return CurlTls(str(error))


class CurlTls:
    """As :class:`~.browser_tls.BrowserTls`, with less; ``reason`` says why it is this one."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self.library = _curl()
        self.outward = STRAIGHT
        self._shares: dict[Hashable, int] = {}
        self._leaves: dict[Hashable, bytes] = {}

    @property
    def resumable(self) -> bool:
        """Whether there has been a connection; how many tickets are left only curl knows."""
        return bool(self._leaves)

    def trust(self, trust: ClientTrust) -> None:
        """See that the authorities can be read; :class:`~ptproxy.errors.StartError` where not."""
        if trust.certificate is not None:
            raise StartError("tls.client_certificate: only with tls.fingerprint: python")
        client_context(trust)

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
        """As :meth:`BrowserTls.connect <ptproxy.tunnel.boring.browser_tls.BrowserTls.connect>`."""
        self.trust(trust)
        key = (hello.browser, address, server_name, trust)
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = self.library.curl_share_init()
            self.library.curl_share_setopt(share, _SHARE_TICKETS[0], _I(_SHARE_TICKETS[1]))

        def begin(sock: socket.socket) -> CurlConnection:
            return CurlConnection(self, sock, hello, server_name, trust, key)

        return await open_transport(
            loop, protocol, address, timeout, begin, trust.pin, outward or self.outward
        )

    def close(self) -> None:
        """Free the tickets that no open connection holds any more."""
        for key, share in list(self._shares.items()):
            if self.library.curl_share_cleanup(share) == 0:
                del self._shares[key]


class CurlConnection:
    """The raw stream of one curl handle; the interface is that of ``TlsConnection``."""

    def __init__(
        self,
        owner: CurlTls,
        sock: socket.socket,
        hello: Hello,
        server_name: str,
        trust: ClientTrust,
        key: Hashable,
    ) -> None:
        self.sock = sock
        self.ended = False
        self.failure: OSError | None = None
        self._owner, self._key = owner, key
        self._library = library = owner.library
        self._texts: list[str] = []
        self._error = ctypes.create_string_buffer(256)
        self._count = ctypes.c_size_t()
        self._callbacks = (
            _OPEN_SOCKET(lambda *_: os.dup(sock.fileno())),  # curl closes its own
            _SOCKET_OPTIONS(lambda *_: 2),  # CURL_SOCKOPT_ALREADY_CONNECTED
            _DEBUG(self._note),
        )
        self._names = library.curl_slist_append(None, f"{server_name}:443:127.0.0.1".encode())
        self._easy, self._multi = library.curl_easy_init(), library.curl_multi_init()
        try:
            self._set_up(hello, server_name, trust)
            library.curl_multi_add_handle(self._multi, self._easy)
        except BaseException:
            self.close()
            raise

    def _set_up(self, hello: Hello, server_name: str, trust: ClientTrust) -> None:
        library, easy = self._library, self._easy
        if library.curl_easy_impersonate(easy, hello.target.encode(), 0):
            raise StartError(f"tls.fingerprint: this curl_cffi does not know {hello.target}; update it")
        checked = trust.pin is None
        numbers = dict.fromkeys(_NUMBERS, 1) | {"SSL_VERIFYPEER": int(checked), "SSL_VERIFYHOST": 2 * checked}
        options: list[tuple[int, Any]] = [
            (_NUMBERS[name], ctypes.c_long(value)) for name, value in numbers.items()
        ]
        options += [
            (_URL, url_of(hello, server_name)),
            (_PROXY, b""),  # and so none of the environment's
            (_ERRORBUFFER, self._error),
            (_SHARE, _P(self._owner._shares[self._key])),
            (_RESOLVE, _P(self._names)),
            (_OPENSOCKETFUNCTION, self._callbacks[0]),
            (_SOCKOPTFUNCTION, self._callbacks[1]),
            (_DEBUGFUNCTION, self._callbacks[2]),
        ]
        if checked:
            system = ssl.get_default_verify_paths()
            file = trust.authorities or system.cafile
            folder = None if trust.authorities else system.capath
            options.append((_CAINFO, None if file is None else os.fsencode(file)))
            options.append((_CAPATH, None if folder is None else os.fsencode(folder)))
        for option, value in options:
            if library.curl_easy_setopt(easy, option, value):
                raise StartError(f"tls.fingerprint: curl refuses option {option}")

    def _note(self, easy: int, kind: int, data: int, size: int, userdata: int) -> int:
        """``CURLOPT_DEBUGFUNCTION``: only texts; all other kinds are data."""
        del easy, userdata
        if kind == 0:
            self._texts.append(ctypes.string_at(data, size).decode("utf-8", "replace"))
        return 0

    def handshake(self) -> Want:
        """As ``TlsConnection.handshake``; also :class:`~ptproxy.errors.DialError` for HTTP/2."""
        number = _I()
        self._library.curl_multi_perform(self._multi, ctypes.byref(number))
        message = self._library.curl_multi_info_read(self._multi, ctypes.byref(number))
        if not message:
            return Want.READ
        code, text = _Message.from_address(message).result, self._error.value.decode("utf-8", "replace")
        if code == _PEER_FAILED_VERIFICATION:
            raise AuthenticationError(f"the bridge's certificate is not trusted: {text}")
        if code and any(sign in text for sign in _BROKEN):
            raise DialError(Reason.CONNECTION_LOST, "the bridge broke the TLS handshake off")
        if code:
            raise AuthenticationError(f"no TLS 1.3 with the bridge: {text}")
        if self.selected_alpn_protocol() == "h2":
            raise DialError(Reason.UNSUPPORTED, "HTTP/2 with this fingerprint needs another curl_cffi")
        return Want.NOTHING

    def read_into(self, address: int, room: int) -> int:
        """As ``TlsConnection.read_into``."""
        receive, total = self._library.curl_easy_recv, 0
        while total < room:
            code = receive(self._easy, address + total, room - total, ctypes.byref(self._count))
            if code or not self._count.value:
                self.ended = self.ended or not code
                self._stopped(code)
                break
            total += self._count.value
        return total

    def write(self, data: Buffer, start: int = 0) -> int:
        """As ``TlsConnection.write``."""
        send, address, total, size = (
            self._library.curl_easy_send,
            address_of(data) + start,
            0,
            len(data) - start,
        )
        while total < size:
            code = send(self._easy, address + total, size - total, ctypes.byref(self._count))
            if code:
                self._stopped(code)
                break
            total += self._count.value
        return total

    def _stopped(self, code: int) -> None:
        if code not in (0, _AGAIN):
            self.failure = ConnectionResetError("the connection is broken")

    def say_goodbye(self) -> bool:
        """FIN alone, as Chromium does it."""
        return True

    def close(self) -> None:
        """Free curl's handles and close the socket; harmless when repeated."""
        easy, self._easy = self._easy, 0
        if easy:
            self._library.curl_multi_remove_handle(self._multi, easy)
            self._library.curl_easy_cleanup(easy)
            self._library.curl_multi_cleanup(self._multi)
            self._library.curl_slist_free_all(self._names)
        self.sock.close()

    def __del__(self) -> None:
        self.close()

    def getpeercert(self, binary_form: Literal[True] = True) -> bytes | None:
        """The leaf (DER); of a resumed connection, that of the one before."""
        del binary_form
        info = _P()
        if not self._easy or self._library.curl_easy_getinfo(self._easy, _INFO_CERTINFO, ctypes.byref(info)):
            return None
        shown = _Certificates.from_address(info.value or 0) if info.value else None
        entry = shown.lists[0] if shown is not None and shown.count else None
        while entry:
            line = _List.from_address(entry)
            if line.data.startswith(b"Cert:"):
                self._owner._leaves[self._key] = ssl.PEM_cert_to_DER_cert(line.data[5:].decode("ascii"))
                break
            entry = line.next
        return self._owner._leaves.get(self._key)

    def version(self) -> str | None:
        """As curl tells it."""
        return self._told(r"SSL connection using (\S+) / ")

    def selected_alpn_protocol(self) -> str | None:
        """As curl tells it."""
        return self._told(r"ALPN: server accepted (\S+)")

    def cipher(self) -> tuple[str, str, int] | None:
        """Name of the cipher suite, protocol version, bits of the key."""
        name = self._told(r"SSL connection using \S+ / (\S+)")
        return None if name is None else (name, self.version() or "", 128 if "_128_" in name else 256)

    def resumed(self) -> bool:
        """Whether a ticket was offered and taken: then the peer showed no certificate."""
        info = _P()
        self._library.curl_easy_getinfo(self._easy, _INFO_CERTINFO, ctypes.byref(info))
        return bool(info.value) and not _Certificates.from_address(info.value or 0).count

    def _told(self, pattern: str) -> str | None:
        found = [match for text in self._texts if (match := re.search(pattern, text))]
        return found[-1][1] if found else None


def _curl() -> Any:
    """curl's exported functions."""
    library = ctypes.PyDLL(str(library_path()))
    for name, (result, *arguments) in _EXPORTED.items():
        function = getattr(library, name, None)
        if function is None:
            raise StartError(f"tls.fingerprint: this curl_cffi lacks {name}")
        function.restype, function.argtypes = result, arguments
    return library
