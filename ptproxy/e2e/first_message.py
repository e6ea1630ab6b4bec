"""The first message: how one peer begins with another that is away.

::

    opening       = version u8 = 1 │ suite u8 │ E 33 │ gate │ sender │ proof
    first message = opening │ the ratchet's message

    gate   = GCM(K1, …, bundle id u32 │ one-time id u32 │ KEM ciphertext)      K1 from DH2
    sender = GCM(K2, …, identity of the initiator 66)                          K2 from DH2 to DH4 and SS
    proof  = GCM(K3, AD, authorship u8 │ signature 64)                         K3 from everything

The initiator: :func:`begin` once, the ratchet from its agreement, both saved, then ``opening │
ratchet message`` until the peer has answered.

The responder, where :func:`opening_key` names no session that is there already::

    received = examine(message, owner, prekeys)                 # changes nothing
    ratchet = Ratchet.respond(received.agreement…, received.ratchet_pair…)
    plaintext = ratchet.decrypt(received.payload…)              # still nothing
    prekeys.commit(received.use)                                # now save both, then show

What is bound to what stands in ``PROTOCOL.md``, "First message"; so does the order of
:func:`examine`: the cheap checks first, a stranger gone after one DH.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ptproxy.e2e import curve, x3dh
from ptproxy.e2e import identity as identities
from ptproxy.e2e.agreement import Agreement, associated_data, transcript
from ptproxy.e2e.bundle import VerifiedBundle
from ptproxy.e2e.curve import CurveKey, CurveKeyPair
from ptproxy.e2e.identity import Identity, OwnIdentity
from ptproxy.e2e.pqxdh import Encapsulation
from ptproxy.e2e.prekeys import Prekeys, Use
from ptproxy.e2e.refusals import KnownOpeningError
from ptproxy.e2e.replay import replay_key
from ptproxy.e2e.rng import Rng
from ptproxy.e2e.signing import SIGNATURE
from ptproxy.e2e.suite import Suite
from ptproxy.e2e.x3dh import EphemeralProducts
from ptproxy.errors import E2EError
from ptproxy.fields import Fields

MAX_PAYLOAD: Final = 262_144
"""Bytes of the ratchet's message in a first message: more is a file's, and files go in streams."""

_VERSION: Final = 1
_TAG: Final = 16
_NONCE: Final = bytes(12)
_ID: Final = 4
_HEADER: Final = 2 + curve.ENCODED
_SENDER: Final = identities.ENCODED + _TAG
_PROOF: Final = 1 + SIGNATURE + _TAG
_SIGNATURE_LABEL: Final = b"ptproxy 1 e2e ephemeral"
_NO_SIGNATURE: Final = bytes(SIGNATURE)


class Authorship(IntEnum):
    """What the receiver can prove to others. The number is part of the wire format."""

    DENIABLE = 0
    """Nothing: the receiver could have made the message itself."""
    SIGNED = 1
    """That this identity began a session with the receiver's: a signature over the ephemeral key."""


def opening_length(suite: Suite) -> int:
    """Bytes of an opening: the same for every one of a suite."""
    return _HEADER + _gate_length(suite) + _SENDER + _PROOF


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the initiator has after :func:`begin`."""

    agreement: Agreement
    ratchet_key: CurveKey
    """The peer's signed prekey: its first ratchet key."""
    opening: bytes
    """Goes before each message until the peer has answered. Kept and sent again, never made again."""
    key: bytes
    """:func:`~ptproxy.e2e.replay.replay_key` of the opening."""


@dataclass(frozen=True, slots=True)
class Received:
    """A first message whose opening has verified. Nothing of it is used up before the commit."""

    agreement: Agreement
    peer: Identity
    """Who began: proved by DH1, and by the signature where there is one."""
    authorship: Authorship
    ratchet_pair: CurveKeyPair = field(repr=False)
    """The signed prekey that was used: our first ratchet key pair."""
    payload: bytes
    """The ratchet's message, not looked at."""
    use: Use
    """For :meth:`~ptproxy.e2e.prekeys.Prekeys.commit`, once the payload has been read."""


