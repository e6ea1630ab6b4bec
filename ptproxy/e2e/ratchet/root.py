"""Turns: what each Diffie-Hellman step derives (RATCHET.md, *Turns*).

At the same turn both sides hold the same :class:`Root`, byte for byte. The
headers of a turn are encrypted under a key that the turn before the last
derived, so they can be read before the turn is taken.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import ClassVar, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from ptproxy.e2e.ratchet.kem import KemSecret
from ptproxy.e2e.ratchet.refusals import RatchetRuleError
from ptproxy.errors import LocalProtocolError

KEY: Final = 32
"""Bytes of every key here."""
MAX_TURN: Final = 2**32 - 1
"""The last turn: a century of one turn a second."""
MAX_EXPORT: Final = 255 * 32
"""Bytes of one export (RFC 5869 section 2.3)."""
MAX_LABEL: Final = 255
"""Bytes of an export's label: enough to name anything."""

_LABEL_START: Final = b"ptproxy 1 ratchet start"
_LABEL_STEP: Final = b"ptproxy 1 ratchet step"
_LABEL_STEP_WITH_KEM: Final = b"ptproxy 1 ratchet step with kem"
_LABEL_EXPORT: Final = b"ptproxy 1 ratchet export "

_STORED: Final = struct.Struct(">I32s32s32s32s32s")
_HASH: Final = SHA256()


@dataclass(slots=True)
class TurnKeys:
    """What the chain of a new turn starts with."""

    header: bytes = field(repr=False)
    """The key of its headers."""
    chain: bytes = field(repr=False)
    """Its first chain key."""


@dataclass(slots=True)
class Root:
    """The root key after a turn, and what else of that turn is still to be used. Never changed."""

    turn: int
    """0 is the agreement, odd ones are the initiator's."""
    key: bytes = field(repr=False)
    """R of this turn."""
    next_header: bytes = field(repr=False)
    """N of the turn before: it is for the headers of the next turn."""
    later_header: bytes = field(repr=False)
    """N of this turn: it is for the headers of the turn after the next."""
    export_secret: bytes = field(repr=False)
    """E of this turn."""
    former_export_secret: bytes = field(repr=False)
    """E of the turn before; zeros at turn 0."""

    SIZE: ClassVar[int] = _STORED.size

    @classmethod
    def start(cls, secret: bytes) -> Root:
        """Turn 0 from the agreed secret of 32 bytes."""
        if len(secret) != KEY:
            raise LocalProtocolError("ratchet: the agreed secret has 32 bytes")
        key, former, header, export = _split(_derive(bytes(KEY), secret, _LABEL_START))
        return cls(0, key, former, header, export, bytes(KEY))

    def step(self, dh: bytes, kem: KemSecret | None) -> tuple[Root, TurnKeys]:
        """``KDF_RK_HE`` (section 4): the next turn, and the keys of its chain."""
        if self.turn == MAX_TURN:
            raise RatchetRuleError("ratchet: the last turn was taken")
        if kem is None:
            derived = _derive(self.key, dh, _LABEL_STEP)
        else:
            derived = _derive(self.key, dh + kem.shared, _LABEL_STEP_WITH_KEM + kem.transcript)
        key, chain, header, export = _split(derived)
        root = Root(self.turn + 1, key, self.later_header, header, export, self.export_secret)
        return root, TurnKeys(self.next_header, chain)

    def export(self, label: bytes, length: int, turn: int) -> bytes:
        """``length`` bytes for ``label``, from the secret of ``turn``: this one or the one before."""
        if len(label) > MAX_LABEL or not 0 < length <= MAX_EXPORT:
            raise LocalProtocolError("ratchet: an export has 1 to 8160 bytes and a label of at most 255")
        if turn == self.turn:
            secret = self.export_secret
        elif turn == self.turn - 1 and turn >= 0:
            secret = self.former_export_secret
        else:
            raise LocalProtocolError("ratchet: the secret of that turn is not kept")
        return HKDFExpand(_HASH, length, _LABEL_EXPORT + struct.pack(">H", length) + label).derive(secret)

    def serialize(self) -> bytes:
        """164 bytes."""
        return _STORED.pack(
            self.turn,
            self.key,
            self.next_header,
            self.later_header,
            self.export_secret,
            self.former_export_secret,
        )

    @classmethod
    def parse(cls, data: bytes) -> Root:
        """From exactly :attr:`SIZE` bytes."""
        return cls(*_STORED.unpack(data))


def _derive(salt: bytes, secret: bytes, info: bytes) -> bytes:
    return HKDF(_HASH, 4 * KEY, salt, info).derive(secret)


def _split(derived: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    return derived[:32], derived[32:64], derived[64:96], derived[96:]
