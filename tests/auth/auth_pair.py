"""A client and a bridge that agree on everything, for the tests of ``ptproxy.auth``."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random

from ptproxy.auth import (
    Answer,
    Binding,
    BridgeOpening,
    ClientOpening,
    Hello,
    ReplayFilter,
    StaticKey,
    Verdict,
)

NOW = 1_800_000_000
HELLO = Hello(b"", 3, (1, 2), NOW)
ANSWER = Answer(bytes(range(16)), Verdict.NEW, NOW)
CERTIFICATE = Binding.certificate(bytes(range(32)))
OLD_CERTIFICATE = Binding.certificate(bytes(range(100, 132)))


class Script(Random):
    """A source of randomness that says exactly what it was given: byte strings, then numbers."""

    def __init__(self, chunks, numbers=()):
        super().__init__(0)
        self.chunks = list(chunks)
        self.numbers = list(numbers)

    def randbytes(self, n):
        chunk = self.chunks.pop(0)
        assert len(chunk) == n
        return chunk

    def randint(self, a, b):
        number = self.numbers.pop(0)
        assert a <= number <= b
        return number


@dataclass
class Pair:
    """What both ends were configured with; ``over`` says where one differs."""

    rng: Random = field(default_factory=lambda: Random(1))
    seal: bool = False
    codec: str = "websocket"
    binding: Binding = CERTIFICATE
    hello: Hello = HELLO
    bridge_key: StaticKey = None
    client_key: StaticKey = None
    replay: ReplayFilter = None

    def __post_init__(self):
        self.bridge_key = self.bridge_key or StaticKey.generate(self.rng)
        self.client_key = self.client_key or StaticKey.generate(self.rng)
        self.replay = self.replay or ReplayFilter(NOW - 3600)

    def client(self, **over) -> ClientOpening:
        its = replace(self, **over)
        return ClientOpening(
            its.bridge_key.public, its.client_key, its.codec, its.seal, its.binding, its.hello, self.rng
        )

    def bridge(self, bindings=None, **over) -> BridgeOpening:
        its = replace(self, **over)
        return BridgeOpening(its.bridge_key, its.codec, its.seal, bindings or [its.binding], self.replay)

    def answered(self):
        """Both ends after the answer was made and read."""
        client, bridge = self.client(), self.bridge()
        bridge.examine(client.message1, NOW)
        answer, rest = client.receive_data(bridge.answer(ANSWER, self.rng))
        assert answer == ANSWER
        assert not rest
        return client, bridge

    def confirmed(self):
        """Both ends after CONFIRM."""
        client, bridge = self.answered()
        assert bridge.receive_confirm(client.confirm()) == b""
        return client, bridge


def pieces(data, cuts):
    """``data`` cut at the given places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)] or [b""]


def flip(data, bit):
    """``data`` with one bit changed."""
    changed = bytearray(data)
    bit %= 8 * len(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
