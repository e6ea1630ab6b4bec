"""The beacon: k of n, one value an epoch, and places that move with it."""

from dataclasses import replace

import pytest
from dht_records import EPOCH, NOW, draw
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht import record as records
from ptproxy.dht.beacon import (
    BeaconConflictError,
    BeaconError,
    Beacons,
    BeaconSigners,
    BeaconStatement,
    sign_value,
    value_of,
)
from ptproxy.dht.signing import SigningKey
from ptproxy.errors import LocalProtocolError

KEYS = [SigningKey(draw(("signer", place))(32)) for place in range(5)]
SIGNERS = BeaconSigners(tuple(key.public for key in KEYS), 3)


def statement(epoch=EPOCH, places=(0, 2, 4), value=None):
    value = value or value_of(epoch, b"round 123")
    return BeaconStatement(epoch, value, {place: sign_value(KEYS[place], epoch, value) for place in places})


def test_round_trip():
    said = statement()
    assert BeaconStatement.parse(said.serialize()) == said
    said.verify(SIGNERS)


@given(st.binary(max_size=300))
def test_garbage(data):
    with pytest.raises(BeaconError):
        Beacons(SIGNERS).learn(data, NOW)


@given(st.data())
def test_a_changed_statement_teaches_nothing(data):
    said = bytearray(statement().serialize())
    said[data.draw(st.integers(0, len(said) - 1))] ^= data.draw(st.integers(1, 255))
    beacons = Beacons(SIGNERS)
    with pytest.raises(BeaconError):
        beacons.learn(bytes(said), NOW)
    assert beacons.value(EPOCH) is None


def test_k_of_n():
    for places in [(0, 1, 2), (0, 1, 2, 3, 4), (2, 3, 4)]:
        statement(places=places).verify(SIGNERS)
    for places in [(), (1,), (1, 4)]:
        with pytest.raises(BeaconError, match="few"):
            statement(places=places).verify(SIGNERS)


def test_one_signer_is_not_three():
    said = statement(places=(0,))
    copied = replace(said, signatures=dict.fromkeys((0, 1, 2), said.signatures[0]))
    with pytest.raises(BeaconError, match="verify"):
        copied.verify(SIGNERS)
    data = said.serialize()
    twice = data[:37] + bytes((3,)) + data[38:] * 3
    with pytest.raises(BeaconError, match="order"):
        BeaconStatement.parse(twice)


def test_a_stranger_and_a_wrong_signature_among_enough_good_ones():
    said = statement(places=(0, 1, 2))
    stranger = replace(said, signatures=said.signatures | {5: said.signatures[0]})
    with pytest.raises(BeaconError, match="not have"):
        stranger.verify(SIGNERS)
    wrong = replace(said, signatures=said.signatures | {3: said.signatures[0]})
    with pytest.raises(BeaconError, match="verify"):
        wrong.verify(SIGNERS)


def test_what_is_learned_and_forgotten():
    beacons = Beacons(SIGNERS)
    assert beacons.value(EPOCH) is None
    for epoch in (EPOCH - 1, EPOCH, EPOCH + 1):
        beacons.learn(statement(epoch).serialize(), NOW)
        assert beacons.value(epoch) == value_of(epoch, b"round 123")
        assert beacons.statement(epoch) == statement(epoch).serialize()
    for epoch in (EPOCH - 2, EPOCH + 2, 0, 2**32 - 1):
        with pytest.raises(BeaconError, match="over or far"):
            beacons.learn(statement(epoch).serialize(), NOW)
    beacons.learn(statement(EPOCH + 3).serialize(), NOW + 3 * 86_400)
    assert [beacons.value(EPOCH + day) is None for day in range(-1, 4)] == [True] * 4 + [False]


def test_two_values_for_one_epoch():
    beacons = Beacons(SIGNERS)
    beacons.learn(statement().serialize(), NOW)
    beacons.learn(statement(places=(0, 1, 2)).serialize(), NOW)
    with pytest.raises(BeaconConflictError):
        beacons.learn(statement(value=b"2" * 32).serialize(), NOW)
    assert beacons.value(EPOCH) == statement().value


def test_a_forged_second_value_is_no_conflict():
    beacons = Beacons(SIGNERS)
    beacons.learn(statement().serialize(), NOW)
    with pytest.raises(BeaconError) as caught:
        beacons.learn(statement(value=b"2" * 32, places=(0,)).serialize(), NOW)
    assert not isinstance(caught.value, BeaconConflictError)


def test_places_move_with_the_value():
    key = draw("key")(32)
    one = records.locations(key, EPOCH, value_of(EPOCH, b"1"))
    other = records.locations(key, EPOCH, value_of(EPOCH, b"2"))
    assert not set(one) & set(other)
    assert value_of(EPOCH, b"1") != value_of(EPOCH + 1, b"1")


@pytest.mark.parametrize("threshold", [0, 6])
def test_networks_that_cannot_be(threshold):
    with pytest.raises(LocalProtocolError):
        BeaconSigners(SIGNERS.keys, threshold)
    with pytest.raises(LocalProtocolError):
        BeaconSigners((SIGNERS.keys[0],) * 3, 2)
    with pytest.raises(LocalProtocolError):
        BeaconSigners((b"short",), 1)
    with pytest.raises(LocalProtocolError):
        statement(value=b"short").serialize()