def begin(
    owner: OwnIdentity, verified: VerifiedBundle, rng: Rng, authorship: Authorship = Authorship.SIGNED
) -> Beginning:
    """Begin with the peer whose bundle this is; ``rng`` is a CSPRNG in production.

    Raises :class:`E2EError` for a bundle of one's own, or with one's own keys in it.
    """
    bundle, one_time = verified.bundle, verified.one_time
    suite, peer = bundle.suite, bundle.identity
    if owner.public.shares_a_key_with(peer):
        raise E2EError("first message: to an identity with our own key")
    ephemeral = CurveKeyPair.generate(rng)
    products = EphemeralProducts.initiate(
        ephemeral, peer.agreement, bundle.signed_prekey, one_time.prekey if one_time else None
    )
    encapsulation = Encapsulation.initiate(verified.kem_prekey)
    keys = _Keys(suite, ephemeral.public, peer)
    ids = bundle.id.to_bytes(_ID, "big") + verified.one_time_id.to_bytes(_ID, "big")
    bound = transcript(
        suite,
        ephemeral.public,
        ids,
        bundle.signed_prekey,
        one_time.prekey if one_time else None,
        encapsulation,
        verified.hash,
    )
    material = x3dh.key_material(owner.agreement.exchange(bundle.signed_prekey), products)
    data = associated_data(owner.public, peer, suite, bound)
    signature = _NO_SIGNATURE
    if authorship is Authorship.SIGNED:
        said = _signed(suite, ephemeral.public, owner.public, peer, verified.hash)
        signature = owner.signing.sign(_SIGNATURE_LABEL, said)
    opening = _Opening(
        ephemeral.public,
        _seal(keys.gate(products.dh2), keys.gate_data, ids + encapsulation.ciphertext),
        _seal(keys.sender(products, encapsulation), keys.sender_data(bound), owner.public.serialize()),
        _seal(keys.proof(material, encapsulation), data, bytes((authorship,)) + signature),
    )
    agreement = Agreement(keys.secret(material, encapsulation), data, suite)
    return Beginning(agreement, bundle.signed_prekey, opening.serialize(suite), replay_key(ephemeral.public))


def examine(
    message: bytes,
    owner: OwnIdentity,
    prekeys: Prekeys,
    accepted: Collection[Authorship] = frozenset(Authorship),
) -> Received:
    """Judge a first message; nothing changes, whatever it is.

    ``accepted`` says which proofs will do. Whoever takes deniable beginnings takes those of a
    thief of our signed prekey, too: in anybody's name. It is to be shown with the message.

    Raises :class:`KnownOpeningError` for an opening that was accepted before,
    :class:`UnknownPrekeyError` for prekeys that are not here, and :class:`E2EError` for
    everything else that is wrong. The texts are for our own log: the sender learns nothing.
    """
    suite = prekeys.suite
    opening, payload = _Opening.parse(message, suite)
    ephemeral = opening.ephemeral
    key = replay_key(ephemeral)
    if key in prekeys.seen:
        raise KnownOpeningError(key)

    keys = _Keys(suite, ephemeral, owner.public)
    dh2 = owner.agreement.exchange(ephemeral)
    opened = _open(keys.gate(dh2), keys.gate_data, opening.gate)
    ids, ciphertext = opened[: 2 * _ID], opened[2 * _ID :]
    bundle_id, one_time_id = int.from_bytes(ids[:_ID], "big"), int.from_bytes(ids[_ID:], "big")
    found = prekeys.find(bundle_id, one_time_id)

    products = EphemeralProducts.respond(dh2, ephemeral, found.signed, found.one_time)
    encapsulation = Encapsulation.respond(found.kem, ciphertext)
    one_time = found.one_time.public if found.one_time else None
    bound = transcript(suite, ephemeral, ids, found.signed.public, one_time, encapsulation, found.bundle_hash)
    sender = _open(keys.sender(products, encapsulation), keys.sender_data(bound), opening.sender)
    peer = Identity.parse(sender)
    if owner.public.shares_a_key_with(peer):
        raise E2EError("first message: from an identity with our own key")

    material = x3dh.key_material(found.signed.exchange(peer.agreement), products)
    data = associated_data(peer, owner.public, suite, bound)
    said = _signed(suite, ephemeral, peer, owner.public, found.bundle_hash)
    authorship = _verify_proof(_open(keys.proof(material, encapsulation), data, opening.proof), peer, said)
    if authorship not in accepted:
        raise E2EError(f"first message: {authorship.name.lower()}, which is not accepted")
    agreement = Agreement(keys.secret(material, encapsulation), data, suite)
    return Received(agreement, peer, authorship, found.signed, payload, Use(bundle_id, one_time_id, key))


