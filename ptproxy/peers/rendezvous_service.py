"""Where two peers' streams are joined, at a bridge: cookies that wait, pairs that pass.

Nothing is written down, and nothing is known of a pair but that it is one.
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from ptproxy.buffer import Buffer
from ptproxy.config.model import RendezvousConfig
from ptproxy.errors import Reason
from ptproxy.log import get_logger
from ptproxy.peers.rendezvous import JOINED, OPENING, SERVICE, RendezvousError, Side, parse_opening
from ptproxy.peers.seats import Seats
from ptproxy.state import StateFolder
from ptproxy.tunnel.relay import StreamEnd, couple, reset_stream
from ptproxy.tunnel.stream import Incoming

MAX_WAITING: Final = 1_024
"""Streams that wait for their peer, those that have not said for whom included."""
WAITING_OF_ONE: Final = 16
"""... of one account."""
PAIRS_OF_ONE: Final = 128
"""Pairs that one account has a part in."""

log = get_logger(__name__)


class RendezvousService:
    """A bridge's rendezvous (a :class:`~ptproxy.tunnel.stream.BridgeService`)."""

    name = SERVICE

    def __init__(self, config: RendezvousConfig, *, most_waiting: int = MAX_WAITING) -> None:
        self.pairs = 0
        """Pairs that are joined."""
        self._config = config
        self._streams: Seats[_Waiting] = Seats(most_waiting, WAITING_OF_ONE)
        self._cookies: dict[bytes, _Waiting] = {}
        self._paired: Counter[str] = Counter()
        self._closed = False

    async def start(self, state: StateFolder) -> None:
        """There is nothing to keep."""

    def __call__(self, incoming: Incoming) -> None:
        """A peer's stream."""
        account = incoming.peer
        if self._closed:
            incoming.refuse(Reason.SHUTDOWN)
        elif not self._streams.may_sit(account):
            incoming.refuse(Reason.LIMIT)
        else:
            oldest = self._streams.crowded_out()
            if oldest is not None:
                oldest.send_away(Reason.LIMIT)
            waiting = _Waiting(self, account, self._config.wait)
            self._streams.sit(account, waiting)
            incoming.accept(waiting)

    def end_streams(self) -> None:
        """Who waits is sent away; pairs may end by themselves."""
        self._closed = True
        for waiting in list(self._streams):
            waiting.send_away(Reason.SHUTDOWN)

    async def close(self) -> None:
        """Pairs end with their sessions."""

    def said(self, newcomer: _Waiting, cookie: bytes, side: Side) -> None:
        """A stream has said whom it waits for."""
        newcomer.cookie, newcomer.side = cookie, side
        there = self._cookies.pop(cookie, None)
        if there is None or there.transport.is_closing():  # it will hear so in a moment
            self._cookies[cookie] = newcomer
        elif there.side is side:
            self._cookies[cookie] = newcomer
            there.send_away(Reason.CANCELLED)  # its client dialled again: that one is dead
        elif self.pairs >= self._config.pairs or self._busy(there) or self._busy(newcomer):
            there.send_away(Reason.LIMIT)
            newcomer.send_away(Reason.LIMIT)
        else:
            self.pairs += 1
            accounts = (there.account, newcomer.account)
            self._paired.update(accounts)
            join(there, newcomer, functools.partial(self._parted, accounts))

    def gone(self, waiting: _Waiting) -> None:
        """A stream waits no longer."""
        if self._streams.leave(waiting.account, waiting) and self._cookies.get(waiting.cookie) is waiting:
            del self._cookies[waiting.cookie]

    def _busy(self, waiting: _Waiting) -> bool:
        return self._paired[waiting.account] >= PAIRS_OF_ONE

    def _parted(self, accounts: tuple[str, str]) -> None:
        self.pairs -= 1
        self._paired -= Counter(accounts)  # keeps none of zero


class _Waiting(asyncio.Protocol):
    """A stream whose peer is not there yet."""

    def __init__(self, service: RendezvousService, account: str, seconds: float) -> None:
        self.account = account
        self.cookie = b""
        self.side: Side | None = None
        self.transport: Any = None
        self._service = service
        self._seconds = seconds
        self._received = bytearray()
        self._gone = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Its time begins."""
        self.transport = transport
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds, self.send_away, Reason.TIMED_OUT)

    def data_received(self, data: Buffer) -> None:
        """The opening; what comes behind it is the peer's, later."""
        if self not in self._service._streams:
            return
        self._received += data
        if self.side is not None:
            return  # what was already on its way when reading was paused
        try:
            said = parse_opening(bytes(self._received[:OPENING]))
        except RendezvousError:
            self.send_away(Reason.GENERAL)
            return
        if said is not None:
            self.transport.pause_reading()
            self._service.said(self, *said)

    def eof_received(self) -> bool:
        """It gives up."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        del exc
        self._leave()

    def send_away(self, reason: Reason) -> None:
        """It waits in vain."""
        self._leave()
        reset_stream(self.transport, reason)

    def take(self) -> bytes:
        """It has met its peer: what came behind the opening."""
        self._leave()
        return bytes(self._received[OPENING:])

    def _leave(self) -> None:
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
        self._service.gone(self)


def join(one: _Waiting, other: _Waiting, on_end: Callable[[], None]) -> None:
    """Make one stream of two: what each has said so far comes behind the word that both are there."""
    ends = StreamEnd(), StreamEnd()
    couple(*ends, on_end)
    said = one.take(), other.take()
    for end, waiting, far in ((ends[0], one, other), (ends[1], other, one)):
        end.transport = waiting.transport
        end.data_received = far.transport.write
        waiting.transport.set_protocol(end)
    for waiting in (one, other):
        waiting.transport.resume_reading()  # before anything is written: that may pause it again
    one.transport.write(JOINED + said[1])
    other.transport.write(JOINED + said[0])
