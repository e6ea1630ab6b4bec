"""Continuous verification: only the right keys, this carrier and this challenge."""

from random import Random

import pytest
from auth_pair import flip
from hypothesis import given
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from ptproxy.auth import BridgeVerification, ClientVerification, StaticKey
from ptproxy.errors import AuthenticationError, LocalProtocolError

HASH = bytes(range(32))
RNG = Random(3)
BRIDGE, CLIENT, OTHER = StaticKey.generate(RNG), StaticKey.generate(RNG), StaticKey.generate(RNG)


def bridge(key=BRIDGE, client=CLIENT, handshake_hash=HASH):
    return BridgeVerification(key, client.public, handshake_hash, RNG)


def client(key=CLIENT, its_bridge=BRIDGE, handshake_hash=HASH):
    return ClientVerification(key, its_bridge.public, handshake_hash, RNG)


def test_again_and_again():
    ours, theirs = bridge(), client()
    seen = set()
    for _ in range(5):
        assert not ours.outstanding
        challenge = ours.challenge()
        assert ours.outstanding
        proof = theirs.prove(challenge)
        assert len(challenge) == len(proof) == 48
        seen |= {challenge, proof}
        ours.check(memoryview(proof))
    assert len(seen) == 10


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (bridge(key=OTHER), client()),
        (bridge(client=OTHER), client()),
        (bridge(), client(key=OTHER)),
        (bridge(), client(its_bridge=OTHER)),
        (bridge(), client(handshake_hash=bytes(32))),
    ],
)
def test_a_client_answers_only_its_bridge_on_this_carrier(ours, theirs):
    with pytest.raises(AuthenticationError, match="challenge"):
        theirs.prove(ours.challenge())


def test_a_proof_answers_one_challenge():
    ours, theirs = bridge(), client()
    old = theirs.prove(ours.challenge())
    ours.check(old)
    with pytest.raises(AuthenticationError, match="nobody asked"):
        ours.check(old)
    ours.challenge()
    with pytest.raises(AuthenticationError, match="does not verify"):
        ours.check(old)
    assert not ours.outstanding


def test_a_proof_without_the_clients_key():
    """Whoever took the carrier over knows all of it but the client's private key."""
    ours = bridge()
    challenge = ours.challenge()
    with pytest.raises(AuthenticationError):
        client(key=OTHER).prove(challenge)
    with pytest.raises(AuthenticationError):
        ours.check(challenge)


@given(bit=st.integers(min_value=0))
def test_any_bit_flip_is_refused(bit):
    ours, theirs = bridge(), client()
    challenge = ours.challenge()
    with pytest.raises(AuthenticationError):
        theirs.prove(flip(challenge, bit))
    with pytest.raises(AuthenticationError):
        ours.check(flip(theirs.prove(challenge), bit))


@given(garbage=st.binary(max_size=80))
def test_garbage(garbage):
    ours = bridge()
    ours.challenge()
    with pytest.raises(AuthenticationError):
        client().prove(garbage)
    with pytest.raises(AuthenticationError):
        ours.check(garbage)


def test_one_challenge_at_a_time():
    ours = bridge()
    ours.challenge()
    with pytest.raises(LocalProtocolError):
        ours.challenge()


def test_it_is_plain_noise_kk():
    """The proof comes from ``noiseprotocol``."""
    peer = NoiseConnection.from_name(b"Noise_KK_25519_AESGCM_SHA256")
    peer.set_as_responder()
    peer.set_prologue(b"ptproxy 1 verification" + HASH)
    key = StaticKey.generate(RNG)
    from ptproxy.auth import decode_key

    peer.set_keypair_from_private_bytes(Keypair.STATIC, decode_key(key.serialize_private()))
    peer.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, BRIDGE.public)
    peer.start_handshake()
    ours = bridge(client=key)
    assert peer.read_message(ours.challenge()) == b""
    ours.check(bytes(peer.write_message()))


def test_reprs_are_short():
    assert repr(bridge()) == "<BridgeVerification>"
    assert repr(client()) == "<ClientVerification>"
