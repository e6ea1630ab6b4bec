"""Forwards: a port of this machine that stands for one target, as ``127.0.0.1:2222 -> example.org:22``.

``udp`` in front of it forwards datagrams; without it (or with ``tcp``), TCP connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ptproxy.config.quantities import Endpoint, parse_address, parse_listen

MAX_FORWARDS = 256
"""Forwards of one client: each holds a listening socket."""


@dataclass(frozen=True, slots=True)
class Forward:
    """``listen`` on this machine stands for ``target``, reached from the bridge."""

    kind: Literal["tcp", "udp"]
    listen: Endpoint
    target: Endpoint

    @classmethod
    def parse(cls, text: object) -> Forward:
        """``[tcp|udp] LOCAL -> TARGET``; raises :class:`ValueError`."""
        wrong = ValueError(
            "expected LOCAL -> TARGET, as in 127.0.0.1:2222 -> example.org:22 or "
            "udp 127.0.0.1:5300 -> 9.9.9.9:53"
        )
        if not isinstance(text, str):
            raise wrong
        words = text.replace("->", " -> ").split()
        kind: Literal["tcp", "udp"] = "tcp"
        if words and words[0] in ("tcp", "udp"):
            kind = "udp" if words.pop(0) == "udp" else "tcp"
        if len(words) != 3 or words[1] != "->":
            raise wrong
        return cls.of(kind, words[0], words[2])

    @classmethod
    def of(cls, kind: Literal["tcp", "udp"], local: str, target: str) -> Forward:
        """From its parts; ``local`` may be a port of 127.0.0.1 alone. Raises :class:`ValueError`."""
        if local.isascii() and local.isdigit():
            local = f"127.0.0.1:{local}"
        listen = parse_listen(local)
        if listen.unix is not None:
            raise ValueError(f"{listen} is no port: write an address, as in 127.0.0.1:2222")
        return cls(kind, listen, parse_address(target))

    def __str__(self) -> str:
        return f"{'udp ' if self.kind == 'udp' else ''}{self.listen} -> {self.target}"
