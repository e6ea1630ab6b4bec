"""First messages forged, changed, reflected or sent in floods: refused, and nothing is changed by them."""

import itertools
from dataclasses import replace
from random import Random

import naive_agreement as naive
import pytest
from agreement_pair import NOW, PAYLOAD, Peer, flip, pair, refused
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e import (
    Authorship,
    KnownOpeningError,
    OwnIdentity,
    PrekeyBundle,
    Suite,
    begin,
    examine,
    verify,
)
from ptproxy.e2e.bundle import OneTimePrekey
from ptproxy.e2e.curve import CurveKey, CurveKeyPair
from ptproxy.e2e.first_message import MAX_PAYLOAD
from ptproxy.e2e.kem import KemKeyPair
from ptproxy.e2e.signing import VerifyingKey
from ptproxy.errors import E2EError

SUITES = pytest.mark.parametrize("suite", Suite)
ONE_TIME = pytest.mark.parametrize("one_time", [True, False], ids=["one-time", "without"])


@pytest.fixture
def counts(monkeypatch):
    """How often the costly operations are called."""
    counted = {"exchange": 0, "decapsulate": 0, "verify": 0, "kem_pair": 0}

    def count(owner, method, name):
        original = getattr(owner, method)

        def counting(*arguments, **named):
            counted[name] += 1
            return original(*arguments, **named)

        monkeypatch.setattr(owner, method, counting)

    count(CurveKeyPair, "exchange", "exchange")
    count(KemKeyPair, "decapsulate", "decapsulate")
    count(KemKeyPair, "__init__", "kem_pair")
    count(VerifyingKey, "verify", "verify")
    return counted


# --- forged, changed, reflected


@SUITES
@ONE_TIME
def test_per_byte_tampering(suite, one_time):
    """Any byte, several bits of it: refused, and the untouched message is still good afterwards."""
    alice, bob = pair(suite)
    opening = alice.begin(bob, one_time=one_time).opening
    for position in range(len(opening)):
        mask = 0x80 if position % 2 else 0x01
        with pytest.raises(E2EError):
            bob.examine(flip(opening, position, mask))
    saved = bob.prekeys.serialize()
    bob.accept(opening)
    assert bob.prekeys.serialize() != saved


@given(cut=st.integers(1, 1310), more=st.binary(max_size=40))
def test_cut_anywhere(cut, more):
    bob = REUSED_BOB
    refused(bob, REUSED_OPENING[:-cut], payload=more)
    refused(bob, REUSED_OPENING[:-cut], payload=b"")


@given(data=st.binary(max_size=1500) | st.binary(min_size=1311, max_size=1400))
def test_garbage(data):
    for head in (b"", b"\x01\x02\x05"):
        refused(REUSED_BOB, b"", payload=head + data)


REUSED_ALICE, REUSED_BOB = pair()
REUSED_OPENING = REUSED_ALICE.begin(REUSED_BOB).opening


def test_lengths():
    refused(REUSED_BOB, REUSED_OPENING, match="length", payload=b"")
    refused(REUSED_BOB, REUSED_OPENING, match="length", payload=bytes(MAX_PAYLOAD + 1))
    assert len(REUSED_BOB.examine(REUSED_OPENING, bytes(MAX_PAYLOAD)).payload) == MAX_PAYLOAD


def test_parts_of_two_openings_do_not_mix():
    alice, bob = pair()
    one, other = alice.begin(bob, one_time=False).opening, alice.begin(bob, one_time=False).opening
    edges = [0, 2, 35, 35 + 24 + 1088, 35 + 24 + 1088 + 82, 1310]
    for start, end in itertools.pairwise(edges[1:]):
        refused(bob, one[:start] + other[start:end] + one[end:], match="does not verify")


def test_downgrade():
    """Neither the header nor an opening truly of another suite moves a responder off its own."""
    alice, bob = pair()
    opening = alice.begin(bob).opening
    for suite in (0, 1, 3, 4, 255):
        refused(bob, flip(opening, 1, 2 ^ suite), match="suite")
    classical = Peer("bob", Suite.X3DH)
    assert classical.public == bob.public
    refused(bob, alice.begin(classical).opening, match="suite")
    refused(bob, alice.begin(classical).opening, match="suite", payload=bytes(1200))
    larger = Peer("bob", Suite.PQXDH_1024)
    refused(bob, alice.begin(larger).opening, match="suite")


