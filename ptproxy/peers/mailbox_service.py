"""The mailbox at a bridge: a service that takes streams, keeps what is deposited, and tells owners.

stream ─▶ conversation (what was asked) ─▶ accounts (may they) ─▶ store, in its thread ─▶ answer
                                                                       └─▶ the owner who listens

Everything is bounded: streams, requests of a stream (they are done one after
another, and nothing is read while one waits), mail on its way to an owner, and
by account what the page of limits says. ``PROTOCOL.md`` is the wire format.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ptproxy.config.model import MailboxConfig
from ptproxy.errors import Reason
from ptproxy.log import get_logger
from ptproxy.peers.mailbox_delivery import DAY, Rng
from ptproxy.peers.mailbox_frames import CHALLENGE
from ptproxy.peers.mailbox_rates import Rates
from ptproxy.peers.mailbox_schema import NAME, SCHEMA, StoreLimits
from ptproxy.peers.mailbox_store import MailboxStore
from ptproxy.peers.mailbox_stream import MailboxStream
from ptproxy.peers.mailbox_thread import StoreThread
from ptproxy.peers.seats import Seats
from ptproxy.state import StateFolder
from ptproxy.tunnel.stream import Incoming

SERVICE: Final = "mailbox"
MAX_STREAMS: Final = 2_048
"""Streams open at once: each holds less than 400 KiB, and most of them nothing."""
STREAMS_OF_ONE: Final = 32
"""... of one account."""
BOXES_A_DAY: Final = 4.0
"""New boxes of one account."""
FETCH_BURST: Final = 30.0
FETCH_RATE: Final = 1 / 60
"""Bundles that one account fetches at once, and a second after that."""
WRONG_BURST: Final = 30.0
WRONG_RATE: Final = 1 / 60
"""Tokens that permit nothing, of one account; beyond that nothing of it is looked up."""
REQUEST_BURST: Final = 2_000.0
REQUEST_RATE: Final = 100.0
"""Requests of one account; beyond that they wait."""
STREAM_COST: Final = 10.0
"""What a new stream counts as in requests: it may make us verify a signature (140 µs)."""
SWEEP_EVERY: Final = 600.0
"""Seconds between looks for what has expired ..."""
SWEEP_MOST: Final = 200
"""... of which so many go at a time: they share a transaction with deposits."""
FULL_WARNING: Final = 0.9
"""The operator is told when this much of the mailbox is full."""

log = get_logger(__name__)


@dataclass(slots=True)
class AccountRates:
    """What one account may do, each kind of thing by itself."""

    requests: Rates
    volume: Rates
    boxes: Rates
    fetches: Rates
    wrong: Rates

    @classmethod
    def of(cls, daily: int) -> AccountRates:
        """``daily``: bytes that an account may have kept in a day."""
        return cls(
            requests=Rates(REQUEST_BURST, REQUEST_RATE),
            volume=Rates(daily, daily / DAY),
            boxes=Rates(BOXES_A_DAY, BOXES_A_DAY / DAY),
            fetches=Rates(FETCH_BURST, FETCH_RATE),
            wrong=Rates(WRONG_BURST, WRONG_RATE),
        )


class MailboxService:
    """A bridge's mailbox (a :class:`~ptproxy.tunnel.stream.BridgeService`)."""

    name = SERVICE

    def __init__(
        self,
        identity: bytes,
        config: MailboxConfig,
        *,
        rng: Rng = os.urandom,
        clock: Callable[[], float] = time.time,
        most_streams: int = MAX_STREAMS,
    ) -> None:
        """``identity``: the bridge's static public key, which owners sign."""
        self.identity = identity
        self.rates = AccountRates.of(config.daily)
        self.owners: dict[int, MailboxStream] = {}
        """Who has opened which box, the newest stream each."""
        self.clock = clock
        self._config = config
        self._rng = rng
        self._streams: Seats[MailboxStream] = Seats(most_streams, STREAMS_OF_ONE)
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._warned = False
        self.loop: asyncio.AbstractEventLoop
        self.thread: StoreThread

    async def start(self, state: StateFolder) -> None:
        """Open the store; raises :class:`~ptproxy.errors.StartError`."""
        self.loop = asyncio.get_running_loop()
        config = self._config
        limits = StoreLimits(
            size=config.size,
            boxes=config.boxes,
            box_size=config.box_size,
            box_messages=config.box_messages,
            box_tokens=config.box_tokens,
            keep=max(1, int(config.keep // DAY)),
            away=max(1, int(config.away // DAY)),
        )
        store = MailboxStore(state.database(NAME, SCHEMA), limits)
        self.thread = StoreThread(self.loop, store)
        # Not at once: a machine that has just started may not know the time yet.
        self._sweeper = self.loop.call_later(SWEEP_EVERY, self._sweep)

    def __call__(self, incoming: Incoming) -> None:
        """A client's stream."""
        account = incoming.peer
        if self._closed:
            incoming.refuse(Reason.SHUTDOWN)
        elif not self._streams.may_sit(account) or self._costs(account):
            incoming.refuse(Reason.LIMIT)
        else:
            oldest = self._streams.crowded_out()
            if oldest is not None:
                oldest.end()
                self.gone(oldest)
            stream = MailboxStream(self, account, self._rng(CHALLENGE))
            self._streams.sit(account, stream)
            incoming.accept(stream)

    def _costs(self, account: str) -> int:
        """Charge a stream to its account; seconds until it may have one, or 0."""
        return self.rates.requests.take(account, STREAM_COST, self.loop.time())

    def end_streams(self) -> None:
        """End all streams: owners would listen for ever, and whoever deposits tries again elsewhere."""
        self._closed = True
        for stream in list(self._streams):
            stream.end()

    async def close(self) -> None:
        """Do what was begun, and close the store."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self.thread.close()

    # ---- what its streams tell --------------------------------------------------------------------

    def opened(self, box: int, stream: MailboxStream) -> None:
        """The owner of ``box`` is at ``stream`` now, and nowhere else."""
        before = self.owners.get(box)
        self.owners[box] = stream
        if before is not None and before is not stream:
            before.displace()

    def deposited(self, box: int) -> None:
        """Something new waits in ``box``."""
        owner = self.owners.get(box)
        if owner is not None:
            owner.mail_waits()

    def gone(self, stream: MailboxStream) -> None:
        """A stream has ended."""
        self._streams.leave(stream.account, stream)
        if stream.box is not None and self.owners.get(stream.box) is stream:
            del self.owners[stream.box]

    # ---- time ---------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        now, boxes = self.clock(), list(self.owners)

        def work(store: MailboxStore) -> tuple[int, float]:
            store.still_there(boxes, now)
            return store.sweep(now, SWEEP_MOST), store.fill()

        self.thread.submit(work, self._swept)

    def _swept(self, outcome: tuple[int, float] | Exception) -> None:
        again = SWEEP_EVERY
        if isinstance(outcome, Exception):
            log.warning("the mailbox could not delete what has expired: is the disk full?")
        else:
            deleted, fill = outcome
            if deleted >= SWEEP_MOST:
                again = 1.0
            if fill >= FULL_WARNING and not self._warned:
                log.warning("the mailbox is nearly full: raise mailbox.size", percent=int(100 * fill))
            self._warned = fill >= FULL_WARNING
        if not self._closed:
            self._sweeper = self.loop.call_later(again, self._sweep)
