"""Message 1 inside a session cookie: where the websocket and http codecs carry the opening.

    Cookie: NAME=VALUE                      up to MAX_VALUE characters
    Cookie: NAME.0=FIRST; NAME.1=SECOND     when longer (as Auth.js and Supabase split theirs)

``VALUE`` is the opening in base64url without padding. ``NAME`` is one of
:data:`NAMES`, chosen by the first byte of SHA-256 over ``host`` (lower case,
without port), NUL, ``path``: both ends derive it from the bridge's link, and it
is the same for one site and differs between sites, as with real ones.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from ptproxy.codec.head import Headers
from ptproxy.codec.interface import CodecSettings
from ptproxy.errors import LocalProtocolError

MAX_VALUE = 3584
"""Characters of one cookie value; browsers drop cookies of more than 4,096 bytes with name and attributes."""
MAX_OPENING = MAX_VALUE * 2 * 3 // 4
"""Bytes of an opening that fit into two cookies."""
MIN_OPENING = 16
"""Bytes; shorter values are some site's own cookies, never an opening."""

NAMES = (
    "session",
    "sessionid",
    "session_id",
    "sid",
    "SID",
    "connect.sid",
    "PHPSESSID",
    "JSESSIONID",
    "SESSION",
    "ci_session",
    "laravel_session",
    "_session",
    "_session_id",
    "auth_session",
    "remember_token",
    "auth_token",
)
"""Usual session cookie names; 16 of them. Their order is part of the wire format."""

_VALUE = re.compile(r"[A-Za-z0-9_-]+")


def session_cookie_name(settings: CodecSettings) -> str:
    """The cookie name that clients of this bridge line send."""
    host = re.sub(r":[0-9]+$", "", settings.host.lower())
    digest = hashlib.sha256(host.encode() + b"\0" + settings.path.encode()).digest()
    return NAMES[digest[0] % len(NAMES)]


def opening_to_cookie(name: str, opening: bytes) -> str:
    """The value of the Cookie header that carries ``opening``."""
    if not MIN_OPENING <= len(opening) <= MAX_OPENING:
        raise LocalProtocolError(f"an opening has {MIN_OPENING} to {MAX_OPENING} bytes")
    value = base64.urlsafe_b64encode(opening).rstrip(b"=").decode("ascii")
    if len(value) <= MAX_VALUE:
        return f"{name}={value}"
    half = len(value) // 2
    return f"{name}.0={value[:half]}; {name}.1={value[half:]}"


def opening_from_cookie(name: str, head: Headers) -> bytes | None:
    """The opening in a request's cookies, None when there is none that could be one."""
    value = head.cookie(name)
    if value is None:
        first, second = head.cookie(f"{name}.0"), head.cookie(f"{name}.1")
        if first is None or second is None:
            return None
        value = first + second
    if len(value) > 2 * MAX_VALUE or _VALUE.fullmatch(value) is None:
        return None
    try:
        opening = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (binascii.Error, ValueError):
        return None
    return opening if MIN_OPENING <= len(opening) <= MAX_OPENING else None
