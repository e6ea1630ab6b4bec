"""The cookies by which a client's requests tell whose they are: the opening at first, then tokens."""

from __future__ import annotations

import base64
from typing import Final

from ptproxy.codec.cookie import opening_to_cookie, session_cookie_name
from ptproxy.codec.http_records import token_text
from ptproxy.codec.interface import CodecSettings
from ptproxy.codec.randomness import RandomPool

MAX_PADDING: Final = 16
"""Units of 4 characters by which a cookie is longer than its token, at most."""


class CarrierCookies:
    """Those of one carrier; a second cookie beside them is the same in all, as a site's is.

    With a shape a token is bare: a request is small then, and what goes up is what tells a tunnel
    from a visit best.
    """

    __slots__ = ("_end", "_padding", "_pool", "_start", "name", "opening")

    def __init__(self, settings: CodecSettings, opening: bytes, pool: RandomPool) -> None:
        self.name = session_cookie_name(settings)
        """What the cookie is called: a site's of that name must not stand before it."""
        self._start = self.name.encode() + b"="
        self._padding = MAX_PADDING if settings.shape is None else 0
        self._end = b"; csrftoken=" + base64.urlsafe_b64encode(pool.take(24))
        self._pool = pool
        self.opening = opening_to_cookie(self.name, opening).encode() + self._end
        """The value of the first request's Cookie header."""

    def token(self, key: bytes, kind: int, number: int) -> bytes:
        """That of a later one."""
        padding = self._pool.take(3 * self._pool.below(self._padding + 1))
        return self._start + token_text(key, kind, number, padding) + self._end
