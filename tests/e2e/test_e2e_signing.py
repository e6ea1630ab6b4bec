"""Ed25519 keys: one encoding each, nothing of low order, a label for each purpose."""

import naive_curves
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ptproxy.e2e.signing import SigningKey, VerifyingKey
from ptproxy.errors import E2EError, LocalProtocolError

PRIME = naive_curves.P


def test_rfc_8032_section_7_1():
    key = SigningKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_what_low_order_keys_would_do():
    """The reason for refusing them: the library takes this signature, under this key, for any message."""
    Ed25519PublicKey.from_public_bytes(b"\x01" + bytes(31)).verify(b"\x01" + bytes(63), b"whatever you like")


@pytest.mark.parametrize("sign", [0, 1])
def test_low_order_keys_are_refused_with_either_sign(sign):
    ys = {y for _, y in naive_curves.low_order_points()}
    assert len(ys) == 5
    for y in ys:
        with pytest.raises(E2EError, match="low order"):
            VerifyingKey.parse(b"\x06" + (y | sign << 255).to_bytes(32, "little"))


@pytest.mark.parametrize("y", [PRIME, PRIME + 1, PRIME + 3, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_other_spellings_are_refused(y, sign):
    with pytest.raises(E2EError, match="canonical"):
        VerifyingKey.parse(b"\x06" + (y | sign << 255).to_bytes(32, "little"))


@given(data=st.binary(max_size=40) | st.binary(min_size=32, max_size=32).map(lambda raw: b"\x06" + raw))
def test_garbage_or_one_encoding(data):
    try:
        key = VerifyingKey.parse(data)
    except E2EError:
        return
    assert key.serialize() == data
    with pytest.raises(E2EError):
        key.verify(bytes(64), b"label", b"message")


@settings(max_examples=10)
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=64))
def test_against_the_naive_signer(seed, message):
    key = SigningKey(seed)
    assert key.public.raw == naive_curves.ed25519_public(seed)
    signature = key.sign(b"label", message)
    assert signature == naive_curves.ed25519_sign(seed, b"label\0" + message)
    key.public.verify(signature, b"label", message)


def test_a_signature_serves_one_purpose():
    key = SigningKey(bytes(range(32)))
    signature = key.sign(b"one", b"message")
    for label, message in [(b"two", b"message"), (b"on", b"e\0message"), (b"one", b"message\0"), (b"", b"")]:
        with pytest.raises(E2EError, match="signature"):
            key.public.verify(signature, label, message)
    with pytest.raises(E2EError):
        key.public.verify(signature[:-1], b"one", b"message")
    with pytest.raises(LocalProtocolError):
        key.sign(b"a\0b", b"message")


@pytest.mark.parametrize("type_byte", [b"", b"\x00", b"\x05", b"\x07"])
def test_a_key_of_another_kind_is_none(type_byte):
    with pytest.raises(E2EError):
        VerifyingKey.parse(type_byte + SigningKey(bytes(32)).public.raw)


def test_secrets_are_not_shown():
    key = SigningKey(bytes(range(32)))
    assert repr(key) == "<SigningKey>"
    assert SigningKey(key.serialize_private()).public == key.public