def opening_key(message: bytes) -> bytes:
    """The key, 16 bytes, of the session that this first message would begin or has begun.

    For a caller with a table of sessions by key: it asks there first, before :func:`examine`. What
    a session refuses is no reason to examine it. :class:`E2EError` for what is no first message.
    """
    if len(message) < _HEADER or message[0] != _VERSION:
        raise E2EError("first message: of another version or length than ours")
    return replay_key(CurveKey.parse(message[2:_HEADER]))


@dataclass(frozen=True, slots=True)
class _Opening:
    """An opening as it travels, its three parts sealed."""

    ephemeral: CurveKey
    gate: bytes
    sender: bytes
    proof: bytes

    @classmethod
    def parse(cls, message: bytes, suite: Suite) -> tuple[_Opening, bytes]:
        """From the front of a first message, with what is behind it; :class:`E2EError` for anything else."""
        wrong = E2EError("first message: of another version, suite or length than ours")
        if not opening_length(suite) < len(message) <= opening_length(suite) + MAX_PAYLOAD:
            raise wrong
        fields = Fields(message, wrong)
        if fields.take(2) != bytes((_VERSION, suite)):
            raise wrong
        ephemeral = CurveKey.parse(fields.take(curve.ENCODED))
        gate, sender, proof = fields.take(_gate_length(suite)), fields.take(_SENDER), fields.take(_PROOF)
        return cls(ephemeral, gate, sender, proof), fields.rest()

    def serialize(self, suite: Suite) -> bytes:
        """:func:`opening_length` bytes."""
        return _header(suite, self.ephemeral) + self.gate + self.sender + self.proof


class _Keys:
    """The keys of one opening and what is authenticated with each (``PROTOCOL.md``, "First message")."""

    __slots__ = ("_info", "_responder", "gate_data")

    def __init__(self, suite: Suite, ephemeral: CurveKey, responder: Identity) -> None:
        self._info = suite.info
        self._responder = responder.serialize()
        self.gate_data: bytes = _header(suite, ephemeral) + self._responder
        """What goes with the gate."""

    def sender_data(self, bound: bytes) -> bytes:
        """What goes with the sender; ``bound`` is T."""
        return self._responder + bound

    def gate(self, dh2: bytes) -> bytes:
        """K1."""
        return x3dh.derive(dh2, self._info + b" gate")

    def sender(self, products: EphemeralProducts, encapsulation: Encapsulation) -> bytes:
        """K2."""
        return x3dh.derive(products.material() + encapsulation.secret, self._info + b" sender")

    def proof(self, material: bytes, encapsulation: Encapsulation) -> bytes:
        """K3; ``material`` is the DHs of KM."""
        return x3dh.derive(material + encapsulation.secret, self._info + b" proof")

    def secret(self, material: bytes, encapsulation: Encapsulation) -> bytes:
        """SK; ``material`` is the DHs of KM."""
        return x3dh.derive(material + encapsulation.secret, self._info)


def _header(suite: Suite, ephemeral: CurveKey) -> bytes:
    """What an opening begins with, in the clear."""
    return bytes((_VERSION, suite)) + ephemeral.serialize()


def _gate_length(suite: Suite) -> int:
    return 2 * _ID + suite.ciphertext + _TAG


def _signed(
    suite: Suite, ephemeral: CurveKey, initiator: Identity, responder: Identity, bundle_hash: bytes
) -> bytes:
    """What the initiator signs."""
    return (
        bytes((suite,)) + ephemeral.serialize() + initiator.serialize() + responder.serialize() + bundle_hash
    )


def _verify_proof(proof: bytes, peer: Identity, said: bytes) -> Authorship:
    """What the proof says, if it is true."""
    authorship, signature = proof[0], proof[1:]
    if authorship == Authorship.SIGNED:
        peer.signing.verify(signature, _SIGNATURE_LABEL, said)
        return Authorship.SIGNED
    if authorship != Authorship.DENIABLE or signature != _NO_SIGNATURE:
        raise E2EError("first message: neither signed nor deniable")
    return Authorship.DENIABLE


def _seal(key: bytes, data: bytes, plaintext: bytes) -> bytes:
    """Encrypt under a key that does so once."""
    return AESGCM(key).encrypt(_NONCE, plaintext, data)


def _open(key: bytes, data: bytes, ciphertext: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(_NONCE, ciphertext, data)
    except InvalidTag:
        raise E2EError("first message: does not verify") from None
