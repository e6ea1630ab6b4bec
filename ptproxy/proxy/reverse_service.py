"""Services behind clients, offered at ports of the bridge: the bridge's side (``REVERSE.md``).

An offer is held by a stream of its client's. Whoever connects to its port is a
program as at any forwarded port (:mod:`~ptproxy.proxy.forward`), whose target is
"dialled" by telling the client, which then opens a stream for the connection.
Who may offer what is the access list's to say, at every offer and whenever the
list changes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final

from ptproxy.buffer import Buffer
from ptproxy.config.model import ReverseConfig
from ptproxy.errors import Reason
from ptproxy.log import get_logger
from ptproxy.proxy.accounts import Accounts
from ptproxy.proxy.reverse_frames import (
    FROM_CLIENT,
    SERVICE,
    Alive,
    Arrived,
    FrameReader,
    Offer,
    Offered,
    Refused,
    ReverseError,
    Take,
    Why,
)
from ptproxy.proxy.reverse_offer import Arrival, OfferedPort
from ptproxy.state import StateFolder
from ptproxy.tunnel.relay import reset_stream
from ptproxy.tunnel.stream import Incoming

MAX_OFFERS: Final = 1_024
"""Offers of all clients: each is a listening socket."""
UNDECIDED_OF_ONE: Final = 64
"""Streams of one account that have not said what they are for."""
FIRST_WORD: Final = 10.0
"""Seconds for a stream to say what it is for."""
SILENT: Final = 300.0
"""Seconds without a sign of life after which a client counts as gone: it gives one every 90 at most."""

log = get_logger(__name__)


class ReverseService:
    """A bridge's reverse (a :class:`~ptproxy.tunnel.stream.BridgeService`)."""

    name = SERVICE

    def __init__(self, config: ReverseConfig, accounts: Accounts) -> None:
        self.offers: dict[int, OfferedPort] = {}
        """By port."""
        self._config = config
        self._accounts = accounts
        self._undecided: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self, state: StateFolder) -> None:
        """Follow the access list."""
        del state
        self._accounts.on_change.append(self.access_changed)

    def __call__(self, incoming: Incoming) -> None:
        """A client's stream: an offer, or for a connection that arrived."""
        account = incoming.peer
        if self._closed:
            incoming.refuse(Reason.SHUTDOWN)
        elif incoming.target.kind != "service" or not self._permitted(account):
            # By its reserved host name any program at the client's proxy could ask for it.
            incoming.refuse(Reason.NOT_PERMITTED)
        elif self._undecided[account] >= UNDECIDED_OF_ONE:
            incoming.refuse(Reason.LIMIT)
        else:
            self._undecided[account] += 1
            incoming.accept(_Newcomer(self, account))

    def access_changed(self) -> None:
        """The access list changed: offers that it no longer has end."""
        for offered in list(self.offers.values()):
            if offered.port not in self._permitted(offered.account):
                log.info("an offer is no longer permitted", identity=offered.account, port=offered.port)
                self.end(offered, Why.NOT_PERMITTED)

    def end_streams(self) -> None:
        """Take no more; connections under way may end by themselves."""
        self._closed = True
        for offered in self.offers.values():
            offered.leave(Why.SHUTDOWN)

    async def close(self) -> None:
        """End what is left."""
        self._closed = True
        self._accounts.on_change.remove(self.access_changed)
        for offered in list(self.offers.values()):
            self.end(offered, Why.SHUTDOWN)
        while self._tasks:
            await asyncio.wait(self._tasks)

    # ---- what streams say ----------------------------------------------------------------------

    def decided(self, account: str) -> None:
        """A stream has said what it is for, or is gone."""
        self._undecided[account] -= 1
        if not self._undecided[account]:
            del self._undecided[account]

    def offer(self, owner: Owner, port: int) -> None:
        """A client offers a service."""
        there = self.offers.get(port)
        if self._closed:
            owner.refuse(Why.SHUTDOWN)
        elif port not in self._permitted(owner.account):
            log.info("an offer is not permitted", identity=owner.account, port=port)
            owner.refuse(Why.NOT_PERMITTED)
        elif there is not None:
            if there.account == owner.account:
                there.change_owner(owner)
            else:
                owner.refuse(Why.TAKEN)
        elif len(self.offers) >= MAX_OFFERS:
            owner.refuse(Why.LIMIT)
        else:
            offered = self.offers[port] = OfferedPort(self, owner.account, port, self._config)
            offered.owner = owner
            owner.offered = offered
            self.spawn(offered.listen())

    def find(self, account: str, ticket: bytes) -> Arrival | None:
        """The connection that waits with this ticket, for this account; it waits no longer."""
        for offered in self.offers.values():
            if offered.account == account:
                arrival = offered.waiting.pop(ticket, None)
                if arrival is not None:
                    return arrival
        return None

    # ---- inside --------------------------------------------------------------------------------

    def end(self, offered: OfferedPort, reason: Why) -> None:
        """An offer is over, and what goes through it."""
        if self.offers.get(offered.port) is offered:
            del self.offers[offered.port]
            offered.leave(reason)
            self.spawn(offered.stop())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this; :meth:`close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _permitted(self, account: str) -> tuple[int, ...]:
        return self._accounts.list.reverse_ports(account, time.time())


class _Newcomer(asyncio.Protocol):
    """A stream that has not said what it is for."""

    def __init__(self, service: ReverseService, account: str) -> None:
        self.account = account
        self._service = service
        self._reader = FrameReader(FROM_CLIENT)
        self._transport: Any = None
        self._decided = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Its time begins."""
        self._transport = transport
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(FIRST_WORD, self._refuse, Reason.TIMED_OUT)

    def data_received(self, data: Buffer) -> None:
        """Its first word, and what follows."""
        self._reader.receive_data(data)
        if self._decided:
            return  # was on its way when reading was paused
        try:
            frame = self._reader.next_frame()
        except ReverseError as error:
            log.warning("a client breaks the protocol", identity=self.account, why=str(error))
            self._refuse(Reason.GENERAL)
            return
        if frame is None:
            return
        self._decide()
        if isinstance(frame, Offer):
            owner = Owner(self._service, self.account, self._transport, self._reader)
            self._transport.set_protocol(owner)
            self._service.offer(owner, frame.port)
            owner.data_received(b"")
        elif isinstance(frame, Take):
            self._transport.pause_reading()
            arrival = self._service.find(self.account, frame.ticket)
            if arrival is None or not arrival.take(self._transport, self._reader.take_rest()):
                reset_stream(self._transport, Reason.CONNECTION_LOST)
        else:
            self._refuse(Reason.GENERAL)

    def eof_received(self) -> bool:
        """It gives up."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        del exc
        self._decide()

    def _refuse(self, reason: Reason) -> None:
        self._decide()
        reset_stream(self._transport, reason)

    def _decide(self) -> None:
        if not self._decided:
            self._decided = True
            if self._timer is not None:
                self._timer.cancel()
            self._service.decided(self.account)


class Owner(asyncio.Protocol):
    """The stream that holds an offer."""

    def __init__(self, service: ReverseService, account: str, transport: Any, reader: FrameReader) -> None:
        self.account = account
        self.offered: OfferedPort | None = None
        self.behind = False
        """Whether the client does not read what it is told."""
        self._service = service
        self._transport = transport
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(SILENT, self._look)

    def say(self, frame: Offered | Arrived) -> None:
        """To the client; of arrivals only while it is not :attr:`behind`: what is unread is bounded."""
        if not self._transport.is_closing():
            self._transport.write(frame.serialize())

    def refuse(self, reason: Why) -> None:
        """Nothing is offered, or no longer; the stream ends."""
        self._leave()
        if not self._transport.is_closing():
            self._transport.write(Refused(reason).serialize())
            self._transport.close()

    def pause_writing(self) -> None:
        """The client does not read."""
        self.behind = True

    def resume_writing(self) -> None:
        """It does again."""
        self.behind = False
        if self.offered is not None:
            self.offered.tell()

    def data_received(self, data: Buffer) -> None:
        """Signs of life."""
        self._heard = self._loop.time()
        self._reader.receive_data(data)
        try:
            while (frame := self._reader.next_frame()) is not None:
                if not isinstance(frame, Alive):
                    raise ReverseError("another word where only signs of life belong")
        except ReverseError as error:
            log.warning("a client breaks the protocol", identity=self.account, why=str(error))
            reset_stream(self._transport, Reason.GENERAL)
            self._leave()

    def eof_received(self) -> bool:
        """It holds the offer no longer."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        del exc
        self._leave()

    def _look(self) -> None:
        left = self._heard + SILENT - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._timer = None
            reset_stream(self._transport, Reason.TIMED_OUT)
            self._leave()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        offered, self.offered = self.offered, None
        if offered is not None and offered.owner is self:
            offered.owner_lost()
