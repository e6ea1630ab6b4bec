"""The chains of a turn: a key for each message, none of which tells another (KDF_CK, section 5.2)."""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ptproxy.e2e.ratchet.kept import MAX_SKIP, KeptChain, KeyRun
from ptproxy.e2e.ratchet.refusals import TooFarAheadError
from ptproxy.e2e.ratchet.root import TurnKeys

_MESSAGE: Final = b"\x01"
_NEXT: Final = b"\x02"


class SendingChain:
    """The chain of this side's newest turn."""

    __slots__ = ("cipher", "header_key", "key", "position")

    def __init__(self, keys: TurnKeys, position: int = 0) -> None:
        self.header_key = keys.header
        self.cipher = AESGCM(keys.header)
        self.key = keys.chain
        self.position = position

    def next(self) -> bytes:
        """The key of the next message; the chain moves on."""
        message_key = hmac.digest(self.key, _MESSAGE, "sha256")
        self.key = hmac.digest(self.key, _NEXT, "sha256")
        self.position += 1
        return message_key

    def __repr__(self) -> str:
        return f"<SendingChain at {self.position}>"


class Reach:
    """Where a receiving chain would be after a message; it is there after :meth:`ReceivingChain.take`."""

    __slots__ = ("key", "message_key", "position", "skipped")

    def __init__(self, chain: ReceivingChain, number: int) -> None:
        """``number`` is at or beyond the chain's position and within reach."""
        self.skipped, key = _skip(chain.key, number - chain.position)
        self.message_key = hmac.digest(key, _MESSAGE, "sha256")
        self.key = hmac.digest(key, _NEXT, "sha256")
        self.position = number + 1


class ReceivingChain:
    """The chain of the other side's newest turn, with the keys of its messages that were overtaken."""

    __slots__ = ("kept", "key", "position")

    def __init__(self, keys: TurnKeys, position: int = 0) -> None:
        self.key = keys.chain
        self.position = position
        self.kept = KeptChain(keys.header)

    def reach(self, number: int) -> Reach:
        """The keys up to a message that is not yet passed; :class:`TooFarAheadError` before any work."""
        check_reach(self.position, number)
        return Reach(self, number)

    def skip(self, number: int) -> bytearray:
        """The keys from the chain's position up to ``number``, or none if they are too many."""
        count = number - self.position
        return _skip(self.key, count)[0] if count <= MAX_SKIP else bytearray()

    def take(self, reach: Reach, now: int) -> None:
        """Move on, and keep the keys of what was overtaken."""
        if reach.skipped:
            self.keep(reach.skipped, now)
        self.key = reach.key
        self.position = reach.position

    def keep(self, skipped: bytearray, now: int) -> None:
        """Keep keys that begin at the chain's position."""
        self.kept.add(KeyRun(self.position, now, skipped))

    def __repr__(self) -> str:
        return f"<ReceivingChain at {self.position}, {self.kept.count} kept>"


def check_reach(position: int, number: int) -> None:
    """Raise :class:`TooFarAheadError` where more would be skipped than keys are derived for."""
    if number - position > MAX_SKIP:
        raise TooFarAheadError("ratchet: too many messages are missing before this one")


def _skip(key: bytes, count: int) -> tuple[bytearray, bytes]:
    """``count`` message keys in one buffer, and the chain key behind them."""
    skipped = bytearray()
    digest = hmac.digest
    for _ in range(count):
        skipped += digest(key, _MESSAGE, "sha256")
        key = digest(key, _NEXT, "sha256")
    return skipped, key
