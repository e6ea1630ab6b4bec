"""Every key of a stream, and the turn of the ratchet that both sides take it from.

::

    cookie(n)        = HKDF(seed, "ptproxy 1 stream cookie"  ‖ stream id ‖ n u32)
    hello key(n, r)  = HKDF(seed, "ptproxy 1 stream hello"   ‖ stream id ‖ n u32 ‖ role u8)
    chain(n)         = HKDF(seed, "ptproxy 1 stream chain"   ‖ stream id ‖ n u32)
    exported(u)      = ratchet.export("ptproxy 1 stream " ‖ stream id, 32, turn u)

    opener's key ‖ acceptor's key ‖ chain' = HKDF(salt exported(u), chain ‖ DH, "ptproxy 1 stream keys" ‖ T)

``DH`` is X25519 of two keys that were made for this one step, ``T`` the hash of what the two said (STREAM.md,
*Keys*). HKDF is RFC 5869 with SHA-256; without a salt where none is named.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ptproxy.e2e.session import Session
from ptproxy.e2e.stream.refusals import TurnsApartError

KEY: Final = 32
"""Bytes of every key here."""

_LABEL_COOKIE: Final = b"ptproxy 1 stream cookie"
_LABEL_HELLO: Final = b"ptproxy 1 stream hello"
_LABEL_CHAIN: Final = b"ptproxy 1 stream chain"
_LABEL_KEYS: Final = b"ptproxy 1 stream keys"
_LABEL_EXPORT: Final = b"ptproxy 1 stream "
_LABEL_TRANSCRIPT: Final = b"ptproxy 1 stream transcript\0"
_NUMBER: Final = struct.Struct(">I")
_HASH: Final = SHA256()


class Role(IntEnum):
    """Who of the two one is; also the side of every meeting. The number is part of the derivations."""

    OPENER = 1
    ACCEPTOR = 2

    @property
    def other(self) -> Role:
        """The peer's."""
        return Role.ACCEPTOR if self is Role.OPENER else Role.OPENER


@dataclass(frozen=True, slots=True)
class Seed:
    """What the opener drew for one stream: everything but what protects its bytes comes from here."""

    stream: bytes
    secret: bytes = field(repr=False)

    def cookie(self, number: int) -> bytes:
        """Names a meeting at a rendezvous: 32 bytes that say nothing to who does not know the seed."""
        return self._derive(_LABEL_COOKIE, _NUMBER.pack(number))

    def hello_key(self, number: int, role: Role) -> bytes:
        """Seals one side's hello."""
        return self._derive(_LABEL_HELLO, _NUMBER.pack(number) + bytes((role,)))

    def chain(self, number: int) -> bytes:
        """What a meeting's chain begins with."""
        return self._derive(_LABEL_CHAIN, _NUMBER.pack(number))

    def _derive(self, label: bytes, suffix: bytes) -> bytes:
        return HKDF(_HASH, KEY, None, label + self.stream + suffix).derive(self.secret)


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of one session's ratchet."""

    session: bytes
    """The session's key, 16 bytes."""
    number: int


@dataclass(frozen=True, slots=True)
class TurnSecrets:
    """What one side can agree on at one moment: the turns whose secrets its ratchet keeps."""

    newest: Turn
    heard: int
    """The newest turn that the peer has taken: it certainly knows it."""
    secrets: dict[int, bytes] = field(repr=False)

    @classmethod
    def of(cls, session: Session, stream: bytes) -> TurnSecrets:
        """From the session that is sent in."""
        ratchet = session.ratchet
        turn = ratchet.turn
        secrets = {
            number: ratchet.export(_LABEL_EXPORT + stream, KEY, number) for number in {turn, max(turn - 1, 0)}
        }
        return cls(Turn(session.key, turn), ratchet.heard_turn, secrets)

    def agree(self, peer: Turn) -> int:
        """The turn that both take where the peer's newest is ``peer``: the lower of the two newest.

        :class:`TurnsApartError` where that secret is not kept, and where it is below the newest
        turn that the peer has taken itself: the peer has that one, so whoever says less is
        somebody who has only an old secret.
        """
        turn = min(self.newest.number, peer.number)
        if peer.session != self.newest.session or turn not in self.secrets or turn < self.heard:
            raise TurnsApartError("stream: no turn in common")
        return turn


@dataclass(frozen=True, slots=True)
class StepKeys:
    """What one step gives: a key for each direction, and what the next step goes on from."""

    opener: bytes = field(repr=False)
    acceptor: bytes = field(repr=False)
    chain: bytes = field(repr=False)
    transcript: bytes

    def of(self, role: Role) -> bytes:
        """The key that ``role`` seals with."""
        return self.opener if role is Role.OPENER else self.acceptor


def transcript(former: bytes, opener: bytes, acceptor: bytes) -> bytes:
    """``T`` from the one before (for hellos: the stream's id and number) and what each has said."""
    return hashlib.sha256(
        _LABEL_TRANSCRIPT + hashlib.sha256(former).digest() + hashlib.sha256(opener).digest() + acceptor
    ).digest()


def step(chain: bytes, dh: bytes, exported: bytes, transcript: bytes) -> StepKeys:
    """The keys of a hello, or of a rekeying."""
    derived = HKDF(_HASH, 3 * KEY, exported, _LABEL_KEYS + transcript).derive(chain + dh)
    return StepKeys(derived[:KEY], derived[KEY : 2 * KEY], derived[2 * KEY :], transcript)
