"""The OpenSSL that Python's ``ssl`` runs on, its functions called directly.

Python's module cannot end a connection in the manner of a given web server, nor
set what its tickets say. The library is the one that ``_ssl`` itself is linked
to, found through it; contexts are made by ``ssl`` (certificates, ALPN, versions)
and only looked up here. Where that is not possible (a Python linked statically,
other libraries than OpenSSL) :func:`load` says so, and the bridge does with what
``ssl`` offers.

Functions are OpenSSL's public interface (``man 3ssl``), there since 1.1.1. Calls
keep Python's lock: each takes microseconds.
"""

from __future__ import annotations

import _ssl
import ctypes
import functools
import ssl
from collections.abc import Callable
from typing import Any, Final

from ptproxy.errors import StartError

ERROR_SSL: Final = 1
ERROR_WANT_READ: Final = 2
ERROR_WANT_WRITE: Final = 3
ERROR_SYSCALL: Final = 5
ERROR_ZERO_RETURN: Final = 6

WRITE_MODE: Final = 0x2 | 0x10
"""``SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS``: an idle connection keeps no buffers."""
_SET_MODE: Final = 33
_SET_SERVER_NAME_CALLBACK: Final = 53
_SET_READ_AHEAD: Final = 41
_SET_SERVER_NAME: Final = 55
_GET_TICKET_KEYS: Final = 58
"""``SSL_CTRL_MODE``, ``SSL_CTRL_SET_TLSEXT_SERVERNAME_CB``, ``SSL_CTRL_SET_READ_AHEAD``,
``SSL_CTRL_SET_TLSEXT_HOSTNAME``, ``SSL_CTRL_GET_TLSEXT_TICKET_KEYS``: what macros of ``ssl.h`` ask for."""
TICKET_KEY_NAME: Final = 16
"""Bytes of a ticket's beginning that name the key it is encrypted with."""
_TICKET_KEYS: Final = 80
"""Bytes of a context's ticket keys, the name first."""
SESSION_ID_CONTEXT: Final = 20
"""Bytes of a session id context as nginx has it (a SHA-1): it is part of every ticket, and of its length."""
MOST_SESSION_ID_CONTEXT: Final = 32

IGNORE_UNEXPECTED_EOF: Final = 1 << 7
"""``SSL_OP_IGNORE_UNEXPECTED_EOF`` of OpenSSL 3; 1.1.1 behaves so by itself."""
PRIORITIZE_CHACHA: Final = 1 << 21
"""``SSL_OP_PRIORITIZE_CHACHA``."""
ALERT_READ: Final = 0x4004
"""``SSL_CB_READ_ALERT``: what the information callback is told of an alert that came; the value's low byte
says which."""
CLOSE_NOTIFY: Final = 0

_P, _I, _L, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p

INFO_CALLBACK: Final = ctypes.PYFUNCTYPE(None, _P, _I, _I)
"""``void (const SSL *, int type, int value)``."""
_NAME_CALLBACK: Final = ctypes.PYFUNCTYPE(_I, _P, _P, _P)
"""``int (SSL *, int *alert, void *)``."""
_acknowledged = _NAME_CALLBACK(lambda _connection, _alert, _argument: 0)
"""``SSL_TLSEXT_ERR_OK`` for whatever name."""

_FUNCTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "ERR_clear_error": (None,),
    "ERR_peek_last_error": (ctypes.c_ulong,),
    "ERR_reason_error_string": (_S, ctypes.c_ulong),
    "SSL_CIPHER_get_bits": (_I, _P, _P),
    "SSL_CIPHER_standard_name": (_S, _P),
    "SSL_CTX_clear_options": (ctypes.c_uint64, _P, ctypes.c_uint64),
    "SSL_CTX_callback_ctrl": (_L, _P, _I, _NAME_CALLBACK),
    "SSL_CTX_ctrl": (_L, _P, _I, _L, _P),
    "SSL_CTX_get_options": (ctypes.c_uint64, _P),
    "SSL_CTX_set_ciphersuites": (_I, _P, _S),
    "SSL_CTX_set_options": (ctypes.c_uint64, _P, ctypes.c_uint64),
    "SSL_CTX_set_session_id_context": (_I, _P, _S, ctypes.c_uint),
    "SSL_CTX_set_timeout": (_L, _P, _L),
    "SSL_ctrl": (_L, _P, _I, _L, _P),
    "SSL_do_handshake": (_I, _P),
    "SSL_free": (None, _P),
    "SSL_get0_alpn_selected": (None, _P, ctypes.POINTER(_P), ctypes.POINTER(ctypes.c_uint)),
    "SSL_get_current_cipher": (_P, _P),
    "SSL_get_error": (_I, _P, _I),
    "SSL_new": (_P, _P),
    "SSL_read": (_I, _P, _P, _I),
    "SSL_session_reused": (_I, _P),
    "SSL_set_accept_state": (None, _P),
    "SSL_set_alpn_protos": (_I, _P, _S, ctypes.c_uint),
    "SSL_set_connect_state": (None, _P),
    "SSL_set_fd": (_I, _P, _I),
    "SSL_set_info_callback": (None, _P, INFO_CALLBACK),
    "SSL_shutdown": (_I, _P),
    "SSL_version": (_I, _P),
    "SSL_write": (_I, _P, _P, _I),
}
"""Result, then arguments."""


