"""The local socket on which a page in a browser and the client meet.

Where a browser is the carrier, a document of its own joins what it has on the
wire with a WebSocket to the client: ``ws://127.0.0.1:PORT/TOKEN``, opened by
the page. Nothing of it leaves the machine. The token is good once and for one
connection; ``Host`` and ``Origin`` must be the door's address and the site's
origin, so that no other page of any browser here, and no name bound anew to
127.0.0.1, gets in.

The first message is the client's, text, what the page is to do::

    {"do": "websocket" | "http", "url": "wss://..." | "https://...", "path": "/...", "cookie": "a=b; c=d"}

What follows is told in :mod:`~ptproxy.codec.join_websocket` and
:mod:`~ptproxy.codec.join_http`. The page closes with one of the codes below.
"""

from __future__ import annotations

import base64
import binascii
import json
from random import Random
from typing import Final

from ptproxy.codec.head import HttpHead
from ptproxy.codec.interface import CarrierEnded, CodecSettings, Event
from ptproxy.codec.ws_connection import ServerWebSocket
from ptproxy.codec.ws_frames import (
    CLOSE,
    TEXT,
    Control,
    MaskedFrameReader,
    parse_close,
    unmasked_frame,
)
from ptproxy.errors import CodecError

REFUSED: Final = 4001
"""Close code: the site did not take the opening, as it takes no stranger's."""
LOST: Final = 4002
"""Close code: the connection to the site is lost."""
CLOSE_REASONS: Final = {
    REFUSED: "the site refused the opening, as it refuses a stranger's",
    LOST: "the browser lost its connection to the site",
}


def page_origin(settings: CodecSettings) -> str:
    """The origin of the site that the page belongs to."""
    return f"https://{settings.host}"


def join_request(head: HttpHead, host: str, origin: str) -> tuple[str, str] | None:
    """The token and the WebSocket key of a page that wants to join, or None for whoever else it is.

    ``host`` is the door's own address. Raises :class:`CodecError` for a header that may stand only once.
    """
    key = head.get("sec-websocket-key") or ""
    try:
        nonce = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not (
        (head.method, head.version) == ("GET", "HTTP/1.1")
        and head.get("host") == host
        and head.get("origin") == origin
        and "websocket" in head.tokens("upgrade")
        and "upgrade" in head.tokens("connection")
        and head.get("sec-websocket-version") == "13"
        and len(nonce) == 16
    ):
        return None
    return head.target.removeprefix("/"), key


def page_task(do: str, scheme: str, settings: CodecSettings, cookie: str = "") -> bytes:
    """The first message: what the page is to do."""
    task = {
        "do": do,
        "url": f"{scheme}://{settings.host}{settings.path}",
        "path": settings.path,
        "cookie": cookie,
    }
    return unmasked_frame(TEXT, json.dumps(task).encode())


class JoinSocket(ServerWebSocket):
    """The client's end of the local socket, once it is open: a WebSocket server's."""

    __slots__ = ()

    _side = "browser"

    def __init__(self, task: bytes, rng: Random, record: tuple[int, ...] = ()) -> None:
        """``record`` as in :class:`WebSocket`: the page passes messages on as they come."""
        super().__init__(MaskedFrameReader(), rng, record)
        self._out.append(task)

    def _receive_control(self, control: Control, events: list[Event], now: float) -> None:
        reason = CLOSE_REASONS.get(parse_close(control.payload)) if control.opcode == CLOSE else None
        super()._receive_control(control, events, now)
        if reason is not None and events and type(events[-1]) is CarrierEnded:
            events[-1].reason = reason

    def receive_eof(self, now: float) -> list[Event]:
        """The page is gone: closed, crashed, or its browser is."""
        return self._end("the browser's page is gone")


def refused(events: list[Event]) -> None:
    """Raise for a join that ended before the site had answered the opening."""
    for event in events:
        if type(event) is CarrierEnded:
            raise CodecError(event.reason or "the browser closed before the site had answered")
