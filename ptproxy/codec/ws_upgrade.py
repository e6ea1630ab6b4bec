"""The WebSocket upgrade: a browser's request, a web server's answer, and the checks (RFC 6455 section 4).

Request, header lines as the browser of ``settings.appearance`` has them, without one as Chromium::

    GET {path} HTTP/1.1
    Host, Connection: Upgrade, Pragma, Cache-Control, User-Agent, Upgrade: websocket, Origin,
    Sec-WebSocket-Version: 13, Accept-Encoding, Accept-Language, Cookie: {opening, see cookie.py},
    Sec-WebSocket-Key, Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits

An opening of 16 bytes is a *ticket* (``auth/PROTOCOL.md``): the key is its base64, and there is no cookie,
so that nothing tells the request from a browser's.

Answer, in nginx's order::

    HTTP/1.1 101 Switching Protocols
    [Server, Date,] Connection: upgrade, Upgrade: websocket, Sec-WebSocket-Accept,
    [Sec-WebSocket-Extensions: permessage-deflate]

The extension (RFC 7692) is agreed with our own clients, as the servers of many sites agree to it with
a browser, and then used by neither end: each message goes uncompressed, which section 6 leaves to its
sender. A client says that it is ours by its key::

    Sec-WebSocket-Key = base64(nonce 8 | HMAC-SHA256(SHA-256("ptproxy websocket key 1 " | path), nonce)[:8])

which is 16 random bytes to everybody without the path; or by a ticket. With any other key (a browser that
carries for us would compress) nothing is agreed. No subprotocol ever is.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from datetime import UTC, datetime
from hashlib import sha1, sha256
from random import Random
from typing import Final

from ptproxy.codec.cookie import opening_from_cookie, opening_to_cookie, session_cookie_name
from ptproxy.codec.head import HttpHead, ResponseHead
from ptproxy.codec.interface import CodecSettings, SiteAnswered
from ptproxy.codec.profile import CHROMIUM
from ptproxy.errors import CodecError

DEFLATE: Final = "permessage-deflate"
"""The extension as it is agreed: without parameters, so that neither end promises anything."""
NONCE_BYTES: Final = 8
"""Random bytes of a client's key; two clients of a bridge that draw the same are no harm."""

TICKET_BYTES: Final = 16
"""Bytes of an opening that is a ticket: those of a Sec-WebSocket-Key. Openings in a cookie have more."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_value(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()).decode(
        "ascii"
    )


def client_key(path: str, rng: Random) -> str:
    """A fresh Sec-WebSocket-Key that tells the bridge of ``path`` whose it is."""
    nonce = rng.randbytes(NONCE_BYTES)
    return base64.b64encode(nonce + _mark(path, nonce)).decode("ascii")


def ticket_key(ticket: bytes) -> str:
    """The Sec-WebSocket-Key that is a ticket."""
    return base64.b64encode(ticket).decode("ascii")


def is_clients_key(key: str, path: str) -> bool:
    """Whether :func:`client_key` made it for this path; ``key`` is base64 of 16 bytes."""
    raw = base64.b64decode(key)
    return hmac.compare_digest(_mark(path, raw[:NONCE_BYTES]), raw[NONCE_BYTES:])


def _mark(path: str, nonce: bytes) -> bytes:
    secret = sha256(b"ptproxy websocket key 1 " + path.encode()).digest()
    return hmac.digest(secret, nonce, "sha256")[: 16 - NONCE_BYTES]


def upgrade_request(settings: CodecSettings, opening: bytes, key: str) -> HttpHead:
    """What a browser on a page of ``settings.host`` sends for ``new WebSocket(path)``."""
    name = session_cookie_name(settings)
    own = () if len(opening) == TICKET_BYTES else (opening_to_cookie(name, opening),)
    look = settings.appearance
    if look is not None:
        crumbs = (*look.memory.crumbs(settings.path, name), *own)
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
        *(("Cookie", cookie) for cookie in own),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Extensions", CHROMIUM.websocket_extensions),
    ]
    return HttpHead(headers, "GET", settings.path)


def extension_to_agree(head: HttpHead, opening: bytes, key: str, path: str) -> str:
    """What a bridge answers to the extensions that a request offers: "" or :data:`DEFLATE`."""
    offers = [offer for line in head.get_all("sec-websocket-extensions") for offer in line.split(",")]
    offered = any(offer.split(";")[0].strip() == DEFLATE for offer in offers)
    ours = len(opening) == TICKET_BYTES or is_clients_key(key, path)
    return DEFLATE if offered and ours else ""


def opening_in_request(head: HttpHead, path: str, cookie: str) -> tuple[bytes, str] | None:
    """The opening and the key of a proper upgrade to the secret path (RFC 6455 section 4.2.1), or None.

    Without an opening in the cookie the key is one, perhaps a ticket: who gives tickets knows.
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
    if opening is None or len(opening) <= TICKET_BYTES:
        opening = nonce
    return opening, key


def upgrade_answer(settings: CodecSettings, key: str, now: float, extension: str = "") -> ResponseHead:
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
    if extension:
        headers.append(("Sec-WebSocket-Extensions", extension))
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
    agreed = head.get_all("sec-websocket-extensions")
    if agreed not in ([], [DEFLATE]) or head.get_all("sec-websocket-protocol"):
        raise CodecError("the answer agrees to an extension or a subprotocol that was not wanted")
