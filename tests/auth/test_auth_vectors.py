"""``tests/vectors/auth.json``, and a second implementation of ``PROTOCOL.md`` against it and us.

The second implementation shares no code with ``ptproxy.auth``: Noise comes from the package
``noiseprotocol`` (client) and ``dissononce`` (bridge), the rest from ``cryptography``.
"""

import json
import struct
from dataclasses import replace
from random import Random

import generate_auth_vectors
import pytest
from auth_pair import ANSWER, HELLO, NOW, Pair, Script
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from dissononce.cipher.aesgcm import AESGCMCipher
from dissononce.dh.x25519.keypair import KeyPair as DissononceKeyPair
from dissononce.dh.x25519.x25519 import X25519DH
from dissononce.hash.sha256 import SHA256Hash
from dissononce.processing.handshakepatterns.interactive.IK import IKHandshakePattern
from dissononce.processing.impl.cipherstate import CipherState
from dissononce.processing.impl.handshakestate import HandshakeState
from dissononce.processing.impl.symmetricstate import SymmetricState
from noise.connection import Keypair, NoiseConnection

from ptproxy.auth import Sealer, StaticKey, Verdict, decode_key

fixed_ephemerals = pytest.mark.filterwarnings("ignore:One of ephemeral keypairs is already set:UserWarning")
VECTORS = json.loads(generate_auth_vectors.FILE.read_text("utf-8"))


def hkdf(salt, material, label):
    return HKDF(SHA256(), 32, salt, label).derive(material)


def mac(bridge_public, data):
    digest = HMAC(hkdf(b"ptproxy 1 opening", bridge_public, b"mac"), SHA256())
    digest.update(data)
    return digest.finalize()[:16]


def masked(bridge_public, direction, nonce, data):
    key = hkdf(b"ptproxy 1 opening", bridge_public, b"mask " + direction)
    return Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor().update(data)


def tokens(k1, k2, handshake_hash):
    return hkdf(handshake_hash, k1 + k2, b"ptproxy 1 token key")


def seal_keys(k1, k2, handshake_hash, ciphertext, shared):
    salt = Hash(SHA256())
    salt.update(handshake_hash + ciphertext)
    salt = salt.finalize()
    labels = (b"ptproxy 1 seal client to bridge", b"ptproxy 1 seal bridge to client")
    return tuple(hkdf(salt, k1 + k2 + shared, label) for label in labels)


def private(key):
    return decode_key(key.serialize_private())


class SecondClient:
    """PROTOCOL.md's client upon ``noiseprotocol``."""

    def __init__(self, bridge_public, key, prologue, ephemeral=None):
        self.bridge_public = bridge_public
        self.noise = NoiseConnection.from_name(b"Noise_IK_25519_AESGCM_SHA256")
        self.noise.set_as_initiator()
        self.noise.set_prologue(prologue)
        self.noise.set_keypair_from_private_bytes(Keypair.STATIC, key)
        self.noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, bridge_public)
        if ephemeral:
            self.noise.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
        self.noise.start_handshake()

    def message1(self, payload, nonce):
        self.nonce = nonce
        hidden = masked(
            self.bridge_public, b"client to bridge", nonce, bytes(self.noise.write_message(payload))
        )
        return nonce + mac(self.bridge_public, nonce + hidden) + hidden

    def read(self, answer):
        plain = masked(self.bridge_public, b"bridge to client", self.nonce, answer)
        assert len(plain) == 2 + struct.unpack(">H", plain[:2])[0]
        payload = bytes(self.noise.read_message(plain[2:]))
        self.hash = self.noise.get_handshake_hash()
        self.k1 = self.noise.noise_protocol.cipher_state_encrypt.k
        self.k2 = self.noise.noise_protocol.cipher_state_decrypt.k
        return payload

    def confirm(self, ciphertext=b""):
        return AESGCM(self.k1).encrypt(bytes(12), ciphertext, self.hash)


class SecondBridge:
    """PROTOCOL.md's bridge upon ``dissononce``."""

    def __init__(self, key, prologue):
        self.public = StaticKey(key).public
        self.symmetric = SymmetricState(CipherState(AESGCMCipher()), SHA256Hash())
        self.noise = HandshakeState(self.symmetric, X25519DH())
        static = DissononceKeyPair.from_bytes(key + self.public)
        self.noise.initialize(IKHandshakePattern(), False, prologue, s=static)

    def read(self, message1):
        self.nonce, tag, hidden = message1[:16], message1[16:32], message1[32:]
        assert mac(self.public, self.nonce + hidden) == tag
        payload = bytearray()
        self.noise.read_message(masked(self.public, b"client to bridge", self.nonce, hidden), payload)
        return bytes(payload)

    def answer(self, payload):
        message = bytearray()
        self.split = self.noise.write_message(payload, message)
        self.hash = self.symmetric.get_handshake_hash()
        self.k1, self.k2 = (state._key for state in self.split)
        return masked(self.public, b"bridge to client", self.nonce, struct.pack(">H", len(message)) + message)


def test_the_file_is_what_the_generator_writes():
    assert generate_auth_vectors.make(VECTORS["openings"][1]["kem_ciphertext"]) == VECTORS


