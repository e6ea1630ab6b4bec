"""What a local program sends before its target has answered."""

from __future__ import annotations

import asyncio
from typing import Final

from ptproxy.buffer import Buffer

MAX_FIRST_DATA: Final = 16 * 1024
"""Bytes that travel with the request for a stream: one small frame; what is above follows at once."""

MAX_EARLY: Final = 64 * 1024
"""Bytes kept of what a program sends before its target has answered; then its reading is paused."""


class EarlyData:
    """Bytes kept for a stream that is not there yet, in order."""

    __slots__ = ("_chunks", "_size")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._chunks)

    @property
    def full(self) -> bool:
        """Whether no more should be read for now; what is added all the same is kept."""
        return self._size > MAX_EARLY

    def add(self, data: Buffer) -> None:
        """Keep a copy of ``data``."""
        self._chunks.append(bytes(data))
        self._size += len(data)

    def first_data(self, data: bytes) -> bytes:
        """The part of ``data`` that travels with the request; the rest is kept."""
        if len(data) > MAX_FIRST_DATA:
            self.add(data[MAX_FIRST_DATA:])
        return data[:MAX_FIRST_DATA]

    def send_to(self, stream: asyncio.Transport) -> None:
        """Write what is kept, and keep it no longer."""
        chunks, self._chunks, self._size = self._chunks, [], 0
        for data in chunks:
            stream.write(data)

    def clear(self) -> None:
        """Nobody wants it any more."""
        self._chunks, self._size = [], 0
