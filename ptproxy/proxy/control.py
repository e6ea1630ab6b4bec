"""The control socket of a running role: ``control`` in its state folder, for its own user alone.

``CONTROL.md`` has the lines. Three things guard it: the folder and the socket have modes 0700 and 0600, and
the kernel says who connects (``SO_PEERCRED``; where a system has none, the modes alone). Connections,
lines and answers are bounded; whoever does not read its answers gets no further ones.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from ptproxy.buffer import Buffer
from ptproxy.errors import ConfigError, StartError
from ptproxy.log import get_logger
from ptproxy.proxy.control_lines import MAX_REQUEST, ControlError, Reply, Request
from ptproxy.state.sockets import NamedSocket, bind_socket
from ptproxy.tunnel.listen import Listener
from ptproxy.tunnel.tcp import BufferedReads

NAME: Final = "control"
"""The socket's name in the state folder."""
MAX_CONNECTIONS: Final = 16
"""At once; further ones are closed. A live view holds one."""
PATIENCE: Final = 60.0
"""Seconds without a request, or with an answer that is not read, after which a connection is closed."""

Asked = Callable[[], dict[str, Any] | Awaitable[dict[str, Any]]]
"""Answers one kind of request, now or later; raises ConfigError or StartError where it is not done."""

log = get_logger(__name__)


def name_of(worker: int) -> str:
    """The socket's name: workers of one bridge share a state folder, the first has the plain one."""
    return f"{NAME}.{worker}" if worker else NAME


class ControlPort:
    """Listens on the socket and answers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        answers: Mapping[str, Asked],
        about_bridges: Mapping[str, Callable[[str], dict[str, Any]]] | None = None,
    ) -> None:
        """``about_bridges``: what is asked about one bridge, by its name."""
        self.answers = answers
        self.about_bridges = about_bridges or {}
        self.connections: set[_Conversation] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._loop = loop
        self._named: NamedSocket | None = None
        self._listener: Listener | None = None

    def listen(self, folder: Path, worker: int = 0) -> None:
        """Listen in a state folder that this process holds; a role runs without where that fails."""
        if not hasattr(socket, "AF_UNIX"):
            return
        try:
            self._named = bind_socket(folder / name_of(worker))
        except StartError as error:
            log.warning(
                "no control socket: ptproxy status and reload will not reach this process", why=str(error)
            )
            return
        self._listener = Listener(self._loop, lambda: _Conversation(self, self._loop), self._named.sock)

    async def stop(self) -> None:
        """Stop listening and close what is open; the name stays if another process has it by now."""
        if self._named is not None:
            self._named.give_up()
        if self._listener is not None:
            self._listener.close()
            for connection in list(self.connections):
                connection.overdue()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            await self._listener.wait_closed()

    async def answer(self, line: bytes) -> Reply:
        """What a line gets."""
        try:
            request = Request.parse(line)
            about = self.about_bridges.get(request.ask)
            if about is not None:
                return Reply(about(request.bridge))
            asked = self.answers.get(request.ask)
            if asked is None:
                return Reply.refusal(["that cannot be asked here"])
            answer = asked()
            return Reply(await answer if inspect.isawaitable(answer) else answer)
        except ConfigError as error:
            return Reply.refusal(error.problems)
        except (ControlError, StartError) as error:
            return Reply.refusal([str(error)])
        except Exception as error:  # whoever waits for an answer gets one
            self._loop.call_exception_handler({"message": "an answer failed", "exception": error})
            return Reply.refusal(["it failed in an unforeseen way; the log says how"])


class _Conversation(BufferedReads):
    """One connection: requests one after another, each answered before the next is looked at."""

    def __init__(self, port: ControlPort, loop: asyncio.AbstractEventLoop) -> None:
        self._port = port
        self._loop = loop
        self._unread = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected: one of ours, or nobody."""
        self._transport = cast("asyncio.Transport", transport)
        who = peer_of(transport.get_extra_info("socket"))
        if who not in (None, 0, os.geteuid()):
            log.warning("another user was turned away from the control socket", uid=who)
            self._loop.call_soon(self._transport.abort)
            return
        if len(self._port.connections) >= MAX_CONNECTIONS:
            self._loop.call_soon(self._transport.abort)
            return
        self._transport.set_write_buffer_limits(0)
        self._port.connections.add(self)
        self._wait()

    def data_received(self, data: Buffer) -> None:
        """A request, whole or in pieces."""
        if self not in self._port.connections:
            return
        self._unread += data
        if len(self._unread) > 2 * MAX_REQUEST:  # who waits for its answers never has so much under way
            self._transport.abort()
            return
        self._next()

    def _next(self) -> None:
        """Answer the next line, if one is there and the answers before it are read."""
        if self._task is not None or self._paused or self._transport.is_closing():
            return
        line, end, rest = self._unread.partition(b"\n")
        if not end:
            if len(line) < MAX_REQUEST:
                return
            rest = bytearray()
        self._unread = rest
        self._task = self._loop.create_task(self._answer(bytes(line)))
        self._port.tasks.add(self._task)
        self._task.add_done_callback(self._port.tasks.discard)

    async def _answer(self, line: bytes) -> None:
        self._wait()
        try:
            reply = await self._port.answer(line)
            if not self._transport.is_closing():
                self._transport.write(reply.serialize())
        finally:
            self._task = None
        self._wait()
        self._next()

    def pause_writing(self) -> None:
        """The answer is not read yet."""
        self._paused = True

    def resume_writing(self) -> None:
        """It is."""
        self._paused = False
        self._next()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(PATIENCE, self.overdue)

    def overdue(self) -> None:
        """Nothing came for long, or nothing was read; what is being done is done all the same."""
        if self._task is not None and not self._port_stops():
            self._wait()
        else:
            self._transport.abort()

    def _port_stops(self) -> bool:
        listener = self._port._listener
        return listener is None or not listener.sockets

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        del exc
        self._port.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()


def peer_of(sock: Any) -> int | None:
    """The user at the other end of a Unix socket; None where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None or sock is None:
        return None
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, option, size))
    return int(uid)
