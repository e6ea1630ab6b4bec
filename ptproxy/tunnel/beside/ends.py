"""One end of a coupled pair: a socket as it is, or TLS of OpenSSL's upon it; nothing waits.

Both kinds say what a stranger can observe of how a peer ends a connection, and
can do each of these things themselves:

=============  ============================  =========================
happened       said by                       done by
=============  ============================  =========================
close_notify   ``notified`` (TLS only)       :meth:`RawEnd.notify`
FIN            ``finished``                  :meth:`RawEnd.finish`
RST            ``failure``                   :meth:`RawEnd.reset`
=============  ============================  =========================

A record of TLS that does not verify is a ``failure`` too; OpenSSL has then sent
its alert. One :meth:`TlsEnd.read` gives at most one record's content, so that
what is written on one read keeps the records' sizes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import ssl
import threading
from typing import Final, Literal

from ptproxy.buffer import Buffer
from ptproxy.tunnel.beside.openssl import (
    ALERT_READ,
    CLOSE_NOTIFY,
    ERROR_SYSCALL,
    ERROR_WANT_READ,
    ERROR_WANT_WRITE,
    ERROR_ZERO_RETURN,
    INFO_CALLBACK,
    OpenSSL,
)
from ptproxy.tunnel.boring.agreed import Agreed
from ptproxy.tunnel.boring.connection import Want, address_of

RAW_READ: Final = 64 * 1024
"""Bytes of a socket read at once."""
RECORD: Final = 16 * 1024
"""Bytes of content that a record of TLS has at most (RFC 8446 section 5.1)."""
MOST_AT_ONCE: Final = 64 * 1024
"""Bytes written by one call, four records: as long as not all of them have left, none counts as written."""

_TCP_CORK: Final[int | None] = getattr(socket, "TCP_CORK", None)
_LINGER_NOT = b"\x01\0\0\0\0\0\0\0"

_close_notified: set[int] = set()
"""Connections (``SSL *``) on which close_notify came; the next read of each takes it out again."""


def _note_alert(pointer: int, kind: int, value: int) -> None:
    """OpenSSL tells of an alert: by its reads alone, FIN and close_notify look the same."""
    if kind == ALERT_READ and value & 0xFF == CLOSE_NOTIFY:
        _close_notified.add(pointer)


_informed = INFO_CALLBACK(_note_alert)


class _OfThread(threading.local):
    """Where records are read to; another thread's loop may run between a record's arrival and its copy."""

    def __init__(self) -> None:
        self.record = ctypes.create_string_buffer(RECORD)


_of_thread = _OfThread()


class RawEnd:
    """A connected, non-blocking socket; owned here."""

    __slots__ = ("ended", "failure", "finished", "notified", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.notified = False
        """The peer said that nothing follows (close_notify)."""
        self.finished = False
        """The peer sends no more at all (FIN)."""
        self.ended = False
        """Nothing that could be read follows, for either reason."""
        self.failure: OSError | None = None
        """Why the connection is broken, once it is."""

    def read(self) -> bytes:
        """What is there, at most a piece of it; b"" where nothing is, now or ever."""
        try:
            data = self.sock.recv(RAW_READ)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            self.failure = error
            return b""
        if not data:
            self._input_over()
        return data

    def write(self, data: Buffer, start: int = 0) -> int:
        """Write as much of ``data`` from ``start`` on as the kernel takes; bytes written."""
        try:
            return self.sock.send(memoryview(data)[start:])
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self.failure = error
            return 0

    def notify(self) -> bool:
        """Say that nothing follows; whether that is said (False: try again when there is room)."""
        return True

    def is_broken(self) -> bool:
        """Whether a reset has come that no read or write has met yet."""
        if self.failure is None and (number := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self.failure = OSError(number, os.strerror(number))
        return self.failure is not None

    def _input_over(self) -> None:
        """A FIN; a reset that may have come behind it is still to be met."""
        self.finished = self.ended = True

    def finish(self) -> None:
        """Send no more: a FIN."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close, in whatever way the kernel then does it; harmless when repeated."""
        self.sock.close()

    def reset(self) -> None:
        """Close by a reset."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.close()


class TlsEnd(RawEnd, Agreed):
    """OpenSSL on a connected, non-blocking socket; also what a transport drives (``TlsStream``)."""

    __slots__ = ("_error_of", "_library", "_pointer", "_read", "_write", "corks")

    def __init__(self, library: OpenSSL, context: ssl.SSLContext, sock: socket.socket) -> None:
        super().__init__(sock)
        self.corks = False
        """Whether what is written at once leaves at once, though it is several records."""
        self._library = library
        self._pointer = library.new(context)
        self._read = library.SSL_read
        self._write = library.SSL_write
        self._error_of = library.SSL_get_error
        library.SSL_set_fd(self._pointer, sock.fileno())

    @classmethod
    def server(cls, library: OpenSSL, context: ssl.SSLContext, sock: socket.socket) -> TlsEnd:
        """The side that answers."""
        end = cls(library, context, sock)
        library.SSL_set_accept_state(end._pointer)
        return end

    @classmethod
    def client(
        cls,
        library: OpenSSL,
        context: ssl.SSLContext,
        sock: socket.socket,
        name: str,
        alpn: tuple[bytes, ...],
    ) -> TlsEnd:
        """The side that asks for ``name``, offering those protocols."""
        end = cls(library, context, sock)
        library.SSL_set_connect_state(end._pointer)
        end.corks = True
        library.set_server_name(end._pointer, name)
        if alpn:
            offer = b"".join(bytes((len(protocol),)) + protocol for protocol in alpn)
            library.SSL_set_alpn_protos(end._pointer, offer, len(offer))
        return end

    def handshake(self) -> Want:
        """Go on with the handshake; raises OSError where it fails, an alert being sent if one was due."""
        self._library.ERR_clear_error()
        result = self._library.SSL_do_handshake(self._pointer)
        if result == 1:
            self._library.SSL_set_info_callback(self._pointer, _informed)
            return Want.NOTHING
        error = self._error_of(self._pointer, result)
        if error == ERROR_WANT_READ:
            return Want.READ
        if error == ERROR_WANT_WRITE:
            return Want.WRITE
        self._stopped(result)
        if self.failure is None:
            self.failure = ConnectionAbortedError("TLS: broken off")
        raise self.failure

    # ---- for a coupled pair ------------------------------------------------------------------------

    def read(self) -> bytes:
        """The content of a record, or what is left of it."""
        record = _of_thread.record
        count: int = self._read(self._pointer, record, RECORD)
        if count > 0:
            return ctypes.string_at(record, count)
        self._stopped(count)
        return b""

    def write(self, data: Buffer, start: int = 0) -> int:
        """As of a socket; what was not taken must be given again, at least as much of it, unchanged."""
        address, size = address_of(data) + start, len(data) - start
        corked = self.corks and size > RECORD
        if corked:
            self.cork(on=True)
        write, pointer = self._write, self._pointer
        total = 0
        while total < size:
            count: int = write(pointer, address + total, min(size - total, MOST_AT_ONCE))
            if count <= 0:
                self._written_not(count)
                break
            total += count
        if corked:
            self.cork(on=False)
        return total

    def cork(self, *, on: bool) -> None:
        """Let several records leave together, at the latest after 0.2 s."""
        if _TCP_CORK is not None:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.IPPROTO_TCP, _TCP_CORK, on)

    def notify(self) -> bool:
        """Send close_notify; what the peer still says can be read."""
        self._library.ERR_clear_error()
        result: int = self._library.SSL_shutdown(self._pointer)
        return result >= 0 or self._error_of(self._pointer, result) != ERROR_WANT_WRITE

    def close(self) -> None:
        """Free OpenSSL's memory and close the socket."""
        pointer, self._pointer = self._pointer, 0
        if pointer:
            self._library.SSL_free(pointer)
            _close_notified.discard(pointer)
        self.sock.close()

    def _stopped(self, result: int) -> None:
        """Note why a read did nothing."""
        number = ctypes.get_errno()
        error = self._error_of(self._pointer, result)
        if error in (ERROR_WANT_READ, ERROR_WANT_WRITE):
            return
        if error == ERROR_ZERO_RETURN and self._pointer in _close_notified:
            _close_notified.discard(self._pointer)
            self.notified = self.ended = True
        elif error == ERROR_ZERO_RETURN:
            self._look_below()
        elif error == ERROR_SYSCALL:
            if number:
                self.failure = OSError(number, os.strerror(number))
            else:
                self._input_over()
        else:
            self.failure = ConnectionAbortedError(f"TLS: {self._library.reason()}")
        self._library.ERR_clear_error()

    def _written_not(self, result: int) -> None:
        """Note why a write did nothing; a broken socket shows as a farewell here, if one has come."""
        number = ctypes.get_errno()
        error = self._error_of(self._pointer, result)
        if error not in (ERROR_WANT_READ, ERROR_WANT_WRITE):
            broken = error in (ERROR_SYSCALL, ERROR_ZERO_RETURN)
            self.failure = (
                OSError(number or errno.EPIPE, os.strerror(number or errno.EPIPE))
                if broken
                else ConnectionAbortedError(f"TLS: {self._library.reason()}")
            )
        self._library.ERR_clear_error()

    def _look_below(self) -> None:
        """What the socket itself says once TLS has nothing more to."""
        try:
            if not self.sock.recv(RAW_READ):  # after close_notify whatever comes is void
                self._input_over()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self.failure = error

    # ---- for a transport (TlsStream) ---------------------------------------------------------------

    def read_into(self, address: int, room: int) -> int:
        """Read to memory at ``address`` until ``room`` bytes are full or nothing more is there; how many."""
        read, pointer = self._read, self._pointer
        total = 0
        while total < room:
            count: int = read(pointer, address + total, room - total)
            if count <= 0:
                self._stopped(count)
                break
            total += count
        return total

    def say_goodbye(self) -> bool:
        """close_notify, unless the connection is broken; whether that is done."""
        return self.failure is not None or self.notify()

    def getpeercert(self, binary_form: Literal[True] = True) -> bytes | None:  # noqa: ARG002  (ssl's)
        """None: what a client shows was checked by OpenSSL."""
        return None
