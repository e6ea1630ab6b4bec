"""Noise against published vectors and two independent implementations, each on both sides."""

import json
from pathlib import Path
from random import Random

import pytest
from auth_pair import Script, flip
from dissononce.cipher.aesgcm import AESGCMCipher
from dissononce.dh.x25519.keypair import KeyPair as DissononceKeyPair
from dissononce.dh.x25519.public import PublicKey as DissononcePublic
from dissononce.dh.x25519.x25519 import X25519DH
from dissononce.hash.sha256 import SHA256Hash
from dissononce.processing.handshakepatterns.interactive.IK import IKHandshakePattern
from dissononce.processing.handshakepatterns.interactive.KK import KKHandshakePattern
from dissononce.processing.impl.cipherstate import CipherState as DissononceCipherState
from dissononce.processing.impl.handshakestate import HandshakeState as DissononceHandshake
from dissononce.processing.impl.symmetricstate import SymmetricState as DissononceSymmetric
from hypothesis import given
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from ptproxy.auth.noise import (
    IK,
    IK_PSK1,
    IK_PSK2,
    KK,
    MAX_MESSAGE,
    MAX_NONCE,
    CipherState,
    Initiator,
    KeyPair,
    Responder,
    hkdf,
)
from ptproxy.errors import AuthenticationError, LocalProtocolError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "noise.json").read_text("utf-8"))["vectors"]
PATTERNS = {pattern.protocol_name.decode(): pattern for pattern in (IK, KK, IK_PSK1, IK_PSK2)}
INITIATOR_PRIVATE, RESPONDER_PRIVATE = bytes(range(32)), bytes(range(32, 64))
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def pair(pattern, prologue=b"p"):
    alice, bob = KeyPair(INITIATOR_PRIVATE), KeyPair(RESPONDER_PRIVATE)
    return (
        Initiator(pattern, prologue, alice, bob.public),
        Responder(pattern, prologue, bob, alice.public if pattern.knows_initiator else b""),
    )


@pytest.mark.parametrize("number", range(len(VECTORS)))
def test_published_vector(number):
    vector = {
        key: bytes.fromhex(value) if key != "protocol_name" and isinstance(value, str) else value
        for key, value in VECTORS[number].items()
    }
    pattern = PATTERNS[vector["protocol_name"]]
    alice, bob = KeyPair(vector["init_static"]), KeyPair(vector["resp_static"])
    psks = [bytes.fromhex(psk) for psk in VECTORS[number].get("init_psks", [])]
    psk = psks[0] if psks else b""
    assert vector["init_remote_static"] == bob.public
    initiator = Initiator(pattern, vector["init_prologue"], alice, bob.public, psk)
    known = alice.public if pattern.knows_initiator else b""
    responder = Responder(pattern, vector["resp_prologue"], bob, known, psk)
    ephemerals = [vector["init_ephemeral"], vector["resp_ephemeral"]]
    sides = [initiator, responder]
    messages = [
        (bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"]))
        for message in vector["messages"]
    ]
    for index, (payload, ciphertext) in enumerate(messages[:2]):
        writer, reader = sides[index], sides[1 - index]
        assert writer.write_message(payload, Script([ephemerals[index]])) == ciphertext
        assert reader.read_message(ciphertext) == payload
    assert initiator.handshake_hash == responder.handshake_hash
    assert initiator.handshake_hash == vector.get("handshake_hash", initiator.handshake_hash)
    assert responder.remote_static == alice.public
    split = [initiator.split(), responder.split()]
    for index, (payload, ciphertext) in enumerate(messages[2:]):
        sending, receiving = split[index % 2][0], split[1 - index % 2][1]
        assert sending.encrypt_with_ad(b"", payload) == ciphertext
        assert receiving.decrypt_with_ad(b"", ciphertext) == payload


def test_the_vectors_cover_both_patterns_and_name_their_source():
    assert set(PATTERNS) == {vector["protocol_name"] for vector in VECTORS}
    assert json.loads((Path(__file__).parents[1] / "vectors" / "noise.json").read_text("utf-8"))["source"]


class Noiseprotocol:
    """The PyPI package ``noiseprotocol`` behind four calls."""

    def __init__(self, pattern, initiator, static, remote, prologue):
        self.connection = NoiseConnection.from_name(pattern.protocol_name)
        getattr(self.connection, "set_as_initiator" if initiator else "set_as_responder")()
        self.connection.set_prologue(prologue)
        self.connection.set_keypair_from_private_bytes(Keypair.STATIC, static)
        if remote:
            self.connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote)
        self.connection.start_handshake()

    def write(self, payload):
        return bytes(self.connection.write_message(payload))

    def read(self, message):
        return bytes(self.connection.read_message(message))

    def hash(self):
        return self.connection.get_handshake_hash()

    def encrypt(self, plaintext):
        return self.connection.encrypt(plaintext)

    def decrypt(self, ciphertext):
        return self.connection.decrypt(ciphertext)


