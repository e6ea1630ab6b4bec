"""The WebSocket upgrade: a browser's request, a web server's answer, and the checks (RFC 6455 section 4).

Request, header lines as the browser of ``settings.appearance`` has them, without one as Chromium::

    GET {path} HTTP/1.1
    Host, Connection: Upgrade, Pragma, Cache-Control, User-Agent, Upgrade: websocket, Origin,
    Sec-WebSocket-Version: 13, Accept-Encoding, Accept-Language, Cookie: {opening, see cookie.py},
    Sec-WebSocket-Key, Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits

Answer, in nginx's order::

    HTTP/1.1 101 Switching Protocols
    [Server, Date,] Connection: upgrade, Upgrade: websocket, Sec-WebSocket-Accept

No extension and no subprotocol is ever agreed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from datetime import UTC, datetime
from hashlib import sha1
from typing import Final

from ptproxy.codec.cookie import opening_from_cookie, opening_to_cookie, session_cookie_name
from ptproxy.codec.head import HttpHead, ResponseHead
from ptproxy.codec.interface import CodecSettings, SiteAnswered
from ptproxy.codec.profile import CHROMIUM
from ptproxy.errors import CodecError

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_value(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()).decode(
        "ascii"
    )


def upgrade_request(settings: CodecSettings, opening: bytes, key: str) -> HttpHead:
    """What a browser on a page of ``settings.host`` sends for ``new WebSocket(path)``."""
    name = session_cookie_name(settings)
    cookie = opening_to_cookie(name, opening)
    look = settings.appearance
    if look is not None:
        crumbs = (*look.memory.crumbs(settings.path, name), cookie)
        variables = {"host": settings.host, "key": key, "cookie": "; ".join(crumbs)}
        return HttpHead(look.browser.upgrade_lines(variables), "GET", settings.path)
    headers = [
        ("Host", settings.host),
        ("Connection", "Upgrade"),
        ("Pragma", "no-cache"),
        ("Cache-Control", "no-cache"),
        ("User-Agent", CHROMIUM.user_agent_for()),
        ("Upgrade", "websocket"),
        ("Origin", f"https://{settings.host}"),
        ("Sec-WebSocket-Version", "13"),
        ("Accept-Encoding", CHROMIUM.accept_encoding),
        ("Accept-Language", CHROMIUM.accept_language),
        ("Cookie", cookie),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Extensions", CHROMIUM.websocket_extensions),
    ]
    return HttpHead(headers, "GET", settings.path)


def opening_in_request(head: HttpHead, path: str, cookie: str) -> tuple[bytes, str] | None:
    """The opening and the key of a proper upgrade to the secret path (RFC 6455 section 4.2.1), or None.

    Raises :class:`CodecError` for a header that may stand only once.
    """
    key = head.get("sec-websocket-key") or ""
    try:
        nonce = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not (
        hmac.compare_digest(head.target.encode(), path.encode())
        and (head.method, head.version) == ("GET", "HTTP/1.1")
        and head.get("host")
        and "websocket" in head.tokens("upgrade")
        and "upgrade" in head.tokens("connection")
        and head.get("sec-websocket-version") == "13"
        and len(nonce) == 16
    ):
        return None
    opening = opening_from_cookie(cookie, head)
    return None if opening is None else (opening, key)


def upgrade_answer(settings: CodecSettings, key: str, now: float) -> ResponseHead:
    """The 101; Server and Date only where the options say so (see ``websocket.py``)."""
    headers: list[tuple[str, str]] = []
    options = settings.options
    if "server" in options:
        headers.append(("Server", options["server"]))
    if "clock_offset" in options:
        date = datetime.fromtimestamp(now + float(options["clock_offset"]), UTC)
        headers.append(("Date", http_date(date)))
    headers += [
        ("Connection", "upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Accept", accept_value(key)),
    ]
    return ResponseHead(headers, 101, "Switching Protocols")


def http_date(date: datetime) -> str:
    """IMF-fixdate (RFC 9110 section 5.6.7), whatever the process's locale."""
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[date.weekday()]
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[
        date.month - 1
    ]
    return f"{day}, {date.day:02d} {month} {date.year:04d} {date:%H:%M:%S} GMT"


def check_answer(head: ResponseHead, key: str) -> None:
    """What a client requires of the answer (RFC 6455 section 4.1); raises :class:`CodecError`."""
    if head.status != 101:
        raise SiteAnswered(head.status, head.get("date") or "")
    if head.version != "HTTP/1.1" or head.tokens("upgrade") != ["websocket"]:
        raise CodecError("the answer does not upgrade to websocket")
    if "upgrade" not in head.tokens("connection"):
        raise CodecError("the answer's Connection header does not upgrade")
    if head.get("sec-websocket-accept") != accept_value(key):
        raise CodecError("the answer's Sec-WebSocket-Accept is not for our key")
    if head.get_all("sec-websocket-extensions") or head.get_all("sec-websocket-protocol"):
        raise CodecError("the answer agrees to an extension or a subprotocol that was not wanted")
