"""``tests/vectors/ratchet.json``, and the naive second implementation on the other side of ours."""

from __future__ import annotations

import hashlib
import json
from random import Random

import generate_ratchet_vectors
import pytest
from naive_ratchet import NaiveRatchet, Refused, public_of

from ptproxy.e2e.curve import CurveKey, CurveKeyPair
from ptproxy.e2e.ratchet import Ratchet, RatchetError, kem, kem_step

VECTORS = json.loads(generate_ratchet_vectors.FILE.read_text("utf-8"))


def same(noted: str, data: bytes) -> bool:
    if noted.startswith("sha256:"):
        return noted == "sha256:" + hashlib.sha256(data).hexdigest()
    return noted == data.hex()


class Script:
    """Random bytes that were written down."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def __call__(self, length: int) -> bytes:
        part = self.parts.pop(0)
        assert len(part) == length
        return part


def test_the_file_is_what_the_naive_implementation_makes() -> None:
    assert generate_ratchet_vectors.vectors(VECTORS) == VECTORS


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vector(vector, monkeypatch) -> None:
    """Both our sides, reloaded before every step, against what the naive ones wrote."""
    encapsulations = list(vector["encapsulations"])

    def encapsulate(public: bytes) -> tuple[kem.KemSecret, bytes]:
        entry = encapsulations.pop(0)
        shared, ciphertext = bytes.fromhex(entry["shared"]), bytes.fromhex(entry["ciphertext"])
        return kem.KemSecret(shared, hashlib.sha256(public + ciphertext).digest()), ciphertext

    monkeypatch.setattr(kem_step, "encapsulate", encapsulate)
    random = Script()
    secret, ad = bytes.fromhex(vector["secret"]), bytes.fromhex(vector["associated_data"])
    pair = CurveKeyPair(bytes.fromhex(vector["responder_private"]))
    random.parts = [bytes.fromhex(vector["initiator_private"])]
    sides = {
        "alice": Ratchet.initiate(secret, ad, pair.public, vector["now"], random),
        "bob": Ratchet.respond(secret, ad, pair, vector["now"]),
    }
    texts = {}
    for entry in generate_ratchet_vectors.CONVERSATIONS[vector["name"]]:
        if len(entry) == 2:
            texts[len(texts)] = entry[1]
    messages = []
    for step in vector["steps"]:
        side = Ratchet.parse(sides[step["who"]].serialize())
        sides[step["who"]] = side
        if "writes" in step:
            random.parts = [bytes.fromhex(part) for part in step["random"]]
            text = texts[step["writes"]]
            assert same(step["plaintext"], text)
            messages.append(side.encrypt(text, step["now"], random))
            assert same(step["message"], messages[-1])
            assert random.parts == []
        else:
            assert same(step["plaintext"], side.decrypt(messages[step["reads"]], step["now"]))
        assert (side.turn, side.epoch) == (step["turn"], step["epoch"])
        assert side.export(b"vector", 16).hex() == step["export"]
    assert encapsulations == []


class Ours:
    """Our ratchet with the naive one's method names."""

    def __init__(self, ratchet: Ratchet, draw) -> None:
        self.ratchet = ratchet
        self.draw = draw

    def encrypt(self, text: bytes, now: float) -> bytes:
        return self.ratchet.encrypt(text, now, self.draw)

    def decrypt(self, message: bytes, now: float) -> bytes:
        return self.ratchet.decrypt(message, now)

    def export(self, label: bytes, length: int, turn: int | None = None) -> bytes:
        return self.ratchet.export(label, length, turn)

    @property
    def epoch(self) -> int:
        return self.ratchet.epoch

    @property
    def turn(self) -> int:
        return self.ratchet.turn


@pytest.mark.parametrize("ours", ["alice", "bob"])
@pytest.mark.parametrize("seed", range(6))
def test_conversation_with_the_naive_implementation(ours: str, seed: int) -> None:
    """Four hundred steps, overtaken and lost messages, KEM steps by number and by time."""
    random = Random(seed)
    draw = random.randbytes
    secret, private = draw(32), draw(32)
    if ours == "alice":
        alice = Ours(Ratchet.initiate(secret, b"ad", CurveKey(public_of(private)), 0, draw), draw)
        bob = NaiveRatchet.bob(secret, b"ad", private, 0, draw)
    else:
        alice = NaiveRatchet.alice(secret, b"ad", public_of(private), 0, draw)
        bob = Ours(Ratchet.respond(secret, b"ad", CurveKeyPair(private), 0), draw)
    sides, flying = [alice, bob], [[], []]
    now, heard, read = 0.0, False, 0
    for _ in range(400):
        now += random.choice((1, 60, 3600, 86_400)) * random.random()
        who = random.randrange(2)
        if random.random() < 0.55:
            if who == 0 or heard:
                text = draw(random.randrange(600))
                flying[who].append((sides[who].encrypt(text, now), text))
        elif flying[who]:
            message, text = flying[who].pop(random.randrange(min(6, len(flying[who]))))
            if random.random() < 0.8:
                assert sides[1 - who].decrypt(message, now) == text
                heard, read = True, read + 1
                with pytest.raises((RatchetError, Refused)):
                    sides[1 - who].decrypt(message, now)
    assert read > 100
    assert max(alice.epoch, bob.epoch) >= 2
    turn = min(alice.turn, bob.turn)
    assert alice.export(b"x", 99, turn) == bob.export(b"x", 99, turn)