class OpenSSL:
    """The library: its functions by their own names."""

    def __init__(self) -> None:
        """Find everything; raises OSError or AttributeError."""
        library = ctypes.PyDLL(
            _ssl.__file__, use_errno=True
        )  # OpenSSL tells of a broken socket by errno alone
        self._functions: dict[str, Callable[..., Any]] = {}
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
            self._functions[name] = function

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The function of that name; keep it where it is called often."""
        try:
            return self._functions[name]
        except KeyError:
            raise AttributeError(name) from None

    def reason(self) -> str:
        """Why the last call failed, in OpenSSL's words; the record of it is cleared."""
        code = self.ERR_peek_last_error()
        self.ERR_clear_error()
        text: bytes | None = self.ERR_reason_error_string(code) if code else None
        return (text or b"broken off").decode("ascii", "replace")

    def new(self, context: ssl.SSLContext) -> int:
        """A connection (``SSL *``) of a context; the caller's to free. Raises MemoryError."""
        pointer: int | None = self.SSL_new(context_pointer(context))
        if not pointer:
            raise MemoryError("SSL_new")
        self.SSL_ctrl(pointer, _SET_MODE, WRITE_MODE, None)
        return pointer

    def set_server_name(self, pointer: int, name: str) -> None:
        """What a client's hello is to name."""
        self.SSL_ctrl(pointer, _SET_SERVER_NAME, 0, ctypes.c_char_p(name.encode("ascii")))

    # ---- what ssl.SSLContext cannot set ------------------------------------------------------------

    def set_read_ahead(self, context: ssl.SSLContext, *, ahead: bool) -> None:
        """Read as much of the connection as there is, as nginx does, or record by record.

        This decides, too, whether unread bytes make a close a reset.
        """
        self.SSL_CTX_ctrl(context_pointer(context), _SET_READ_AHEAD, int(ahead), None)

    def ignore_unexpected_eof(self, context: ssl.SSLContext) -> None:
        """Send no alert when a peer leaves without close_notify, as web servers do not."""
        self.SSL_CTX_set_options(context_pointer(context), IGNORE_UNEXPECTED_EOF)

    def yield_to_chacha(self, context: ssl.SSLContext, *, yields: bool) -> None:
        """Whether a server with an order of its own takes ChaCha20 where a client has it first."""
        change = self.SSL_CTX_set_options if yields else self.SSL_CTX_clear_options
        change(context_pointer(context), PRIORITIZE_CHACHA)

    def set_ticket_lifetime(self, context: ssl.SSLContext, seconds: int) -> None:
        """What new tickets say of how long they serve, and how long they do."""
        self.SSL_CTX_set_timeout(context_pointer(context), seconds)

    def set_session_id_context(self, context: ssl.SSLContext, size: int) -> None:
        """A session id context of so many bytes (1 to 32): tickets are longer or shorter by it."""
        if not 1 <= size <= MOST_SESSION_ID_CONTEXT:
            raise ValueError("a session id context has 1 to 32 bytes")
        self.SSL_CTX_set_session_id_context(context_pointer(context), bytes(size), size)

    def acknowledge_names(self, context: ssl.SSLContext, *, acknowledge: bool) -> None:
        """Whether a server says that it knows the name it was asked for (RFC 6066 section 3)."""
        callback = _acknowledged if acknowledge else _NAME_CALLBACK()
        self.SSL_CTX_callback_ctrl(context_pointer(context), _SET_SERVER_NAME_CALLBACK, callback)

    def ticket_key_name(self, context: ssl.SSLContext) -> bytes:
        """How every ticket of a server's context begins."""
        keys = ctypes.create_string_buffer(_TICKET_KEYS)
        self.SSL_CTX_ctrl(context_pointer(context), _GET_TICKET_KEYS, _TICKET_KEYS, keys)
        return keys.raw[:TICKET_KEY_NAME]

    def set_cipher_suites(self, context: ssl.SSLContext, names: str) -> None:
        """TLS 1.3's suites in order, joined by colons."""
        if not self.SSL_CTX_set_ciphersuites(context_pointer(context), names.encode("ascii")):
            raise ValueError(f"no cipher suites of this OpenSSL: {names}")


def context_pointer(context: ssl.SSLContext) -> int:
    """The ``SSL_CTX *`` of a context: the first field of CPython's object behind its head."""
    pointer: int = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value or 0
    return pointer


@functools.cache
def load() -> OpenSSL:
    """The library, once it is known to be the one that ``ssl`` uses.

    Raises :class:`~ptproxy.errors.StartError` where it cannot be had.
    """
    try:
        library = OpenSSL()
    except (AttributeError, OSError) as error:
        raise StartError(f"the OpenSSL of this Python cannot be called directly: {error}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for options in (ssl.OP_NO_TICKET, ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION):
        context.options = options
        if library.SSL_CTX_get_options(context_pointer(context)) & 0xFFFFFFFF != context.options & 0xFFFFFFFF:
            raise StartError("the contexts of this Python's ssl are laid out in a way that is not known here")
    return library
