"""``tests/vectors/e2e-agreement.json``: made by the naive implementation, met by ours on both sides."""

import json

import generate_agreement_vectors
import naive_mlkem
import pytest

from ptproxy.e2e import Authorship, Fingerprint, OwnIdentity, Prekeys, Suite, begin, examine, verify
from ptproxy.e2e.curve import CurveKeyPair
from ptproxy.e2e.kem import KemKey
from ptproxy.e2e.signing import SigningKey
from ptproxy.e2e.succession import declare
from ptproxy.e2e.succession import verify as verify_succession

VECTORS = json.loads(generate_agreement_vectors.FILE.read_text("utf-8"))
each_agreement = pytest.mark.parametrize(
    "vector", VECTORS["agreements"], ids=[vector["name"] for vector in VECTORS["agreements"]]
)


def value(vector, field):
    return bytes.fromhex(vector[field])


def own(vector, who):
    return OwnIdentity(
        SigningKey(value(vector, f"{who}_ed25519")), CurveKeyPair(value(vector, f"{who}_x25519"))
    )


def script(*answers):
    """Randomness that is known beforehand."""
    left = list(answers)

    def rng(length):
        answer = left.pop(0)
        assert len(answer) == length
        return answer

    return rng


def responder(vector):
    """B with the vector's prekeys, published as B publishes them."""
    owner, suite = own(vector, "b"), Suite(vector["suite"])
    seeds = [value(vector, "kem_seed")] if suite.kem else []
    ids = vector["bundle_id"].to_bytes(4, "big"), vector["one_time_id"].to_bytes(4, "big")
    prekeys = Prekeys.create(owner, suite, vector["made"], script(ids[0], value(vector, "spk"), *seeds))
    one_time_seeds = [value(vector, "one_time_kem_seed")] if suite.kem else []
    rng = script(ids[1], value(vector, "opk"), *one_time_seeds)
    (one_time,) = prekeys.refill(owner, 99, vector["made"], rng)
    return owner, prekeys, one_time


def test_the_file_is_what_the_naive_implementation_says():
    assert generate_agreement_vectors.generate() == VECTORS


@each_agreement
def test_what_the_responder_publishes(vector):
    owner, prekeys, one_time = responder(vector)
    assert prekeys.bundle(owner) == value(vector, "bundle")
    if vector["one_time"]:
        assert one_time == value(vector, "one_time")


@each_agreement
def test_the_responder(vector):
    owner, prekeys, _ = responder(vector)
    received = examine(value(vector, "opening") + b"x", owner, prekeys)
    assert received.agreement.secret == value(vector, "sk")
    assert received.agreement.associated_data == value(vector, "ad")
    assert received.agreement.session_id == value(vector, "session_id")
    assert received.peer == own(vector, "a").public
    assert received.authorship == Authorship(vector["signed"])


@each_agreement
def test_the_initiator(vector, monkeypatch):
    def encapsulate(key):
        return naive_mlkem.encapsulate(int(key.kem.value[5:]), key.raw, value(vector, "kem_message"))

    monkeypatch.setattr(KemKey, "encapsulate", encapsulate)
    fingerprint = own(vector, "b").public.fingerprint
    one_time = value(vector, "one_time") or None
    verified = verify(value(vector, "bundle"), one_time, fingerprint, vector["made"], Suite)
    assert verified.hash == value(vector, "bundle_hash")
    authorship = Authorship(vector["signed"])
    beginning = begin(own(vector, "a"), verified, script(value(vector, "e")), authorship)
    assert beginning.opening == value(vector, "opening")
    assert beginning.agreement.secret == value(vector, "sk")
    assert beginning.agreement.associated_data == value(vector, "ad")


def test_identities():
    vector = VECTORS["identity"]
    old, new = own(vector, "old"), own(vector, "new")
    assert old.public.serialize() == value(vector, "old")
    assert old.public.fingerprint.data == value(vector, "fingerprint")
    pair = Fingerprint.of_pair(new.public.fingerprint, old.public.fingerprint)
    assert pair.data == value(vector, "pair")
    statement = value(vector, "succession")
    assert declare(old, new, vector["made"]) == statement
    assert verify_succession(statement, old.public.fingerprint, vector["made"]).new == new.public
