"""What a TLS connection has agreed on, asked of BoringSSL or OpenSSL: both have the same functions for it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final, Protocol

TLS1_3: Final = 0x0304


class Library(Protocol):
    """BoringSSL or OpenSSL."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The function of that name."""


class Agreed:
    """The questions of ``ssl.SSLObject``, by its names; nothing is known once ``_pointer`` is 0."""

    __slots__ = ()

    _library: Library
    _pointer: int
    """``SSL *``."""

    def version(self) -> str | None:
        """``TLSv1.3``, or none."""
        return "TLSv1.3" if self._pointer and self._library.SSL_version(self._pointer) == TLS1_3 else None

    def selected_alpn_protocol(self) -> str | None:
        """The protocol that was chosen of those offered."""
        if not self._pointer:
            return None
        data, size = ctypes.c_void_p(), ctypes.c_uint()
        self._library.SSL_get0_alpn_selected(self._pointer, ctypes.byref(data), ctypes.byref(size))
        return ctypes.string_at(data.value, size.value).decode("latin-1") if data.value else None

    def cipher(self) -> tuple[str, str, int] | None:
        """Name of the cipher suite (of the RFC), protocol version, bits of the key."""
        cipher = self._library.SSL_get_current_cipher(self._pointer) if self._pointer else None
        if not cipher:
            return None
        name: bytes = self._library.SSL_CIPHER_standard_name(cipher)
        return name.decode(), "TLSv1.3", self._library.SSL_CIPHER_get_bits(cipher, None)

    def resumed(self) -> bool:
        """Whether a ticket was taken."""
        return bool(self._pointer and self._library.SSL_session_reused(self._pointer))
