"""Leave to write at one place, given with an answer: so that whoever writes has really asked here before.

::

    token = HMAC-SHA256(secret, "ptproxy 1 dht write " │ period u64 │ location 32 │ requester 32), 16 bytes

A node keeps nothing for it but one secret. ``requester`` is whom the answer went to, as the node
knows them: the id of the guard that passed the request on. A period has five minutes,
the one before counts too; a node that restarts has another secret, and its writers ask again.
"""

from __future__ import annotations

import hmac
from typing import Final

from ptproxy.dht.identifier import ID_BYTES, NodeId, Rng
from ptproxy.errors import DhtError

TOKEN: Final = 16
"""Bytes of a token."""
PERIOD: Final = 300
"""Seconds; a token is good for 300 to 600: a lookup over slow paths, then the writing."""

_SECRET: Final = 32
_LABEL: Final = b"ptproxy 1 dht write "


class WriteTokenError(DhtError):
    """A token that this node did not give this requester for this location lately."""


class WriteTokens:
    """One node's tokens. The repr shows nothing."""

    __slots__ = ("_secret",)

    def __init__(self, rng: Rng) -> None:
        self._secret = rng(_SECRET)

    def give(self, location: NodeId, requester: NodeId, now: float) -> bytes:
        """16 bytes for ``requester``, good at ``location`` from now on for five minutes at least."""
        return self._token(int(now // PERIOD), location, requester)

    def check(self, token: bytes, location: NodeId, requester: NodeId, now: float) -> None:
        """Return if :meth:`give` gave it lately; :class:`WriteTokenError` if not."""
        period = int(now // PERIOD)
        current = hmac.compare_digest(token, self._token(period, location, requester))
        before = hmac.compare_digest(token, self._token(period - 1, location, requester))
        if not (current or before):
            raise WriteTokenError("a write with a token that is not ours, or too old")

    def _token(self, period: int, location: NodeId, requester: NodeId) -> bytes:
        places = location.to_bytes(ID_BYTES, "big") + requester.to_bytes(ID_BYTES, "big")
        message = _LABEL + max(period, 0).to_bytes(8, "big") + places
        return hmac.digest(self._secret, message, "sha256")[:TOKEN]

    def __repr__(self) -> str:
        return "<WriteTokens>"
