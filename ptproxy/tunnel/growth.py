"""One carrier more beside bulk, with the small streams moved there; one fewer when it carries nothing."""

from __future__ import annotations

from typing import Final

from ptproxy.tunnel.client import ClientTunnel
from ptproxy.tunnel.load import moved_by, rate_of, sound

SMALL_STREAM: Final = 64 << 10
"""Bytes that a stream may move while a carrier is dialled and still count as interactive."""


class Growth:
    """What streams had moved when one carrier more was asked for."""

    def __init__(self) -> None:
        self._moved: dict[int, int] = {}

    def asked(self, tunnel: ClientTunnel) -> None:
        """One more is asked for."""
        self._moved = {stream.id: moved_by(stream) for stream in tunnel.session.streams.values()}

    def came(self, tunnel: ClientTunnel, number: int) -> None:
        """It is there: what has moved little since it was asked for goes there (R15)."""
        before, self._moved = self._moved, {}
        if len(tunnel.carriers) < 2 or not before:
            return
        now = tunnel.now()
        for stream in list(tunnel.session.streams.values()):
            small = moved_by(stream) - before.get(stream.id, 0) < SMALL_STREAM
            if small and stream.carrier is not None and stream.carrier != number:
                tunnel.client_session.drain(stream, number, now)
        tunnel.schedule()


def close_spare(tunnel: ClientTunnel) -> int | None:
    """Close carriers beyond the first that carry nothing; how many are left, None where none was closed."""
    used = {stream.carrier for stream in tunnel.session.streams.values()}
    left = None
    for carrier in list(tunnel.carriers.values())[1:]:
        if carrier.number not in used and rate_of(carrier, tunnel.now()) < 1.0:
            left = sound(tunnel) - 1
            carrier.end("spare")
    return left
