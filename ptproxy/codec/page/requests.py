"""Where a page load's requests go, whatever the HTTP below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ptproxy.buffer import Buffer
from ptproxy.codec.http2.hpack import Field
from ptproxy.codec.http2.stream import H2Stream


class Requests(Protocol):
    """:class:`~ptproxy.codec.http2.client.H2Client` or :class:`~ptproxy.codec.page.h1_pool.H1Pool`."""

    @property
    def ending(self) -> bool:
        """No new request can be sent."""

    @property
    def resets_alone(self) -> bool:
        """A request that is given up takes no other with it."""

    def send_request(
        self, fields: Sequence[Field], urgency: int, body: Sequence[Buffer] | None, now: float
    ) -> H2Stream:
        """Send a request; what comes of it are events that name the stream."""

    def send_priority(self, stream: H2Stream, urgency: int) -> None:
        """The request became more or less urgent."""

    def send_reset(self, stream: H2Stream) -> None:
        """The request is given up."""
