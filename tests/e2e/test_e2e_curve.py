"""X25519 keys: one encoding each, nothing of low order, RFC 7748's own vectors."""

import hashlib
from random import Random

import naive_curves
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e.curve import CurveKey, CurveKeyPair
from ptproxy.errors import E2EError

PRIME = naive_curves.P
TWIST_ORDER_4 = PRIME - 1


def low_order_u():
    """u of every point of low order: (1 + y) / (1 - y) on the curve, and the one on the twist alone."""
    us = {
        (1 + y) * pow(1 - y, -1, PRIME) % PRIME if y != 1 else 0 for _, y in naive_curves.low_order_points()
    }
    return sorted(us | {TWIST_ORDER_4})


def encoded(u):
    return b"\x05" + u.to_bytes(32, "little")


def test_rfc_7748_section_6_1():
    alice = CurveKeyPair(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = CurveKeyPair(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.exchange(bob.public).hex() == bob.exchange(alice.public).hex() == shared


def test_low_order_points_are_refused():
    assert len(low_order_u()) == 5
    for u in low_order_u():
        with pytest.raises(E2EError, match="low order"):
            CurveKey.parse(encoded(u))


def test_low_order_points_are_what_gives_zeros():
    """The list is right: every scalar takes them to zero, and none of their neighbours."""
    for u in low_order_u():
        assert naive_curves.x25519(bytes(32), u.to_bytes(32, "little")) == bytes(32)
        neighbour = CurveKey.parse(encoded((u + 3) % PRIME))
        assert any(CurveKeyPair(Random(1).randbytes(32)).exchange(neighbour))


@pytest.mark.parametrize("u", [PRIME, PRIME + 1, PRIME + 9, 2**255 - 1, 2**255 + 9, 2**256 - 1])
def test_other_spellings_are_refused(u):
    with pytest.raises(E2EError, match="canonical"):
        CurveKey.parse(encoded(u))


def test_a_shared_secret_of_zeros_is_refused_even_if_the_list_let_it_through():
    key = object.__new__(CurveKey)
    object.__setattr__(key, "raw", bytes(32))
    with pytest.raises(E2EError, match="zeros"):
        CurveKeyPair(bytes(range(32))).exchange(key)


@pytest.mark.parametrize("type_byte", [b"", b"\x00", b"\x06", b"\x07", b"\x08", b"\x09"])
def test_a_key_of_another_kind_is_none(type_byte):
    raw = CurveKeyPair(bytes(range(32))).public.raw
    with pytest.raises(E2EError):
        CurveKey.parse(type_byte + raw)


@given(data=st.binary(max_size=40) | st.binary(min_size=32, max_size=32).map(lambda raw: b"\x05" + raw))
def test_garbage_or_one_encoding(data):
    try:
        key = CurveKey.parse(data)
    except E2EError:
        return
    assert key.serialize() == data


@given(private=st.binary(min_size=32, max_size=32), other=st.binary(min_size=32, max_size=32))
def test_against_the_naive_ladder(private, other):
    one, two = CurveKeyPair(private), CurveKeyPair(other)
    assert one.public.raw == naive_curves.x25519_public(private)
    assert one.exchange(two.public) == naive_curves.x25519(other, one.public.raw)


def test_mixed_order_gives_the_same_secret_so_encodings_must_be_bound():
    """Why PROTOCOL.md puts encodings into the associated data: E and E plus a low-order point agree alike."""
    private = hashlib.sha256(b"e").digest()
    torsion = next(
        point for point in naive_curves.low_order_points() if naive_curves.multiply(4, point) != (0, 1)
    )
    y = next(y for y in range(2, 99) if naive_curves.x_of(y, 0) is not None)
    point = naive_curves.multiply(8, (naive_curves.x_of(y, 0), y))
    twin = naive_curves.add(point, torsion)
    keys = [
        CurveKey(((1 + y) * pow(1 - y, -1, PRIME) % PRIME).to_bytes(32, "little")) for _, y in (point, twin)
    ]
    assert keys[0] != keys[1]
    assert CurveKeyPair(private).exchange(keys[0]) == CurveKeyPair(private).exchange(keys[1])


def test_secrets_are_not_shown():
    pair = CurveKeyPair(bytes(range(32)))
    assert repr(pair) == "<CurveKeyPair>"
    assert pair == CurveKeyPair(pair.serialize_private())
    assert pair != CurveKeyPair(bytes(32))
    assert pair != pair.public
    assert len({pair, CurveKeyPair(bytes(range(32)))}) == 1
