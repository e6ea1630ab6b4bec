"""What a publisher and its readers share, and the keys it gives for each type and epoch.

::

    keys(type, epoch) = HKDF-SHA256(secret 32, salt 32 zeros, info), 32 bytes each
    info = label │ 00 │ type u8 │ epoch u32, with the labels
      signing seed      "ptproxy 1 dht record signing"    Ed25519: the record's key
      sealing key       "ptproxy 1 dht record sealing"    AES-256-GCM
      times             "ptproxy 1 dht record times"      when it is published (``publication``)

    sealed  = nonce 12 │ AES-256-GCM(sealing key, nonce, header, inside)
    inside  = type u8 │ length u16 │ content │ zeros │ issuer's signature 64, 1898 bytes in all
    issuer's signature   label "ptproxy 1 dht inside ", of header │ inside without the signature

The header names key, epoch and sequence; so what an issuer signed for one secret, one day
and one turn is good for nothing else. Readers need the secret *and* the issuer's public
key. Whoever has the secret can sign records, so can put garbage in this one's place
(``RECORDS.md`` says what then happens), but never a content that readers accept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ptproxy.dht import record as records
from ptproxy.dht import signing
from ptproxy.dht.identifier import NodeId, Rng
from ptproxy.dht.record import HEADER, NO_BEACON, SEALED, Copies, Record, RecordError, RecordHeader
from ptproxy.dht.signing import SIGNATURE, SigningKey
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError, LocalProtocolError

SECRET: Final = 32
"""Bytes of a secret."""
MAX_EPOCH: Final = 2**32 - 1
MAX_SEQUENCE: Final = 2**32 - 1

_NONCE: Final = 12
_TAG: Final = 16
_INSIDE: Final = SEALED - _NONCE - _TAG
_START: Final = 3
MAX_CONTENT: Final = _INSIDE - _START - SIGNATURE
"""Bytes of the longest content: 1,831. A prekey bundle with ML-KEM-1024 has 1,754."""

_SIGNING_LABEL: Final = b"ptproxy 1 dht record signing"
_SEALING_LABEL: Final = b"ptproxy 1 dht record sealing"
_TIMES_LABEL: Final = b"ptproxy 1 dht record times"
_INSIDE_LABEL: Final = b"ptproxy 1 dht inside "


class RecordType(IntEnum):
    """What a record holds; readers alone can see it."""

    BRIDGE_BUCKET = 1
    PREKEY_BUNDLE = 2
    MAILBOX_POINTER = 3


@dataclass(frozen=True, slots=True)
class RecordContent:
    """What a record held, once everything about it has verified."""

    epoch: int
    sequence: int
    content: bytes

    @property
    def order(self) -> tuple[int, int]:
        """Of two contents of one type and secret the one with the higher order is the newer one."""
        return self.epoch, self.sequence


@dataclass(frozen=True, slots=True)
class RecordSecret:
    """32 bytes that stand for one invite, or for what one person tells one other; ValueError else."""

    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.data) != SECRET:
            raise ValueError(f"a record's secret has {SECRET} bytes")

    @classmethod
    def generate(cls, rng: Rng) -> RecordSecret:
        """A new one; ``rng`` is a CSPRNG in production."""
        return cls(rng(SECRET))

    def keys(self, kind: RecordType, epoch: int) -> RecordKeys:
        """The keys of this secret's record of ``kind`` in ``epoch``."""
        return RecordKeys(self, kind, epoch)


