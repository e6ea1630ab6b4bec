"""Fixed fields, one after another: how messages, records and stored state are taken apart."""

from __future__ import annotations

import struct
from typing import Any

from ptproxy.errors import PtproxyError


class Fields:
    """Takes fields from the front of ``data``; running out, or ending too early, raises ``error``."""

    __slots__ = ("_data", "_error", "_position")

    def __init__(self, data: bytes, error: PtproxyError) -> None:
        self._data = data
        self._error = error
        self._position = 0

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        end = self._position + length
        if end > len(self._data):
            raise self._error
        field = self._data[self._position : end]
        self._position = end
        return field

    def number(self, length: int) -> int:
        """The next ``length`` bytes as an unsigned big-endian number."""
        return int.from_bytes(self.take(length), "big")

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        """The next fields, as ``form`` has them."""
        return form.unpack(self.take(form.size))

    def so_far(self) -> bytes:
        """Everything taken until now: what a signature that follows covers."""
        return self._data[: self._position]

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self._data) - self._position)

    def end(self) -> None:
        """Nothing may be left."""
        if self._position != len(self._data):
            raise self._error
