"""The stored form of a ratchet: what comes back, what is refused, how large it is."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ratchet_pair import DAY, NOW, Pair

from ptproxy.e2e.ratchet import Ratchet, RatchetError
from ptproxy.errors import PtproxyError, StateError


def shapes() -> dict[str, Ratchet]:
    """A ratchet in each form that a state has."""
    found = {}
    pair = Pair()
    found["responder, nothing read"] = pair.bob
    found["initiator, nothing read"] = Ratchet.parse(pair.alice.serialize())
    pair.up()
    pair.round()
    found["turn is theirs"] = Ratchet.parse(pair.alice.serialize())
    late = [pair.up() for _ in range(4)]
    pair.to_bob(late[1])
    pair.to_bob(late[3])
    found["keys kept"] = Ratchet.parse(pair.bob.serialize())
    pair.now += 8 * DAY
    pair.up()
    found["offered within a chain"] = Ratchet.parse(pair.alice.serialize())
    pair.to_alice(pair.down())
    pair.to_bob(pair.up())
    found["offer leads"] = Ratchet.parse(pair.alice.serialize())
    found["asked, old chains"] = Ratchet.parse(pair.bob.serialize())
    pair.down()
    found["answering"] = Ratchet.parse(pair.bob.serialize())
    return found


SHAPES = shapes()

STORED = json.loads((Path(__file__).parents[1] / "vectors" / "ratchet_states.json").read_text("utf-8"))
"""States as version 1 wrote them: they are never made again, and every later version has to load them."""


@pytest.mark.parametrize("entry", STORED, ids=lambda entry: entry["name"])
def test_states_of_version_1_load(entry) -> None:
    stored = bytes.fromhex(entry["state"])
    ratchet = Ratchet.parse(stored)
    assert ratchet.serialize() == stored
    assert (ratchet.turn, ratchet.epoch, ratchet.revision) == (
        entry["turn"],
        entry["epoch"],
        entry["revision"],
    )
    if "message" in entry:
        plaintext = ratchet.decrypt(bytes.fromhex(entry["message"]), NOW)
        assert plaintext.hex() == entry["plaintext"]


@pytest.mark.parametrize("name", SHAPES)
def test_what_was_stored_comes_back(name: str) -> None:
    ratchet = SHAPES[name]
    stored = ratchet.serialize()
    again = Ratchet.parse(stored)
    assert again.serialize() == stored
    assert (again.turn, again.epoch, again.revision) == (ratchet.turn, ratchet.epoch, ratchet.revision)
    assert len(stored) < 2048


@pytest.mark.parametrize("name", SHAPES)
def test_cut_or_longer(name: str) -> None:
    stored = SHAPES[name].serialize()
    for length in range(len(stored)):
        with pytest.raises(StateError):
            Ratchet.parse(stored[:length])
    with pytest.raises(StateError):
        Ratchet.parse(stored + b"\0")


def test_another_version() -> None:
    stored = Pair().alice.serialize()
    for version in (0, 2, 255):
        with pytest.raises(StateError, match="version"):
            Ratchet.parse(bytes([version]) + stored[1:])


@given(st.sampled_from(sorted(SHAPES)), st.integers(0, 2047), st.integers(1, 255))
def test_damage_is_refused_or_harmless(name: str, place: int, value: int) -> None:
    """A changed byte: a StateError, or a ratchet that raises nothing but what is documented."""
    stored = bytearray(SHAPES[name].serialize())
    stored[place % len(stored)] ^= value
    try:
        ratchet = Ratchet.parse(bytes(stored))
    except StateError:
        return
    assert ratchet.serialize() == bytes(stored)
    try:
        ratchet.encrypt(b"text", 2e9, Random(0).randbytes)
    except PtproxyError:
        pass
    with pytest.raises(RatchetError):
        ratchet.decrypt(bytes(384), 2e9)


@given(st.binary(max_size=600))
def test_garbage(data: bytes) -> None:
    for garbage in (data, b"\x01" + data):
        with pytest.raises(StateError):
            Ratchet.parse(garbage)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("initiator, nothing read", 0b00000001),  # no sending chain, though the turn is its own
        ("turn is theirs", 0b10000010),  # no receiving chain
        ("offered within a chain", 0b00000100),  # an offer where none is due
        ("asked, old chains", 0b00010000),
    ],
)
def test_flags_that_contradict(name: str, flags: int) -> None:
    stored = bytearray(SHAPES[name].serialize())
    stored[1] ^= flags
    with pytest.raises(StateError):
        Ratchet.parse(bytes(stored))


def test_kept_keys_that_overlap_or_are_ahead() -> None:
    ratchet = Ratchet.parse(SHAPES["keys kept"].serialize())
    runs = ratchet._state.receiving.kept.runs
    assert len(runs) == 2
    for first in (runs[0].first, 1000):
        good, runs[1].first = runs[1].first, first
        with pytest.raises(StateError):
            Ratchet.parse(ratchet.serialize())
        runs[1].first = good
    Ratchet.parse(ratchet.serialize())


def test_more_kept_keys_than_are_kept() -> None:
    pair = Pair()
    pair.to_bob(pair.up())
    pair.to_bob([pair.up() for _ in range(1001)][-1])
    run = pair.bob._state.receiving.kept.runs[0]
    assert len(pair.bob.serialize()) < 2048 + 1000 * 32
    run.keys += bytes(32 * 1001)
    pair.bob._state.receiving.position += 1001
    with pytest.raises(StateError, match="contradictory"):
        Ratchet.parse(pair.bob.serialize())


def test_revision_counts_changes_alone() -> None:
    pair = Pair()
    assert (pair.alice.revision, pair.bob.revision) == (0, 0)
    message = pair.up()
    pair.to_bob(message)
    assert (pair.alice.revision, pair.bob.revision) == (1, 1)
    with pytest.raises(RatchetError):
        pair.to_bob(message)
    pair.bob.export(b"", 1)
    pair.bob.serialize()
    assert pair.bob.revision == 1


def test_a_clock_before_the_epoch_is_zero() -> None:
    pair = Pair()
    pair.now = -5.0
    pair.round()
    pair.up()
    pair.round()
    pair.reload()
    pair.round()
