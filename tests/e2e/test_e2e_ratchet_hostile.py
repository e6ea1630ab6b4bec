"""A side that knows every key and lies: whatever its genuine headers say, the other stays sound."""

from __future__ import annotations

from random import Random
from unittest import mock

import pytest
from ratchet_pair import DAY, Pair

from ptproxy.e2e.curve import CurveKeyPair
from ptproxy.e2e.kem import Kem, KemKeyPair
from ptproxy.e2e.ratchet import Ratchet, RatchetError
from ptproxy.e2e.ratchet.header import MAX_CHAIN, Header, Part

KEM_KEY = KemKeyPair(Kem.ML_KEM_768, bytes(64)).public.raw


def lie(header: Header, random: Random) -> None:
    """Change a field or more, mostly to something that might be believed."""
    for field in random.sample(["part", "epoch", "key", "previous", "number"], random.choice((1, 1, 2, 5))):
        if field == "part":
            header.part = random.choice(list(Part))
            carried = {
                Part.NOTHING: [b""],
                Part.OFFER: [KEM_KEY, random.randbytes(1184), b"\xff" * 1184],
                Part.ANSWER: [random.randbytes(1088)],
            }
            header.carried = random.choice(carried[header.part])
        elif field == "epoch":
            header.epoch = max(0, header.epoch + random.choice((-1, 1, 2, 2**31)))
        elif field == "key":
            made_up = CurveKeyPair.generate(random.randbytes).public.raw
            header.key = random.choice((made_up, bytes(32), b"\xff" * 32, random.randbytes(32)))
        elif field == "previous":
            header.previous = random.choice((0, 1, 5, 1000, 1001, 5000, MAX_CHAIN, MAX_CHAIN + 1, 2**32 - 1))
        else:
            header.number = random.choice((0, 1, 5, 1000, 1001, 5000, MAX_CHAIN - 1, MAX_CHAIN, 2**32 - 1))


@pytest.mark.parametrize("block", range(8))
def test_lies_are_refused_or_harm_the_liar_alone(block: int) -> None:
    """No error but the documented ones, no change where refused, and a state that loads where not."""
    refused = believed = 0
    real = Header.serialize
    for seed in range(block * 100, block * 100 + 100):
        random = Random(f"lies {seed}")
        pair = Pair(seed)
        for _ in range(random.randrange(4)):
            pair.round()
        if random.random() < 0.5:
            pair.now += 8 * DAY
        for _ in range(random.randrange(4)):
            random.choice((pair.round, pair.up))()
        liar, victim = (pair.alice, pair.bob) if random.random() < 0.5 else (pair.bob, pair.alice)
        if not liar.can_encrypt:
            liar, victim = victim, liar

        def lying(header: Header, random: Random = random) -> bytes:
            lie(header, random)
            return real(header)

        for _ in range(4):
            with mock.patch.object(Header, "serialize", lying):
                message = liar.encrypt(b"a lie", pair.now, pair.rng)
            before = victim.serialize()
            try:
                victim.decrypt(message, pair.now)
            except RatchetError:
                refused += 1
                assert victim.serialize() == before
                continue
            believed += 1
            assert sum(chain.count for chain in victim._state.kept()) <= 2000
            again = Ratchet.parse(victim.serialize())
            assert again.serialize() == victim.serialize()
            if victim.can_encrypt and random.random() < 0.5:
                victim.encrypt(b"text", pair.now, pair.rng)
                Ratchet.parse(victim.serialize())
    assert refused > 100
    assert believed > 20
