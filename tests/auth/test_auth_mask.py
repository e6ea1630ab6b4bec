"""The mask's keys, by the book."""

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.auth.mask import Mask, expand, mask_of

PUBLIC, NONCE = bytes(range(32)), bytes(range(16))


@given(root=st.binary(min_size=32, max_size=32), label=st.binary(max_size=40))
def test_expand_is_rfc5869(root, label):
    assert expand(root, label) == HKDFExpand(SHA256(), 32, label).derive(root)


def test_mac_key_is_rfc5869_in_full():
    import hmac

    key = HKDF(SHA256(), 32, b"ptproxy 1 opening", b"mac").derive(PUBLIC)
    assert Mask(PUBLIC).mac(b"data") == hmac.digest(key, b"data", "sha256")[:16]


@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_masks_unmask_and_go_on(data, cut):
    mask = Mask(PUBLIC)
    for direction in (mask.up, mask.down):
        hidden = direction(NONCE).update(data)
        again = direction(NONCE)
        assert again.update(hidden[:cut]) + again.update(hidden[cut:]) == data


def test_directions_nonces_and_bridges_differ():
    zeros = bytes(64)
    streams = {
        direction.update(zeros)
        for mask in (Mask(PUBLIC), Mask(bytes(32)))
        for nonce in (NONCE, bytes(16))
        for direction in (mask.up(nonce), mask.down(nonce))
    }
    assert len(streams) == 8


def test_a_counter_that_overflows_carries_into_all_bits():
    """128-bit counter: the block after ff…ff is 00…00."""
    mask = Mask(PUBLIC)
    assert mask.up(b"\xff" * 16).update(bytes(32))[16:] == mask.up(bytes(16)).update(bytes(16))


def test_derived_once():
    assert mask_of(PUBLIC) is mask_of(bytes(PUBLIC))
    assert repr(mask_of(PUBLIC)) == "<Mask>"


def test_a_nonce_is_one_block():
    with pytest.raises(ValueError, match="nonce"):
        Mask(PUBLIC).up(b"short")
