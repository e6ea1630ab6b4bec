"""What a peer publishes so that others can begin with it while it is away.

::

    bundle   = version u8 = 1 │ suite u8 │ identity 66 │ id u32 │ made u64 │ expires u64
               │ signed prekey 33 │ KEM prekey 0, 1185 or 1569 │ signature 64
    one-time = version u8 = 1 │ suite u8 │ id u32 │ expires u64 │ one-time prekey 33
               │ one-time KEM prekey 0, 1185 or 1569 │ signature 64

:func:`verify` makes a :class:`VerifiedBundle` of a bundle and at most one one-time
prekey; nothing else does, and an agreement begins with nothing less.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from ptproxy.e2e import curve
from ptproxy.e2e import identity as identities
from ptproxy.e2e.curve import CurveKey
from ptproxy.e2e.fingerprint import Fingerprint
from ptproxy.e2e.identity import Identity, OwnIdentity
from ptproxy.e2e.kem import KemKey
from ptproxy.e2e.refusals import ExpiredError, IdentityChangedError
from ptproxy.e2e.signing import SIGNATURE
from ptproxy.e2e.suite import POST_QUANTUM, Suite
from ptproxy.errors import E2EError
from ptproxy.fields import Fields

BUNDLE_LIFE: Final = 35 * 86_400
"""Seconds from a bundle's making to its expiry: a week as the current one, four as the one before."""
ONE_TIME_LIFE: Final = 90 * 86_400
"""Seconds from a one-time prekey's making to its expiry: a hundred contacts in that time are many."""
MAX_AHEAD: Final = 86_400
"""Seconds that a bundle may have been made after our clock: clocks are wrong."""
NO_ONE_TIME: Final = 0
"""The id that says: without a one-time prekey."""

_VERSION: Final = 1
_ID: Final = 4
_TIME: Final = 8
_BUNDLE_LABEL: Final = b"ptproxy 1 e2e bundle"
_ONE_TIME_LABEL: Final = b"ptproxy 1 e2e one-time prekey"
_HASH_LABEL: Final = b"ptproxy 1 e2e bundle hash\x00"
_VERSION_UNKNOWN: Final = "of a version that this program does not know"


@dataclass(frozen=True, slots=True)
class PrekeyBundle:
    """A bundle as it was read; its signature has not been looked at."""

    suite: Suite
    identity: Identity
    id: int
    made: int
    """Unix seconds."""
    expires: int
    """Unix seconds."""
    signed_prekey: CurveKey
    kem_prekey: KemKey | None
    """In suites with a KEM."""

    @classmethod
    def parse(cls, data: bytes) -> PrekeyBundle:
        """From a bundle with its signature; :class:`E2EError` for anything else."""
        fields = Fields(data, E2EError("bundle: of another length than its suite's"))
        if fields.number(1) != _VERSION:
            raise E2EError(f"bundle: {_VERSION_UNKNOWN}")
        suite = Suite.parse(fields.number(1))
        identity = Identity.parse(fields.take(identities.ENCODED))
        number, made, expires = fields.number(_ID), fields.number(_TIME), fields.number(_TIME)
        signed_prekey = CurveKey.parse(fields.take(curve.ENCODED))
        kem_prekey = _kem_key(suite, fields)
        fields.take(SIGNATURE)
        fields.end()
        if number == NO_ONE_TIME:
            raise E2EError("bundle: its id is 0")
        return cls(suite, identity, number, made, expires, signed_prekey, kem_prekey)

    def sign(self, owner: OwnIdentity) -> bytes:
        """What its owner publishes, the same for the same bundle."""
        said = (
            bytes((_VERSION, self.suite))
            + self.identity.serialize()
            + self.id.to_bytes(_ID, "big")
            + self.made.to_bytes(_TIME, "big")
            + self.expires.to_bytes(_TIME, "big")
            + self.signed_prekey.serialize()
            + (self.kem_prekey.serialize() if self.kem_prekey else b"")
        )
        return said + owner.signing.sign(_BUNDLE_LABEL, said)


