"""Conversations with local programs: SOCKS5, SOCKS4(a) and HTTP proxying, bytes in and bytes out.

Start at :mod:`~ptproxy.front.conversation`: the events, the interface and the
order of calls. :func:`~ptproxy.front.detect.recognise` picks the conversation
from a connection's first byte:

- :mod:`~ptproxy.front.socks5`, with :mod:`~ptproxy.front.datagram` for the
  datagrams of a UDP association, and :mod:`~ptproxy.front.socks4`;
- :mod:`~ptproxy.front.http_proxy`: CONNECT, and plain requests, which it reads
  with :mod:`~ptproxy.front.http_head`, :mod:`~ptproxy.front.absolute_form` and
  :mod:`~ptproxy.front.http_body`.

:mod:`~ptproxy.front.replies` says how each reason for a failure is told in each
protocol, :mod:`~ptproxy.front.users` who may ask. Nothing here dials, knows a
socket or looks at a clock.
"""

from __future__ import annotations

from ptproxy.front.conversation import (
    AssociationRequested,
    Conversation,
    Event,
    OriginReleased,
    OriginRequested,
    PayloadReceived,
    ReplyBroken,
    ReplyReceived,
    TargetRequested,
)
from ptproxy.front.datagram import parse_datagram, serialize_datagram
from ptproxy.front.detect import recognise
from ptproxy.front.http_proxy import HttpProxy
from ptproxy.front.socks4 import Socks4
from ptproxy.front.socks5 import Socks5
from ptproxy.front.users import Users

__all__ = [
    "AssociationRequested",
    "Conversation",
    "Event",
    "HttpProxy",
    "OriginReleased",
    "OriginRequested",
    "PayloadReceived",
    "ReplyBroken",
    "ReplyReceived",
    "Socks4",
    "Socks5",
    "TargetRequested",
    "Users",
    "parse_datagram",
    "recognise",
    "serialize_datagram",
]
