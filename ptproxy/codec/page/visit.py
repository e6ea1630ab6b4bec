"""A visit: the site's page loaded on one connection before anything else uses it.

A link without a carrier. What follows depends on the codec: the ``http`` codec
goes on where the visit ended, on the same HTTP/2 conversation
(:attr:`Visit.http2`); others, and all over HTTP/1.1, connect anew, with the
ticket that came of it, as the page's script would have. The connection of the
visit may then stay, idle, until its server closes it.

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
from ptproxy.codec.page.load import PageLoad
from ptproxy.errors import CodecError


class Visit:
    """The conversation of a connection on which a page is loaded."""

    __slots__ = ("_client", "_first", "_held", "_hello", "closing", "load")

    def __init__(
        self,
        client: H2Client | H1Client,
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
        self._client = client
        self.load = PageLoad(client, browser, host, page, memory, rng, now, unix)
        self.closing = False
        self._first = client.data_to_send()
        self._hello = self._first[0] if self._first else None
        self._held = False

    @property
    def done(self) -> bool:
        """The page is loaded, as far as it will be."""
        return self.load.finished or self.closing

    @property
    def usable(self) -> bool:
        """Whether the connection can be used for more."""
        return not self.closing and not self._client.ending

    @property
    def http2(self) -> H2Client | None:
        """The HTTP/2 conversation to go on with, None over HTTP/1.1."""
        return self._client if isinstance(self._client, H2Client) else None

    def give_up(self) -> None:
        """Do not wait for the rest of the page; over HTTP/1.1 that ends the connection."""
        self.load.give_up()
        self.closing = self.closing or (self.http2 is None and self._client.ending)

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Feed what the connection received."""
        if not self.closing:
            try:
                self._take(self._client.receive_data(data, now), now)
            except CodecError:
                self.closing = True
        return [LinkMoved()]

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended."""
        if not self.closing:
            self._take(self._client.receive_eof(), now)
            self.closing = True
        return [LinkMoved()]

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written; over HTTP/2 each buffer is a TLS record of its own.

        The first ones come one a call.
        """
        if not self._first:
            return self._client.data_to_send()
        if self._held and self._first[0] is not self._hello:
            return []
        return [self._first.pop(0)]

    def hold(self) -> None:
        """After the first write nothing follows until :meth:`release`: so browsers write."""
        self._held = True

    def release(self) -> None:
        """Go on."""
        self._held = False

    def deadline(self) -> float | None:
        """When :meth:`on_deadline` wants to be called."""
        times = (self.load.deadline(), self._client.deadline())
        return min((one for one in times if one is not None), default=None)

    def on_deadline(self, now: float) -> None:
        """Time has come."""
        self.load.on_deadline(now)
        self._take(self._client.on_deadline(now), now)

    def _take(self, events: list[H2Event], now: float) -> None:
        for event in events:
            if isinstance(event, ConnectionEnded):
                self.closing = True
            else:
                self.load.receive_event(event, now)
