"""A key for every message: Signal's Double Ratchet with header encryption and a sparse ML-KEM step.

``RATCHET.md`` beside this file is the protocol byte by byte. Read in this order:

- ``ratchet``     :class:`Ratchet`: one side of one conversation
- ``root``        turns: what each Diffie-Hellman step derives (KDF_RK)
- ``chains``      the chains of a turn (KDF_CK)
- ``kept``        keys of messages that were overtaken
- ``kem_step``    when ML-KEM is mixed in, and what is refused so that it cannot be left out
- ``header``, ``envelope``  what a message says about itself, and what of it is seen
- ``state``       the stored form
- ``kem``         what an exchange of ML-KEM-768 gives to the root
- ``refusals``    why a message is refused

The order of calls, on both sides::

    ratchet = Ratchet.initiate(secret, associated_data, peer_key, now, rng)     # or Ratchet.respond
    message = ratchet.encrypt(plaintext, now, rng)
    store.save(ratchet.serialize())             # before the message leaves
    send(message)

    plaintext = ratchet.decrypt(message, now)   # RatchetError: refused, and nothing has changed
    store.save(ratchet.serialize())             # before the text is shown
"""

from ptproxy.e2e.ratchet.envelope import MAX_PLAINTEXT, SIZES
from ptproxy.e2e.ratchet.ratchet import Ratchet
from ptproxy.e2e.ratchet.refusals import (
    AlreadyReadError,
    RatchetError,
    RatchetRuleError,
    TooFarAheadError,
    UnreadableError,
)

__all__ = [
    "MAX_PLAINTEXT",
    "SIZES",
    "AlreadyReadError",
    "Ratchet",
    "RatchetError",
    "RatchetRuleError",
    "TooFarAheadError",
    "UnreadableError",
]
