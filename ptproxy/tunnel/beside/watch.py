"""Being called when something can be read from a socket, or written to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from ptproxy.tunnel.polling import polled


class Watch:
    """Of one socket, as long as nothing else reads it."""

    __slots__ = ("_called", "_fd", "_input", "_loop", "_room")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, called: Callable[[], None]
    ) -> None:
        """``called``: each time that something can be read, and once when there is room."""
        self._loop = loop
        self._fd = sock.fileno()
        self._called = called
        self._input = self._room = False

    def for_input(self) -> None:
        """Call when something can be read, again and again."""
        if not self._input:
            self._input = True
            polled(self._loop).add_reader(self._fd, self._called)

    def for_room(self) -> None:
        """Call once something can be written."""
        if not self._room:
            self._room = True
            self._loop.add_writer(self._fd, self._has_room)

    def stop(self) -> None:
        """Call no more; before the socket is closed."""
        if self._input:
            self._input = False
            polled(self._loop).remove_reader(self._fd)
        if self._room:
            self._room = False
            self._loop.remove_writer(self._fd)

    def _has_room(self) -> None:
        self._room = False
        self._loop.remove_writer(self._fd)
        self._called()