@pytest.mark.parametrize("u", [0, 1, 2**255 - 20])
def test_a_low_order_ephemeral_key_costs_nothing_and_uses_up_nothing(u, counts):
    alice, bob = pair()
    opening = alice.begin(bob).opening
    counts.update(dict.fromkeys(counts, 0))
    refused(bob, opening[:3] + u.to_bytes(32, "little") + opening[35:], match="low order")
    assert set(counts.values()) == {0}
    bob.accept(opening)


def test_a_non_canonical_ephemeral_key_is_no_second_spelling_of_the_first():
    """u and u + p are the same point to X25519: a replay under the other spelling must not pass."""
    bob = Peer("bob", Suite.X3DH)
    opening = Peer("alice", Suite.X3DH).begin(bob).opening
    bob.accept(opening)
    u = int.from_bytes(opening[3:35], "little")
    for other in (u | 1 << 255, u + 2**255 - 19):
        refused(bob, opening[:3] + (other % 2**256).to_bytes(32, "little") + opening[35:], match="canonical")


def test_a_mixed_order_twin_of_the_ephemeral_key_does_not_verify():
    """It gives the same products; only that its encoding is authenticated keeps the replay out."""
    from naive_curves import P, add, low_order_points, x_of

    torsion = next(point for point in low_order_points() if point == (0, P - 1))
    bob, twin = Peer("bob", Suite.X3DH), None
    while twin is None:
        opening = Peer("alice", Suite.X3DH).begin(bob, one_time=False).opening
        u = int.from_bytes(opening[3:35], "little")
        y = (u - 1) * pow(u + 1, -1, P) % P
        x = x_of(y, 0)
        twin = add((x, y), torsion) if x is not None else None
    other = ((1 + twin[1]) * pow(1 - twin[1], -1, P) % P).to_bytes(32, "little")
    key = bob.owner.agreement
    assert key.exchange(CurveKey(other)) == key.exchange(CurveKey.parse(opening[2:35]))
    bob.accept(opening)
    refused(bob, opening[:3] + other + opening[35:], match="does not verify")


def test_reflected_messages():
    alice, bob = pair()
    opening = alice.begin(bob).opening
    refused(alice, opening, match="does not verify")
    with pytest.raises(E2EError, match="own key"):
        bob.begin(bob)
    somebody = Peer("somebody")
    somebody.owner = OwnIdentity(somebody.owner.signing, bob.owner.agreement)
    with pytest.raises(E2EError, match="own key"):
        somebody.begin(bob)


def crafted(alice, bob, *, identity=None, ciphertext=None, proof=None, suite=2):
    """An opening that a liar who has the bundle makes: everything is as it should be but what is said."""
    bundle = PrekeyBundle.parse(bob.prekeys.bundle(bob.owner))
    liar = naive.Person(alice.owner.signing.serialize_private(), alice.owner.agreement.serialize_private())
    e = Random("e").randbytes(32)
    fetched = naive.Fetched(
        suite,
        bob.prekeys.bundle(bob.owner),
        b"",
        bundle.id,
        0,
        bundle.signed_prekey.raw,
        b"",
        bundle.kem_prekey.serialize(),
    )

    def sealing(key, data, plaintext, original=naive.gcm):
        if len(plaintext) > 200 and ciphertext is not None:
            plaintext = plaintext[:8] + ciphertext
        if len(plaintext) == 66 and identity is not None:
            plaintext = identity
        if len(plaintext) == 65 and proof is not None:
            plaintext = proof
        return original(key, data, plaintext)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(naive, "gcm", sealing)
        return naive.begin(liar, bob.public.serialize(), fetched, e, bytes(32), True)[3]


def test_what_an_insider_may_say():
    """The craft itself makes good openings, so that what follows fails for its own reason."""
    alice, bob = pair()
    assert bob.accept(crafted(alice, bob)).peer == alice.public


