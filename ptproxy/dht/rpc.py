"""Requests on their way and the answers that belong to them; what an answer must be to count.

:class:`Calls` is the asking side: it signs nothing, and takes an answer only from the
node that was asked, for the very request it was sent. :func:`sign_answer` is the
other side's. Both work on whole messages (``datagrams`` cuts and joins them).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from ptproxy.dht.contact import Contact
from ptproxy.dht.datagrams import PIECE
from ptproxy.dht.identifier import Rng
from ptproxy.dht.lookup import Lookup
from ptproxy.dht.messages import (
    LONGEST,
    TAG,
    Answer,
    Find,
    Found,
    Get,
    Holding,
    Leave,
    Nodes,
    Ping,
    Pong,
    Request,
    Seek,
    Store,
    Stored,
    is_signed,
    parse_answer,
    serialize_answer,
    serialize_request,
    tag_of,
)
from ptproxy.dht.signing import SIGNATURE, SigningKey, verify
from ptproxy.errors import DhtError

MAX_CALLS: Final = 1_024
"""Requests that wait for an answer, also a late one; the oldest is given up for a new one."""
LATE: Final = 10.0
"""Seconds until an answer is no longer expected at all; a lookup gave up on it long before."""
MAX_FALSE: Final = 16
"""False answers to one request that are looked at, 0.1 ms each: whoever knows its tag can send more."""

_LABEL: Final = b"ptproxy 1 dht answer "
_ANSWERS: Final[dict[type[Request], tuple[type[Answer], ...]]] = {
    Ping: (Pong,),
    Find: (Nodes,),
    Seek: (Nodes, Holding),
    Get: (Nodes, Found),
    Store: (Stored,),
    Leave: (Stored,),
}
_WANTED: Final[dict[type[Request], int]] = {
    Ping: 320, Find: LONGEST, Seek: LONGEST, Get: LONGEST, Store: 0, Leave: 0,
}  # fmt: skip
"""Bytes that a request is padded to: a PONG takes 285, a STORE is longer than its answer by itself."""
_HOPED: Final = 2 * PIECE
"""Bytes of a GET that should find the record: two datagrams, so that 11 nodes can be named in its place."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to a request of ours."""

    contact: Contact
    """Who gave it, as we asked them."""
    request: Request
    answer: Answer | None
    """None if it is nothing that can be answered: the node is hostile, or broken."""
    seconds: float
    """The round trip."""
    lookup: Lookup | None
    """What it was asked for."""
    signed: bool
    """Whether the node that was asked has signed it, for this request; a FOUND is not."""


@dataclass(slots=True)
class _Call:
    contact: Contact
    request: Request
    digest: bytes
    sent: float
    lookup: Lookup | None
    false: int = 0
    """Answers that were not proved."""


class Calls:
    """The requests of one node or client that are out."""

    __slots__ = ("_calls", "_rng")

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._calls: dict[bytes, _Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def ask(
        self,
        contact: Contact,
        request: Request,
        now: float,
        lookup: Lookup | None = None,
        *,
        hoped: bool = False,
    ) -> bytes:
        """The message to send to ``contact``, for ``lookup`` if one asks, and is ``hoped`` to end it."""
        self.expire(now)
        tag = self._rng(TAG)
        data = serialize_request(tag, request, _HOPED if hoped else _WANTED[type(request)])
        self._calls[tag] = _Call(contact, request, hashlib.sha256(data).digest(), now, lookup)
        return data

    def receive_answer(self, data: bytes, now: float) -> Answered:
        """What an answer says; :class:`DhtError` for one that belongs to no request, or is not proved.

        A false one is no proof against the node that was asked: anybody may have sent
        it. The request goes on waiting for the true one, which after :data:`MAX_FALSE` others is lost too.
        """
        call = self._calls.get(tag_of(data))
        if call is None:
            raise DhtError("an answer to nothing that was asked")
        if len(data) > LONGEST:
            raise DhtError("an answer of an impossible length")
        if call.false >= MAX_FALSE:
            raise DhtError("one more answer where many were false")
        signed = is_signed(data)
        try:
            answer = _signed(call, data) if signed else _proved(call, data)
        except DhtError:
            call.false += 1
            raise
        del self._calls[tag_of(data)]
        if not self._calls:
            self._calls.clear()  # an empty dictionary keeps its room
        return Answered(call.contact, call.request, answer, now - call.sent, call.lookup, signed)

    def expire(self, now: float) -> None:
        """Forget what will not be answered any more, and its lookups. The oldest stand first."""
        calls = self._calls
        while calls:
            oldest = next(iter(calls))
            if len(calls) < MAX_CALLS and now - calls[oldest].sent < LATE:
                return
            del calls[oldest]


def _signed(call: _Call, data: bytes) -> Answer | None:
    """What the node that was asked said; :class:`DhtError` if somebody else did."""
    said, signature = data[:-SIGNATURE], data[-SIGNATURE:]
    verify(call.contact.key, signature, _LABEL, call.digest + said)
    return _parsed(call, said)


def _proved(call: _Call, data: bytes) -> Answer:
    """A FOUND that ends its search, or would have; :class:`DhtError` for any other answer."""
    answer = _parsed(call, data)
    if (
        call.lookup is None
        or not isinstance(answer, Found)
        or not call.lookup.is_ended_by(call.contact.id, answer.record)
    ):
        raise DhtError("an answer that nobody has signed, and that proves nothing")
    return answer


def _parsed(call: _Call, said: bytes) -> Answer | None:
    """What a node said, if it may say that."""
    try:
        _, answer = parse_answer(said)
        if isinstance(answer, Pong) and answer.contact != call.contact:  # that one was checked
            answer.contact.verify()
    except DhtError:
        return None
    if not isinstance(answer, _ANSWERS[type(call.request)]):
        return None
    # Another nonce would make a contact that others refuse, and us with it who hand it on.
    asked = (call.contact.id, call.contact.key, call.contact.nonce)
    if isinstance(answer, Pong) and (answer.contact.id, answer.contact.key, answer.contact.nonce) != asked:
        return None
    return answer


def sign_answer(signer: SigningKey, request: bytes, tag: bytes, answer: Answer) -> bytes:
    """The answer to the message ``request``, which must be as long as it at least."""
    said = serialize_answer(tag, answer)
    if not is_signed(said):
        return said
    return said + signer.sign(_LABEL, hashlib.sha256(request).digest() + said)
