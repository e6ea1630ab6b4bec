"""A TCP connect that is not waited for where it has already succeeded.

``loop.sock_connect`` looks every address up first; on uvloop that is a thread's
work, for literals too, and costs more than the connect. What is on this machine
or next to it has mostly answered when it is asked a second time, so that not
even a turn of the loop goes by.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Final

_UNDER_WAY: Final = (errno.EINPROGRESS, errno.EALREADY, errno.EINTR, errno.EWOULDBLOCK)
"""What a connect says that is not decided; after a signal it goes on all the same (connect(2))."""


async def connect(loop: asyncio.AbstractEventLoop, sock: socket.socket, address: tuple[str, int]) -> None:
    """Connect a non-blocking socket to an IP literal; raises ``OSError``.

    Cancelling it leaves the socket to whoever called.
    """
    if os.name != "posix":  # the completion loop of Windows does not watch sockets
        await loop.sock_connect(sock, address)
        return
    error = sock.connect_ex(address)
    if error in _UNDER_WAY:
        error = sock.connect_ex(address)  # on Linux 0 the first time after it has succeeded
    if error in _UNDER_WAY:
        await _writable(loop, sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error and error != errno.EISCONN:
        raise OSError(error, os.strerror(error))  # of the subclass that the number stands for


async def _writable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Wait until a connect is decided."""
    decided: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock.fileno(), _decided, decided)
    try:
        await decided
    finally:
        loop.remove_writer(sock.fileno())


def _decided(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