def test_in_somebody_elses_name():
    alice, carol, bob = Peer("alice"), Peer("carol"), Peer("bob")
    refused(bob, crafted(alice, bob, identity=carol.public.serialize()), match="does not verify")
    half = carol.public.signing.serialize() + alice.public.agreement.serialize()
    refused(bob, crafted(alice, bob, identity=half), match="does not verify")
    refused(bob, crafted(alice, bob, identity=bob.public.serialize()), match="own key")
    bad = b"\x06" + bytes(32) + alice.public.agreement.serialize()
    refused(bob, crafted(alice, bob, identity=bad), match="low order")
    bad = alice.public.signing.serialize() + b"\x05" + bytes(32)
    refused(bob, crafted(alice, bob, identity=bad), match="low order")
    bad = alice.public.agreement.serialize() + alice.public.signing.serialize()
    refused(bob, crafted(alice, bob, identity=bad), match="not an Ed25519 key")


def test_a_kem_ciphertext_that_is_none():
    alice, bob = pair()
    refused(bob, crafted(alice, bob, ciphertext=bytes(1088)), match="does not verify")


@pytest.mark.parametrize(
    "proof",
    [
        b"\x01" + bytes(64),
        b"\x00" + bytes(63) + b"\x01",
        b"\x02" + bytes(64),
        b"\xff" + bytes(64),
    ],
    ids=["signed by nobody", "deniable and signed", "authorship 2", "authorship 255"],
)
def test_proofs_that_say_something_else(proof):
    alice, bob = pair()
    refused(bob, crafted(alice, bob, proof=proof))


def test_a_signature_for_somebody_else_or_another_session():
    """What Alice signed towards Bob serves nobody towards Carol, and no second session with Bob."""
    alice, bob = pair()
    e = Random("e").randbytes(32)
    for target, ephemeral, bundle_hash in [
        (Peer("carol").public, CurveKeyPair(e).public, bob.fetched(one_time=False).hash),
        (bob.public, CurveKeyPair(bytes(range(32))).public, bob.fetched(one_time=False).hash),
        (bob.public, CurveKeyPair(e).public, bytes(32)),
    ]:
        said = b"\x02" + ephemeral.serialize() + alice.public.serialize() + target.serialize() + bundle_hash
        signature = alice.owner.signing.sign(b"ptproxy 1 e2e ephemeral", said)
        refused(bob, crafted(alice, bob, proof=b"\x01" + signature), match="signature")
    good = b"\x02" + CurveKeyPair(e).public.serialize() + alice.public.serialize() + bob.public.serialize()
    good += bob.fetched(one_time=False).hash
    signature = alice.owner.signing.sign(b"ptproxy 1 e2e ephemeral", good)
    bob.accept(crafted(alice, bob, proof=b"\x01" + signature))


def test_a_stolen_prekey_makes_deniable_beginnings_but_no_signed_ones():
    """Key compromise impersonation, as PROTOCOL.md has it: Bob's keys are enough for DH1."""
    alice, bob = pair()
    thief = OwnIdentity(OwnIdentity.generate(Random("thief").randbytes).signing, alice.owner.agreement)
    stolen = bob.prekeys.find(PrekeyBundle.parse(bob.prekeys.bundle(bob.owner)).id, 0).signed
    dh1 = stolen.exchange(alice.public.agreement)
    assert dh1 == alice.owner.agreement.exchange(stolen.public)

    class Forged(OwnIdentity):
        """Alice's public half; her private keys are used for nothing but what the thief knows, DH1."""

        def __init__(self):
            super().__init__(thief.signing, alice.owner.agreement)
            self.public = alice.public

    verified = bob.fetched(one_time=False)
    deniable = begin(Forged(), verified, Random(1).randbytes, Authorship.DENIABLE)
    assert bob.examine(deniable.opening).authorship is Authorship.DENIABLE
    with pytest.raises(E2EError, match="not accepted"):
        examine(deniable.opening + PAYLOAD, bob.owner, bob.prekeys, {Authorship.SIGNED})
    signed = begin(Forged(), verified, Random(2).randbytes, Authorship.SIGNED)
    refused(bob, signed.opening, match="signature")


def test_unknown_key_share_with_the_responder():
    """Mallory publishes Bob's keys as her own; what Alice says to her Bob does not take for himself."""
    alice, bob, mallory = Peer("alice"), Peer("bob"), Peer("mallory")
    half = replace(bob.public, signing=mallory.public.signing)
    liar = OwnIdentity(mallory.owner.signing, bob.owner.agreement)  # its X25519 private half is never used
    bundle = replace(PrekeyBundle.parse(bob.prekeys.bundle(bob.owner)), identity=half).sign(liar)
    one_time = OneTimePrekey.parse(bob.mailbox[-1]).sign(liar)
    verified = verify(bundle, one_time, half.fingerprint, NOW)
    beginning = begin(alice.owner, verified, alice.rng)
    refused(bob, beginning.opening, match="does not verify")


