"""Keeps the streams of a client without a shape where :mod:`~ptproxy.tunnel.balance` has them belong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ptproxy.tunnel.balance import EVERY, Balance, Riding
from ptproxy.tunnel.client import ClientTunnel
from ptproxy.tunnel.load import moved_by


class Parting:
    """Looks while anything moves, and moves small streams away from bulk."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnel: Callable[[], ClientTunnel],
        grow: Callable[[ClientTunnel], None],
    ) -> None:
        """``tunnel``: the one in use; ``grow`` asks for one more carrier of it."""
        self._loop = loop
        self._tunnel = tunnel
        self._grow = grow
        self._balance = Balance()
        self._look: asyncio.TimerHandle | None = None
        self._moved = 0

    @property
    def busy(self) -> frozenset[int]:
        """Carriers that had bulk at the last look."""
        return self._balance.busy

    def look_on(self) -> None:
        """Look in a while: to be told when a stream was opened, and every few seconds."""
        if self._look is None:
            self._look = self._loop.call_later(EVERY, self._part)

    def stop(self) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _part(self) -> None:
        self._look = None
        tunnel = self._tunnel()
        streams, known, now = tunnel.session.streams, tunnel.session.carriers, tunnel.now()
        if tunnel.closed or len(streams) < 2:
            return
        free = [n for n in tunnel.carriers if n in known and not (known[n].suspect or known[n].leaving)]
        riding = [
            Riding(one.id, one.carrier, moved_by(one)) for one in streams.values() if one.carrier is not None
        ]
        advice = self._balance.look(riding, free)
        for stream, to in advice.moves:
            tunnel.client_session.drain(streams[stream], to, now)
        if advice.moves:
            tunnel.schedule()
        if advice.is_short:
            self._grow(tunnel)
        moved = sum(one.sent_bytes + one.received_bytes for one in tunnel.carriers.values())
        if moved != self._moved:
            self._moved = moved
            self.look_on()