@dataclass(frozen=True, slots=True)
class OneTimePrekey:
    """A one-time prekey as it was read; its signature has not been looked at."""

    suite: Suite
    id: int
    expires: int
    """Unix seconds."""
    prekey: CurveKey
    kem_prekey: KemKey | None
    """In suites with a KEM."""

    @classmethod
    def parse(cls, data: bytes) -> OneTimePrekey:
        """From a one-time prekey with its signature; :class:`E2EError` for anything else."""
        fields = Fields(data, E2EError("one-time prekey: of another length than its suite's"))
        if fields.number(1) != _VERSION:
            raise E2EError(f"one-time prekey: {_VERSION_UNKNOWN}")
        suite = Suite.parse(fields.number(1))
        number, expires = fields.number(_ID), fields.number(_TIME)
        prekey = CurveKey.parse(fields.take(curve.ENCODED))
        kem_prekey = _kem_key(suite, fields)
        fields.take(SIGNATURE)
        fields.end()
        if number == NO_ONE_TIME:
            raise E2EError("one-time prekey: its id is 0")
        return cls(suite, number, expires, prekey, kem_prekey)

    def sign(self, owner: OwnIdentity) -> bytes:
        """What its owner publishes, the same for the same prekey. Its owner's name is signed, not said."""
        said = (
            bytes((_VERSION, self.suite))
            + self.id.to_bytes(_ID, "big")
            + self.expires.to_bytes(_TIME, "big")
            + self.prekey.serialize()
            + (self.kem_prekey.serialize() if self.kem_prekey else b"")
        )
        return said + owner.signing.sign(_ONE_TIME_LABEL, owner.public.fingerprint.data + said)


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """A bundle with at most one one-time prekey, good now and made by the identity expected."""

    bundle: PrekeyBundle
    one_time: OneTimePrekey | None
    hash: bytes
    """32 bytes: :func:`bundle_hash` of what was fetched."""

    @property
    def one_time_id(self) -> int:
        """The one-time prekey's id, or :data:`NO_ONE_TIME`."""
        return self.one_time.id if self.one_time else NO_ONE_TIME

    @property
    def kem_prekey(self) -> KemKey | None:
        """The KEM prekey to use: the one-time one where there is one (PQXDH section 3.3)."""
        return self.one_time.kem_prekey if self.one_time else self.bundle.kem_prekey


def verify(
    bundle: bytes,
    one_time: bytes | None,
    expected: Fingerprint,
    now: float,
    accepted: Collection[Suite] = POST_QUANTUM,
) -> VerifiedBundle:
    """What was fetched, if ``expected`` published it and it is good ``now`` (unix seconds).

    Whoever trusts on first use passes the fingerprint of the bundle's own identity, and
    says so to the person. Raises :class:`IdentityChangedError` for another identity,
    :class:`ExpiredError`, and :class:`E2EError` for anything else that is wrong: a bad one-time
    prekey is not left out, since whoever made it bad would choose what protects us.
    """
    read = PrekeyBundle.parse(bundle)
    if read.suite not in accepted:
        raise E2EError("bundle: of a suite that is not accepted")
    if not hmac.compare_digest(read.identity.fingerprint.data, expected.data):
        raise IdentityChangedError("bundle: of another identity than the one expected")
    _verify_signature(read.identity, bundle, _BUNDLE_LABEL)
    if not read.made < read.expires <= read.made + BUNDLE_LIFE:
        raise E2EError("bundle: good for an impossible time")
    if read.made > now + MAX_AHEAD:
        raise E2EError("bundle: from the future; is this machine's clock right?")
    if read.expires <= now:
        raise ExpiredError("bundle: it has expired")
    prekey = None
    if one_time is not None:
        prekey = OneTimePrekey.parse(one_time)
        _verify_signature(read.identity, one_time, _ONE_TIME_LABEL, read.identity.fingerprint.data)
        if prekey.suite is not read.suite:
            raise E2EError("one-time prekey: of another suite than its bundle")
        if prekey.expires <= now:
            raise ExpiredError("one-time prekey: it has expired")
        if prekey.expires > now + ONE_TIME_LIFE + MAX_AHEAD:
            raise E2EError("one-time prekey: good for an impossible time; is this machine's clock right?")
    return VerifiedBundle(read, prekey, bundle_hash(_digest(bundle), _digest(one_time)))


def bundle_hash(bundle_digest: bytes, one_time_digest: bytes) -> bytes:
    """32 bytes that stand for exactly what was fetched: from SHA-256 of each part, zeros for none."""
    return _digest(_HASH_LABEL + bundle_digest + one_time_digest)


def _digest(data: bytes | None) -> bytes:
    return bytes(hashlib.sha256().digest_size) if data is None else hashlib.sha256(data).digest()


def _kem_key(suite: Suite, fields: Fields) -> KemKey | None:
    return None if suite.kem is None else KemKey.parse(suite.kem, fields.take(suite.kem.encoded))


def _verify_signature(identity: Identity, data: bytes, label: bytes, before: bytes = b"") -> None:
    said, signature = data[:-SIGNATURE], data[-SIGNATURE:]
    identity.signing.verify(signature, label, before + said)
