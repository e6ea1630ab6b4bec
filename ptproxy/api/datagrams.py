"""UDP through the bridge, one association at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Final, Self

from ptproxy.api.failures import StreamLostError
from ptproxy.errors import DialError, Reason
from ptproxy.target import Target
from ptproxy.tunnel.stream import MAX_DATAGRAM, Association, Dialer

MAX_WAITING: Final = 1024
"""Datagrams kept for a program that does not receive; then the oldest are dropped, as a socket would."""
MAX_WAITING_BYTES: Final = 1 << 20
"""Bytes of them."""

Address = tuple[str, int]


class Datagrams:
    """A UDP socket at the bridge. What is sent may be lost, as everywhere."""

    def __init__(self) -> None:
        self._association: Association | None = None
        self._waiting: deque[tuple[bytes, Address]] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._lost: StreamLostError | None = None

    @classmethod
    async def open(cls, dialer: Dialer) -> Self:
        """Open one; raises :class:`~ptproxy.errors.DialError`."""
        datagrams = cls()
        datagrams._association = await dialer.associate(datagrams)
        return datagrams

    def send(self, data: bytes, address: Address) -> None:
        """Send ``data`` to a host (a name is resolved at the bridge) and port.

        Raises ``ValueError`` for what no datagram holds, :class:`StreamLostError` once it is over.
        """
        if len(data) > MAX_DATAGRAM:
            raise ValueError(f"a datagram has at most {MAX_DATAGRAM} bytes")
        if self._lost is not None or self._association is None:
            raise self._lost or StreamLostError(Reason.CANCELLED, "the datagrams are closed")
        self._association.send_datagram(Target.address(*address), data)

    async def receive(self) -> tuple[bytes, Address]:
        """The next datagram and where it came from; raises :class:`StreamLostError` once it is over."""
        while not self._waiting:
            if self._lost is not None or self._association is None:
                raise self._lost or StreamLostError(Reason.CANCELLED, "the datagrams are closed")
            self._changed.clear()
            await self._changed.wait()
        data, address = self._waiting.popleft()
        self._bytes -= len(data)
        return data, address

    def close(self) -> None:
        """End it; harmless when it has ended."""
        association, self._association = self._association, None
        if association is not None:
            association.close()
        self._changed.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- the far side's receiver -----------------------------------------------------------------

    def datagram_received(self, source: Target, data: bytes) -> None:
        """Keep a datagram for :meth:`receive`."""
        self._waiting.append((data, (source.host, source.port)))
        self._bytes += len(data)
        while len(self._waiting) > MAX_WAITING or self._bytes > MAX_WAITING_BYTES:
            self._bytes -= len(self._waiting.popleft()[0])
        self._changed.set()

    def association_lost(self, exc: DialError | None) -> None:
        """No more will come."""
        self._association = None
        reason = exc.reason if exc is not None else Reason.GENERAL
        self._lost = StreamLostError(reason, f"the datagrams ended: {exc}" if exc is not None else "")
        self._changed.set()