class Dissononce:
    """The PyPI package ``dissononce`` behind the same calls."""

    def __init__(self, pattern, initiator, static, remote, prologue):
        self.symmetric = DissononceSymmetric(DissononceCipherState(AESGCMCipher()), SHA256Hash())
        self.state = DissononceHandshake(self.symmetric, X25519DH())
        self.initiator = initiator
        self.state.initialize(
            {"IK": IKHandshakePattern, "KK": KKHandshakePattern}[pattern.name](),
            initiator,
            prologue,
            s=DissononceKeyPair.from_bytes(static + KeyPair(static).public),
            rs=DissononcePublic(remote) if remote else None,
        )
        self.split = None

    def write(self, payload):
        buffer = bytearray()
        self.split = self.state.write_message(payload, buffer) or self.split
        return bytes(buffer)

    def read(self, message):
        buffer = bytearray()
        self.split = self.state.read_message(message, buffer) or self.split
        return bytes(buffer)

    def hash(self):
        return self.symmetric.get_handshake_hash()

    def encrypt(self, plaintext):
        return self.split[0 if self.initiator else 1].encrypt_with_ad(b"", plaintext)

    def decrypt(self, ciphertext):
        return self.split[1 if self.initiator else 0].decrypt_with_ad(b"", ciphertext)


