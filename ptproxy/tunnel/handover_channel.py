"""Two processes of one bridge talk over a connected pair of Unix sockets, descriptors included.

A message is a head (kind u8, descriptors u8, length u32, big-endian) with its descriptors
on its first byte (SCM_RIGHTS), and ``length`` bytes. Blocking, with a time limit for each
step, for a thread of its own; a kernel that cuts descriptors off is an error, and then
whatever came is closed.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from ptproxy.errors import StartError, why

MOST_SOCKETS: Final = 64
"""Descriptors in one message; Linux takes 253."""
MOST_BYTES: Final = 1 << 30
"""Bytes that may be handed over in all: four times what a bridge keeps for its streams by default."""
CHUNK: Final = 1 << 20
"""Bytes of one message."""

_HEAD: Final = struct.Struct(">BBI")
_GONE: Final = struct.Struct(">BBII")
_RIGHTS: Final = socket.CMSG_SPACE(MOST_SOCKETS * array.array("i").itemsize) if os.name == "posix" else 0


class Word(IntEnum):
    """The messages."""

    READY_FOR = 1
    """New: everything is read and checked that can be before; the body is the version of the record."""
    SOCKETS = 2
    """Former: descriptors, the state folder's lock first."""
    RECORD = 3
    """Former: a piece of the record."""
    END = 4
    """Former: that was all."""
    TAKEN = 5
    """New: sessions and services stand; nothing was touched yet that both would notice."""
    GO = 6
    """Former: it is yours, as soon as you have said MINE."""
    UNSENT_GONE = 7
    """Former: the target of this place (u32) has all that was still to be written to it."""
    MINE = 8
    """New: it has heard GO and touched nothing before this word. Nothing can be taken back from here on."""


class Channel:
    """One end of the pair."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """This process's end, and the other one's."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(here), there

    @classmethod
    def inherited(cls, descriptor: int) -> Channel:
        """The end that whoever started this process has left open; raises StartError."""
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                raise OSError("not a socket")
            sock = socket.socket(fileno=descriptor)
            sock.set_inheritable(False)
            if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
                sock.close()
                raise OSError("not a Unix socket")
        except OSError as error:
            raise StartError(f"handover: descriptor {descriptor} cannot be used: {why(error)}") from None
        return cls(sock)

    def say(self, word: Word, body: bytes = b"", sockets: list[int] | None = None, *, within: float) -> None:
        """Send one message within so many seconds; raises ``OSError`` (``TimeoutError`` is one)."""
        descriptors = sockets or []
        self._sock.settimeout(within)
        head = _HEAD.pack(word, len(descriptors), len(body))
        sent = socket.send_fds(self._sock, [head], descriptors) if descriptors else 0
        rest = head[sent:] + body
        if rest:  # to send nothing would fail where the other process has heard all and closed its end
            self._sock.sendall(rest)

    def hear(self, within: float) -> tuple[Word, bytes, list[int]]:
        """The next message, whose descriptors are the caller's; ``OSError``, or ``EOFError`` at the end.

        Garbage is an ``OSError``, too.
        """
        self._sock.settimeout(within)
        head, descriptors = self._head()
        try:
            kind, count, size = _HEAD.unpack(head)
            if count != len(descriptors) or size > CHUNK or kind not in list(Word):
                raise OSError("nonsense from the other process")
            return Word(kind), self._exactly(size), descriptors
        except BaseException:
            close_all(descriptors)
            raise

    def fileno(self) -> int:
        """Its descriptor, for a loop to watch."""
        return self._sock.fileno()

    def places_gone(self) -> list[int] | None:
        """The places of the UNSENT_GONE that have come, without waiting; None at the end, or for garbage.

        To be called again whenever there is something to read: the end comes by itself.
        """
        self._sock.setblocking(False)
        places: list[int] = []
        try:
            while len(data := self._sock.recv(_GONE.size, socket.MSG_PEEK)) == _GONE.size:
                self._sock.recv(_GONE.size)
                word, _, size, place = _GONE.unpack(data)
                if (word, size) != (Word.UNSENT_GONE, 4):
                    return None
                places.append(place)
        except (BlockingIOError, InterruptedError):
            return places
        except OSError:
            return places or None
        return places if places or data else None

    def close(self) -> None:
        """Close this end; may be called twice."""
        self._sock.close()

    def _head(self) -> tuple[bytes, list[int]]:
        data, ancillary, flags, _ = self._sock.recvmsg(_HEAD.size, _RIGHTS)
        numbers = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
        descriptors = list(numbers)
        try:
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            if flags & socket.MSG_CTRUNC:
                raise OSError("descriptors were lost: this process may not have so many open")
            if not data:
                raise EOFError
            return data + self._exactly(_HEAD.size - len(data)), descriptors
        except BaseException:
            close_all(descriptors)
            raise

    def _exactly(self, size: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < size:
            piece = self._sock.recv(size - len(pieces))
            if not piece:
                raise EOFError
            pieces += piece
        return bytes(pieces)


def close_all(descriptors: Iterable[int]) -> None:
    """Close what has come and is not wanted."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
