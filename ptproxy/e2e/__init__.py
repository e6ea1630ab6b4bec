"""Messages between peers that nobody on the way can read: who they are, and how two of them begin.

Everything here takes bytes and returns bytes; nothing opens a file, a socket or a
clock. ``PROTOCOL.md`` beside this file is every format byte by byte, with test vectors.

Read in this order:

- ``curve``, ``signing``, ``kem``   keys: X25519, Ed25519, ML-KEM, one byte of type each
- ``identity``, ``fingerprint``     who a peer is, and what people compare
- ``succession``                    an identity names its successor
- ``suite``                         which algorithms, as one number
- ``bundle``                        what a peer publishes; :func:`verify` it
- ``prekeys``                       its private side: rotation, use, deletion
- ``x3dh``, ``pqxdh``, ``agreement`` the key agreement and what it binds
- ``first_message``                 :func:`begin` and :func:`examine`
- ``fields``, ``rng``               how formats are taken apart, where randomness comes from
- ``replay``                        which first messages were accepted
- ``refusals``                      errors that a caller tells apart
- ``ratchet/``                      what follows: the Double Ratchet

One side begins::

    verified = verify(bundle, one_time, fingerprint, now)
    beginning = begin(owner, verified, rng)
    # a ratchet from beginning.agreement and beginning.ratchet_key
    # beginning.opening goes before each of its messages until the peer has answered

the other answers, where :func:`opening_key` names no session that it has already::

    received = examine(message, owner, prekeys)
    # a ratchet from received.agreement and received.ratchet_pair, which reads received.payload
    prekeys.commit(received.use)

Every refusal is an :class:`~ptproxy.errors.E2EError` and leaves everything as it was.
"""

from ptproxy.e2e.agreement import Agreement
from ptproxy.e2e.bundle import PrekeyBundle, VerifiedBundle, verify
from ptproxy.e2e.curve import CurveKey, CurveKeyPair
from ptproxy.e2e.fingerprint import Fingerprint
from ptproxy.e2e.first_message import (
    Authorship,
    Beginning,
    Received,
    begin,
    examine,
    opening_key,
    opening_length,
)
from ptproxy.e2e.identity import Identity, OwnIdentity
from ptproxy.e2e.prekeys import Maintenance, Prekeys, Use
from ptproxy.e2e.refusals import ExpiredError, IdentityChangedError, KnownOpeningError, UnknownPrekeyError
from ptproxy.e2e.rng import Rng
from ptproxy.e2e.succession import Succession
from ptproxy.e2e.suite import POST_QUANTUM, Suite

__all__ = [
    "POST_QUANTUM",
    "Agreement",
    "Authorship",
    "Beginning",
    "CurveKey",
    "CurveKeyPair",
    "ExpiredError",
    "Fingerprint",
    "Identity",
    "IdentityChangedError",
    "KnownOpeningError",
    "Maintenance",
    "OwnIdentity",
    "PrekeyBundle",
    "Prekeys",
    "Received",
    "Rng",
    "Succession",
    "Suite",
    "UnknownPrekeyError",
    "Use",
    "VerifiedBundle",
    "begin",
    "examine",
    "opening_key",
    "opening_length",
    "verify",
]