@pytest.mark.parametrize("peer_type", [Noiseprotocol, Dissononce])
@pytest.mark.parametrize("pattern", [IK, KK], ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("ours", ["initiator", "responder"])
def test_interoperates(peer_type, pattern, ours):
    prologue, rng = b"what both agree on", Random(7)
    initiator, responder = pair(pattern, prologue)
    if ours == "initiator":
        known = KeyPair(INITIATOR_PRIVATE).public if pattern is KK else b""
        peer = peer_type(pattern, False, RESPONDER_PRIVATE, known, prologue)
        assert peer.read(initiator.write_message(b"first", rng)) == b"first"
        assert initiator.read_message(peer.write(b"second")) == b"second"
        sending, receiving, handshake_hash = *initiator.split(), initiator.handshake_hash
    else:
        peer = peer_type(pattern, True, INITIATOR_PRIVATE, KeyPair(RESPONDER_PRIVATE).public, prologue)
        assert responder.read_message(peer.write(b"first")) == b"first"
        assert responder.remote_static == KeyPair(INITIATOR_PRIVATE).public
        assert peer.read(responder.write_message(b"second", rng)) == b"second"
        sending, receiving, handshake_hash = *responder.split(), responder.handshake_hash
    assert peer.hash() == handshake_hash
    for number in range(3):
        assert peer.decrypt(sending.encrypt_with_ad(b"", b"up %d" % number)) == b"up %d" % number
        assert receiving.decrypt_with_ad(b"", peer.encrypt(b"down %d" % number)) == b"down %d" % number


@pytest.mark.parametrize("pattern", [IK, KK], ids=lambda pattern: pattern.name)
@given(bit=st.integers(min_value=0), payload=st.binary(max_size=40))
def test_any_bit_flip_is_refused(pattern, bit, payload):
    rng = Random(1)
    initiator, responder = pair(pattern)
    message = initiator.write_message(payload, rng)
    with pytest.raises(AuthenticationError):
        pair(pattern)[1].read_message(flip(message, bit))
    assert responder.read_message(message) == payload
    with pytest.raises(AuthenticationError):
        initiator.read_message(flip(responder.write_message(payload, rng), bit))


@pytest.mark.parametrize("pattern", [IK, KK, IK_PSK1, IK_PSK2], ids=lambda pattern: pattern.name)
@given(garbage=st.binary(max_size=200))
def test_garbage_raises_only_authentication_error(pattern, garbage):
    bob = KeyPair(RESPONDER_PRIVATE)
    known = KeyPair(INITIATOR_PRIVATE).public if pattern.knows_initiator else b""
    responder = Responder(pattern, b"", bob, known, bytes(32) if pattern.uses_psk else b"")
    with pytest.raises(AuthenticationError):
        responder.read_message(garbage)


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_points_of_low_order_are_refused(point):
    with pytest.raises(AuthenticationError, match="not usable"):
        KeyPair(INITIATOR_PRIVATE).exchange(point)
    with pytest.raises(AuthenticationError):
        Responder(IK, b"", KeyPair(RESPONDER_PRIVATE)).read_message(point + bytes(64))
    with pytest.raises(AuthenticationError):
        Initiator(IK, b"", KeyPair(INITIATOR_PRIVATE), point).write_message(b"", Random(1))


def test_a_zero_result_is_refused_whatever_the_library_thinks_of_it():
    class Careless:
        def exchange(self, public):
            return bytes(32)

    key = KeyPair(INITIATOR_PRIVATE)
    key._private = Careless()
    with pytest.raises(AuthenticationError, match="not usable"):
        key.exchange(KeyPair(RESPONDER_PRIVATE).public)


def test_another_prologue_or_key_is_refused():
    message = pair(IK, b"one")[0].write_message(b"", Random(1))
    with pytest.raises(AuthenticationError):
        pair(IK, b"two")[1].read_message(message)
    with pytest.raises(AuthenticationError):
        Responder(IK, b"one", KeyPair(bytes(32))).read_message(message)


def test_messages_out_of_turn_are_our_own_mistake():
    initiator, responder = pair(IK)
    with pytest.raises(LocalProtocolError):
        initiator.read_message(b"")
    with pytest.raises(LocalProtocolError):
        responder.write_message(b"", Random(1))
    with pytest.raises(LocalProtocolError):
        initiator.split()
    initiator.write_message(b"", Random(1))
    with pytest.raises(LocalProtocolError):
        initiator.write_message(b"", Random(1))
    with pytest.raises(LocalProtocolError):
        pair(IK)[0].write_message(bytes(MAX_MESSAGE), Random(1))
    with pytest.raises(LocalProtocolError):
        Initiator(IK_PSK1, b"", KeyPair(bytes(32)), bytes(32))
    with pytest.raises(LocalProtocolError):
        Initiator(IK, b"", KeyPair(bytes(32)), bytes(32), psk=bytes(32))


def test_cipher_state_counts_only_what_verified_and_ends():
    key = bytes(32)
    sending, receiving = CipherState(key), CipherState(key)
    ciphertext = sending.encrypt_with_ad(b"ad", b"x")
    with pytest.raises(AuthenticationError):
        receiving.decrypt_with_ad(b"other", ciphertext)
    assert receiving.n == 0
    assert receiving.decrypt_with_ad(b"ad", ciphertext) == b"x"
    assert receiving.n == sending.n == 1
    sending.n = MAX_NONCE
    with pytest.raises(LocalProtocolError):
        sending.encrypt_with_ad(b"", b"")


def test_hkdf_is_rfc5869_with_empty_info():
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    expected = HKDF(SHA256(), 96, salt=b"s" * 32, info=b"").derive(b"material")
    assert b"".join(hkdf(b"s" * 32, b"material", 3)) == expected


def test_reprs_hold_no_secret():
    initiator, responder = pair(IK)
    responder.read_message(initiator.write_message(b"", Random(1)))
    responder.write_message(b"", Random(2))
    for thing in (KeyPair(INITIATOR_PRIVATE), initiator, responder, *responder.split()):
        assert len(repr(thing)) < 50
