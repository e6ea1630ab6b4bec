"""Which carrier a request at a bridge's http codec belongs to: the tokens that are good now."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from ptproxy.codec.http_records import POLL, POST, STREAM, token_text

if TYPE_CHECKING:
    from ptproxy.codec.http_bridge import BridgeHttp

POST_WINDOW: Final = 64
"""POST numbers from the next one on that are accepted (HTTP/2 puts many small ones in flight)."""
POST_PAST: Final = 32
"""POST numbers before it that are still known: a lost answer is asked for again."""
GET_WINDOW: Final = 8
"""GET numbers from the current one on that are accepted: two streamed or four polls, and a change between."""

TokenTable = dict[str, tuple["BridgeHttp", int, int]]
"""All carriers of one bridge: token text to carrier, kind, number. A lookup by HMAC value."""


class CarrierTokens:
    """The tokens of one carrier in the table: windows that move on with its POSTs and GETs."""

    __slots__ = ("_carrier", "_gets", "_key", "_next_get", "_next_post", "_posts", "_table")

    def __init__(self, table: TokenTable, carrier: BridgeHttp, key: bytes) -> None:
        self._table = table
        self._carrier = carrier
        self._key = key
        self._posts: deque[str] = deque()
        self._gets: deque[str] = deque()
        self._next_post = 0
        self._next_get = 1
        self.posts_up_to(0)
        self.gets_up_to(1)

    def posts_up_to(self, number: int) -> None:
        """The next POST has this number."""
        while self._next_post < number + POST_WINDOW:
            self._grant(self._posts, POST, self._next_post)
            self._next_post += 1
        while len(self._posts) > POST_WINDOW + POST_PAST:
            del self._table[self._posts.popleft()]

    def gets_up_to(self, number: int) -> None:
        """The current GET has this number; those before it are answered."""
        while self._next_get < number + GET_WINDOW:
            self._grant(self._gets, STREAM, self._next_get)
            self._grant(self._gets, POLL, self._next_get)
            self._next_get += 1
        while len(self._gets) > 2 * GET_WINDOW:
            del self._table[self._gets.popleft()]

    def revoke(self) -> None:
        """None is good any more."""
        for text in (*self._posts, *self._gets):
            del self._table[text]
        self._posts.clear()
        self._gets.clear()

    def _grant(self, tokens: deque[str], kind: int, number: int) -> None:
        text = token_text(self._key, kind, number).decode("ascii")
        self._table[text] = (self._carrier, kind, number)
        tokens.append(text)
