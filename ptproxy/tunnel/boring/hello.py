"""SSL objects that are set up to say a browser's ClientHello: curl makes them, and is asked nothing else.

curl_cffi knows how BoringSSL must be set up to greet as Chrome or Firefox do.
So curl starts a connection here, over a socket pair that nobody serves, and as
soon as it has set up its SSL object and begins the handshake
(``SSL_CB_HANDSHAKE_START``), the object is taken from it: ``SSL_clear`` forgets
that handshake and keeps every setting, and the connection that is meant is then
BoringSSL's and ours alone. Nothing is resolved, connected, verified or logged
by curl, no proxy of the environment is looked at, and its HTTP/2, which would
send records of its own, never gets a turn.

curl stays the owner of the memory: an :class:`Ssl` keeps curl's handles until
:meth:`Ssl.close`, which frees all of it in the order that it needs. It costs
0.4 ms to make one.

Hellos (JA4, first connection; resumed ones add pre_shared_key): Chrome page
``t13d1516h2_8daaf6152771_806a8c22fdea``, Chrome WebSocket
``t13d1515h1_8daaf6152771_e4c2b8c727f2``, Firefox
``t13d1617h2_86a278354501_3cbfd9057e0d`` (resumed ``t13d1617h2_86a278354501_e6dcd7ae0a9e``).
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ptproxy.errors import StartError
from ptproxy.tunnel.boring.boringssl import (
    HANDSHAKE_START,
    INFO_CALLBACK,
    NEW_SESSION_CALLBACK,
    NO_TICKET,
    SESSIONS_OURS,
    WRITE_MODE,
    BoringSSL,
)

if TYPE_CHECKING:
    from ctypes import _CFunctionType as CFuncPtr

# curl/curl.h, CURLOPT_*
_URL: Final = 10002
_PROXY: Final = 10004
_SSL_VERIFYPEER: Final = 64
_SSL_VERIFYHOST: Final = 81
_SSL_CIPHER_LIST: Final = 10083
_NOSIGNAL: Final = 99
_SSL_CTX_FUNCTION: Final = 20108
_CONNECT_ONLY: Final = 141
_SOCKOPTFUNCTION: Final = 20148
_OPENSOCKETFUNCTION: Final = 20163
_RESOLVE: Final = 10203

_ALREADY_CONNECTED: Final = 2
"""``CURL_SOCKOPT_ALREADY_CONNECTED``."""
_TURNS: Final = 16
"""Goes of curl until it has begun the handshake; one is what it takes."""

_OPEN_SOCKET = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_SOCKET_OPTIONS = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
_CONTEXT_MADE = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Hello:
    """One kind of ClientHello: of which browser, for what."""

    browser: str
    """Whose: tickets are kept apart by it."""
    target: str
    """What curl_cffi calls this browser."""
    scheme: str
    """``https`` offers what a page does, ``wss`` only http/1.1 and no application settings."""
    close_notify: bool
    """Whether this browser says goodbye in TLS: Chromium 156 sends FIN alone (seen over HTTP/1.1 and HTTP/2,
    whoever closes first), Firefox a close_notify before it (NSS: ``ssl_SecureClose``)."""
    ciphers: str = ""
    """TLS 1.2 cipher suites, where curl_cffi's are not the browser's (IANA names, colons between)."""
    greases_schemes: bool = False
    """Whether a value of GREASE (RFC 8701) stands before the signature schemes. JA4 leaves it out; a
    censor need not. Chromium 156 has it always (840 of 840 recorded 2026-11)."""
    options_when_resuming: int = 0
    """``SSL_OP_*`` set where a ticket is offered."""
    resumes: bool = True
    """Whether a ticket is offered."""


CHROME_PAGE: Final = Hello("chrome", "chrome150", "https", close_notify=False, greases_schemes=True)
CHROME_VISIT: Final = replace(CHROME_PAGE, resumes=False)
"""The first connection of a browser that was just started: what was cached is on disk, tickets are not.
A browser that runs would use the connection it has rather than open a second one."""
CHROME_WEBSOCKET: Final = replace(CHROME_PAGE, scheme="wss")
FIREFOX: Final = Hello(
    "firefox",
    "firefox147",
    "https",
    close_notify=True,
    # curl_cffi's firefox147 without ECDHE_ECDSA_WITH_AES_128_CBC_SHA, which Firefox 153 no longer offers
    ciphers="TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:"
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
    "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES256-SHA:AES128-GCM-SHA256:"
    "AES256-GCM-SHA384:AES128-SHA:AES256-SHA",
    options_when_resuming=NO_TICKET,  # NSS offers no TLS 1.2 ticket beside a TLS 1.3 one
)
"""What Firefox offers for pages, and for WebSockets of a site that is not known to speak HTTP/2."""
FIREFOX_VISIT: Final = replace(FIREFOX, resumes=False)
"""As :data:`CHROME_VISIT`."""
FIREFOX_WEBSOCKET: Final = replace(FIREFOX, scheme="wss")
"""For a WebSocket of a site that speaks HTTP/2 but takes no WebSockets over it: only http/1.1 is offered
(recorded 2026-11, Firefox 153)."""


class Ssl:
    """One SSL object, set up and not yet connected; ``pointer`` is BoringSSL's ``SSL *``."""

    __slots__ = ("_easy", "_forget", "_library", "_multi", "pointer")

    def __init__(
        self, library: BoringSSL, pointer: int, easy: int, multi: int, forget: Callable[[int], object]
    ) -> None:
        self.pointer = pointer
        self._library = library
        self._easy = easy
        self._multi = multi
        self._forget = forget

    def close(self) -> None:
        """Free everything; no function may be called with ``pointer`` afterwards. Harmless when repeated.

        The object is parted from its socket first, and told to be silent:
        curl, which frees it, may otherwise say goodbye on a descriptor that is
        someone else's by now.
        """
        pointer, self.pointer = self.pointer, 0
        if not pointer:
            return
        self._forget(pointer)
        self._library.SSL_set_quiet_shutdown(pointer, 1)
        self._library.SSL_set_bio(pointer, None, None)
        _free(self._library, self._easy, self._multi)

    def __del__(self) -> None:
        self.close()