def test_unknown_key_share_with_the_initiator():
    """Mallory passes on what Alice sent to Bob as hers: the sender is sealed for one ephemeral key alone."""
    alice, bob, mallory = Peer("alice"), Peer("bob"), Peer("mallory")
    opening = alice.begin(bob, one_time=False).opening
    by_mallory = mallory.begin(bob, one_time=False).opening
    sender = slice(35 + 24 + 1088, 35 + 24 + 1088 + 82)
    refused(bob, opening[: sender.start] + by_mallory[sender] + opening[sender.stop :], match="not verify")
    stolen_x = OwnIdentity(mallory.owner.signing, alice.owner.agreement).public.serialize()
    refused(bob, crafted(alice, bob, identity=stolen_x), match="does not verify")


def test_a_bundle_changed_on_the_way_is_noticed_by_its_owner():
    """Even with the owner's own signature: the bundle hash says what the initiator really saw."""
    alice, bob = pair()
    bundle = PrekeyBundle.parse(bob.prekeys.bundle(bob.owner))
    other = replace(bundle, expires=bundle.expires - 1).sign(bob.owner)
    verified = verify(other, None, bob.public.fingerprint, NOW)
    refused(bob, begin(alice.owner, verified, alice.rng).opening, match="does not verify")


# --- floods


def test_a_flood_of_10_000_forged_first_messages(counts):
    """By a stranger: one X25519 each, nothing else, no state; the honest one in the middle is good."""
    alice, bob = pair()
    honest = alice.begin(bob)
    saved, draw = bob.prekeys.serialize(), Random("flood")
    counts.update(dict.fromkeys(counts, 0))
    for number in range(10_000):
        forged = honest.opening[:2] + ephemeral_of_nobody(draw) + draw.randbytes(1310 - 35)
        with pytest.raises(E2EError, match="does not verify"):
            bob.examine(forged)
        if number == 5_000:
            bob.examine(honest.opening)
            counts["exchange"] -= 4
    assert counts["exchange"] == 10_000
    assert (counts["decapsulate"], counts["kem_pair"], counts["verify"]) == (1, 1, 1)
    assert bob.prekeys.serialize() == saved
    assert len(bob.prekeys.seen) == 0
    bob.accept(honest.opening)


def ephemeral_of_nobody(draw):
    """A random u in its encoding, without the cost of making it a private key's."""
    while True:
        u = draw.getrandbits(255)
        if 1 < u < 2**255 - 20:
            return b"\x05" + u.to_bytes(32, "little")


def test_a_flood_by_somebody_who_has_the_bundle_keeps_no_state_either(counts):
    """They reach the sender's part: four exchanges and one decapsulation at most, no signature."""
    alice, bob = pair()
    opening = crafted(alice, bob, identity=bytes(66))
    saved = bob.prekeys.serialize()
    counts.update(dict.fromkeys(counts, 0))
    for _ in range(100):
        refused(bob, opening)
    assert counts["exchange"] == 200
    assert (counts["decapsulate"], counts["verify"]) == (100, 0)
    assert bob.prekeys.serialize() == saved


def test_a_flood_of_one_replayed_message_costs_a_hash(counts):
    alice, bob = pair()
    opening = alice.begin(bob).opening
    bob.accept(opening)
    counts.update(dict.fromkeys(counts, 0))
    for _ in range(100):
        with pytest.raises(KnownOpeningError):
            bob.examine(opening)
    assert set(counts.values()) == {0}


def test_examining_is_pure():
    """The same message any number of times, the same answer, until it is committed."""
    alice, bob = pair()
    opening = alice.begin(bob).opening
    saved = bob.prekeys.serialize()
    received = [examine(opening + PAYLOAD, bob.owner, bob.prekeys) for _ in range(3)]
    assert received[0].agreement == received[1].agreement == received[2].agreement
    assert bob.prekeys.serialize() == saved
