"""Two sides that agreed on a secret, for the tests of ``ptproxy.e2e.ratchet``."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from ptproxy.e2e.curve import CurveKeyPair
from ptproxy.e2e.ratchet import Ratchet

SECRET = bytes(range(32))
AD = b"both identities"
NOW = 1_800_000_000.0
DAY = 86_400.0


class Pair:
    """An initiator (``alice``) and a responder (``bob``); all randomness from ``seed``."""

    def __init__(self, seed: int = 0) -> None:
        self.rng: Callable[[int], bytes] = Random(seed).randbytes
        key = CurveKeyPair.generate(self.rng)
        self.alice = Ratchet.initiate(SECRET, AD, key.public, NOW, self.rng)
        self.bob = Ratchet.respond(SECRET, AD, key, NOW)
        self.now = NOW

    def up(self, text: bytes = b"up") -> bytes:
        return self.alice.encrypt(text, self.now, self.rng)

    def down(self, text: bytes = b"down") -> bytes:
        return self.bob.encrypt(text, self.now, self.rng)

    def to_bob(self, message: bytes) -> bytes:
        return self.bob.decrypt(message, self.now)

    def to_alice(self, message: bytes) -> bytes:
        return self.alice.decrypt(message, self.now)

    def round(self) -> None:
        """One line each way."""
        assert self.to_bob(self.up()) == b"up"
        assert self.to_alice(self.down()) == b"down"

    def many_up(self, count: int) -> None:
        """Lines from alice alone, all read."""
        for _ in range(count):
            self.to_bob(self.up())

    def reload(self) -> None:
        """Both programs are restarted."""
        self.alice = Ratchet.parse(self.alice.serialize())
        self.bob = Ratchet.parse(self.bob.serialize())
