"""The workers of one bridge hand one another connections, over Unix sockets that only they have.

A message is one packet (SOCK_SEQPACKET) with the connection's descriptor beside it::

    judged u8 length    SHA-256 of the opening that was looked up and entered in the replay filter, or nothing
    origin u8 length    where it comes from, "port address" in ASCII, or nothing
    what it has said    the rest

The descriptor is the connection itself, or the end of a pair through which the worker that
has accepted it passes everything on (:mod:`ptproxy.tunnel.passage`).

There is one pair of sockets for each two workers, made before they are forked and kept open
by whoever watches over them: what was sent to a worker that has ended waits for the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from ptproxy.log import get_logger

DIGEST: Final = 32
MOST_SAID: Final = 64 * 1024
"""Bytes of what a connection has said in one packet; one that has said more is passed on."""
MOST_WAITING: Final = 256
"""Connections that wait for one neighbour's socket to have room; one more is dropped."""
TURN: Final = 32
"""Packets taken in one turn of the loop."""

_PACKET: Final = 2 + DIGEST + 255 + MOST_SAID

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Handed:
    """A connection as it is handed over."""

    said: bytes
    judged: bytes = b""
    """SHA-256 of the opening that whoever hands it over has judged, ``b""`` for none."""
    origin: tuple[str, int] | None = None

    def serialize(self) -> bytes:
        """The packet."""
        origin = b"" if self.origin is None else f"{self.origin[1]} {self.origin[0]}".encode("ascii")
        return bytes((len(self.judged), len(origin))) + self.judged + origin + self.said

    @classmethod
    def parse(cls, packet: bytes) -> Self:
        """A packet of a neighbour's; ``ValueError`` for anything else."""
        if len(packet) < 2 or packet[0] not in (0, DIGEST) or len(packet) < 2 + packet[0] + packet[1]:
            raise ValueError("not a packet of ours")
        start = 2 + packet[0]
        end = start + packet[1]
        origin = None
        if packet[1]:
            port, _, address = packet[start:end].decode("ascii").partition(" ")
            origin = address, int(port)
        return cls(packet[end:], packet[2:start], origin)


class Neighbours:
    """This worker's ends of the pairs, by the others' places; its own place is None."""

    def __init__(self, sockets: Sequence[socket.socket | None]) -> None:
        self._sockets = sockets
        self._waiting: dict[int, deque[tuple[bytes, int]]] = {}
        self._crowded: set[int] = set()  # those of whom that was said, until they take some again
        self._loop: asyncio.AbstractEventLoop | None = None
        self._taken: Callable[[Handed, socket.socket], None] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, taken: Callable[[Handed, socket.socket], None]) -> None:
        """Take what others hand over from now on."""
        self._loop, self._taken = loop, taken
        for sock in self._sockets:
            if sock is not None:
                sock.setblocking(False)
                loop.add_reader(sock.fileno(), self._hear, sock)

    def hand(self, other: int, handed: Handed, descriptor: int) -> bool:
        """Give a connection to another worker; the descriptor is closed here in any case.

        False: there is no room, and the connection is gone.
        """
        waiting = self._waiting.get(other)
        if waiting is None:
            if self._send(other, handed.serialize(), descriptor):
                return True
            waiting = self._waiting[other] = deque()
            sock = self._sockets[other]
            assert sock is not None
            assert self._loop is not None
            self._loop.add_writer(sock.fileno(), self._room, other)
        if len(waiting) >= MOST_WAITING:
            if other not in self._crowded:
                log.warning("connections are dropped: the worker whose they are takes none", worker=other)
            self._crowded.add(other)
            os.close(descriptor)
            return False
        waiting.append((handed.serialize(), descriptor))
        return True

    def close(self) -> None:
        """Neither hand over nor take any more."""
        for other, sock in enumerate(self._sockets):
            if sock is None or sock.fileno() < 0:
                continue
            if self._loop is not None:
                self._loop.remove_reader(sock.fileno())
                self._loop.remove_writer(sock.fileno())
            for _, descriptor in self._waiting.pop(other, ()):
                os.close(descriptor)
            sock.close()

    def _send(self, other: int, packet: bytes, descriptor: int) -> bool:
        """True once it is sent, or never can be; the descriptor is then closed."""
        sock = self._sockets[other]
        assert sock is not None
        try:
            socket.send_fds(sock, [packet], [descriptor])
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            log.warning("a connection cannot be handed over", worker=other, why=type(error).__name__)
        os.close(descriptor)
        return True

    def _room(self, other: int) -> None:
        waiting = self._waiting[other]
        while waiting:
            if not self._send(other, *waiting[0]):
                return
            waiting.popleft()
        del self._waiting[other]
        self._crowded.discard(other)
        sock = self._sockets[other]
        assert sock is not None
        assert self._loop is not None
        self._loop.remove_writer(sock.fileno())

    def _hear(self, sock: socket.socket) -> None:
        assert self._loop is not None
        for _ in range(TURN):
            try:
                packet, descriptors, _, _ = socket.recv_fds(sock, _PACKET, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                packet, descriptors = b"", []
            if not packet:  # whoever watches over us is gone, too
                self._loop.remove_reader(sock.fileno())
                return
            self._take(packet, descriptors)

    def _take(self, packet: bytes, descriptors: list[int]) -> None:
        assert self._taken is not None
        left = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        with contextlib.suppress(ValueError):
            if len(left) == 1:
                self._taken(Handed.parse(packet), left.pop())
        for sock in left:
            sock.close()
