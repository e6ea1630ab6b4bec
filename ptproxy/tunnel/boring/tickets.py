"""TLS session tickets, kept and spent as Chrome does it.

A TLS 1.3 ticket is used once (RFC 8446, appendix C.4), and the two latest of a
server are kept: ``SSLClientSessionCache`` of Chromium's ``net/ssl``. A browser
that has loaded a page resumes that connection's ticket for the WebSocket, so
that a cold WebSocket hello is itself a sign (``SHAPES.md``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

MOST_OF_ONE: Final = 2
"""Tickets kept of one server (Chromium's ``Entry::kMaxSessions``)."""
MOST_SERVERS: Final = 64
"""Servers of which tickets are kept, the least recently heard of going first."""


class Tickets:
    """Sessions (``SSL_SESSION *``) by what they may be offered to; each is owned here until taken.

    The key holds everything that the first connection was checked for: a
    resumed one shows no certificate anew.
    """

    def __init__(self, free: Callable[[int], object]) -> None:
        self._free = free
        self._kept: OrderedDict[Hashable, list[int]] = OrderedDict()

    def put(self, key: Hashable, session: int) -> None:
        """Keep a session that a server has just sent."""
        kept = self._kept.setdefault(key, [])
        self._kept.move_to_end(key)
        kept.append(session)
        if len(kept) > MOST_OF_ONE:
            self._free(kept.pop(0))
        if len(self._kept) > MOST_SERVERS:
            for old in self._kept.popitem(last=False)[1]:
                self._free(old)

    def take(self, key: Hashable) -> int | None:
        """The latest session for ``key``; it is the caller's to free, and not offered again."""
        kept = self._kept.get(key)
        if not kept:
            return None
        session = kept.pop()
        if not kept:
            del self._kept[key]
        return session

    def forget(self) -> None:
        """Free all."""
        for kept in self._kept.values():
            for session in kept:
                self._free(session)
        self._kept.clear()

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def __del__(self) -> None:
        self.forget()
