"""An identity names its successor: a statement that both keys sign.

::

    version u8 = 1 │ old identity 66 │ new identity 66 │ made u64
    │ signature 64 by the old key │ signature 64 by the new key

The new key signs too: otherwise anybody could name somebody else's identity as
theirs. A thief of the old key can make a statement as well as its owner; so one that
verifies is a reason to ask the person, never to go on as if nothing had changed.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from ptproxy.e2e import identity as identities
from ptproxy.e2e.fingerprint import Fingerprint
from ptproxy.e2e.identity import Identity, OwnIdentity
from ptproxy.e2e.signing import SIGNATURE
from ptproxy.errors import E2EError, LocalProtocolError
from ptproxy.fields import Fields

LENGTH: Final = 1 + 2 * identities.ENCODED + 8 + 2 * SIGNATURE
"""Bytes of a statement."""
MAX_AHEAD: Final = 86_400
"""Seconds that a statement may have been made after our clock: clocks are wrong."""

_VERSION: Final = 1
_TIME: Final = 8
_OLD_LABEL: Final = b"ptproxy 1 e2e succession"
_NEW_LABEL: Final = b"ptproxy 1 e2e successor"


@dataclass(frozen=True, slots=True)
class Succession:
    """Who follows whom, once both signatures have verified."""

    old: Identity
    new: Identity
    made: int
    """Unix seconds."""


def declare(old: OwnIdentity, new: OwnIdentity, now: float) -> bytes:
    """A statement of 269 bytes. The old identity signs nothing afterwards."""
    if old.public.shares_a_key_with(new.public):
        raise LocalProtocolError("succession: a new identity has two new keys")
    said = (
        bytes((_VERSION,)) + old.public.serialize() + new.public.serialize() + int(now).to_bytes(_TIME, "big")
    )
    return said + old.signing.sign(_OLD_LABEL, said) + new.signing.sign(_NEW_LABEL, said)


def verify(statement: bytes, known: Fingerprint, now: float) -> Succession:
    """The statement, if the identity ``known`` by its fingerprint made it; else :class:`E2EError`."""
    fields = Fields(statement, E2EError("succession: a statement is 269 bytes"))
    version = fields.number(1)
    old, new = fields.take(identities.ENCODED), fields.take(identities.ENCODED)
    made = fields.number(_TIME)
    said = fields.so_far()
    by_old, by_new = fields.take(SIGNATURE), fields.take(SIGNATURE)
    fields.end()
    if version != _VERSION:
        raise E2EError("succession: of a version that this program does not know")
    succession = Succession(Identity.parse(old), Identity.parse(new), made)
    if not hmac.compare_digest(succession.old.fingerprint.data, known.data):
        raise E2EError("succession: of another identity than the one known")
    if succession.old.shares_a_key_with(succession.new):
        raise E2EError("succession: a new identity has two new keys")
    succession.old.signing.verify(by_old, _OLD_LABEL, said)
    succession.new.signing.verify(by_new, _NEW_LABEL, said)
    if made > now + MAX_AHEAD:
        raise E2EError("succession: from the future; is this machine's clock right?")
    return succession
