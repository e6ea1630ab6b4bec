"""BoringSSL as it lies inside curl_cffi's library, its functions called directly.

What a function takes and returns is BoringSSL's public interface
(``include/openssl/ssl.h``, ``x509.h``), unchanged in years; only where it lies
is found out (:mod:`ptproxy.tunnel.boring.symbols`). Pointers are plain integers here.
Calls keep Python's lock: each takes microseconds, and a lock let go and taken
back would cost as much.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ptproxy.errors import StartError
from ptproxy.tunnel.boring.symbols import hidden_functions

VERIFY_NONE: Final = 0
VERIFY_PEER: Final = 1
ERROR_SSL: Final = 1
ERROR_WANT_READ: Final = 2
ERROR_WANT_WRITE: Final = 3
ERROR_SYSCALL: Final = 5
ERROR_ZERO_RETURN: Final = 6
HANDSHAKE_START: Final = 0x10
"""``SSL_CB_HANDSHAKE_START``: what the information callback is told before the ClientHello is made."""
WRITE_MODE: Final = 0x2
"""``SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER``: what is tried again may lie elsewhere by then. Without
``SSL_MODE_ENABLE_PARTIAL_WRITE``, which comes back to Python after every record: a fifth more CPU."""
SESSIONS_OURS: Final = 0x1 | 0x300
"""``SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL``: tickets go to the callback, nowhere else."""
NO_TICKET: Final = 0x4000
"""``SSL_OP_NO_TICKET``: no session_ticket extension (RFC 5077); tickets of TLS 1.3 come all the same."""

_P = ctypes.c_void_p
_I = ctypes.c_int
_S = ctypes.c_char_p

NEW_SESSION_CALLBACK: Final = ctypes.PYFUNCTYPE(_I, _P, _P)
"""``int (SSL *, SSL_SESSION *)``; 1 takes the session over."""
INFO_CALLBACK: Final = ctypes.PYFUNCTYPE(None, _P, _I, _I)
"""``void (const SSL *, int type, int value)``."""

_HIDDEN: Final[dict[str, tuple[Any, ...]]] = {
    "ERR_clear_error": (None,),
    "ERR_get_error": (ctypes.c_uint32,),
    "ERR_reason_error_string": (_S, ctypes.c_uint32),
    "SSL_CIPHER_get_bits": (_I, _P, _P),
    "SSL_CIPHER_standard_name": (_S, _P),
    "SSL_CTX_sess_set_new_cb": (None, _P, NEW_SESSION_CALLBACK),
    "SSL_CTX_set_grease_sigalgs_enabled": (None, _P, _I),
    "SSL_CTX_set_info_callback": (None, _P, _P),
    "SSL_CTX_set_keylog_callback": (None, _P, _P),
    "SSL_CTX_set_session_cache_mode": (_I, _P, _I),
    "SSL_SESSION_free": (None, _P),
    "SSL_clear": (_I, _P),
    "SSL_do_handshake": (_I, _P),
    "SSL_get0_alpn_selected": (None, _P, ctypes.POINTER(_P), ctypes.POINTER(ctypes.c_uint)),
    "SSL_get0_param": (_P, _P),
    "SSL_get_SSL_CTX": (_P, _P),
    "SSL_get_current_cipher": (_P, _P),
    "SSL_get_error": (_I, _P, _I),
    "SSL_get_peer_certificate": (_P, _P),
    "SSL_get_verify_result": (ctypes.c_long, _P),
    "SSL_has_pending": (_I, _P),
    "SSL_read": (_I, _P, _P, _I),
    "SSL_session_reused": (_I, _P),
    "SSL_set1_verify_cert_store": (_I, _P, _P),
    "SSL_set_bio": (None, _P, _P, _P),
    "SSL_set_connect_state": (None, _P),
    "SSL_set_fd": (_I, _P, _I),
    "SSL_set_options": (ctypes.c_uint32, _P, ctypes.c_uint32),
    "SSL_set_mode": (ctypes.c_uint32, _P, ctypes.c_uint32),
    "SSL_set_quiet_shutdown": (None, _P, _I),
    "SSL_set_session": (_I, _P, _P),
    "SSL_set_verify": (None, _P, _I, _P),
    "SSL_shutdown": (_I, _P),
    "SSL_version": (_I, _P),
    "SSL_write": (_I, _P, _P, _I),
    "X509_STORE_add_cert": (_I, _P, _P),
    "X509_STORE_free": (None, _P),
    "X509_STORE_load_locations": (_I, _P, _S, _S),
    "X509_STORE_new": (_P,),
    "X509_VERIFY_PARAM_set1_host": (_I, _P, _S, ctypes.c_size_t),
    "X509_VERIFY_PARAM_set1_ip_asc": (_I, _P, _S),
    "X509_free": (None, _P),
    "X509_verify_cert_error_string": (_S, ctypes.c_long),
    "d2i_X509": (_P, _P, ctypes.POINTER(_P), ctypes.c_long),
    "i2d_X509": (_I, _P, ctypes.POINTER(_P)),
}
"""Result, then arguments of every hidden function that is called."""

_EXPORTED: Final[dict[str, tuple[Any, ...]]] = {
    "_curl_easy_setopt": (_I, _P, _I, _P),
    "curl_easy_cleanup": (None, _P),
    "curl_easy_impersonate": (_I, _P, _S, _I),
    "curl_easy_init": (_P,),
    "curl_multi_add_handle": (_I, _P, _P),
    "curl_multi_cleanup": (_I, _P),
    "curl_multi_init": (_P,),
    "curl_multi_perform": (_I, _P, ctypes.POINTER(_I)),
    "curl_multi_remove_handle": (_I, _P, _P),
    "curl_slist_append": (_P, _P, _S),
    "curl_slist_free_all": (None, _P),
}
"""The same of curl's functions, which are exported."""


