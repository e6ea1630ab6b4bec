"""Messages between peers that nobody on the way can read.

Everything here takes bytes and returns bytes; nothing opens a file, a socket or a
clock. Documents beside the code have every format byte by byte: ``PROTOCOL.md`` (identities and how
two peers begin), ``ratchet/RATCHET.md`` (a key for every message), ``stream/STREAM.md`` (streams).

    an invite or a QR code          who a peer is         identity, fingerprint, succession
    a mailbox's prekey bundle       how to begin          bundle, prekeys, x3dh, pqxdh, first_message
    what is written and read        a key a message       ratchet/
    everybody one writes to         what a program uses   correspondence, conversation, contact, session

Read in this order:

- ``curve``, ``signing``, ``kem``   keys: X25519, Ed25519, ML-KEM, one byte of type each
- ``identity``, ``fingerprint``     who a peer is, and what people compare
- ``succession``                    an identity names its successor
- ``suite``                         which algorithms, as one number
- ``bundle``                        what a peer publishes; :func:`verify` it
- ``prekeys``                       its private side: rotation, use, deletion
- ``x3dh``, ``pqxdh``, ``agreement`` the key agreement and what it binds
- ``first_message``                 :func:`begin` and :func:`examine`
- ``replay``                        which first messages were accepted
- ``refusals``                      errors that a caller tells apart
- ``ratchet/``                      what follows: the Double Ratchet, a package with its own map
- ``correspondence``                all of it together: the package's front door
- ``conversation``, ``contact``     one peer: its sessions, and what the person said about its identity
- ``session``, ``content``          one ratchet with its name, and what its plaintexts hold
- ``stream/``                       streams of bytes under keys from the ratchet, a package with its own map
- ``unsaved``                       what to save before bytes leave or text is shown
- ``rng``                         where randomness comes from

A program begins with :class:`Correspondence`, whose module shows the order of calls. Beneath it, one
side begins::

    verified = verify(bundle, one_time, fingerprint, now)
    beginning = begin(owner, verified, rng)
    agreed = beginning.agreement
    ratchet = Ratchet.initiate(agreed.secret, agreed.associated_data, beginning.ratchet_key, now, rng)
    message = beginning.opening + ratchet.encrypt(text, now, rng)   # until the peer has answered

the other answers, where :func:`opening_key` names no session that it has already::

    received = examine(message, owner, prekeys)
    agreed = received.agreement
    ratchet = Ratchet.respond(agreed.secret, agreed.associated_data, received.ratchet_pair, now)
    text = ratchet.decrypt(received.payload, now)
    prekeys.commit(received.use)

Errors: whatever a peer or anybody on the way sends is refused with an
:class:`~ptproxy.errors.E2EError` (the ratchet's are a branch of it) and leaves everything as
it was. Bytes of our own store that are damaged, or of a version that we do not know, are
a :class:`~ptproxy.errors.StateError` wherever they are parsed.
"""

from ptproxy.e2e.agreement import Agreement
from ptproxy.e2e.bundle import PrekeyBundle, VerifiedBundle, verify
from ptproxy.e2e.contact import Contact, Standing
from ptproxy.e2e.content import MAX_BODY, Kind
from ptproxy.e2e.conversation import Conversation
from ptproxy.e2e.correspondence import Correspondence, ReceivedMessage
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
from ptproxy.e2e.ratchet import Ratchet
from ptproxy.e2e.refusals import ExpiredError, IdentityChangedError, KnownOpeningError, UnknownPrekeyError
from ptproxy.e2e.rng import Rng
from ptproxy.e2e.session import Session
from ptproxy.e2e.succession import Succession
from ptproxy.e2e.suite import POST_QUANTUM, Suite

__all__ = [
    "MAX_BODY",
    "POST_QUANTUM",
    "Agreement",
    "Authorship",
    "Beginning",
    "Contact",
    "Conversation",
    "Correspondence",
    "CurveKey",
    "CurveKeyPair",
    "ExpiredError",
    "Fingerprint",
    "Identity",
    "IdentityChangedError",
    "Kind",
    "KnownOpeningError",
    "Maintenance",
    "OwnIdentity",
    "PrekeyBundle",
    "Prekeys",
    "Ratchet",
    "Received",
    "ReceivedMessage",
    "Rng",
    "Session",
    "Standing",
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