class RecordKeys:
    """Everything that one secret gives for one type and epoch. The repr shows no key."""

    __slots__ = ("_sealing", "_signer", "epoch", "kind", "public", "times")

    def __init__(self, secret: RecordSecret, kind: RecordType, epoch: int) -> None:
        if not 0 <= epoch <= MAX_EPOCH:
            raise LocalProtocolError("an epoch is a u32")
        context = b"\x00" + bytes((kind,)) + epoch.to_bytes(4, "big")
        self.kind = kind
        self.epoch = epoch
        self._signer = SigningKey(_derive(secret.data, _SIGNING_LABEL + context))
        self._sealing = AESGCM(_derive(secret.data, _SEALING_LABEL + context))
        self.public = self._signer.public
        """32 bytes: the key of the record."""
        self.times = _derive(secret.data, _TIMES_LABEL + context)
        """32 secret bytes that say when to publish."""

    def locations(self, beacon: bytes = NO_BEACON) -> tuple[NodeId, ...]:
        """Where the record lies while ``beacon`` is the epoch's."""
        return records.locations(self.public, self.epoch, beacon)

    def find_work(self, target: WorkTarget, first: int, tries: int) -> bytes | None:
        """The nonce for :meth:`seal`, by ``tries`` computations from ``first`` on, or None."""
        return records.find_work(self.public, self.epoch, target, first, tries)

    def seal(
        self,
        content: bytes,
        sequence: int,
        issuer: SigningKey,
        nonce: bytes,
        rng: Rng,
        copies: Copies = Copies.AT_ITS_LOCATIONS,
    ) -> Record:
        """The record that says ``content``, signed by ``issuer``; ``nonce`` is the work.

        :class:`LocalProtocolError` for a content of more than :data:`MAX_CONTENT` bytes.
        """
        if len(content) > MAX_CONTENT:
            raise LocalProtocolError(f"a record holds {MAX_CONTENT} bytes at most")
        if not 0 <= sequence <= MAX_SEQUENCE:
            raise LocalProtocolError("a record's sequence is a u32")
        header = RecordHeader(copies, self.epoch, sequence, nonce, self.public)
        open_header = header.serialize()
        inside = bytes((self.kind,)) + len(content).to_bytes(2, "big") + content
        inside = inside.ljust(_INSIDE - SIGNATURE, b"\x00")
        inside += issuer.sign(_INSIDE_LABEL, open_header + inside)
        gcm_nonce = rng(_NONCE)
        sealed = gcm_nonce + self._sealing.encrypt(gcm_nonce, inside, open_header)
        return Record.sign(header, sealed, self._signer)

    def open(self, data: bytes, issuer: bytes) -> RecordContent:
        """What the record ``data`` says, if ``issuer`` (its public key) said it under this secret.

        :class:`RecordError` for anything else. The outer signature is not looked at: who can
        seal under the secret can make that one too. Nor is the work, which is the nodes' concern.
        """
        record = Record.parse(data)
        header = record.header
        if header.key != self.public or header.epoch != self.epoch:
            raise RecordError("record: of another secret or epoch")
        nonce, ciphertext = record.sealed[:_NONCE], record.sealed[_NONCE:]
        try:
            inside = self._sealing.decrypt(nonce, ciphertext, data[:HEADER])
        except InvalidTag:
            raise RecordError("record: it does not open") from None
        said, signature = inside[:-SIGNATURE], inside[-SIGNATURE:]
        try:
            signing.verify(issuer, signature, _INSIDE_LABEL, data[:HEADER] + said)
        except DhtError:
            raise RecordError("record: not signed by its issuer") from None
        length = int.from_bytes(said[1:_START], "big")
        content, rest = said[_START : _START + length], said[_START + length :]
        if said[0] != self.kind or len(content) != length or rest.strip(b"\x00"):
            raise RecordError("record: of another type, or with a wrong length inside")
        return RecordContent(self.epoch, header.sequence, content)

    def judge(self, data: bytes, issuer: bytes) -> int | None:
        """The sequence of a record that :meth:`open` accepts; None for any other bytes: a lookup's judge."""
        try:
            return self.open(data, issuer).sequence
        except RecordError:
            return None

    def newest(self, candidates: Iterable[bytes], issuer: bytes) -> RecordContent | None:
        """The newest content among what nodes answered; None if nothing of it opens.

        Of two that are equally new the one with the greater content is taken, so that all readers agree.
        """
        opened = []
        for data in candidates:
            try:
                opened.append(self.open(data, issuer))
            except RecordError:
                continue
        return max(opened, key=lambda one: (one.sequence, one.content), default=None)

    def __repr__(self) -> str:
        return f"<RecordKeys {self.kind.name.lower()}, epoch {self.epoch}>"


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, None, info).derive(secret)
