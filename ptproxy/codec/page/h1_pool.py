"""A page's requests over the HTTP/1.1 connections that a browser opens for them.

The methods and events are those of :class:`~ptproxy.codec.http2.client.H2Client`,
as far as a page load needs them. The rules, of Chromium 156 and Firefox 153 as
recorded (2026-11; Chromium's ``net/socket/transport_client_socket_pool.cc`` says
the same):

- A request goes to a connection that is free, at once. Where none is, a
  connection is opened for it, up to :data:`MAX_CONNECTIONS`, in the same moment.
- Whatever becomes free first, an old connection or a new one, takes the most
  urgent request that waits, among equals the oldest. A new one that finds none
  stays, idle.
- A request that a server's close has met unanswered on a connection that had
  carried others is sent again on another one.
- Firefox sends no picture and no prefetch while a style sheet or script is under
  way or waits (``nsHttpConnectionMgr``'s blocking transactions), though it opens
  a connection for it at once.

Order of calls: :meth:`~H1Pool.open` for each connection that is there; whenever
something has happened :meth:`~H1Pool.go_on`, then each connection's
``data_to_send()``, and as many connections are to be dialled as
:meth:`~H1Pool.take_wanted` says, each ending in :meth:`~H1Pool.open` or
:meth:`~H1Pool.failed`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.http2.hpack import Field
from ptproxy.codec.http2.stream import H2Event, H2Stream, StreamReset
from ptproxy.codec.page.h1_client import CANCELLED, H1Client

MAX_CONNECTIONS: Final = 6
"""Connections at once to one host: what browsers open over HTTP/1.1."""
BEFORE: Final = frozenset(("style", "script"))
"""Destinations (sec-fetch-dest) of what others may have to wait for."""
MAX_DIALS: Final = 30
"""Connections dialled for one page: a server that closes after each answer makes browsers open one for each
thing, and would make us do so 80 times."""


class H1Pool:
    """All connections of one page."""

    __slots__ = ("_browser", "_clients", "_dialled", "_dialling", "_most", "_patient", "_waiting")

    def __init__(
        self, browser: str, patient: frozenset[str] = frozenset(), most: int = MAX_CONNECTIONS
    ) -> None:
        """``browser``: the name in its data; ``patient``: destinations that wait for style sheets and
        scripts; ``most`` connections at once."""
        self._browser = browser
        self._patient = patient
        self._most = most
        self._clients: list[H1Client] = []
        self._waiting: list[H2Stream] = []
        self._dialling = 1  # the caller's first
        self._dialled = 1

    # ---- connections -----------------------------------------------------------------------------

    def open(self) -> H1Client:
        """A connection is there."""
        client = H1Client(self._browser)
        self._dialling -= 1
        self._clients.append(client)
        self._assign()
        return client

    def failed(self) -> None:
        """One could not be made: no more are tried for this page."""
        self._dialling -= 1
        self._dialled = MAX_DIALS

    def take_wanted(self) -> int:
        """How many connections to dial now."""
        missing = min(len(self._waiting), self._most - len(self._clients)) - self._dialling
        wanted = max(min(missing, MAX_DIALS - self._dialled), 0)
        self._dialling += wanted
        self._dialled += wanted
        return wanted

    def go_on(self) -> list[H2Event]:
        """Hand out what waits; the requests that nobody can send any more."""
        for client in [one for one in self._clients if one.ending]:
            self._clients.remove(client)
            if client.returned is not None:
                self._waiting.insert(0, client.returned)
                client.returned = None
        self._assign()
        if not self.ending:
            return []
        lost, self._waiting = self._waiting, []
        return [StreamReset(stream, CANCELLED) for stream in lost]

    def _assign(self) -> None:
        """Give free connections what waits, the most urgent first."""
        for client in [one for one in self._clients if one.idle]:
            ready = [stream for stream in self._waiting if self._is_ready(stream)]
            if not ready:
                return
            stream = min(ready, key=lambda one: one.urgency)
            self._waiting.remove(stream)
            client.start(stream)

    def _is_ready(self, stream: H2Stream) -> bool:
        """Whether it need not wait for style sheets and scripts."""
        if _destination(stream) not in self._patient:
            return True
        under_way = (client.current for client in self._clients if client.current is not None)
        return all(_destination(one) not in BEFORE for one in (*self._waiting, *under_way))

    # ---- requests --------------------------------------------------------------------------------

    @property
    def ending(self) -> bool:
        """No new request can be sent."""
        return not self._clients and not self._dialling and self._dialled >= MAX_DIALS

    def send_request(
        self, fields: Sequence[Field], urgency: int, body: Sequence[Buffer] | None, now: float
    ) -> H2Stream:
        """A request, as over HTTP/2; it goes out when its turn comes. Bodies are not for page loads."""
        stream = H2Stream(list(fields), urgency, deque(), local_ended=True)
        self._waiting.append(stream)
        self._assign()
        return stream

    def send_priority(self, stream: H2Stream, urgency: int) -> None:
        """The request became more or less urgent."""
        stream.urgency = urgency

    @property
    def resets_alone(self) -> bool:
        """To break an answer off is to close its connection."""
        return False

    def send_reset(self, stream: H2Stream) -> None:
        """The request is given up; where it is under way, its connection ends."""
        if stream in self._waiting:
            self._waiting.remove(stream)
        for client in self._clients:
            if client.current is stream:
                client.break_off()


def _destination(stream: H2Stream) -> str:
    """What a request is for, as it says itself (Fetch Metadata)."""
    return next((value for name, value in stream.fields if name == "sec-fetch-dest"), "")