class HelloMaker:
    """Makes :class:`Ssl` objects. One for a process, used from its loop's thread only."""

    def __init__(self, library: BoringSSL) -> None:
        self.library = library
        self._socket: socket.socket | None = None
        self._pointer = 0
        self._greases_schemes = False
        self._on_session: dict[int, Callable[[int], bool]] = {}
        # curl and BoringSSL keep these addresses: they live as long as this object, which nothing drops.
        self._open_socket = _OPEN_SOCKET(self._hand_over_socket)
        self._socket_options = _SOCKET_OPTIONS(lambda *_: _ALREADY_CONNECTED)
        self._context_made = _CONTEXT_MADE(self._watch_context)
        self._handshake_begun = INFO_CALLBACK(self._note_pointer)
        self._new_session = NEW_SESSION_CALLBACK(self._session_arrived)

    def make(self, hello: Hello, server_name: str, on_session: Callable[[int], bool]) -> Ssl:
        """An object for a connection to ``server_name`` (a DNS name, or an IP literal: then no SNI).

        ``on_session`` is given an ``SSL_SESSION *`` for every ticket that
        arrives, and says whether it keeps it. Raises
        :class:`~ptproxy.errors.StartError` where this curl_cffi does not know
        the browser, or does something unexpected.
        """
        library = self.library
        easy, multi = library.curl_easy_init(), library.curl_multi_init()
        names = library.curl_slist_append(None, f"{server_name}:443:127.0.0.1".encode())
        ours, curls = socket.socketpair()
        self._socket, self._pointer, self._greases_schemes = curls, 0, hello.greases_schemes
        try:
            self._set_up(easy, hello, server_name, names)
            library.curl_multi_add_handle(multi, easy)
            running = ctypes.c_int()
            for _ in range(_TURNS):
                library.curl_multi_perform(multi, ctypes.byref(running))
                if self._pointer:
                    break
            if not self._pointer:
                raise StartError("tls.fingerprint: curl_cffi did not begin a handshake")
            self._take_over(self._pointer)
        except BaseException:
            _free(library, easy, multi)
            raise
        finally:
            ours.close()
            curls.close()
            library.curl_slist_free_all(names)
        self._on_session[self._pointer] = on_session
        return Ssl(library, self._pointer, easy, multi, self._forget)

    def _forget(self, pointer: int) -> None:
        """Tickets of this object concern nobody any more."""
        self._on_session.pop(pointer, None)

    def _set_up(self, easy: int, hello: Hello, server_name: str, names: int) -> None:
        """Every option that curl needs to begin the handshake, and to do nothing else."""
        if self.library.curl_easy_impersonate(easy, hello.target.encode(), 0):
            raise StartError(f"tls.fingerprint: this curl_cffi does not know {hello.target}; update it")
        options: list[tuple[int, object]] = [
            (_URL, url_of(hello, server_name)),
            (_PROXY, b""),  # and so none of the environment's
            (_SSL_VERIFYPEER, 0),  # certificates are checked by our own settings
            (_SSL_VERIFYHOST, 0),
            (_NOSIGNAL, 1),
            (_CONNECT_ONLY, 1),
            (_RESOLVE, names),
            (_OPENSOCKETFUNCTION, _address(self._open_socket)),
            (_SOCKOPTFUNCTION, _address(self._socket_options)),
            (_SSL_CTX_FUNCTION, _address(self._context_made)),
        ]
        if hello.ciphers:
            options.append((_SSL_CIPHER_LIST, hello.ciphers.encode()))
        for option, value in options:
            # curl_cffi's function takes numbers (options below 10000) by reference
            given = ctypes.byref(ctypes.c_long(value)) if isinstance(value, int) and option < 10000 else value
            if self.library._curl_easy_setopt(easy, option, given):
                raise StartError(f"tls.fingerprint: curl refuses option {option}")

    def _hand_over_socket(self, userdata: int, purpose: int, address: int) -> int:
        """``CURLOPT_OPENSOCKETFUNCTION``: a socket that is connected already; curl closes it."""
        del userdata, purpose, address
        return -1 if self._socket is None or self._socket.fileno() < 0 else self._socket.detach()

    def _watch_context(self, easy: int, context: int, userdata: int) -> int:
        """``CURLOPT_SSL_CTX_FUNCTION``: the settings are complete; see the object that is made of them."""
        del easy, userdata
        self.library.SSL_CTX_set_grease_sigalgs_enabled(context, int(self._greases_schemes))
        self.library.SSL_CTX_set_info_callback(context, _address(self._handshake_begun))
        return 0

    def _note_pointer(self, pointer: int, kind: int, value: int) -> None:
        """The information callback: this object is about to make its ClientHello."""
        del value
        if kind & HANDSHAKE_START:
            self._pointer = pointer

    def _session_arrived(self, pointer: int, session: int) -> int:
        """A ticket: 1 where it is kept."""
        keep = self._on_session.get(pointer)
        return int(keep is not None and keep(session))

    def _take_over(self, pointer: int) -> None:
        """Forget curl's handshake, keep the settings; what would call back into curl is put out of use."""
        library = self.library
        context = library.SSL_get_SSL_CTX(pointer)
        library.SSL_CTX_set_info_callback(context, None)
        library.SSL_CTX_set_keylog_callback(context, None)  # SSLKEYLOGFILE is not honoured
        library.SSL_CTX_set_session_cache_mode(context, SESSIONS_OURS)
        library.SSL_CTX_sess_set_new_cb(context, self._new_session)
        library.SSL_set_bio(pointer, None, None)
        if not library.SSL_clear(pointer):
            raise StartError("tls.fingerprint: BoringSSL cannot begin anew")
        library.SSL_set_connect_state(pointer)
        library.SSL_set_mode(pointer, WRITE_MODE)
        library.ERR_clear_error()


def _free(library: BoringSSL, easy: int, multi: int) -> None:
    """curl's order: out of the multi handle (which closes the connection), then each handle."""
    library.curl_multi_remove_handle(multi, easy)
    library.curl_easy_cleanup(easy)
    library.curl_multi_cleanup(multi)


def _address(callback: CFuncPtr) -> ctypes.c_void_p:
    """A callback as C sees it; whoever calls keeps the callback."""
    return ctypes.cast(callback, ctypes.c_void_p)


def url_of(hello: Hello, server_name: str) -> bytes:
    """What curl is told to connect to: a scheme and a name."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(server_name).version == 6:
            server_name = f"[{server_name}]"
    return f"{hello.scheme}://{server_name}/".encode()
