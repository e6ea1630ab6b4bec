"""One TLS connection of BoringSSL's over a socket of ours: handshake, read, write, farewell.

Without asyncio: every call does what can be done without waiting, and says what
it waits for. BoringSSL reads and writes the descriptor itself, plaintext goes
straight to and from the caller's memory.
"""

from __future__ import annotations

import ctypes
import socket
from enum import Enum
from typing import Final, Literal, Protocol

from ptproxy.buffer import Buffer
from ptproxy.errors import AuthenticationError, DialError, Reason
from ptproxy.tunnel.boring.agreed import TLS1_3, Agreed
from ptproxy.tunnel.boring.boringssl import (
    ERROR_SSL,
    ERROR_SYSCALL,
    ERROR_WANT_READ,
    ERROR_WANT_WRITE,
    ERROR_ZERO_RETURN,
    BoringSSL,
)
from ptproxy.tunnel.boring.hello import Ssl

MOST_AT_ONCE: Final = 64 * 1024
"""Bytes written by one call, four records: as long as not all of them have left, none counts as written."""


class Want(Enum):
    """What a handshake waits for."""

    NOTHING = "nothing"
    """It is done."""
    READ = "read"
    WRITE = "write"


class TlsStream(Protocol):
    """What a transport drives: :class:`TlsConnection`, or the fall-back in :mod:`.curl_tls`."""

    sock: socket.socket
    ended: bool
    failure: OSError | None

    def handshake(self) -> Want:
        """Go on with the handshake."""

    def read_into(self, address: int, room: int) -> int:
        """Read to memory."""

    def write(self, data: Buffer, start: int = 0) -> int:
        """Write from ``start`` on."""

    def say_goodbye(self) -> bool:
        """Send the browser's farewell."""

    def close(self) -> None:
        """Free everything."""

    def getpeercert(self, binary_form: Literal[True] = True) -> bytes | None:
        """The leaf, DER."""

    def version(self) -> str | None:
        """The protocol version."""

    def selected_alpn_protocol(self) -> str | None:
        """The protocol agreed on."""

    def cipher(self) -> tuple[str, str, int] | None:
        """The cipher suite."""

    def resumed(self) -> bool:
        """Whether a ticket was taken."""


class TlsConnection(Agreed):
    """BoringSSL on a connected, non-blocking socket; owns both."""

    __slots__ = ("_error_of", "_library", "_pointer", "_read", "_ssl", "_write", "ended", "failure", "sock")

    def __init__(self, library: BoringSSL, ssl: Ssl, sock: socket.socket) -> None:
        self.sock = sock
        self.ended = False
        """The peer sends no more."""
        self.failure: OSError | None = None
        """Why the connection is broken, once it is."""
        self._library = library
        self._ssl = ssl
        self._pointer = ssl.pointer
        self._read = library.SSL_read
        self._write = library.SSL_write
        self._error_of = library.SSL_get_error
        library.SSL_set_fd(ssl.pointer, sock.fileno())

    def handshake(self) -> Want:
        """Go on with the handshake.

        Raises :class:`~ptproxy.errors.AuthenticationError` for a peer that is
        not trusted or speaks no TLS 1.3, :class:`~ptproxy.errors.DialError`
        where the connection broke.
        """
        result = self._library.SSL_do_handshake(self._pointer)
        if result == 1:
            if self._library.SSL_version(self._pointer) != TLS1_3:
                raise AuthenticationError("the bridge did not speak TLS 1.3 with a certificate")
            return Want.NOTHING
        error = self._error_of(self._pointer, result)
        if error == ERROR_WANT_READ:
            return Want.READ
        if error == ERROR_WANT_WRITE:
            return Want.WRITE
        if error != ERROR_SSL:
            raise DialError(Reason.CONNECTION_LOST, "the bridge broke the TLS handshake off")
        verdict = self._library.SSL_get_verify_result(self._pointer)
        why = self._library.reason()
        if why == "certificate verify failed":
            text = self._library.X509_verify_cert_error_string(verdict).decode("ascii", "replace")
            raise AuthenticationError(f"the bridge's certificate is not trusted: {text}")
        raise AuthenticationError(f"no TLS 1.3 with the bridge: {why}")

    def read_into(self, address: int, room: int) -> int:
        """Read to memory at ``address`` until ``room`` bytes are full or nothing more is there; bytes read.

        ``ended`` and ``failure`` tell whether anything can follow.
        """
        read, pointer = self._read, self._pointer
        total = 0
        while total < room:
            count: int = read(pointer, address + total, room - total)
            if count <= 0:
                self._stopped(count)
                break
            total += count
        return total

    def write(self, data: Buffer, start: int = 0) -> int:
        """Write as much of ``data`` from ``start`` on as the kernel takes; bytes written.

        The rest must be given again, at least as much of it and unchanged
        (BoringSSL has made records of its beginning, and may have sent some). ``failure`` tells
        whether that makes sense.
        """
        address, size = address_of(data) + start, len(data) - start
        write, pointer = self._write, self._pointer
        total = 0
        while total < size:
            count: int = write(pointer, address + total, min(size - total, MOST_AT_ONCE))
            if count <= 0:
                self._stopped(count)
                break
            total += count
        return total

    def say_goodbye(self) -> bool:
        """Send close_notify if the browser would; whether that is done. Everything written must have left."""
        if self.failure is not None:
            return True
        result: int = self._library.SSL_shutdown(self._pointer)
        return result >= 0 or self._error_of(self._pointer, result) != ERROR_WANT_WRITE

    def close(self) -> None:
        """Free BoringSSL's memory and close the socket; harmless when repeated."""
        self._pointer = 0
        self._ssl.close()
        self.sock.close()

    # ---- what was agreed on (the names are those of ssl.SSLObject) -----------------------------

    def getpeercert(self, binary_form: Literal[True] = True) -> bytes | None:
        """The peer's own certificate, DER (the other form, as a dictionary, does not exist here)."""
        del binary_form
        return self._library.leaf(self._pointer) if self._pointer else None

    def _stopped(self, result: int) -> None:
        """Note why a read or write did nothing."""
        error = self._error_of(self._pointer, result)
        if error in (ERROR_WANT_READ, ERROR_WANT_WRITE):
            return
        if error == ERROR_ZERO_RETURN or (error == ERROR_SYSCALL and result == 0):
            self.ended = True  # with close_notify or without: what ends where, the layers above know
        elif error == ERROR_SYSCALL:
            self.failure = ConnectionResetError("the connection is broken")
        else:
            self.failure = ConnectionAbortedError(f"TLS: {self._library.reason()}")


def address_of(data: Buffer) -> int:
    """Where the bytes of a buffer lie; whoever calls keeps it. A read-only view does not tell: copy it."""
    if isinstance(data, bytes):
        return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
    return ctypes.addressof(ctypes.c_char.from_buffer(data)) if len(data) else 0
