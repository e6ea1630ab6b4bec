"""Who may be a node of the directory: whoever has spent seconds of memory-hard work on its key.

::

    w  = Argon2id(public key 32 │ nonce 16), by the rules of ``work``, label "ptproxy 1 dht id"
    id = SHA-256(w), if w begins with enough zeros

An id cannot be chosen, and each costs its owner the search again. The zeros are asked
of w and not of the id, so that ids stay uniform. A contact claims its id, which costs nothing
to compare; the claim is checked only when its owner is about to be asked something, once, and
after the contact's signature (a forged contact must not cost us 0.4 ms).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from ptproxy.dht import work
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.quota import LeakyBucket
from ptproxy.dht.signing import KEY
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError, LocalProtocolError

NODE_WORK: Final = WorkTarget(bits=13)
"""What the public network asks of a node: 8,192 computations on average, 2 to 3 s of one core."""
MAX_REMEMBERED: Final = 16_384
"""Claims remembered, 300 bytes each: all that a routing table (5,120) and its lookups meet in a day."""
CHECKS_AT_ONCE: Final = 500
"""Checks in one go, a fifth of a second: more than a lookup over 8 paths among strangers needs."""
CHECKS_PER_SECOND: Final = 100
"""Checks in the long run, 4 % of a core: whoever feeds us fresh false contacts costs no more."""

_LABEL: Final = b"ptproxy 1 dht id"


class AdmissionError(DhtError):
    """An id that its key and nonce do not give, or that too little work stands behind."""


class TooManyChecksError(DhtError):
    """Nothing is known yet of this claim, and enough has been checked for now."""


@dataclass(frozen=True, slots=True)
class Minted:
    """An id that was found for a key, and the nonce that proves it."""

    id: NodeId
    nonce: bytes
    """16 bytes."""


def mint(key: bytes, target: WorkTarget, first: int, tries: int) -> Minted | None:
    """An id for the Ed25519 key ``key``: nonces from ``first`` on, ``tries`` of them; None if none would do.

    0.4 ms of CPU a try: run it beside the event loop, and go on from where it ended.
    """
    if len(key) != KEY:
        raise LocalProtocolError(f"a node's public key has {KEY} bytes")
    found = work.search(_LABEL, key, target, first, tries)
    return None if found is None else Minted(_id_of(found.work), found.nonce)


def check(claimed: NodeId, key: bytes, nonce: bytes, target: WorkTarget = NODE_WORK) -> None:
    """Return if ``key`` and ``nonce`` give ``claimed``; :class:`AdmissionError` if not. One Argon2id."""
    if len(key) != KEY or len(nonce) != work.NONCE:
        raise AdmissionError("a node's key or nonce has another length")
    found = work.compute(_LABEL, key, nonce, target.memory)
    if not target.reached_by(found):
        raise AdmissionError("a node's id has too little work behind it")
    if _id_of(found) != claimed:
        raise AdmissionError("a node's id is not the one that its key and nonce give")


def _id_of(found: bytes) -> NodeId:
    return int.from_bytes(hashlib.sha256(found).digest(), "big")


class Admissions:
    """The claims that one node has checked, each once; bounded in memory and in work a second."""

    __slots__ = ("_bucket", "_seen", "_target")

    def __init__(self, target: WorkTarget = NODE_WORK) -> None:
        self._target = target
        self._seen: OrderedDict[tuple[NodeId, bytes, bytes], bool] = OrderedDict()
        self._bucket = LeakyBucket(CHECKS_AT_ONCE, CHECKS_PER_SECOND)

    def __len__(self) -> int:
        return len(self._seen)

    def known(self, claimed: NodeId, key: bytes, nonce: bytes) -> bool | None:
        """Whether the claim was found true or false; None if it was never checked, or is forgotten."""
        return self._seen.get((claimed, key, nonce))

    def check(self, claimed: NodeId, key: bytes, nonce: bytes, now: float) -> None:
        """Return if the claim is true; it is looked at once.

        Raises :class:`AdmissionError` if it is false, :class:`TooManyChecksError` if that
        is not known and cannot be found out now.
        """
        claim = (claimed, key, nonce)
        seen = self._seen.get(claim)
        if seen is None:
            if not self._bucket.take(1, now):
                raise TooManyChecksError("too many new nodes at once: this one was not checked")
            seen = self._find_out(claim)
        else:
            self._seen.move_to_end(claim)
        if not seen:
            raise AdmissionError("a node's id is not the one that its key, nonce and work give")

    def _find_out(self, claim: tuple[NodeId, bytes, bytes]) -> bool:
        try:
            check(*claim, self._target)
        except AdmissionError:
            true = False
        else:
            true = True
        if len(self._seen) >= MAX_REMEMBERED:
            self._seen.popitem(last=False)
        self._seen[claim] = true
        return true
