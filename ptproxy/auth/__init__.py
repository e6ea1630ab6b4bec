"""Who is at the other end: the handshake of a carrier, and who is let in.

Everything here takes bytes and returns bytes; nothing opens a file, a socket or a
clock. ``PROTOCOL.md`` beside this file is the wire format byte by byte, with test vectors.

Read in this order:

- ``opening``       a carrier's handshake: :class:`ClientOpening`, :class:`BridgeOpening`
- ``payload``       what is said in it (:class:`Hello`, :class:`Answer`) and the prologue
- ``noise``         the Noise Protocol Framework beneath: IK and KK
- ``mask``          why a prober sees random bytes, and costs one HMAC
- ``kem``, ``keys`` ML-KEM-768 and the keys that come out
- ``seal``          records for carriers whose TLS ends at a third party
- ``verification``  proving it again, every ten minutes
- ``binding``       which TLS connection a handshake belongs to
- ``replay``        which openings were seen before
- ``credentials``   keys and invite tokens as text
- ``access``        identities and invites: who is admitted (``access_record``: their stored form)
- ``account``       what the keys of one name may do together, and what is left of it

A bridge's order of calls, each step raising :class:`~ptproxy.errors.AuthenticationError`
(what the refused peer then sees is not decided here)::

    opening = BridgeOpening(key, codec, seal, bindings, replay)
    peer = opening.examine(message1, unix_now)
    admission = access.decide(peer.client_public, peer.hello.token, unix_now)
    send(opening.answer(Answer(...), rng))
    rest = opening.receive_confirm(data)            # until not None
    identity = access.spend(admission, unix_now)    # only now a token counts
"""

from ptproxy.auth.access import Access, AccessList, Admission
from ptproxy.auth.access_record import Identity, Invite
from ptproxy.auth.binding import Binding, BindingKind
from ptproxy.auth.credentials import StaticKey, Token, decode_key, encode_key, new_token, token_id
from ptproxy.auth.keys import Keys
from ptproxy.auth.opening import BridgeOpening, ClientOpening, PeerHello
from ptproxy.auth.payload import Answer, Hello, Verdict
from ptproxy.auth.replay import ReplayFilter, ReplayVerdict
from ptproxy.auth.seal import Opener, Sealer
from ptproxy.auth.verification import BridgeVerification, ClientVerification

__all__ = [
    "Access",
    "AccessList",
    "Admission",
    "Answer",
    "Binding",
    "BindingKind",
    "BridgeOpening",
    "BridgeVerification",
    "ClientOpening",
    "ClientVerification",
    "Hello",
    "Identity",
    "Invite",
    "Keys",
    "Opener",
    "PeerHello",
    "ReplayFilter",
    "ReplayVerdict",
    "Sealer",
    "StaticKey",
    "Token",
    "Verdict",
    "decode_key",
    "encode_key",
    "new_token",
    "token_id",
]
