"""A browser's TLS connection as an asyncio transport, driven by readiness of its descriptor.

The contract is that of :mod:`ptproxy.tunnel.tcp`: reads go to the protocol's
own buffer (``get_buffer`` / ``buffer_updated``), ``write`` keeps no reference to
what may change, an end of input closes the connection after ``eof_received``
(TLS has no half-close here, as in asyncio), ``connection_lost`` is told once.

Closing: what was written leaves, then close_notify (as far as the browser says
one), then FIN; what still
arrives is thrown away until the peer's end, within :data:`SHUTDOWN_TIMEOUT`,
so that no reset overtakes the last bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, cast

from ptproxy.buffer import Buffer
from ptproxy.tunnel.boring.connection import TlsStream, address_of
from ptproxy.tunnel.polling import PolledLoop
from ptproxy.tunnel.tcp import SHUTDOWN_TIMEOUT

ROUNDS: Final = 1
"""Buffers read in one turn of the loop, after which others get theirs."""
HIGH_WATER: Final = 64 * 1024
"""Unsent bytes above which the protocol is asked to pause, unless it sets a limit (asyncio's default)."""


class BrowserTransport(asyncio.Transport):
    """See the module; made by :mod:`ptproxy.tunnel.boring.browser_tls` after the handshake."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        polled: PolledLoop,
        tls: TlsStream,
        protocol: asyncio.BufferedProtocol,
    ) -> None:
        super().__init__()
        self._loop = loop
        self._polled = polled
        self._tls = tls
        self._descriptor = tls.sock.fileno()
        self._protocol = protocol
        self._buffer: Buffer = b""
        self._address = 0
        self._backlog: deque[bytes] = deque()
        self._sent_of_first = 0
        self._unsent = 0
        self._low, self._high = HIGH_WATER // 4, HIGH_WATER
        self._protocol_paused = False
        self._paused = False
        self._goes_on = False
        """A turn of the loop is asked for, to read on."""
        self._reading = False
        self._writing = False
        self._closing = False
        self._gone = False
        self._overdue: asyncio.TimerHandle | None = None
        self._extra = {
            "socket": tls.sock,
            "ssl_object": tls,
            "peername": _name(tls.sock.getpeername),
            "sockname": _name(tls.sock.getsockname),
            "cipher": tls.cipher(),
        }

    def start(self) -> None:
        """Tell the protocol that it is connected, and begin to read."""
        self._protocol.connection_made(self)
        if not self._closing and not self._paused:
            self._watch_reads()
            self._loop.call_soon(self._read_ready)  # the handshake may have read on

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``socket``, ``peername``, ``sockname``, ``cipher``, and as ``ssl_object`` the connection.

        The latter answers ``getpeercert(True)``, ``version()``, ``cipher()``
        and ``selected_alpn_protocol()`` as ``ssl.SSLObject`` does, and
        ``resumed()``.
        """
        return self._extra.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Someone else reads from now on."""
        self._protocol = cast("asyncio.BufferedProtocol", protocol)
        self._buffer = b""

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whoever reads."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing

    # ---- reading -------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Whether what arrives is handed on."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Hand nothing on until :meth:`resume_reading`."""
        if not self._paused and not self._closing:
            self._paused = True
            self._unwatch_reads()

    def resume_reading(self) -> None:
        """Go on handing on."""
        if self._paused and not self._closing:
            self._paused = False
            self._watch_reads()
            self._loop.call_soon(
                self._read_ready
            )  # BoringSSL may hold bytes that the descriptor does not tell

    def _watch_reads(self) -> None:
        if not self._reading:
            self._reading = True
            self._polled.add_reader(self._descriptor, self._read_ready)

    def _unwatch_reads(self) -> None:
        if self._reading:
            self._reading = False
            self._polled.remove_reader(self._descriptor)

    def _read_ready(self) -> None:
        """Hand on what has arrived."""
        if self._paused or self._closing:
            return
        tls = self._tls
        try:
            for _ in range(ROUNDS):
                room = self._room()
                count = tls.read_into(self._address, room)
                if count:
                    self._protocol.buffer_updated(count)
                if self._paused or self._closing:
                    return
                if tls.ended or tls.failure is not None:
                    self._input_over()
                    return
                if count < room:
                    return
            if not self._goes_on:  # the descriptor may tell as well: each word would else add one more
                self._goes_on = True
                self._loop.call_soon(self._read_on)  # BoringSSL may hold the rest of a record
        except Exception as error:
            self._bug(error)

    def _read_on(self) -> None:
        self._goes_on = False
        self._read_ready()

    def _room(self) -> int:
        """See to the protocol's buffer; its size."""
        buffer = cast("memoryview", self._protocol.get_buffer(-1))
        if buffer is not self._buffer:
            self._buffer = buffer
            self._address = address_of(buffer)
        return len(buffer)

    def _input_over(self) -> None:
        """The peer has ended the connection, or it broke."""
        if self._tls.failure is not None:
            self._drop(self._tls.failure)
            return
        self._unwatch_reads()
        self._protocol.eof_received()
        self.close()

    def _discard(self) -> None:
        """Throw away what arrives after the farewell, until the end."""
        if self._gone:
            return
        try:
            while self._tls.sock.recv(HIGH_WATER):
                pass
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._drop(None)

    # ---- writing -------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Send ``data``: at once what the kernel takes, the rest (a copy, if it may change) later."""
        if self._closing or not len(data):
            return
        if isinstance(data, memoryview) and data.readonly:
            data = bytes(data)  # its address cannot be had
        sent = 0
        if not self._backlog:
            sent = self._tls.write(data)
            if sent == len(data):
                return
            if self._tls.failure is not None:
                self._closing = True
                self._loop.call_soon(self._drop, self._tls.failure)
                return
        if not isinstance(data, bytes):
            data, sent = bytes(memoryview(data)[sent:]), 0
        if not self._backlog:
            self._sent_of_first = sent
        self._backlog.append(data)
        self._unsent += len(data) - sent
        self._watch_writes()
        self._pause_protocol()

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Send these one after another, in as few records as they fill."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """TLS connections have no half-close, as in asyncio."""
        return False

    def get_write_buffer_size(self) -> int:
        """Bytes not yet given to the kernel."""
        return self._unsent

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high water."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Ask the protocol to pause above ``high`` unsent bytes, and to go on at ``low``."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._low, self._high = low, high
        self._pause_protocol()

    def _pause_protocol(self) -> None:
        if not self._protocol_paused and self._unsent > self._high:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def _watch_writes(self) -> None:
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._descriptor, self._write_ready)

    def _unwatch_writes(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._descriptor)

    def _write_ready(self) -> None:
        """Send on what waits."""
        tls, backlog = self._tls, self._backlog
        if self._gone:
            return
        try:
            while backlog:
                sent = tls.write(backlog[0], self._sent_of_first)
                self._unsent -= sent
                self._sent_of_first += sent
                if self._sent_of_first < len(backlog[0]):
                    break
                backlog.popleft()
                self._sent_of_first = 0
            if tls.failure is not None:
                self._drop(tls.failure)
                return
            if self._protocol_paused and self._unsent <= self._low:
                self._protocol_paused = False
                self._protocol.resume_writing()
            if not backlog and not self._gone:  # whoever was told may have written or dropped it
                self._unwatch_writes()
                if self._closing:
                    self._farewell()
        except Exception as error:
            self._bug(error)

    # ---- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Send what waits and close."""
        if self._closing:
            return
        self._closing = True
        self._unwatch_reads()
        self._overdue = self._loop.call_later(SHUTDOWN_TIMEOUT, self._drop, None)
        if not self._backlog:
            self._farewell()

    def abort(self) -> None:
        """Close at once; what waits is lost."""
        if not self._gone:
            self._closing = True
            self._loop.call_soon(self._drop, None)
            self._unwatch_reads()
            self._unwatch_writes()

    def _farewell(self) -> None:
        """The browser's farewell and FIN; then only the peer's end is waited for."""
        if not self._tls.say_goodbye():
            self._watch_writes()
            return
        with contextlib.suppress(OSError):
            self._tls.sock.shutdown(socket.SHUT_WR)
        if self._tls.ended or self._tls.failure is not None:
            self._loop.call_soon(self._drop, None)
            return
        self._reading = True
        # A PolledLoop leaves transports alone that are closed; this one waits for the peer's end.
        self._polled.add_reader(self._descriptor, functools.partial(BrowserTransport._discard, self))

    def _drop(self, error: BaseException | None) -> None:
        """The end: no callback follows but ``connection_lost``."""
        if self._gone:
            return
        self._gone = self._closing = True
        if self._overdue is not None:
            self._overdue.cancel()
        self._unwatch_reads()
        self._unwatch_writes()
        self._backlog.clear()
        self._unsent = 0
        self._loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(cast("Exception | None", error))
        finally:
            self._tls.close()

    def _bug(self, error: Exception) -> None:
        """The protocol raised something: asyncio's way is to report it and drop the connection."""
        self._loop.call_exception_handler(
            {
                "message": "a protocol failed",
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )
        self._drop(error)


def _name(ask: Any) -> Any:
    """An address of the socket, if it still has one."""
    try:
        return ask()
    except OSError:
        return None
