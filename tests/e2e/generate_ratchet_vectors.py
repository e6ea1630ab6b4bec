"""Write ``tests/vectors/ratchet.json``: conversations made by ``naive_ratchet.py``, every input fixed.

Run ``python tests/e2e/generate_ratchet_vectors.py`` from the repository's root after a change of
the protocol. ML-KEM ciphertexts cannot be fixed (the library draws its own randomness): those in
the file are kept, so that an unchanged protocol gives an unchanged file.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import naive_ratchet
from naive_ratchet import DAY, NaiveRatchet

FILE = Path(__file__).parents[1] / "vectors" / "ratchet.json"
NOW = 1_800_000_000

LONG = 5000
"""A message above this many bytes stands in the file as its SHA-256."""

CONVERSATIONS: dict[str, list[tuple]] = {
    # (who, text) writes; (who, "<", index) reads the message of that index; (days,) lets time pass
    "lines in turn": [
        ("alice", b"first"),
        ("bob", "<", 0),
        ("bob", b"second"),
        ("alice", "<", 1),
        ("alice", b""),
        ("bob", "<", 2),
    ],
    "overtaken, lost, and the end of a chain": [
        *[("alice", b"line %d" % number) for number in range(4)],
        ("bob", "<", 2),
        ("bob", b"answer"),
        ("alice", "<", 4),
        ("alice", b"a new turn"),
        ("bob", "<", 5),
        ("bob", "<", 3),
        ("bob", "<", 0),
    ],
    "KEM steps after seven days": [
        ("alice", b"hello"),
        ("bob", "<", 0),
        (7,),
        ("alice", b"an offer in the middle of a chain"),
        ("alice", b"that is made again"),
        ("bob", "<", 2),
        ("bob", b"answered"),
        ("bob", b"in every message of the chain"),
        ("alice", "<", 4),
        ("alice", "<", 3),
        ("bob", "<", 1),
        (7,),
        ("alice", b"now the step is bob's"),
        ("bob", "<", 5),
        ("bob", b"his offer leads"),
        ("alice", "<", 6),
        ("alice", b"and is answered"),
        ("bob", "<", 7),
        ("bob", b"done"),
        ("alice", "<", 8),
    ],
    "lengths": [
        ("alice", bytes(291)),
        ("alice", bytes(292)),
        ("alice", b"\xff" * 803),
        ("alice", bytes(804)),
        ("alice", bytes(64_131)),
        *[("bob", "<", index) for index in range(5)],
    ],
}


class Draws:
    """Random bytes that follow from a name; what was drawn is noted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.drawn: list[bytes] = []

    def __call__(self, length: int) -> bytes:
        stream = b"".join(
            hashlib.sha256(b"%s %d %d" % (self.name.encode(), self.count, block)).digest()
            for block in range(length // 32 + 1)
        )
        self.count += 1
        self.drawn.append(stream[:length])
        return stream[:length]

    def taken(self) -> list[str]:
        drawn, self.drawn = self.drawn, []
        return [part.hex() for part in drawn]


def conversation(name: str, script: list[tuple], known: list[dict[str, str]]) -> dict[str, object]:
    """Play a script; ``known`` are the encapsulations of an earlier run."""
    draw = Draws(name)
    secret, responder = draw(32), draw(32)
    draw.drawn = []
    ad = b"associated data of " + name.encode()
    encapsulations: list[dict[str, str]] = []
    earlier = list(known)

    def encapsulate(key: bytes) -> tuple[bytes, bytes]:
        if earlier:
            old = earlier.pop(0)
            shared, ciphertext = bytes.fromhex(old["shared"]), bytes.fromhex(old["ciphertext"])
        else:
            shared, ciphertext = naive_ratchet.kem_encapsulate(key)
        encapsulations.append({"shared": shared.hex(), "ciphertext": ciphertext.hex()})
        return shared, ciphertext

    public = naive_ratchet.public_of(responder)
    sides = {
        "alice": NaiveRatchet.alice(secret, ad, public, NOW, draw, encapsulate),
        "bob": NaiveRatchet.bob(secret, ad, responder, NOW, draw, encapsulate),
    }
    found = {
        "name": name,
        "secret": secret.hex(),
        "associated_data": ad.hex(),
        "responder_private": responder.hex(),
        "now": NOW,
        "initiator_private": draw.taken()[0],
    }
    now, messages, steps = NOW, [], []
    for step in script:
        if len(step) == 1:
            now += step[0] * DAY
            continue
        who, what, *rest = step
        side = sides[who]
        if what == "<":
            plaintext = side.decrypt(messages[rest[0]], now)
            entry = {"who": who, "now": now, "reads": rest[0], "plaintext": short(plaintext)}
        else:
            message = side.encrypt(what, now)
            entry = {"who": who, "now": now, "writes": len(messages), "random": draw.taken()}
            entry |= {"plaintext": short(what), "message": short(message)}
            messages.append(message)
        entry |= {"turn": side.turn, "epoch": side.epoch, "export": side.export(b"vector", 16).hex()}
        steps.append(entry)
    return found | {"encapsulations": encapsulations, "steps": steps}


def short(data: bytes) -> str:
    """Hexadecimal, or the hash of something long."""
    if len(data) <= LONG:
        return data.hex()
    return "sha256:" + hashlib.sha256(data).hexdigest()


def vectors(known: list[dict[str, object]]) -> list[dict[str, object]]:
    """All conversations, with the encapsulations of ``known`` where it has them."""
    old = {entry["name"]: entry["encapsulations"] for entry in known}
    return [conversation(name, script, old.get(name, [])) for name, script in CONVERSATIONS.items()]


if __name__ == "__main__":
    before = json.loads(FILE.read_text("utf-8")) if FILE.exists() else []
    FILE.write_text(json.dumps(vectors(before), indent=1, ensure_ascii=False) + "\n", "utf-8")
