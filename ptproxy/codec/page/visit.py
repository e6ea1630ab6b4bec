"""A visit: the site's page loaded on one connection before anything else uses it.

A link without a carrier. What follows depends on the codec: the ``http`` codec
goes on where the visit ended, on the same HTTP/2 conversation
(:attr:`Visit.http2`); others, and all over HTTP/1.1, connect anew, with the
ticket that came of it, as the page's script would have. The connections of the
visit may then stay, idle, until their server closes them.

Over HTTP/1.1 a browser opens more than one: :meth:`Visit.take_wanted` says how
many more now, and each becomes a :meth:`Visit.open_beside` or a
:meth:`Visit.dial_failed`. What happens on one of them may be a reason to write
on any: all are to be flushed after each event.

Nothing that a site says or does can make a visit fail worse than not to be
:attr:`usable` any more.
"""

from __future__ import annotations

from random import Random

from ptproxy.buffer import Buffer
from ptproxy.codec.browser import Browser
from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.http2.stream import ConnectionEnded, H2Event
from ptproxy.codec.interface import Event, LinkMoved
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.codec.page.h1_client import H1Client
from ptproxy.codec.page.h1_pool import H1Pool
from ptproxy.codec.page.load import PageLoad
from ptproxy.errors import CodecError


class Visit:
    """The conversation of a connection on which a page is loaded."""

    __slots__ = ("_client", "_first", "_held", "_hello", "_pool", "closing", "load")

    def __init__(
        self,
        client: H2Client | H1Pool,
        browser: Browser,
        host: str,
        page: str,
        memory: SiteMemory,
        rng: Random,
        now: float,
        unix: float,
    ) -> None:
        """``page``: its path. ``unix`` is unix time at ``now``: what the cache reckons with.

        May be made before there is a connection: what is written first is then ready, as a browser's is.
        """
        self._pool = client if isinstance(client, H1Pool) else None
        self._client = client.open() if isinstance(client, H1Pool) else client
        self.load = PageLoad(client, browser, host, page, memory, rng, now, unix)
        self.closing = False
        """The first connection is over."""
        self._first = self._client.data_to_send()
        self._hello = self._first[0] if self.http2 is not None else None
        self._held = False

    @property
    def done(self) -> bool:
        """The page is loaded, as far as it will be."""
        return self.load.finished or (self.closing and self._pool is None)

    @property
    def usable(self) -> bool:
        """Whether the connection can be used for more."""
        return not self.closing and not self._client.ending

    @property
    def http2(self) -> H2Client | None:
        """The HTTP/2 conversation to go on with, None over HTTP/1.1."""
        return self._client if isinstance(self._client, H2Client) else None

    def give_up(self) -> None:
        """Do not wait for the rest of the page; over HTTP/1.1 that ends the connections where more comes."""
        self.load.give_up()
        self.closing = self.closing or (self._pool is not None and self._client.ending)

    # ---- further connections over HTTP/1.1 -------------------------------------------------------

    def take_wanted(self) -> int:
        """How many more connections to dial now."""
        return self._pool.take_wanted() if self._pool is not None and not self.done else 0

    def open_beside(self) -> BesideLink:
        """One of them is there: its conversation."""
        assert self._pool is not None
        return BesideLink(self, self._pool.open())

    def dial_failed(self, now: float) -> None:
        """One of them could not be made."""
        assert self._pool is not None
        self._pool.failed()
        self.take([], now)

    # ---- the link of the first connection --------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Feed what the connection received."""
        if not self.closing:
            try:
                self.take(self._client.receive_data(data, now), now)
            except CodecError:
                self.closing = True
        return [LinkMoved()]

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended."""
        if not self.closing:
            self.take(self._client.receive_eof(), now)
            self.closing = True
        return [LinkMoved()]

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written; over HTTP/2 each buffer is a TLS record of its own.

        The first ones come one a call.
        """
        if not self._first:
            return self._client.data_to_send()
        if self._held and self._first[0] is not self._hello:
            return self._client.data_to_send()  # what answers the server's settings
        return [self._first.pop(0)]

    def hold(self) -> None:
        """The first write leaves alone; the request follows after :meth:`release`: so browsers write."""
        self._held = True

    def release(self) -> None:
        """Go on."""
        self._held = False

    def deadline(self) -> float | None:
        """When :meth:`on_deadline` wants to be called."""
        http2 = self.http2
        times = (self.load.deadline(), None if http2 is None else http2.deadline())
        return min((one for one in times if one is not None), default=None)

    def on_deadline(self, now: float) -> None:
        """Time has come."""
        self.load.on_deadline(now)
        self.take([] if self.http2 is None else self.http2.on_deadline(now), now)

    def take(self, events: list[H2Event], now: float) -> None:
        """Tell the load what a connection's conversation made of its input."""
        for event in events:
            self.load.receive_event(event, now)
        if self._pool is not None:
            for event in self._pool.go_on():
                self.load.receive_event(event, now)
            self.closing |= self._client.ending
        else:
            self.closing |= any(isinstance(event, ConnectionEnded) for event in events)


class BesideLink:
    """A further connection of a visit over HTTP/1.1."""

    __slots__ = ("_client", "_visit")

    def __init__(self, visit: Visit, client: H1Client) -> None:
        self._visit = visit
        self._client = client

    @property
    def closing(self) -> bool:
        """The connection is to be closed."""
        return self._client.ending

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Feed what the connection received."""
        self._visit.take(self._client.receive_data(data, now), now)
        return [LinkMoved()]

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended."""
        self._visit.take(self._client.receive_eof(), now)
        return [LinkMoved()]

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written."""
        return self._client.data_to_send()
