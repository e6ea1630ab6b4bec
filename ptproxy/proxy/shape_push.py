"""How a bridge pushes its shape: signed, to whoever follows it over the service ``shape``.

The service's stream is held open. Down it come pushes, each a length (u32) and a
signed document (``auth/signed.py``) of kind ``shape``, whose body is JSON with
sorted keys::

    {"shape": {...}}        as codec/shape.py reads it, everything resolved
    {"shape": null}         no shape: carriers as they come

Nothing goes up. The last number is kept in the bridge's state, so that numbers
rise over every restart; where the state was lost, the time of day sees to that.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Final

from ptproxy.auth.credentials import StaticKey
from ptproxy.auth.signed import SignedDocument, Signer
from ptproxy.codec.shape import Shape
from ptproxy.errors import Reason, StartError
from ptproxy.log import get_logger
from ptproxy.state import Document
from ptproxy.tunnel.stream import Incoming

DOCUMENT: Final = "shape"
"""Name of the document in the state folder, of a bridge and of a client."""
KIND: Final = "shape"
"""Of what is signed."""
GOOD_FOR: Final = 30 * 86_400
"""Seconds that a push is good for a client that does not come back."""
SIGN_AGAIN: Final = 86_400
"""Seconds after which who comes anew gets a fresh signature."""
MAX_FOLLOWERS: Final = 16_384
"""Streams held open: each costs a few KiB, and is one of its session's streams as well."""

log = get_logger(__name__)


class ShapePush:
    """The service, one a bridge."""

    def __init__(self, key: StaticKey, document: Document, shape: Shape | None) -> None:
        """May raise :class:`~ptproxy.errors.StartError` for a state that cannot be used."""
        self._signer = Signer(key)
        self._document = document
        self._followers: set[_Follower] = set()
        self._closed = False
        self._shape = shape
        self._signed = b""
        self._signed_at = 0.0
        self._sign()

    @property
    def signing_key(self) -> bytes:
        """The public half of the key that signs."""
        return self._signer.public

    def __call__(self, incoming: Incoming) -> None:
        """A client follows: it gets what there is, and what will come."""
        if self._closed or len(self._followers) >= MAX_FOLLOWERS:
            incoming.refuse(Reason.SHUTDOWN if self._closed else Reason.LIMIT)
            return
        if time.time() - self._signed_at > SIGN_AGAIN:
            self._sign()
        follower = _Follower(self._followers)
        incoming.accept(follower)
        follower.push(self._signed)

    def change(self, shape: Shape | None) -> None:
        """Push another shape to everybody who follows; after :meth:`close` the state is somebody else's.

        Raises :class:`~ptproxy.errors.StartError` where the state cannot be written; then nothing is pushed.
        """
        if shape != self._shape and not self._closed:
            before, self._shape = self._shape, shape
            try:
                self._sign()
            except StartError:
                self._shape = before
                raise
            for follower in list(self._followers):
                follower.push(self._signed)
            log.info("shape pushed", shape=shape.name if shape else "none", clients=len(self._followers))

    def close(self) -> None:
        """No more pushes: the streams end, so that nobody waits for them."""
        self._closed = True
        for follower in list(self._followers):
            follower.end()

    def _sign(self) -> None:
        now = int(time.time())
        mapping = self._shape.to_mapping() if self._shape is not None else None
        body = json.dumps({"shape": mapping}, sort_keys=True, separators=(",", ":"))
        last = (self._document.read() or {}).get("sequence", 0)
        sequence = max(last + 1 if isinstance(last, int) else 0, now)
        self._document.write({"sequence": sequence})
        self._signed = self._signer.sign(SignedDocument(KIND, sequence, now, now + GOOD_FOR, body.encode()))
        self._signed_at = now


class _Follower(asyncio.Protocol):
    """One client's stream."""

    def __init__(self, followers: set[_Follower]) -> None:
        self._followers = followers
        self._transport: Any = None
        self._behind = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It follows from now on."""
        self._transport = transport
        self._followers.add(self)

    def push(self, signed: bytes) -> None:
        """Send one push, unless the client has not even taken the one before."""
        if not self._behind:
            self._transport.write(len(signed).to_bytes(4, "big") + signed)

    def data_received(self, data: bytes) -> None:
        """A client has nothing to say here."""
        del data
        self._transport.abort()

    def pause_writing(self) -> None:
        """It does not read; when it comes again it gets what is right then."""
        self._behind = True

    def end(self) -> None:
        """No more will come."""
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """It follows no longer."""
        del exc
        self._followers.discard(self)
