"""A record as nodes see it: 2,048 bytes that say when they are good, and under which key.

::

    record = version u8 = 1 │ copies u8 │ epoch u32 │ sequence u32 │ nonce 16 │ key 32
             │ sealed 1926 │ signature 64

    signature  by ``key``, label "ptproxy 1 dht record ", of everything before it
    nonce      work for (epoch │ key), by the rules of ``work``, label "ptproxy 1 record"
    location   r = 0, 1, 2: SHA-256("ptproxy 1 dht location" │ 00 │ beacon 32 │ epoch │ key │ r u8)

``key`` is made for this epoch and for nothing else (``record_secret``), ``sealed`` is opened by
those who have the secret: a node learns neither what a record is about nor whose it
is. All records look alike whatever they hold. ``beacon`` is 32 zeros in a network without one.

Numbers are big-endian. Nothing here knows secrets.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ptproxy.dht import signing, work
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.signing import KEY, SIGNATURE
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError

RECORD: Final = 2_048
"""Bytes of every record: a bundle with an ML-KEM key (1,184 bytes) fits, and nothing tells types apart."""
REPLICAS: Final = 3
"""Locations of a record: whoever sits at one of them has the other two against it."""
RECORD_WORK: Final = WorkTarget(bits=10)
"""What the public network asks of a record and epoch: 1,024 computations on average, 0.25 to 0.4 s of one
core. A thousand invites cost their operator six minutes a day; what filling a network costs: RECORDS.md."""
NO_BEACON: Final = bytes(32)
"""What locations are made with where a network has no beacon."""

_VERSION: Final = 1
_HEADER: Final = struct.Struct(f">BBII{work.NONCE}s{KEY}s")
HEADER: Final = _HEADER.size
"""Bytes before what is sealed."""
SEALED: Final = RECORD - HEADER - SIGNATURE
"""Bytes of what is sealed."""

_SIGNATURE_LABEL: Final = b"ptproxy 1 dht record "
_WORK_LABEL: Final = b"ptproxy 1 record"
_LOCATION_LABEL: Final = b"ptproxy 1 dht location\x00"


class RecordError(DhtError):
    """Bytes that are no record, or one that does not verify."""


class Copies(IntEnum):
    """Who may keep a record."""

    AT_ITS_LOCATIONS = 0
    """The nodes closest to its locations only: what ptproxy publishes."""
    ON_THE_WAY = 1
    """For an hour also nodes that readers pass by. Whoever uses it tells its records from all others."""


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """What a record says in the open: all of it is covered by the signatures and by the sealing."""

    copies: Copies
    epoch: int
    sequence: int
    """Of two records of one key the higher one counts."""
    nonce: bytes
    """16 bytes: the work."""
    key: bytes
    """32 bytes: the Ed25519 key of this record in this epoch."""

    @classmethod
    def parse(cls, data: bytes) -> RecordHeader:
        """From the first bytes of a record; :class:`RecordError` for anything else."""
        if len(data) < HEADER or data[0] != _VERSION:
            raise RecordError("record: cut short, or of a version that this program does not know")
        _, copies, epoch, sequence, nonce, key = _HEADER.unpack_from(data)
        try:
            return cls(Copies(copies), epoch, sequence, nonce, key)
        except ValueError:
            raise RecordError("record: who may keep it is said in an unknown way") from None

    def serialize(self) -> bytes:
        """58 bytes."""
        return _HEADER.pack(_VERSION, self.copies, self.epoch, self.sequence, self.nonce, self.key)

    def locations(self, beacon: bytes = NO_BEACON) -> tuple[NodeId, ...]:
        """The three keys of the DHT under which the record lies while ``beacon`` is its epoch's."""
        return locations(self.key, self.epoch, beacon)

    def check_work(self, target: WorkTarget = RECORD_WORK) -> None:
        """Return if enough work was done for key and epoch, else :class:`RecordError`. One Argon2id."""
        subject = _of_epoch(self.key, self.epoch)
        if not target.reached_by(work.compute(_WORK_LABEL, subject, self.nonce, target.memory)):
            raise RecordError("record: too little work stands behind it")


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record. Parsed is not verified: see :meth:`verify` and ``header.check_work``."""

    header: RecordHeader
    sealed: bytes
    signature: bytes

    @classmethod
    def parse(cls, data: bytes) -> Record:
        """From 2,048 bytes; :class:`RecordError` for anything else."""
        if len(data) != RECORD:
            raise RecordError(f"record: not {RECORD} bytes")
        return cls(RecordHeader.parse(data), data[HEADER:-SIGNATURE], data[-SIGNATURE:])

    @classmethod
    def sign(cls, header: RecordHeader, sealed: bytes, signer: signing.SigningKey) -> Record:
        """The record that ``signer``, whose public half is the header's key, publishes."""
        said = header.serialize() + sealed
        return cls(header, sealed, signer.sign(_SIGNATURE_LABEL, said))

    def serialize(self) -> bytes:
        """2,048 bytes."""
        return self.header.serialize() + self.sealed + self.signature

    def verify(self) -> None:
        """Return if its key signed it; :class:`RecordError` if not. Says nothing of work, time or place."""
        said = self.header.serialize() + self.sealed
        try:
            signing.verify(self.header.key, self.signature, _SIGNATURE_LABEL, said)
        except DhtError as error:
            raise RecordError(f"record: {error}") from None


def locations(key: bytes, epoch: int, beacon: bytes = NO_BEACON) -> tuple[NodeId, ...]:
    """Where the record of ``key`` in ``epoch`` lies: hashes, as far from one another as chance has it."""
    said = _LOCATION_LABEL + beacon + _of_epoch(key, epoch)
    return tuple(
        int.from_bytes(hashlib.sha256(said + bytes((replica,))).digest(), "big")
        for replica in range(REPLICAS)
    )


def judge(data: bytes, location: NodeId, epoch: int, beacon: bytes = NO_BEACON) -> int | None:
    """The sequence of a record of ``epoch`` that lies at ``location`` and verifies; None for other bytes.

    What a node can say that hands records on without their secret. Whether enough work stands
    behind it, the nodes that keep it have looked.
    """
    try:
        record = Record.parse(data)
        if record.header.epoch != epoch or location not in record.header.locations(beacon):
            return None
        record.verify()
    except RecordError:
        return None
    return record.header.sequence


def find_work(key: bytes, epoch: int, target: WorkTarget, first: int, tries: int) -> bytes | None:
    """A nonce for a record of ``key`` in ``epoch``, as :func:`ptproxy.dht.work.search` finds it, or None."""
    found = work.search(_WORK_LABEL, _of_epoch(key, epoch), target, first, tries)
    return None if found is None else found.nonce


def _of_epoch(key: bytes, epoch: int) -> bytes:
    return epoch.to_bytes(4, "big") + key