class BoringSSL:
    """The library: curl's and BoringSSL's functions by their own names."""

    def __init__(self, path: Path) -> None:
        library = ctypes.PyDLL(str(path))
        addresses = hidden_functions(library, path, _HIDDEN, _EXPORTED)
        self._functions: dict[str, Callable[..., Any]] = {}
        for name, (result, *arguments) in _HIDDEN.items():
            self._functions[name] = ctypes.PYFUNCTYPE(result, *arguments)(addresses[name])
        for name, (result, *arguments) in _EXPORTED.items():
            self._functions[name] = ctypes.PYFUNCTYPE(result, *arguments)((name, library))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The function of that name; keep it where it is called often."""
        try:
            return self._functions[name]
        except KeyError:
            raise AttributeError(name) from None

    def reason(self) -> str:
        """Why the last call failed, in BoringSSL's words; the record of it is cleared."""
        code = self.ERR_get_error()
        self.ERR_clear_error()
        text: bytes | None = self.ERR_reason_error_string(code) if code else None
        return (text or b"handshake failed").decode("ascii", "replace").lower().replace("_", " ")

    def leaf(self, ssl: int) -> bytes | None:
        """The peer's own certificate (DER), also of a resumed connection."""
        certificate = self.SSL_get_peer_certificate(ssl)
        if not certificate:
            return None
        try:
            size: int = self.i2d_X509(certificate, None)
            if size <= 0:
                return None
            der = ctypes.create_string_buffer(size)
            end = _P(ctypes.addressof(der))
            self.i2d_X509(certificate, ctypes.byref(end))
            return der.raw
        finally:
            self.X509_free(certificate)


@functools.cache
def load() -> BoringSSL:
    """The library of the installed curl_cffi, whose Python code is not run.

    Raises :class:`~ptproxy.errors.StartError` where it is not installed or its
    functions cannot be found (stripped wheels, Windows).
    """
    path = library_path()
    try:
        return BoringSSL(path)
    except OSError as error:
        raise StartError(f"tls.fingerprint: cannot load {path.name}: {error}") from None


def library_path() -> Path:
    """Where the installed curl_cffi keeps its library; :class:`~ptproxy.errors.StartError` if nowhere."""
    package = importlib.util.find_spec("curl_cffi")
    if package is None or not package.submodule_search_locations:
        raise StartError("tls.fingerprint: curl_cffi is not installed; pip install curl_cffi, or say python")
    for folder in package.submodule_search_locations:
        for path in sorted(Path(folder).glob("_wrapper*.so")):
            return path
    raise StartError("tls.fingerprint: this curl_cffi holds no library that is known here; say python")
