"""One TCP connection of a prober's: every byte that came, every byte that left, and how it ended."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Final

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for a TCP connection."""
SEND_TIMEOUT: Final = 5.0
"""Seconds within which a server takes what is sent, or never."""
MAX_RECEIVED: Final = 1 << 20
"""Bytes of an answer that are kept; nothing that is asked for has an answer of that size by nature."""
AFTERWARDS: Final = 1.0
"""Seconds in which a closed socket's RST arrives."""
_READ: Final = 1 << 16


class Wire:
    """A connected socket of an asyncio loop; :meth:`close` it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self.sent = bytearray()
        self.received = bytearray()
        self.ended = ""
        """``FIN`` or ``RST`` once the server ended the connection."""
        self.ended_at = 0.0
        """When, in the loop's time."""

    @classmethod
    async def open(cls, address: tuple[str, int]) -> Wire:
        """Connect to an IP literal and port; ``OSError`` where that fails."""
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def send(self, data: bytes) -> None:
        """Send as much as the server takes; that it takes no more is seen when reading."""
        self.sent += data
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._loop.sock_sendall(self._sock, data)
        except OSError:  # TimeoutError is one
            pass

    def finish(self) -> None:
        """Send FIN."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    async def receive(self, until: float) -> bytes:
        """The next bytes; none where the connection ended, or the loop's time is ``until``."""
        if self.ended:
            return b""
        try:
            async with asyncio.timeout_at(until):
                data = await self._loop.sock_recv(self._sock, _READ)
        except TimeoutError as error:
            if error.errno == errno.ETIMEDOUT:
                self._end("timed out")
            return b""
        except OSError:
            self._end("RST")
            return b""
        if not data:
            self._end("FIN")
        elif len(self.received) + len(data) > MAX_RECEIVED:
            self._end(f"more than {MAX_RECEIVED} bytes")
        else:
            self.received += data
        return data if not self.ended else b""

    async def send_after_end(self, data: bytes) -> None:
        """See whether a connection that the server ended is closed, or only half of it."""
        if self.ended != "FIN":
            return
        await self.send(data)
        await asyncio.sleep(AFTERWARDS)
        failed = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.ended += ", RST when written to" if failed else ", takes what is written"

    def close(self) -> None:
        """Let go of the connection."""
        self._sock.close()

    def _end(self, how: str) -> None:
        self.ended = how
        self.ended_at = self._loop.time()