@fixed_ephemerals
@pytest.mark.parametrize("vector", VECTORS["openings"], ids=lambda vector: vector["name"])
def test_a_second_implementation_gives_every_field(vector):
    fields = {
        name: bytes.fromhex(value) if isinstance(value, str) else value
        for name, value in vector.items()
        if name not in ("name", "codec")
    }
    client = SecondClient(
        fields["bridge_public"],
        fields["client_private"],
        fields["prologue"],
        fields["client_ephemeral_private"],
    )
    padding = len(fields["message1"]) - 128 - len(fields["hello"])
    assert client.message1(fields["hello"] + bytes(padding), fields["nonce"]) == fields["message1"]
    bridge = SecondBridge(fields["bridge_private"], fields["prologue"])
    assert bridge.read(fields["message1"]) == fields["hello"] + bytes(padding)
    payload = client.read(fields["answer"])
    encapsulation_key = b""
    if vector["seal"]:
        kem_key = MLKEM768PrivateKey.from_seed_bytes(fields["kem_seed"])
        encapsulation_key = kem_key.public_key().public_bytes_raw()
        assert kem_key.decapsulate(fields["kem_ciphertext"]) == fields["kem_shared_secret"]
        assert seal_keys(
            client.k1, client.k2, client.hash, fields["kem_ciphertext"], fields["kem_shared_secret"]
        ) == (fields["seal_key_up"], fields["seal_key_down"])
    assert payload == fields["answer_payload_head"] + encapsulation_key + bytes(fields["answer_padding"])
    assert client.hash == fields["handshake_hash"]
    assert (client.k1, client.k2) == (fields["k1"], fields["k2"])
    assert tokens(client.k1, client.k2, client.hash) == fields["token_key"]
    assert client.confirm(fields.get("kem_ciphertext", b"")) == fields["confirm"]


def test_seal_vector():
    vector = VECTORS["seal"]
    sealer = Sealer(bytes.fromhex(vector["key"]))
    for record in vector["records"]:
        assert b"".join(sealer.seal([bytes.fromhex(record["plaintext"])])).hex() == record["sealed"]


def prologue_of(pair):
    """As PROTOCOL.md has it."""
    name = pair.codec.encode()
    return bytes([1, len(name)]) + name + bytes([pair.seal, 1]) + pair.binding.digest


@pytest.mark.parametrize("seal", [False, True], ids=["plain", "sealed"])
def test_the_second_client_with_our_bridge(seal):
    pair = Pair(seal=seal)
    second = SecondClient(pair.bridge_key.public, private(pair.client_key), prologue_of(pair))
    hello = struct.pack(">BIQB", 1, 3, NOW, 0) + b"\0" + struct.pack(">B2I", 2, 1, 2)
    bridge = pair.bridge()
    peer = bridge.examine(second.message1(hello + bytes(50), Random(8).randbytes(16)), NOW)
    assert peer.hello == HELLO
    assert peer.client_public == pair.client_key.public
    payload = second.read(bridge.answer(ANSWER, pair.rng))
    assert payload[:25] == bytes([0]) + ANSWER.session_id + struct.pack(">Q", NOW)
    assert bridge.keys.token_key == tokens(second.k1, second.k2, second.hash)
    if not seal:
        assert bridge.receive_confirm(second.confirm()) == b""
        return
    shared, ciphertext = MLKEM768PublicKey.from_public_bytes(payload[25 : 25 + 1184]).encapsulate()
    assert bridge.receive_confirm(second.confirm(ciphertext)) == b""
    up, down = seal_keys(second.k1, second.k2, second.hash, ciphertext, shared)
    assert (bridge.keys.seal_receive, bridge.keys.seal_send) == (up, down)


@pytest.mark.parametrize("seal", [False, True], ids=["plain", "sealed"])
def test_our_client_with_the_second_bridge(seal):
    pair = Pair(seal=seal)
    client = pair.client()
    second = SecondBridge(private(pair.bridge_key), prologue_of(pair))
    payload = second.read(client.message1)
    assert payload.startswith(struct.pack(">BIQBBB2I", 1, 3, NOW, 0, 0, 2, 1, 2))
    assert not any(payload[24:])
    head = bytes([2]) + bytes(range(16)) + struct.pack(">Q", NOW)
    key = MLKEM768PrivateKey.generate()
    offered = key.public_key().public_bytes_raw() if seal else b""
    answer, rest = client.receive_data(second.answer(head + offered + bytes(9)))
    assert answer == replace(ANSWER, verdict=Verdict.UNKNOWN)
    assert not rest
    assert client.keys.token_key == tokens(second.k1, second.k2, second.hash)
    ciphertext = AESGCM(second.k1).decrypt(bytes(12), client.confirm(), second.hash)
    if seal:
        up, down = seal_keys(second.k1, second.k2, second.hash, ciphertext, key.decapsulate(ciphertext))
        assert (client.keys.seal_send, client.keys.seal_receive) == (up, down)
    else:
        assert ciphertext == b""


@fixed_ephemerals
def test_verification_vector():
    vector = {name: bytes.fromhex(value) for name, value in VECTORS["verification"].items()}
    sides = []
    for ours, theirs in (("bridge", "client"), ("client", "bridge")):
        side = NoiseConnection.from_name(b"Noise_KK_25519_AESGCM_SHA256")
        getattr(side, "set_as_initiator" if ours == "bridge" else "set_as_responder")()
        side.set_prologue(b"ptproxy 1 verification" + vector["handshake_hash"])
        side.set_keypair_from_private_bytes(Keypair.STATIC, vector[f"{ours}_private"])
        public = StaticKey(vector[f"{theirs}_private"]).public
        side.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, public)
        side.set_keypair_from_private_bytes(Keypair.EPHEMERAL, vector[f"{ours}_ephemeral_private"])
        side.start_handshake()
        sides.append(side)
    bridge, client = sides
    assert bytes(bridge.write_message()) == vector["challenge"]
    assert client.read_message(vector["challenge"]) == b""
    assert bytes(client.write_message()) == vector["proof"]
    assert bridge.read_message(vector["proof"]) == b""


def test_a_script_that_runs_dry_is_noticed():
    """The generator's randomness is all used and none is made up."""
    with pytest.raises(IndexError):
        Pair(rng=Script([]))
