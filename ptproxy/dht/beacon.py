"""A value for each epoch that nobody knew before: it moves all locations, so that no id can be made for one.

::

    statement = version u8 = 1 │ epoch u32 │ value 32 │ count u8 │ (signer u8 │ signature 64) *
    signature   label "ptproxy 1 dht beacon ", of epoch │ value
    value     = SHA-256("ptproxy 1 dht beacon value" │ 00 │ epoch u32 │ public value)

A network with a beacon names n signers and how many of them, k, must say the same. They sign what
``value`` makes of a public value that was agreed on long before and comes to be known
less than an epoch ahead: a round of drand, a block's hash. So anybody can check them, and
k who conspire gain what an attacker has in a network without a beacon, no more. (A
value made of their own signatures could be tried until it suits the last of them: Ed25519
signatures are not unique.)

A reader or node that knows no value for an epoch neither looks nor takes: the old value would lead
to other places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ptproxy.dht import signing
from ptproxy.dht.epoch import epoch_of
from ptproxy.dht.signing import KEY, SIGNATURE, SigningKey
from ptproxy.errors import DhtError, LocalProtocolError
from ptproxy.fields import Fields

VALUE: Final = 32
"""Bytes of a beacon's value."""
MAX_SIGNERS: Final = 32
"""Signers of a network: people who know one another, not machines that come and go."""

_VERSION: Final = 1
_EPOCH: Final = 4
_LABEL: Final = b"ptproxy 1 dht beacon "
_VALUE_LABEL: Final = b"ptproxy 1 dht beacon value\x00"


class BeaconError(DhtError):
    """A statement that too few signers stand behind, or that comes at the wrong time."""


class BeaconConflictError(BeaconError):
    """Two statements for one epoch, both signed by enough: signers have conspired or been robbed."""


def value_of(epoch: int, public_value: bytes) -> bytes:
    """32 bytes: what is signed for a public value."""
    return hashlib.sha256(_VALUE_LABEL + epoch.to_bytes(_EPOCH, "big") + public_value).digest()


@dataclass(frozen=True, slots=True)
class BeaconSigners:
    """Whom a network believes: their 32-byte keys, in its order, and how many must agree."""

    keys: tuple[bytes, ...]
    threshold: int

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= len(self.keys) <= MAX_SIGNERS or len(set(self.keys)) != len(self.keys):
            raise LocalProtocolError(f"a beacon has 1 to {MAX_SIGNERS} signers and needs no more than these")
        if any(len(key) != KEY for key in self.keys):
            raise LocalProtocolError(f"a signer's key has {KEY} bytes")


def sign_value(signer: SigningKey, epoch: int, value: bytes) -> bytes:
    """One signer's signature, 64 bytes."""
    return signer.sign(_LABEL, _said(epoch, value))


@dataclass(frozen=True, slots=True)
class BeaconStatement:
    """What signers say of one epoch. Parsed is not verified: see :meth:`verify`."""

    epoch: int
    value: bytes
    signatures: Mapping[int, bytes]
    """By the signer's place in the network's list."""

    @classmethod
    def parse(cls, data: bytes) -> BeaconStatement:
        """From its bytes, signers in rising order; :class:`BeaconError` for anything else."""
        fields = Fields(data, BeaconError("beacon: of another length than it says"))
        if fields.number(1) != _VERSION:
            raise BeaconError("beacon: of a version that this program does not know")
        epoch, value, count = fields.number(_EPOCH), fields.take(VALUE), fields.number(1)
        pairs = [(fields.number(1), fields.take(SIGNATURE)) for _ in range(count)]
        fields.end()
        signatures = dict(sorted(pairs))
        if list(signatures.items()) != pairs:
            raise BeaconError("beacon: its signers are not in order, each once")
        return cls(epoch, value, signatures)

    def serialize(self) -> bytes:
        """The reverse."""
        if len(self.value) != VALUE or len(self.signatures) > MAX_SIGNERS:
            raise LocalProtocolError(
                f"a beacon has a value of {VALUE} bytes and {MAX_SIGNERS} signers at most"
            )
        head = bytes((_VERSION,)) + _said(self.epoch, self.value) + bytes((len(self.signatures),))
        return head + b"".join(bytes((place,)) + self.signatures[place] for place in sorted(self.signatures))

    def verify(self, signers: BeaconSigners) -> None:
        """Return if enough of ``signers`` signed it; a wrong signature among them is an error too."""
        if len(self.signatures) < signers.threshold:
            raise BeaconError("beacon: too few signers")
        for place, signature in self.signatures.items():
            if place >= len(signers.keys):
                raise BeaconError("beacon: a signer that the network does not have")
            try:
                signing.verify(signers.keys[place], signature, _LABEL, _said(self.epoch, self.value))
            except DhtError:
                raise BeaconError("beacon: a signature does not verify") from None


class Beacons:
    """The values that one program knows: of the epoch before, the current one and the next."""

    __slots__ = ("_signers", "_statements")

    def __init__(self, signers: BeaconSigners) -> None:
        self._signers = signers
        self._statements: dict[int, BeaconStatement] = {}

    def value(self, epoch: int) -> bytes | None:
        """32 bytes, or None while nothing is known: what a ``RecordStorage`` asks."""
        statement = self._statements.get(epoch)
        return None if statement is None else statement.value

    def learn(self, data: bytes, now: float) -> None:
        """Take in a statement, however it came; raises :class:`BeaconError`.

        The first value of an epoch stays, and the second is a :class:`BeaconConflictError`:
        something for a person to look at.
        """
        statement = BeaconStatement.parse(data)
        current = epoch_of(now)
        if not current - 1 <= statement.epoch <= current + 1:
            raise BeaconError("beacon: of an epoch that is over or far ahead")
        known = self._statements.get(statement.epoch)
        if known is not None and known.value == statement.value:
            return
        statement.verify(self._signers)
        if known is not None:
            raise BeaconConflictError("beacon: its signers have said something else before")
        self._statements = {
            epoch: kept for epoch, kept in self._statements.items() if current - 1 <= epoch <= current + 1
        }
        self._statements[statement.epoch] = statement

    def statement(self, epoch: int) -> bytes | None:
        """What to pass on to those who ask, in the bytes that verify; None while nothing is known."""
        statement = self._statements.get(epoch)
        return None if statement is None else statement.serialize()


def _said(epoch: int, value: bytes) -> bytes:
    return epoch.to_bytes(_EPOCH, "big") + value
