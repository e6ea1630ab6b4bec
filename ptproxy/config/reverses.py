"""Reverses: a port of the bridge that stands for a service behind the client, as ``2222 -> 127.0.0.1:22``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ptproxy.config.quantities import Endpoint, parse_address

MAX_REVERSES: Final = 64
"""Reverses of one client: each holds a stream and may hold a listening socket at the bridge."""


@dataclass(frozen=True, slots=True)
class Reverse:
    """``port`` of the bridge stands for ``target``, reached from this machine."""

    port: int
    target: Endpoint

    @classmethod
    def parse(cls, text: object) -> Reverse:
        """``PORT -> HOST:PORT``; raises :class:`ValueError`."""
        words = text.replace("->", " -> ").split() if isinstance(text, str) else []
        if len(words) != 3 or words[1] != "->":
            raise ValueError("expected PORT -> TARGET, as in 2222 -> 127.0.0.1:22")
        return cls.of(words[0], words[2])

    @classmethod
    def of(cls, port: str, target: str) -> Reverse:
        """From its parts; ``target`` may be a port of 127.0.0.1 alone. Raises :class:`ValueError`."""
        if not port.isascii() or not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
            raise ValueError(f"{port[:50]!r} is no port of the bridge: a number from 1 to 65535, as in 2222")
        if target.isascii() and target.isdigit():
            target = f"127.0.0.1:{target}"
        return cls(int(port), parse_address(target))

    def __str__(self) -> str:
        return f"{self.port} -> {self.target}"
