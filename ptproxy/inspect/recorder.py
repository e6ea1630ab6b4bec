"""A relay that writes down what passes, as a capture: for who may not look at the network.

Bytes are the connection's own; the packets around them are made up (segments
of :data:`SEGMENT` bytes at the time they were read), so that sizes and times
of TLS records are as on the wire and sizes of packets nearly so. Cover and
tunnel that are both recorded this way can be compared with one another.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from ptproxy.inspect.flows import DOWN, UP
from ptproxy.inspect.pcap import FILE_HEAD, Packet, serialize
from ptproxy.inspect.segments import ACK, FIN, SYN, Endpoint, packet_of

SEGMENT: Final = 1448
"""Bytes of a segment: Ethernet's 1500 without heads and the time stamp option."""
KEPT: Final = 512 * 1024
"""Bytes of each direction of a connection that are kept; classifiers look at the first records."""
MAX_CAPTURE: Final = 256 << 20
"""Bytes kept in all; what comes later is relayed and not written down."""
CONNECT_TIMEOUT: Final = 15.0
"""Seconds to reach the server."""
IDLE: Final = 600.0
"""Seconds without a byte either way after which a connection is given up."""
_READ: Final = 1 << 16


class Recorder:
    """Relays connections from ``listen`` to ``target`` (IP literals and ports) while it is entered."""

    def __init__(self, listen: Endpoint, target: Endpoint, now: Callable[[], float] = time.time) -> None:
        self._listen = listen
        self._target = target
        self._now = now
        self._server: asyncio.Server | None = None
        self._capture = bytearray(FILE_HEAD)
        self._relaying: set[asyncio.Task[None]] = set()
        self.connections = 0
        """How many have come so far."""

    async def __aenter__(self) -> Recorder:
        """Listen; ``OSError`` where that is not possible."""
        self._server = await asyncio.start_server(self._serve, *self._listen)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listen no more, end what is open."""
        assert self._server is not None
        self._server.close()
        for task in self._relaying:
            task.cancel()
        await asyncio.gather(*self._relaying, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def address(self) -> Endpoint:
        """Where it listens."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    def capture(self) -> bytes:
        """The capture file so far."""
        return bytes(self._capture)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection; ends it whatever happens."""
        task = asyncio.current_task()
        assert task is not None
        self._relaying.add(task)
        client: Endpoint = writer.get_extra_info("peername")[:2]
        self.connections += 1
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                onward, away = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            self._relaying.discard(task)
            return
        noted = _Noted(self, client, self._target)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(noted.relay(UP, reader, away))
                both.create_task(noted.relay(DOWN, onward, writer))
        except* OSError:
            pass
        finally:
            self._relaying.discard(task)
            for end in (writer, away):
                end.transport.abort()

    def note(self, packet: bytes) -> None:
        """Write a packet down, now."""
        if len(self._capture) + len(packet) <= MAX_CAPTURE:
            self._capture += serialize(Packet(self._now(), 101, packet))


class _Noted:
    """One connection's packets, as they would have been."""

    def __init__(self, recorder: Recorder, client: Endpoint, server: Endpoint) -> None:
        self._recorder = recorder
        self._ends = {UP: (client, server), DOWN: (server, client)}
        self._next = {UP: 1, DOWN: 1}
        self._kept = {UP: 0, DOWN: 0}
        recorder.note(packet_of(client, server, 0, 0, SYN))
        recorder.note(packet_of(server, client, 0, 1, SYN | ACK))
        recorder.note(packet_of(client, server, 1, 1, ACK))

    async def relay(self, direction: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy one direction to its end; ``OSError`` where the other side is gone."""
        while True:
            async with asyncio.timeout(IDLE):
                data = await reader.read(_READ)
            self._note(direction, data)
            if not data:
                break
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    def _note(self, direction: int, data: bytes) -> None:
        """What was read, cut into segments; nothing is the end."""
        if self._kept[direction] > KEPT:
            return
        self._kept[direction] += len(data)
        for at in range(0, max(1, len(data)), SEGMENT):
            piece = data[at : at + SEGMENT]
            flags = ACK if piece else ACK | FIN
            sequence, answer = self._next[direction], self._next[-direction]
            self._recorder.note(packet_of(*self._ends[direction], sequence, answer, flags, piece))
            self._next[direction] += len(piece) or 1
